//! Who may use whom: the layout that `ARCHITECTURE.md` describes.

use crate::workspace::{Dependency, Package};

/// Each crate with the crates of this workspace that it may use.
const ALLOWED: [(&str, &[&str]); 17] = [
    ("memory", &[]),
    ("outbound", &[]),
    ("model", &[]),
    ("policy", &["model"]),
    ("wire", &["model"]),
    ("store", &["model"]),
    ("admission", &["model"]),
    ("derp", &["model", "admission"]),
    ("netmap", &["model", "policy", "wire"]),
    (
        "engine",
        &[
            "model",
            "admission",
            "policy",
            "netmap",
            "store",
            "outbound",
        ],
    ),
    (
        "control",
        &[
            "model",
            "admission",
            "policy",
            "wire",
            "netmap",
            "engine",
            "derp",
        ],
    ),
    (
        "api",
        &[
            "model",
            "admission",
            "policy",
            "wire",
            "netmap",
            "engine",
            "derp",
        ],
    ),
    (
        "server",
        &[
            "memory",
            "outbound",
            "model",
            "admission",
            "policy",
            "wire",
            "netmap",
            "store",
            "engine",
            "control",
            "api",
            "derp",
        ],
    ),
    (
        "testkit",
        &[
            "outbound",
            "model",
            "admission",
            "policy",
            "wire",
            "netmap",
            "store",
            "engine",
            "control",
            "api",
            "derp",
            "server",
            "modelclient",
        ],
    ),
    // Knows what clients accept from the clients alone, so that it repeats no mistake of ours.
    ("modelclient", &[]),
    // Finds what tests need from outside; no crate of the server uses it.
    ("testdata", &[]),
    ("xtask", &[]),
];

/// The crates that every other may use for its tests.
const FOR_TESTS: [&str; 3] = ["testkit", "modelclient", "testdata"];

/// The crates that are plain functions: no IO, no async, no clock.
const PURE: [&str; 4] = ["model", "policy", "wire", "netmap"];

/// What a crate that is plain functions can't be built on.
const IMPURE: [&str; 10] = [
    "tokio",
    "tokio-util",
    "futures-util",
    "hyper",
    "hyper-util",
    "axum",
    "tower",
    "rusqlite",
    "tokio-postgres",
    "tracing",
];

/// What programs that measure may use: the server itself they only start.
const BENCH: &[&str] = &["model", "wire", "testkit", "modelclient"];

/// The crates that may use `anyhow`, whose errors nobody can match on.
const ANYHOW: [&str; 3] = ["server", "testkit", "xtask"];

/// What breaks the layout, one line each.
#[must_use]
pub fn violations(packages: &[Package]) -> Vec<String> {
    let mut broken = Vec::new();
    for package in packages {
        let Some(short) = package.name.strip_prefix("bowline-") else {
            broken.push(format!(
                "{} has no name of the form bowline-<name>",
                package.name
            ));
            continue;
        };
        let in_bench = package.folder.starts_with("bench/");
        let allowed = match ALLOWED.iter().find(|(name, _)| *name == short) {
            Some((_, allowed)) => *allowed,
            None if in_bench => BENCH,
            None => {
                broken.push(format!(
                    "{} has no place in crates/xtask/src/layout.rs",
                    package.name
                ));
                continue;
            }
        };
        let may_anyhow = in_bench || ANYHOW.contains(&short);
        if !may_anyhow && package.uses("anyhow") {
            broken.push(format!(
                "{short} has errors of its own and may not use anyhow"
            ));
        }
        let refused = package
            .dependencies
            .iter()
            .filter_map(|used| refusal(short, allowed, used));
        broken.extend(refused);
    }
    broken
}

/// Why a crate may not use something, if it may not.
fn refusal(short: &str, allowed: &[&str], dependency: &Dependency) -> Option<String> {
    let used = dependency.name.as_str();
    if let Some(local) = used.strip_prefix("bowline-") {
        // A crate may name itself for its tests, to switch on a feature; and what stands on the
        // engine needs a store to open one.
        let is_for_tests = dependency.is_dev
            && (FOR_TESTS.contains(&local)
                || local == short
                || local == "store" && allowed.contains(&"engine"));
        return (!allowed.contains(&local) && !is_for_tests)
            .then(|| format!("{short} may not use {local}"));
    }
    (!dependency.is_dev && PURE.contains(&short) && IMPURE.contains(&used))
        .then(|| format!("{short} does no IO and may not use {used}"))
}

/// The manifest of the crate with a call that the compiler cannot check.
const UNCHECKED: &str = "crates/memory/Cargo.toml";

