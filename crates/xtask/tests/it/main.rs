//! The workspace's rules, each run on this repository.

use std::fmt::Write as _;

use bowline_xtask::workspace::Workspace;
use bowline_xtask::{deny, documents, layout, migrations, modules, sources};

fn workspace() -> Workspace {
    Workspace::find().unwrap_or_else(|error| panic!("{error:#}"))
}

/// Fails with all that is broken, one a line.
fn assert_kept(broken: &[String]) {
    let mut text = String::new();
    for line in broken {
        let _ = write!(text, "\n  {line}");
    }
    assert!(broken.is_empty(), "{text}");
}

#[test]
fn each_crate_uses_only_what_lies_below_it() {
    let packages = workspace().packages().expect("packages");
    assert!(
        packages.len() > 10,
        "cargo sees {} packages",
        packages.len()
    );
    assert_kept(&layout::violations(&packages));
}

#[test]
fn manifests_take_lints_and_versions_from_the_workspace() {
    let workspace = workspace();
    let mut broken = Vec::new();
    for file in workspace
        .files_ending("/Cargo.toml")
        .filter(|file| file.starts_with("crates/") || file.starts_with("bench/"))
    {
        let manifest = workspace
            .read(file)
            .expect("a manifest")
            .parse()
            .expect("TOML");
        broken.extend(layout::manifest_violations(file, &manifest));
    }
    assert_kept(&broken);
}

#[test]
fn dependencies_keep_deny_toml() {
    assert_kept(&deny::check(&workspace()).expect("a graph"));
}

#[test]
fn documents_name_what_exists() {
    assert_kept(&documents::check(&workspace()).expect("documents"));
}

#[test]
fn files_are_short_finished_and_at_home_anywhere() {
    assert_kept(&sources::check(&workspace()).expect("files"));
}

#[test]
fn migrations_are_the_same_for_both_engines_and_never_change() {
    assert_kept(&migrations::check(&workspace()).expect("migrations"));
}

#[test]
fn modules_use_each_other_in_one_direction() {
    assert_kept(&modules::check(&workspace()).expect("modules"));
}
