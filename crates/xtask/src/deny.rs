//! Licences, refused packages, duplicates and sources of dependencies: the part of `deny.toml`
//! that needs no network. `cargo deny` reads the same file and checks more, but takes minutes to
//! build, which is too long for every run of the checks.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};
use toml::{Table, Value};

use crate::spdx;
use crate::workspace::{Package, Workspace, output};

/// A package in the resolved graph.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Resolved {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its licence expression; empty: it states none.
    pub licence: String,
}

/// What `deny.toml` says.
#[derive(Debug, PartialEq, Eq)]
pub struct Rules {
    targets: Vec<String>,
    licences: Vec<String>,
    refused: BTreeMap<String, String>,
    /// Name and version of the older of two, `getrandom` and `0.2`.
    skipped: Vec<(String, String)>,
    registries: Vec<String>,
}

impl Rules {
    /// Reads the file's text.
    ///
    /// # Errors
    /// It is not TOML, or lacks a key.
    pub fn read(text: &str) -> Result<Self> {
        let table: Table = text.parse()?;
        let list = |section: &str, key: &str| {
            let value = table.get(section).and_then(|section| section.get(key));
            value
                .and_then(Value::as_array)
                .with_context(|| format!("no list {section}.{key}"))
        };
        let texts = |section, key| -> Result<Vec<String>> {
            let texts = list(section, key)?.iter().map(Value::as_str);
            let texts = texts
                .map(|text| text.map(ToOwned::to_owned))
                .collect::<Option<_>>();
            texts.with_context(|| format!("{section}.{key} is not a list of texts"))
        };
        let reasoned = |key| -> Result<Vec<(String, String)>> {
            let entries = list("bans", key)?.iter().map(|entry| {
                let text = |key| {
                    entry
                        .get(key)
                        .and_then(Value::as_str)
                        .map(ToOwned::to_owned)
                };
                text("crate").zip(text("reason"))
            });
            let entries = entries.collect::<Option<_>>();
            entries.with_context(|| format!("an entry of bans.{key} lacks `crate` or `reason`"))
        };
        let split = |name: &str| -> Result<(String, String)> {
            let (name, version) = name
                .split_once('@')
                .context("a skipped crate has no version")?;
            Ok((name.to_owned(), version.to_owned()))
        };
        Ok(Self {
            targets: texts("graph", "targets")?,
            licences: texts("licenses", "allow")?,
            refused: reasoned("deny")?.into_iter().collect(),
            skipped: reasoned("skip")?
                .iter()
                .map(|(name, _)| split(name))
                .collect::<Result<_>>()?,
            registries: texts("sources", "allow-registry")?,
        })
    }

    /// What in the graph breaks the rules.
    #[must_use]
    pub fn graph_violations(&self, graph: &BTreeSet<Resolved>) -> Vec<String> {
        let mut broken = Vec::new();
        let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for package in graph {
            let Resolved {
                name,
                version,
                licence,
            } = package;
            if let Some(reason) = self.refused.get(name) {
                broken.push(format!("{name} {version} is refused: {reason}"));
            }
            match spdx::is_allowed(licence, &self.licences) {
                Ok(true) => {}
                Ok(false) => broken.push(format!("{name} {version} is licensed as {licence}")),
                Err(error) => broken.push(format!("{name} {version} has no good licence: {error}")),
            }
            if !self.is_skipped(name, version) {
                versions.entry(name).or_default().push(version);
            }
        }
        for (name, versions) in versions {
            if versions.len() > 1 {
                broken.push(format!(
                    "{name} is there more than once: {}",
                    versions.join(", ")
                ));
            }
        }
        for (name, version) in &self.skipped {
            let is_there = graph
                .iter()
                .any(|package| package.name == *name && is_version_of(version, &package.version));
            if !is_there {
                broken.push(format!(
                    "{name} {version} is in deny.toml and no longer in the graph"
                ));
            }
        }
        broken
    }

    fn is_skipped(&self, name: &str, version: &str) -> bool {
        self.skipped
            .iter()
            .any(|(skipped, of)| skipped == name && is_version_of(of, version))
    }

    /// What in a lock file comes from a place that is not allowed.
    #[must_use]
    pub fn source_violations(&self, lock: &str) -> Vec<String> {
        let sources: BTreeSet<&str> = lock
            .lines()
            .filter_map(|line| line.strip_prefix("source = \"")?.strip_suffix('"'))
            .collect();
        let is_allowed = |source: &&str| {
            let registry = source.strip_prefix("registry+");
            registry.is_some_and(|registry| self.registries.iter().any(|known| known == registry))
        };
        let refused = sources.into_iter().filter(|source| !is_allowed(source));
        refused
            .map(|source| format!("Cargo.lock has packages from {source}"))
            .collect()
    }
}

