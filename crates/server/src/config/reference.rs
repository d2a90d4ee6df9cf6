//! The settings reference, `docs/settings.md`, made from the documentation of the sections.

use std::fmt::Write as _;

use super::reader::Field;
use super::{Section, sections};

/// What stands before the first section.
const OPENING: &str = "\
# Settings

<!-- Generated from crates/server/src/config/ by `cargo run -p bowline-xtask -- settings`. -->

Bowline runs without any setting. What is set comes from four sources; the first that has a
setting wins:

1. a flag, where the setting has one;
2. an environment variable (an empty one counts as absent);
3. the settings file, in TOML: the one that `--config` or `BOWLINE_CONFIG` names, else
   `bowline.toml` in the data directory, else `/etc/bowline/bowline.toml`;
4. the default.

A key that no setting has is refused, with its file and line. Relative paths in the file start from
the file's directory, all others from the working directory. A secret can stand in a file of its
own: the setting with `_file` at its end (`_FILE` for a variable) names that file.

`bowline config` prints what is in force and from where; secrets are not shown.
";

/// The reference as Markdown.
#[must_use]
pub fn reference() -> String {
    let mut text = OPENING.to_owned();
    for section in sections() {
        let title = if section.name.is_empty() {
            "Before the first section".to_owned()
        } else {
            format!("`[{}]`", section.name)
        };
        let _ = write!(text, "\n## {title}\n\n{}\n", paragraphs(section.doc));
        for field in section.fields {
            describe(&mut text, field, &section);
        }
    }
    text
}

fn describe(text: &mut String, field: &Field, section: &Section) {
    let _ = write!(
        text,
        "\n### `{}`\n\n{}\n\n",
        field.name(),
        paragraphs(field.doc)
    );
    let code = |value: &str| {
        if value.contains('`') || value.contains(' ') {
            value.to_owned()
        } else {
            format!("`{value}`")
        }
    };
    let _ = writeln!(text, "- Value: {}", (field.expected)());
    let _ = writeln!(text, "- Default: {}", code(field.default));
    let _ = writeln!(text, "- Environment: `{}`", field.variable());
    if !field.flag.is_empty() {
        let _ = writeln!(text, "- Flag: `--{}`", field.flag);
    }
    if field.secret {
        let twin = format!("{}_file", field.key);
        let place = match section.name {
            "" => String::new(),
            name => format!(" in `[{name}]`"),
        };
        let _ = writeln!(
            text,
            "- From a file: `{twin}`{place}, or `{}_FILE`",
            field.variable()
        );
    }
}

/// Documentation as it stands in the source, without the space after the slashes.
fn paragraphs(doc: &[&str]) -> String {
    let lines: Vec<&str> = doc
        .iter()
        .map(|line| line.strip_prefix(' ').unwrap_or(line))
        .collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn settings_reference_is_current() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/settings.md");
        if std::env::var_os("BOWLINE_WRITE").is_some() {
            fs::write(&file, reference()).expect("docs/settings.md");
        }
        let committed = fs::read_to_string(&file).expect("docs/settings.md");
        assert!(
            committed == reference(),
            "docs/settings.md is not what the settings say; write it again with \
             `cargo run -p bowline-xtask -- settings`"
        );
    }
}
