//! What the rules look at: the repository's files and the packages that cargo sees.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// This repository.
#[derive(Debug)]
pub struct Workspace {
    root: PathBuf,
    files: Vec<String>,
}

impl Workspace {
    /// The repository that this program was built from.
    ///
    /// # Errors
    /// When `git` can't list its files.
    pub fn find() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let root = root
            .canonicalize()
            .context("could not find the repository")?;
        let mut git = Command::new("git");
        git.args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ]);
        let listed = output(git.current_dir(&root))?;
        let mut files: Vec<String> = listed
            .split('\0')
            .filter(|file| root.join(file).is_file())
            .map(ToOwned::to_owned)
            .collect();
        files.sort_unstable();
        files.dedup();
        Ok(Self { root, files })
    }

    /// The repository's directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// All files that are or could be committed, from the root, with `/` between the parts.
    #[must_use]
    pub fn files(&self) -> &[String] {
        &self.files
    }

    /// The files whose name ends so.
    pub fn files_ending<'a>(&'a self, end: &'a str) -> impl Iterator<Item = &'a str> {
        self.files
            .iter()
            .map(String::as_str)
            .filter(move |file| file.ends_with(end))
    }

    /// A file's text.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn read(&self, file: &str) -> Result<String> {
        let path = self.root.join(file);
        std::fs::read_to_string(&path).with_context(|| format!("could not read {file}"))
    }

    /// A file's text; `None` for a binary file.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn read_text(&self, file: &str) -> Result<Option<String>> {
        let bytes = std::fs::read(self.root.join(file))
            .with_context(|| format!("could not read {file}"))?;
        Ok(String::from_utf8(bytes)
            .ok()
            .filter(|text| !text.contains('\0')))
    }

    /// The packages of the workspace and what their manifests ask for.
    ///
    /// # Errors
    /// When `cargo metadata` fails.
    pub fn packages(&self) -> Result<Vec<Package>> {
        let mut cargo = self.cargo();
        cargo.args([
            "metadata",
            "--format-version",
            "1",
            "--no-deps",
            "--offline",
        ]);
        let metadata: Value = serde_json::from_str(&output(&mut cargo)?)?;
        let packages = metadata["packages"]
            .as_array()
            .context("cargo metadata has no packages")?;
        packages
            .iter()
            .map(|package| Package::read(package, &self.root))
            .collect()
    }

    /// `cargo`, to be run in the repository.
    #[must_use]
    pub fn cargo(&self) -> Command {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.current_dir(&self.root);
        command
    }
}

/// Runs a command to its end and returns what it printed.
///
/// # Errors
/// When it can't be started or fails; the text has what it printed to standard error.
pub fn output(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .with_context(|| format!("could not start {program}"))?;
    if !output.status.success() {
        bail!(
            "{program} failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    String::from_utf8(output.stdout).with_context(|| format!("{program} printed no text"))
}

/// A package of the workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Its name: `bowline-model`.
    pub name: String,
    /// Its folder, from the root: `crates/model`.
    pub folder: String,
    /// What it asks for.
    pub dependencies: Vec<Dependency>,
}

/// What a manifest asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependency {
    /// The package's name.
    pub name: String,
    /// Whether only tests use it.
    pub is_dev: bool,
    /// The version that is asked for; `*` for one without.
    pub version: String,
    /// Whether it is a package of this workspace.
    pub is_local: bool,
}

impl Package {
    /// Whether the package itself, not only its tests, uses another.
    #[must_use]
    pub fn uses(&self, name: &str) -> bool {
        let mut dependencies = self.dependencies.iter();
        dependencies.any(|used| used.name == name && !used.is_dev)
    }

    fn read(package: &Value, root: &Path) -> Result<Self> {
        let text = |value: &Value| value.as_str().map(ToOwned::to_owned);
        let dependencies = package["dependencies"]
            .as_array()
            .context("no dependencies")?;
        let dependencies = dependencies.iter().map(|dependency| {
            Some(Dependency {
                name: text(&dependency["name"])?,
                is_dev: dependency["kind"] == "dev",
                version: text(&dependency["req"])?,
                is_local: dependency["path"].is_string(),
            })
        });
        let manifest = text(&package["manifest_path"]).context("a package has no manifest")?;
        let folder = Path::new(&manifest)
            .parent()
            .and_then(|path| path.strip_prefix(root).ok());
        let folder = folder.context("a package lies outside the repository")?;
        Ok(Self {
            name: text(&package["name"]).context("a package has no name")?,
            folder: folder.display().to_string(),
            dependencies: dependencies
                .collect::<Option<_>>()
                .context("an odd dependency")?,
        })
    }
}
