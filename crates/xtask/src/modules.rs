//! Who uses whom inside a crate: no circles between modules, and a floor that knows nothing of what
//! stands on it.
//!
//! A module and those inside it are one family: that a module uses its own children is how it is
//! split into files. Everything else is found by its path from `crate`, `super` or `self`, in code and
//! inside macros; code for tests does not count.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, anyhow};
use proc_macro2::{Delimiter, TokenStream, TokenTree};

use crate::workspace::Workspace;

/// Crates whose modules use each other in one direction.
const UNTANGLED: [&str; 2] = ["engine", "netmap"];
/// Crates and their module that nothing else of the crate may be used by.
const FLOORS: [(&str, &str); 1] = [("engine", "core")];

/// Each module of a crate with the modules that it uses.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Graph(BTreeMap<String, BTreeSet<String>>);

/// The path of a module by its file: `core::writer` for `core/writer.rs`, nothing for `lib.rs`.
fn module_of(file: &str) -> String {
    let path = file.trim_end_matches(".rs");
    if path == "lib" {
        return String::new();
    }
    path.replace('/', "::")
}

/// The module around another; nothing for those of the root.
fn parent(module: &str) -> &str {
    module.rsplit_once("::").map_or("", |(parent, _)| parent)
}

fn join(module: &str, path: &str) -> String {
    match (module, path) {
        ("", path) => path.to_owned(),
        (module, "") => module.to_owned(),
        (module, path) => format!("{module}::{path}"),
    }
}

/// Whether `module` is `family` or lies inside it.
fn is_of(module: &str, family: &str) -> bool {
    module
        .strip_prefix(family)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn is_ident(tree: Option<&TokenTree>, text: &str) -> bool {
    matches!(tree, Some(TokenTree::Ident(ident)) if ident == text)
}

fn is_punct(tree: Option<&TokenTree>, mark: char) -> bool {
    matches!(tree, Some(TokenTree::Punct(punct)) if punct.as_char() == mark)
}

/// Whether two colons stand here.
fn is_path_separator(trees: &[TokenTree], at: usize) -> bool {
    is_punct(trees.get(at), ':') && is_punct(trees.get(at + 1), ':')
}

/// Whether `#[cfg(test)]` stands here.
fn is_test_attribute(trees: &[TokenTree], at: usize) -> bool {
    let Some(TokenTree::Group(group)) = trees.get(at + 1) else {
        return false;
    };
    is_punct(trees.get(at), '#') && group.stream().to_string().replace(' ', "") == "cfg(test)"
}

/// All paths that begin at `crate`, `super` or `self`, from the root of the crate.
fn paths(module: &str, stream: TokenStream, found: &mut Vec<String>) {
    let trees: Vec<TokenTree> = stream.into_iter().collect();
    let mut at = 0;
    while let Some(tree) = trees.get(at) {
        if is_test_attribute(&trees, at) {
            at += 2;
            // To the end of what it stands before.
            while let Some(skipped) = trees.get(at) {
                at += 1;
                let is_block = matches!(skipped, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace);
                if is_block || is_punct(Some(skipped), ';') {
                    break;
                }
            }
            continue;
        }
        match tree {
            TokenTree::Group(group) => paths(module, group.stream(), found),
            TokenTree::Ident(ident) if is_path_separator(&trees, at + 1) => {
                let is_inside = at > 0 && is_punct(trees.get(at - 1), ':');
                let start = match ident.to_string().as_str() {
                    "crate" if !is_inside => Some(String::new()),
                    "super" if !is_inside => Some(parent(module).to_owned()),
                    "self" if !is_inside => Some(module.to_owned()),
                    _ => None,
                };
                if let Some(start) = start {
                    at = tree_of(&start, &trees, at + 3, found);
                    continue;
                }
            }
            _ => {}
        }
        at += 1;
    }
}

/// Reads the rest of a path, which may end in a tree (`a::{b, c::D}`); where it goes on after that.
fn tree_of(base: &str, trees: &[TokenTree], mut at: usize, found: &mut Vec<String>) -> usize {
    let mut base = base.to_owned();
    loop {
        match trees.get(at) {
            Some(TokenTree::Ident(ident)) if ident == "super" => {
                base = parent(&base).into();
            }
            Some(TokenTree::Ident(ident)) if ident == "self" => {}
            Some(TokenTree::Ident(ident)) => base = join(&base, &ident.to_string()),
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                let inside: Vec<TokenTree> = group.stream().into_iter().collect();
                let mut next = 0;
                while next < inside.len() {
                    next = tree_of(&base, &inside, next, found);
                    while next < inside.len() && !is_punct(inside.get(next), ',') {
                        next += 1;
                    }
                    next += 1;
                }
                return at + 1;
            }
            _ => {
                found.push(base);
                return at;
            }
        }
        at += 1;
        if !is_path_separator(trees, at) {
            found.push(base);
            return at;
        }
        at += 2;
    }
}

