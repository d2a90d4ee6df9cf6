//! Rules on the text of files: size, unfinished code, and words that belong to one machine.

use std::path::Path;

use anyhow::Result;

use crate::workspace::Workspace;

/// The most lines of a source file. At 600 a reviewer asks; past this nobody needs to.
const LINES: usize = 900;

/// The ends of the names of files that people write.
const WRITTEN: [&str; 9] = [
    ".rs", ".py", ".ts", ".tsx", ".go", ".sh", ".sql", ".toml", ".css",
];

/// How the reason of an ignored test begins that another test runs.
const PROCESS: &str = "= \"only as the process";

/// Files past the limit, other than generated ones.
#[must_use]
pub fn too_long(file: &str, text: &str) -> Vec<String> {
    let lines = text.lines().count();
    let is_written = WRITTEN.iter().any(|end| file.ends_with(end));
    if is_written && !file.contains("/generated/") && lines > LINES {
        vec![format!(
            "{file} has {lines} lines; split it by subject ({LINES} are the most)"
        )]
    } else {
        Vec::new()
    }
}

/// Code that says of itself that it is not done, and tests that don't run.
#[must_use]
pub fn unfinished(file: &str, text: &str) -> Vec<String> {
    // In two halves each, or this file would break its own rule.
    let marks = [
        ["todo", "!("],
        ["unimplemented", "!("],
        ["#[", "ignore"],
        ["dbg", "!("],
    ];
    let marks = marks.map(|halves| halves.concat());
    let mut broken = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let code = line.trim_start();
        // A test that another one starts as a process of its own, such as one to be killed.
        if code.starts_with("//") || code.contains(PROCESS) {
            continue;
        }
        for mark in &marks {
            // Text in quotes, such as the example of this rule, is not code.
            let is_code = code
                .find(mark.as_str())
                .is_some_and(|at| code[..at].matches('"').count() % 2 == 0);
            if is_code {
                let name = mark.trim_end_matches('(');
                broken.push(format!("{file}:{}: {name}", index + 1));
            }
        }
    }
    broken
}

/// Paths of one machine and hosts of package registries: they say where someone worked, and work
/// nowhere else.
#[must_use]
pub fn foreign_words(file: &str, text: &str) -> Vec<String> {
    let words = [
        ["/ro", "ot/"],
        ["/wo", "rk/"],
        ["/ho", "me/"],
        ["/tmp/", "target"],
        ["static.", "crates.io"],
        ["index.", "crates.io"],
        ["registry.", "npmjs.org"],
        ["pypi", ".org"],
        ["files.", "pythonhosted.org"],
        ["proxy.", "golang.org"],
    ];
    let words = words.map(|halves| halves.concat());
    let mut broken = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for word in words.iter().filter(|word| names(line, word)) {
            broken.push(format!("{file}:{}: {word}", index + 1));
        }
    }
    broken
}

/// Whether a line has the word, and not as the tail of a longer path (`crates/work/x`).
fn names(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || ".-_}~".contains(c))
    })
}

/// A library whose `lib.rs` does not open with what it is for.
#[must_use]
pub fn undocumented_library(file: &str, text: &str) -> Vec<String> {
    let documentation = text
        .lines()
        .take_while(|line| line.starts_with("//!"))
        .count();
    // What it is for, what it must never do, an example: less than this can't hold them.
    if documentation < 5 {
        vec![format!(
            "{file} does not open with what the crate is for, what it never does, and an example"
        )]
    } else {
        Vec::new()
    }
}

/// Runs all these rules on the repository.
///
/// # Errors
/// A file can't be read.
pub fn check(workspace: &Workspace) -> Result<Vec<String>> {
    let mut broken = Vec::new();
    for file in workspace.files() {
        if file.ends_with("Cargo.lock") || file.starts_with("fuzz/corpus/") {
            continue;
        }
        let Some(text) = workspace.read_text(file)? else {
            continue;
        };
        broken.extend(foreign_words(file, &text));
        broken.extend(too_long(file, &text));
        if Path::new(file).extension().is_some_and(|end| end == "rs") {
            broken.extend(unfinished(file, &text));
        }
        if file.starts_with("crates/") && file.ends_with("/src/lib.rs") {
            broken.extend(undocumented_library(file, &text));
        }
    }
    Ok(broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_source_file_is_found_and_a_generated_one_is_not() {
        let text = "x\n".repeat(LINES + 1);
        assert_eq!(
            too_long("a.rs", &text),
            ["a.rs has 901 lines; split it by subject (900 are the most)"]
        );
        assert_eq!(too_long("a.rs", &"x\n".repeat(LINES)), [""; 0]);
        assert_eq!(too_long("openapi/api-v2.json", &text), [""; 0]);
        assert_eq!(
            too_long("console/app/api/generated/types.ts", &text),
            [""; 0]
        );
    }

    #[test]
    fn unfinished_code_is_found_and_talk_of_it_is_not() {
        let text = [
            "#[",
            "ignore = \"only as the process that is killed\"]\nfn a() { to",
            "do!() }\n    #[",
            "ignore = \"slow\"]\n// to",
            "do!()\n\"to",
            "do!()\"\n",
        ];
        assert_eq!(
            unfinished("a.rs", &text.concat()),
            ["a.rs:2: todo!", "a.rs:3: #[ignore"]
        );
    }

    #[test]
    fn paths_of_one_machine_are_found_and_parts_of_others_are_not() {
        let text = [
            "cd /wo",
            "rk/main\n$HOME/ro",
            "ot/x, ~/wo",
            "rk/y\nsee https://py",
            "pi.org/x\n",
        ];
        assert_eq!(
            foreign_words("a.sh", &text.concat()),
            [
                ["a.sh:1: /wo", "rk/"].concat(),
                ["a.sh:3: py", "pi.org"].concat()
            ]
        );
    }

    #[test]
    fn a_library_opens_with_its_documentation() {
        assert_eq!(
            undocumented_library("lib.rs", "//! x\n\npub mod a;\n").len(),
            1
        );
        assert_eq!(
            undocumented_library("lib.rs", &"//! x\n".repeat(5)),
            [""; 0]
        );
    }
}