/// What a member's manifest, parsed, lacks: lints and package data come from the workspace.
#[must_use]
pub fn manifest_violations(file: &str, manifest: &toml::Table) -> Vec<String> {
    let inherits = |table: &str, key: Option<&str>| {
        let table = manifest.get(table);
        let value = match key {
            None => table,
            Some(key) => table.and_then(|table| table.get(key)),
        };
        value
            .and_then(|value| value.get("workspace"))
            .and_then(toml::Value::as_bool)
            == Some(true)
    };
    let mut broken = Vec::new();
    // One crate may call what the compiler cannot check, which the workspace's lints forbid.
    if !inherits("lints", None) && file != UNCHECKED {
        broken.push(format!("{file}: [lints] does not have workspace = true"));
    }
    for key in ["version", "edition", "rust-version", "license", "publish"] {
        if !inherits("package", Some(key)) {
            broken.push(format!(
                "{file}: package.{key} does not come from the workspace"
            ));
        }
    }
    for table in ["dependencies", "dev-dependencies", "build-dependencies"] {
        let Some(toml::Value::Table(dependencies)) = manifest.get(table) else {
            continue;
        };
        for name in dependencies.keys() {
            // A crate that names itself for its tests can't do it through the workspace.
            let is_itself = manifest
                .get("package")
                .and_then(|package| package.get("name"))
                .and_then(toml::Value::as_str)
                == Some(name);
            let from_workspace = dependencies[name].get("workspace").is_some();
            if !from_workspace && !is_itself {
                broken.push(format!(
                    "{file}: the version of {name} does not come from the root"
                ));
            }
        }
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, uses: &[(&str, bool)]) -> Package {
        let dependencies = uses.iter().map(|(name, is_dev)| Dependency {
            name: (*name).to_owned(),
            is_dev: *is_dev,
            version: "^1".to_owned(),
            is_local: name.starts_with("bowline-"),
        });
        Package {
            name: name.to_owned(),
            folder: format!("crates/{name}"),
            dependencies: dependencies.collect(),
        }
    }

    #[test]
    fn programs_that_measure_stand_outside() {
        let uses = [
            ("bowline-testkit", false),
            ("anyhow", false),
            ("bowline-server", false),
        ];
        let mut fleet = package("bowline-fleet", &uses);
        fleet.folder = "bench/fleet".to_owned();
        assert_eq!(violations(&[fleet]), ["fleet may not use server"]);
    }

    #[test]
    fn what_points_upwards_or_sideways_is_found() {
        let packages = [
            package(
                "bowline-model",
                &[("bowline-policy", false), ("tokio", false)],
            ),
            package(
                "bowline-api",
                &[("bowline-store", false), ("bowline-control", false)],
            ),
            package(
                "bowline-engine",
                &[("bowline-testkit", false), ("anyhow", false)],
            ),
            package("bowline-new", &[]),
            package("other", &[]),
        ];
        assert_eq!(
            violations(&packages),
            [
                "model may not use policy",
                "model does no IO and may not use tokio",
                "api may not use store",
                "api may not use control",
                "engine has errors of its own and may not use anyhow",
                "engine may not use testkit",
                "bowline-new has no place in crates/xtask/src/layout.rs",
                "other has no name of the form bowline-<name>",
            ]
        );
    }

    #[test]
    fn tests_may_use_testkit_and_more() {
        let policy = [
            ("bowline-model", false),
            ("bowline-testkit", true),
            ("tokio", true),
        ];
        let api = [("bowline-engine", false), ("bowline-store", true)];
        let wire = [("bowline-store", true)];
        let packages = [
            package("bowline-policy", &policy),
            package("bowline-api", &api),
            package("bowline-wire", &wire),
        ];
        assert_eq!(violations(&packages), ["wire may not use store"]);
    }

    #[test]
    fn a_manifest_with_its_own_versions_is_found() {
        let text = "[package]\nname = \"bowline-x\"\nversion.workspace = true\n\
                    edition = \"2021\"\nrust-version.workspace = true\nlicense.workspace = true\n\
                    publish.workspace = true\n[dependencies]\nserde = \"1\"\nhttp.workspace = true\n";
        let manifest = text.parse().expect("TOML");
        assert_eq!(
            manifest_violations("x/Cargo.toml", &manifest),
            [
                "x/Cargo.toml: [lints] does not have workspace = true",
                "x/Cargo.toml: package.edition does not come from the workspace",
                "x/Cargo.toml: the version of serde does not come from the root",
            ]
        );
    }
}