/// What the root of a crate gives names of its own: `Engine` for `core::engine::Engine`.
fn exports(stream: TokenStream) -> BTreeMap<String, String> {
    let trees: Vec<TokenTree> = stream.into_iter().collect();
    let mut names = BTreeMap::new();
    for at in 0..trees.len() {
        if is_ident(trees.get(at), "pub") && is_ident(trees.get(at + 1), "use") {
            let is_from_root = is_ident(trees.get(at + 2), "crate");
            let mut found = Vec::new();
            tree_of(
                "",
                &trees,
                at + if is_from_root { 5 } else { 2 },
                &mut found,
            );
            for path in found {
                if let Some(name) = path.rsplit("::").next() {
                    names.insert(name.to_owned(), path.clone());
                }
            }
        }
    }
    names
}

impl Graph {
    /// Reads a crate: its files below `src`, by path, with their texts.
    ///
    /// # Errors
    /// A text is not Rust.
    pub fn of(files: &BTreeMap<String, String>) -> Result<Self> {
        let parse = |file: &str, text: &str| -> Result<TokenStream> {
            text.parse::<TokenStream>()
                .map_err(|error| anyhow!("{error}"))
                .with_context(|| format!("could not read {file}"))
        };
        let modules: BTreeSet<String> = files.keys().map(|file| module_of(file)).collect();
        let exports = match files.get("lib.rs") {
            Some(text) => exports(parse("lib.rs", text)?),
            None => BTreeMap::new(),
        };
        let resolve = |path: &str| -> Option<String> {
            let first = path.split("::").next().unwrap_or_default();
            let path = exports.get(first).map_or(path, String::as_str);
            let mut prefix = path;
            while !prefix.is_empty() {
                if modules.contains(prefix) {
                    return Some(prefix.to_owned());
                }
                prefix = parent(prefix);
            }
            None
        };
        let mut graph = BTreeMap::new();
        for (file, text) in files {
            let module = module_of(file);
            let is_test = file.ends_with("tests.rs") || file.contains("tests/");
            if module.is_empty() || is_test {
                continue;
            }
            let mut found = Vec::new();
            paths(&module, parse(file, text)?, &mut found);
            let mut used: BTreeSet<String> =
                found.iter().filter_map(|path| resolve(path)).collect();
            used.retain(|other| !is_of(other, &module));
            graph.insert(module, used);
        }
        Ok(Self(graph))
    }

    /// Every circle: the modules that use each other, and by which uses.
    #[must_use]
    pub fn circles(&self) -> Vec<String> {
        let mut broken = Vec::new();
        let mut seen = BTreeSet::new();
        for module in self.0.keys() {
            let reached = self.reached(module);
            let circle: BTreeSet<String> = reached
                .into_iter()
                .filter(|other| self.reached(other).contains(module))
                .collect();
            if circle.is_empty() || !seen.insert(circle.clone()) {
                continue;
            }
            for from in &circle {
                for to in self.0.get(from).into_iter().flatten() {
                    if circle.contains(to) {
                        broken.push(format!("{from} uses {to}, and is used by it in a circle"));
                    }
                }
            }
        }
        broken
    }

