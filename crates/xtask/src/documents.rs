//! What documents say about the repository: that the paths exist which they name, and that they
//! name no line numbers; that the items exist which the pages about the code name; and that the
//! sections of `docs/protocol` exist which the code cites.

use std::collections::{BTreeMap, BTreeSet};

use crate::workspace::Workspace;

/// Where the facts are that code cites.
const FACTS: &str = "docs/protocol/";
/// The page that says what is where. Each name in it is a crate or an item of the sources.
const ARCHITECTURE: &str = "ARCHITECTURE.md";
/// The page that says why. The paths in it (`Draft::put`) are those of items.
const DESIGN: &str = "docs/design.md";

/// The paths and links in a Markdown file that lead nowhere, and its line numbers.
#[must_use]
pub fn violations(file: &str, text: &str, workspace_files: &[String]) -> Vec<String> {
    let mut broken = Vec::new();
    let mut is_code_block = false;
    for (index, line) in text.lines().enumerate() {
        let at = |what: String| format!("{file}:{}: {what}", index + 1);
        if line.trim_start().starts_with("```") {
            is_code_block = !is_code_block;
            continue;
        }
        if is_code_block {
            continue;
        }
        for code in in_backticks(line) {
            if names_a_line(code) {
                broken.push(at(format!("`{code}` names a line number")));
            } else if is_repository_path(code, workspace_files) && !exists(code, workspace_files) {
                broken.push(at(format!("`{code}` does not exist")));
            }
        }
        for target in links(line) {
            let path = beside(file, target);
            if !exists(&path, workspace_files) {
                broken.push(at(format!("the link to {target} leads nowhere")));
            }
        }
    }
    broken
}

/// The texts between single backticks.
fn in_backticks(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// Whether a text is a path from the root: it begins with the name of something there, and has
/// nothing in it that stands for something else (`<name>`, `*`).
fn is_repository_path(code: &str, files: &[String]) -> bool {
    let Some((first, _)) = code.split_once('/') else {
        return false;
    };
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    code.chars().all(is_plain)
        && files
            .iter()
            .any(|file| file.split_once('/').is_some_and(|(top, _)| top == first))
}

/// Whether a file or directory is there; a command may follow the path.
fn exists(path: &str, files: &[String]) -> bool {
    let path = path.trim_end_matches('/');
    path.is_empty()
        || files.iter().any(|file| {
            file.strip_prefix(path)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
}

/// `src/a.rs:12`
fn names_a_line(code: &str) -> bool {
    let Some((path, line)) = code.rsplit_once(':') else {
        return false;
    };
    let has_extension = path
        .rsplit_once('.')
        .is_some_and(|(_, end)| ["rs", "md", "toml", "sql", "py", "sh", "ts"].contains(&end));
    has_extension && !line.is_empty() && line.bytes().all(|byte| byte.is_ascii_digit())
}

/// The targets of links to files; other addresses and anchors are left out.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| {
        let target = rest.split([')', '#', ' ']).next()?;
        (!target.is_empty() && !target.contains(':')).then_some(target)
    })
}

