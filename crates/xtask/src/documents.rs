//! What documents say about the repository: that the paths exist which they name, and that they
//! name no line numbers.

use crate::workspace::Workspace;

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

/// Runs the rule on every document.
///
/// # Errors
/// A document can't be read.
pub fn check(workspace: &Workspace) -> anyhow::Result<Vec<String>> {
    let mut broken = Vec::new();
    for file in workspace.files_ending(".md") {
        broken.extend(violations(file, &workspace.read(file)?, workspace.files()));
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
}