/// `0.10` names all of `0.10.x`, `2` all of `2.x`.
fn is_version_of(prefix: &str, version: &str) -> bool {
    version
        .strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Dependencies that name no version.
#[must_use]
pub fn wildcard_violations(packages: &[Package]) -> Vec<String> {
    let dependencies = packages.iter().flat_map(|package| {
        package
            .dependencies
            .iter()
            .map(move |dependency| (&package.name, dependency))
    });
    dependencies
        .filter(|(_, dependency)| dependency.version == "*" && !dependency.is_local)
        .map(|(package, dependency)| format!("{package} takes any version of {}", dependency.name))
        .collect()
}

/// Reads `name vVERSION …|LICENCE` lines of `cargo tree`.
///
/// # Errors
/// A line has another shape.
pub fn read_tree(text: &str) -> Result<BTreeSet<Resolved>> {
    let mut graph = BTreeSet::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let parts = line.split_once('|').and_then(|(package, licence)| {
            let mut words = package.split(' ');
            // What stands twice in a tree that has a circle (of dev-dependencies) is marked.
            let licence = licence.strip_suffix(" (*)").unwrap_or(licence);
            Some((words.next()?, words.next()?.strip_prefix('v')?, licence))
        });
        let Some((name, version, licence)) = parts else {
            bail!("cargo tree printed `{line}`")
        };
        graph.insert(Resolved {
            name: name.to_owned(),
            version: version.to_owned(),
            licence: licence.to_owned(),
        });
    }
    Ok(graph)
}

/// Checks the workspace against its `deny.toml`.
///
/// # Errors
/// The file or the graph can't be read.
pub fn check(workspace: &Workspace) -> Result<Vec<String>> {
    let rules = Rules::read(&workspace.read("deny.toml")?).context("deny.toml")?;
    // `cargo metadata` would count packages that a feature mentions and none switches on.
    let mut tree = workspace.cargo();
    tree.args([
        "tree",
        "--workspace",
        "--locked",
        "--edges",
        "normal,build,dev",
    ]);
    tree.args(["--prefix", "none", "--no-dedupe", "--format", "{p}|{l}"]);
    for target in &rules.targets {
        tree.args(["--target", target]);
    }
    let mut broken = rules.graph_violations(&read_tree(&output(&mut tree)?)?);
    broken.extend(rules.source_violations(&workspace.read("Cargo.lock")?));
    broken.extend(wildcard_violations(&workspace.packages()?));
    Ok(broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = "\
        [graph]\ntargets = [\"x86_64-unknown-linux-gnu\"]\n\
        [licenses]\nallow = [\"MIT\"]\n\
        [bans]\ndeny = [{ crate = \"ring\", reason = \"one provider\" }]\n\
        skip = [{ crate = \"syn@2\", reason = \"macros\" }, { crate = \"gone@1\", reason = \"x\" }]\n\
        [sources]\nallow-registry = [\"https://registry.example.com\"]\n";

    #[test]
    fn what_breaks_the_rules_is_found() {
        let rules = Rules::read(RULES).expect("rules");
        let tree = "a v1.0.0|MIT\na v1.0.0 (/somewhere)|MIT\nb v0.1.0|GPL-3.0\nb v0.2.0|MIT\n\
                    ring v0.17.0|MIT\nsyn v2.0.1 (proc-macro)|MIT\nsyn v3.0.0|MIT\nz v1.0.0|\n";
        assert_eq!(
            rules.graph_violations(&read_tree(tree).expect("a tree")),
            [
                "b 0.1.0 is licensed as GPL-3.0",
                "ring 0.17.0 is refused: one provider",
                "z 1.0.0 has no good licence: empty expression",
                "b is there more than once: 0.1.0, 0.2.0",
                "gone 1 is in deny.toml and no longer in the graph",
            ]
        );
    }

    #[test]
    fn only_the_allowed_registry_is_a_good_source() {
        let rules = Rules::read(RULES).expect("rules");
        let lock = "source = \"registry+https://registry.example.com\"\n\
                    source = \"registry+https://other.example.com\"\n\
                    source = \"git+https://git.example.com/x#1\"\n";
        assert_eq!(
            rules.source_violations(lock),
            [
                "Cargo.lock has packages from git+https://git.example.com/x#1",
                "Cargo.lock has packages from registry+https://other.example.com",
            ]
        );
    }

    #[test]
    fn a_line_of_another_shape_is_an_error() {
        assert!(read_tree("error: no such command").is_err());
    }
}
