//! Files that a command is given.

use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow, bail};
use bowline_policy::hujson::LineIndex;
use bowline_policy::{Connection, Place, Policy, Topology, hujson};

use super::finding::Finding;

/// What standard input is called in findings.
const STDIN: &str = "<stdin>";

/// Reads files, and standard input once.
#[derive(Debug, Default)]
pub(super) struct Reader {
    is_stdin_read: bool,
}

/// A file with its text.
#[derive(Debug, Clone)]
pub(super) struct Source {
    /// The path as it was typed, or `<stdin>`.
    pub(super) name: String,
    /// The text; what is no UTF-8 in it is replaced.
    pub(super) text: String,
    /// Where something is that is no UTF-8.
    not_text: Option<Place>,
}

/// Whether a path means standard input.
pub(super) fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

impl Reader {
    /// Reads a file; `-` is standard input.
    pub(super) fn read(&mut self, path: &Path) -> Result<Source> {
        let mut bytes = Vec::new();
        let name = if is_stdin(path) {
            if std::mem::replace(&mut self.is_stdin_read, true) {
                bail!("- stands for standard input and can be given once only");
            }
            std::io::stdin()
                .lock()
                .read_to_end(&mut bytes)
                .context("cannot read standard input")?;
            STDIN.to_owned()
        } else {
            bytes =
                std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
            path.display().to_string()
        };
        Ok(Source::new(name, bytes))
    }

    /// Reads a topology file.
    pub(super) fn topology(&mut self, path: &Path) -> Result<Topology> {
        let source = self.read(path)?;
        Topology::parse(&source.text)
            .map_err(|reason| anyhow!("{} is not a topology file: {reason}", source.name))
    }

    /// Reads a list of open connections.
    pub(super) fn connections(&mut self, path: &Path) -> Result<Vec<Connection>> {
        let source = self.read(path)?;
        let what = || {
            format!(
                "{} is not a list of connections like \
                 [{{\"src\": \"100.64.0.1\", \"dst\": \"100.64.0.2\", \"protocol\": 6, \"port\": 22}}]",
                source.name
            )
        };
        let plain = hujson::standardize(&source.text).with_context(what)?;
        serde_json::from_str(&plain).with_context(what)
    }
}

impl Source {
    fn new(name: String, bytes: Vec<u8>) -> Self {
        match String::from_utf8(bytes) {
            Ok(text) => Self {
                name,
                text,
                not_text: None,
            },
            Err(error) => {
                let at = error.utf8_error().valid_up_to();
                let (line, column) = LineIndex::new(error.as_bytes()).locate(at);
                Self {
                    name,
                    text: String::from_utf8_lossy(error.as_bytes()).into_owned(),
                    not_text: Some(Place { line, column }),
                }
            }
        }
    }

    /// A text of the server's.
    pub(super) fn of_server(text: String) -> Self {
        Self {
            name: "the policy in force".to_owned(),
            text,
            not_text: None,
        }
    }

    /// Passes the text if it is some.
    pub(super) fn text(&self) -> Result<&str, Vec<Finding>> {
        match self.not_text {
            None => Ok(&self.text),
            Some(place) => Err(vec![Finding::at(self, place, "the file is not UTF-8")]),
        }
    }

    /// Parses and checks it as a policy.
    pub(super) fn policy(&self) -> Result<Policy, Vec<Finding>> {
        let text = self.text()?;
        Policy::parse(text).map_err(|mut diagnostics| {
            diagnostics.sort_by_key(|diagnostic| diagnostic.place);
            let findings = diagnostics.into_iter();
            findings
                .flat_map(|diagnostic| Finding::of(self, diagnostic))
                .collect()
        })
    }
}
