//! `docs/cli.md` against the program.

use std::collections::BTreeSet;

use bowline_server::cli::command_names;

const REFERENCE: &str = include_str!("../../../../docs/cli.md");

/// The commands that have a section of their own.
fn described() -> BTreeSet<String> {
    let headings = REFERENCE.lines().filter_map(|line| {
        let heading = line.trim_start_matches('#').trim();
        heading.strip_prefix("`bowline ")?.strip_suffix('`')
    });
    headings.map(str::to_owned).collect()
}

#[test]
fn every_command_is_described_and_no_other() {
    let known: BTreeSet<String> = command_names().into_iter().collect();
    assert!(known.contains("device routes"), "{known:?}");
    assert_eq!(described(), known);
}

#[tokio::test]
async fn every_section_shows_the_flags_of_its_command() {
    let home = crate::home::Home::new();
    let common = [
        "--data",
        "--listen",
        "--url",
        "--config",
        "--json",
        "--tailnet",
        "--server",
        "--token-file",
        "--help",
        "--version",
    ];
    for name in command_names() {
        let args: Vec<&str> = name.split(' ').chain(["--help"]).collect();
        let help = home.prints(&args).await;
        assert!(help.contains("\nExample"), "{help}");
        let heading = format!("`bowline {name}`\n");
        let (_, section) = REFERENCE.split_once(&heading).unwrap();
        let section = section.split("\n#").next().unwrap();
        let flags = help
            .split_whitespace()
            .filter(|word| word.starts_with("--"))
            .map(|word| word.trim_end_matches([',', '.', ';', ']', ':']));
        for flag in flags.filter(|flag| !common.contains(flag)) {
            assert!(section.contains(flag), "{flag} of bowline {name}");
        }
    }
}