/// A link's target, seen from the file that it stands in, as a path from the root.
fn beside(file: &str, target: &str) -> String {
    let mut parts: Vec<&str> = match target.strip_prefix('/') {
        Some(_) => Vec::new(),
        None => file
            .rsplit_once('/')
            .map_or(Vec::new(), |(folder, _)| folder.split('/').collect()),
    };
    for part in target.split('/') {
        match part {
            "" | "." => {}
            // A link out of the repository keeps its dots and is not found.
            ".." if parts.is_empty() => parts.push(".."),
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The numbers of a document's sections: of `### 4.3 Auth key`, `4.3`.
#[must_use]
pub fn sections(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let numbers =
        headings.filter_map(|line| line.trim_start_matches('#').split_whitespace().next());
    let numbers = numbers.map(|number| number.trim_end_matches('.'));
    numbers
        .filter(|number| is_section(number))
        .map(ToOwned::to_owned)
        .collect()
}

fn is_section(word: &str) -> bool {
    let mut parts = word.split('.');
    parts.all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Sections that code cites of `docs/protocol` and that are not there; `pages` are its documents with
/// the numbers of their sections.
#[must_use]
pub fn citations(
    file: &str,
    text: &str,
    pages: &BTreeMap<String, BTreeSet<String>>,
) -> Vec<String> {
    let mut broken = Vec::new();
    let comments = text
        .replace("//!", " ")
        .replace("///", " ")
        .replace("//", " ");
    for cited in comments.split(&format!("`{FACTS}")).skip(1) {
        let Some((page, rest)) = cited.split_once('`') else {
            continue;
        };
        let Some(sections) = pages.get(page) else {
            broken.push(format!("{file} cites {FACTS}{page}, which does not exist"));
            continue;
        };
        let Some(rest) = rest.strip_prefix(',') else {
            continue;
        };
        for word in rest.split_whitespace() {
            let word = word.trim_matches(|c: char| "()".contains(c));
            let number = word.trim_end_matches([',', '.', ';', ':', ')']);
            match number {
                "section" | "sections" | "and" | "to" => {}
                number if is_section(number) => {
                    if !sections.contains(number) {
                        broken.push(format!("{file} cites section {number} of {FACTS}{page}"));
                    }
                    // A sentence may end with the number.
                    if word.len() > number.len() && !word.ends_with(',') {
                        break;
                    }
                }
                _ => break,
            }
        }
    }
    broken
}

/// The names that a source defines: of items, members and variants.
fn definitions(text: &str) -> impl Iterator<Item = &str> {
    const KEYWORDS: [&str; 9] = [
        "fn",
        "struct",
        "enum",
        "trait",
        "const",
        "static",
        "type",
        "mod",
        "macro_rules!",
    ];
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.lines().filter_map(move |line| {
        let words = line.trim_start().split(' ');
        let mut words = words.skip_while(|word| {
            word.starts_with("pub") || ["async", "unsafe", "extern"].contains(word)
        });
        let mut word = words.next()?;
        // A constant function.
        while KEYWORDS.contains(&word) {
            word = words.next()?;
        }
        let name = word.split(|c| !is_name(c)).next()?;
        (!name.is_empty()).then_some(name)
    })
}

/// The items that a page names in backticks and no source defines. With `all` a single name is one too.
fn unknown_items(file: &str, text: &str, all: bool, defined: &BTreeSet<String>) -> Vec<String> {
    let is_name = |part: &str| {
        !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    let mut unknown = Vec::new();
    for code in text.lines().flat_map(in_backticks) {
        let mut parts = code.split("::");
        let is_item = (all || code.contains("::")) && parts.clone().all(is_name);
        if is_item && !parts.all(|part| defined.contains(part)) {
            unknown.push(format!("{file}: `{code}` is not in the sources"));
        }
    }
    unknown
}

/// The crates that a page has no row of.
fn missing_crates<'a>(text: &str, crates: impl Iterator<Item = &'a str>) -> Vec<String> {
    let rows = || text.lines().filter(|line| line.starts_with("| `"));
    let has_row = |name: &str| {
        let cells = rows().filter_map(|row| row.split('|').nth(1));
        cells.flat_map(in_backticks).any(|cell| cell == name)
    };
    crates
        .filter(|name| !has_row(name))
        .map(|name| format!("{ARCHITECTURE} has no row of crates/{name}"))
        .collect()
}

/// What the pages about the code say of it.
fn check_names(workspace: &Workspace) -> anyhow::Result<Vec<String>> {
    let crates: BTreeSet<&str> = workspace
        .files()
        .iter()
        .filter_map(|file| file.strip_prefix("crates/")?.split('/').next())
        .collect();
    let mut defined: BTreeSet<String> = crates.iter().map(ToString::to_string).collect();
    for file in workspace.files_ending(".rs") {
        defined.extend(definitions(&workspace.read(file)?).map(ToOwned::to_owned));
    }
    let (page, design) = (workspace.read(ARCHITECTURE)?, workspace.read(DESIGN)?);
    let mut broken = unknown_items(ARCHITECTURE, &page, true, &defined);
    broken.extend(unknown_items(DESIGN, &design, false, &defined));
    broken.extend(missing_crates(&page, crates.into_iter()));
    Ok(broken)
}

/// Runs the rules on every document, and on the code that cites some.
///
/// # Errors
/// A document can't be read.
pub fn check(workspace: &Workspace) -> anyhow::Result<Vec<String>> {
    let mut broken = Vec::new();
    for file in workspace.files_ending(".md") {
        broken.extend(violations(file, &workspace.read(file)?, workspace.files()));
    }
    broken.extend(check_names(workspace)?);
    let mut pages = BTreeMap::new();
    for file in workspace.files_ending(".md") {
        if let Some(page) = file.strip_prefix(FACTS) {
            pages.insert(page.to_owned(), sections(&workspace.read(file)?));
        }
    }
    let own = "crates/xtask/";
    for file in workspace
        .files_ending(".rs")
        .filter(|file| !file.starts_with(own))
    {
        broken.extend(citations(file, &workspace.read(file)?, &pages));
    }
    Ok(broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let files = ["Makefile", "crates/model/src/lib.rs", "docs/operating.md"];
        violations("docs/README.md", text, &files.map(ToOwned::to_owned))
    }

    #[test]
    fn paths_and_links_that_lead_nowhere_are_found() {
        assert_eq!(
            found("See `crates/model/src/tag.rs` and\n[here](gone.md), [out](../../x)."),
            [
                "docs/README.md:1: `crates/model/src/tag.rs` does not exist",
                "docs/README.md:2: the link to gone.md leads nowhere",
                "docs/README.md:2: the link to ../../x leads nowhere",
            ]
        );
    }

    #[test]
    fn good_paths_and_what_is_none_are_left_alone() {
        let text = "`crates/model/`, `crates/model/src/lib.rs`, `application/json`, `derp/derp.go`\n\
                    `crates/<name>/src`, [guide](operating.md#ports), [make](../Makefile)\n\
                    [elsewhere](https://example.com/a.md)\n```\ncrates/x `crates/y`\n```\n";
        assert_eq!(found(text), [""; 0]);
    }

    #[test]
    fn line_numbers_are_found() {
        assert_eq!(
            found("`crates/model/src/lib.rs:12` and `127.0.0.1:8080`"),
            ["docs/README.md:1: `crates/model/src/lib.rs:12` names a line number"]
        );
    }

    #[test]
    fn items_that_are_not_in_the_sources_are_found() {
        let source = "pub(crate) struct Draft<'a> {\n    pub now: Timestamp,\n}\nimpl Draft {\n    \
                      pub const fn put(&self) {}\n    async fn tell() {}\n}\nenum Event {\n    Told,\n}\n";
        let defined = definitions(source).map(ToOwned::to_owned).collect();
        let text = "`Draft::put`, `Draft::now`, `Event::Told` and `Draft::emit` by `tell`.\n\
                    `gone` of `draft.rs`, `a/b` and `x y`.";
        let unknown = |all| unknown_items("A.md", text, all, &defined);
        assert_eq!(
            unknown(false),
            ["A.md: `Draft::emit` is not in the sources"]
        );
        assert_eq!(
            unknown(true),
            [
                "A.md: `Draft::emit` is not in the sources",
                "A.md: `gone` is not in the sources",
            ]
        );
    }

    #[test]
    fn crates_without_a_row_are_found() {
        let text = "| `model` | what it is |\n| `testkit`, `testdata` | tests, `store` |\n";
        let crates = ["model", "store", "testdata"].into_iter();
        assert_eq!(
            missing_crates(text, crates),
            ["ARCHITECTURE.md has no row of crates/store"]
        );
    }

    #[test]
    fn cited_sections_that_are_not_there_are_found() {
        let page = sections("# Facts\n## 2. Keys\n### 2.1 Auth key\n#### 12.10 Other\ntext 3.1\n");
        let pages = BTreeMap::from([("keys.md".to_owned(), page)]);
        let text = "//! Source: `docs/protocol/keys.md`, sections 2.1 and\n//! 2.2. Then 9.9 is a number.\n\
                    /// (`docs/protocol/keys.md`, 12.10). `docs/protocol/gone.md`, section 1; see\n\
                    /// `docs/protocol/keys.md`, section 2, and 2.3.\n";
        assert_eq!(
            citations("a.rs", text, &pages),
            [
                "a.rs cites section 2.2 of docs/protocol/keys.md",
                "a.rs cites docs/protocol/gone.md, which does not exist",
                "a.rs cites section 2.3 of docs/protocol/keys.md",
            ]
        );
    }
}