    /// Every module that one uses, and those that they use, and so on.
    fn reached(&self, module: &str) -> BTreeSet<String> {
        let mut reached = BTreeSet::new();
        let mut next = vec![module.to_owned()];
        while let Some(module) = next.pop() {
            for used in self.0.get(&module).into_iter().flatten() {
                if reached.insert(used.clone()) {
                    next.push(used.clone());
                }
            }
        }
        reached
    }

    /// What a floor uses of the modules that stand on it.
    #[must_use]
    pub fn floor_violations(&self, floor: &str) -> Vec<String> {
        let mut broken = Vec::new();
        for (module, used) in self.0.iter().filter(|(module, _)| is_of(module, floor)) {
            for other in used.iter().filter(|other| !is_of(other, floor)) {
                broken.push(format!("{module} uses {other}, which stands on {floor}"));
            }
        }
        broken
    }
}

/// The files of a crate below `src`.
fn files_of(workspace: &Workspace, name: &str) -> Result<BTreeMap<String, String>> {
    let start = format!("crates/{name}/src/");
    let mut files = BTreeMap::new();
    for file in workspace.files_ending(".rs") {
        if let Some(path) = file.strip_prefix(&start) {
            files.insert(path.to_owned(), workspace.read(file)?);
        }
    }
    Ok(files)
}

/// What is tangled in this repository.
///
/// # Errors
/// A file cannot be read.
pub fn check(workspace: &Workspace) -> Result<Vec<String>> {
    let mut broken = Vec::new();
    for name in UNTANGLED {
        let graph = Graph::of(&files_of(workspace, name)?)?;
        broken.extend(
            graph
                .circles()
                .into_iter()
                .map(|line| format!("{name}: {line}")),
        );
    }
    for (name, floor) in FLOORS {
        let graph = Graph::of(&files_of(workspace, name)?)?;
        let lines = graph.floor_violations(floor).into_iter();
        broken.extend(lines.map(|line| format!("{name}: {line}")));
    }
    Ok(broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(files: &[(&str, &str)]) -> Graph {
        let files = files
            .iter()
            .map(|(file, text)| ((*file).to_owned(), (*text).to_owned()));
        Graph::of(&files.collect()).expect("Rust")
    }

    #[test]
    fn a_circle_is_found_through_trees_re_exports_and_macros() {
        let graph = graph(&[
            ("lib.rs", "mod a; mod b; mod c; pub use b::Thing;"),
            ("a.rs", "use crate::{Thing, c::{self, d::E}};"),
            ("b.rs", "fn f() { select! { x = crate::c::go() => {} } }"),
            ("c.rs", "pub mod d; use super::a;"),
            ("c/d.rs", "struct E;"),
        ]);
        assert_eq!(
            graph.circles(),
            [
                "a uses b, and is used by it in a circle",
                "a uses c, and is used by it in a circle",
                "b uses c, and is used by it in a circle",
                "c uses a, and is used by it in a circle",
            ]
        );
    }

    #[test]
    fn children_comments_texts_and_tests_are_no_use() {
        let graph = graph(&[
            ("lib.rs", "mod a; mod b;"),
            (
                "a.rs",
                "//! See crate::b.\nmod c; use self::c::X; const T: &str = \"crate::b\";
                 #[cfg(test)] use crate::b::Y; #[cfg(test)] mod tests { use crate::b; }",
            ),
            ("a/c.rs", "struct X;"),
            ("b.rs", "use crate::a::c::X;"),
        ]);
        assert_eq!(graph.circles(), [""; 0]);
        // A child that uses its parent, which uses another child, is one file split in two.
        assert_eq!(graph.0["b"], BTreeSet::from(["a::c".to_owned()]));
    }

    #[test]
    fn a_floor_knows_nothing_of_what_stands_on_it() {
        let graph = graph(&[
            ("lib.rs", "mod core; mod login;"),
            ("core.rs", "mod writer;"),
            (
                "core/writer.rs",
                "use super::super::login::Login; use crate::core::draft;",
            ),
            ("core/draft.rs", ""),
            ("login.rs", "use crate::core::draft;"),
        ]);
        assert_eq!(
            graph.floor_violations("core"),
            ["core::writer uses login, which stands on core"]
        );
        assert_eq!(graph.floor_violations("login").len(), 1);
    }
}
