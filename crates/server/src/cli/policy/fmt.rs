//! `bowline policy fmt`.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use bowline_policy::{Diagnostic, hujson};
use serde::Serialize;
use similar::TextDiff;

use super::super::output::clean;
use super::finding::{Finding, Report};
use super::source::{Source, is_stdin};
use super::{Context, FOUND, NOT_DONE};

/// What is to be formatted.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct FmtArgs {
    /// Policy files; - is standard input, and goes to standard output
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Change nothing; list the files that are not in canonical layout, and exit with 1 if there
    /// are any
    #[arg(long)]
    check: bool,
    /// Change nothing; show what would change
    #[arg(long)]
    diff: bool,
}

/// What there is to say, for programs.
#[derive(Debug, Serialize)]
struct Outcome {
    /// Nothing is wrong; with `--check`, nothing would change either.
    ok: bool,
    files: Vec<Formatted>,
    errors: Vec<Finding>,
}

/// A file that could be formatted.
#[derive(Debug, Serialize)]
struct Formatted {
    file: String,
    /// It was changed, or would be.
    changed: bool,
    /// With `--diff`.
    #[serde(skip_serializing_if = "Option::is_none")]
    diff: Option<String>,
    /// What came from standard input, in canonical layout.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

/// Runs the command.
pub(super) fn run(context: &mut Context<'_>, args: &FmtArgs) -> Result<u8> {
    let mut outcome = Outcome {
        ok: true,
        files: Vec::new(),
        errors: Vec::new(),
    };
    let mut is_done = true;
    for path in &args.files {
        match one(context, args, path) {
            Ok(Ok(formatted)) => {
                outcome.ok &= !(args.check && formatted.changed);
                outcome.files.push(formatted);
            }
            Ok(Err(findings)) => outcome.errors.extend(findings),
            // The other files are formatted all the same.
            Err(error) => {
                is_done = false;
                if context.common.json {
                    let name = path.display().to_string();
                    outcome
                        .errors
                        .push(Finding::whole(name, format!("{error:#}")));
                } else {
                    super::super::report(&error);
                }
            }
        }
    }
    outcome.ok &= outcome.errors.is_empty() && is_done;
    if !context.common.json {
        let report = Report::of(outcome.errors.clone());
        report.complain()?;
    }
    context.print(serde_json::to_string(&outcome)?, || {
        let lines = outcome.files.iter().filter_map(|file| told(file, args));
        lines.collect::<Vec<_>>().join("\n")
    })?;
    Ok(match outcome.ok {
        _ if !is_done => NOT_DONE,
        true => 0,
        false => FOUND,
    })
}

/// What is said of one file.
fn told(file: &Formatted, args: &FmtArgs) -> Option<String> {
    if let Some(text) = &file.text {
        return Some(text.clone());
    }
    if !file.changed {
        return None;
    }
    let name = clean(&file.file);
    match &file.diff {
        Some(diff) if args.check => Some(format!("{name}\n{diff}")),
        Some(diff) => Some(diff.clone()),
        None if args.check => Some(name),
        None => Some(format!("{name}: formatted")),
    }
}

fn one(
    context: &mut Context<'_>,
    args: &FmtArgs,
    path: &Path,
) -> Result<Result<Formatted, Vec<Finding>>> {
    let source = context.reader.read(path)?;
    let formatted = match canonical(&source) {
        Ok(formatted) => formatted,
        Err(findings) => return Ok(Err(findings)),
    };
    let changed = formatted != source.text;
    let is_kept = args.check || args.diff;
    let mut text = None;
    if !is_kept {
        if is_stdin(path) {
            text = Some(formatted.clone());
        } else if changed {
            replace(path, &formatted)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    Ok(Ok(Formatted {
        diff: (args.diff && changed).then(|| difference(&source, &formatted)),
        file: source.name,
        changed,
        text,
    }))
}

fn canonical(source: &Source) -> Result<String, Vec<Finding>> {
    let text = source.text()?;
    hujson::format(text).map_err(|error| Finding::of(source, Diagnostic::from(error)))
}

fn difference(source: &Source, formatted: &str) -> String {
    TextDiff::from_lines(source.text.as_str(), formatted)
        .unified_diff()
        .context_radius(3)
        .header(&source.name, &format!("{} (formatted)", source.name))
        .to_string()
}

/// Puts a text in the place of a file in one step, with the file's mode. A link stays one.
pub(super) fn replace(path: &Path, text: &str) -> Result<()> {
    let path = fs::canonicalize(path)?;
    let old = fs::metadata(&path)?;
    if old.permissions().readonly() {
        bail!("it is write-protected");
    }
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        bail!("it is not a file");
    };
    let new = directory.join(format!(
        ".{}.{}.new",
        name.to_string_lossy(),
        std::process::id()
    ));
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(text.as_bytes())?;
        let mine = file.metadata()?;
        if (mine.uid(), mine.gid()) != (old.uid(), old.gid()) {
            // Only root can give files away; for others it is theirs from now on.
            let _ = std::os::unix::fs::fchown(&file, Some(old.uid()), Some(old.gid()));
        }
        file.set_permissions(old.permissions())?;
        file.sync_all()?;
        fs::rename(&new, &path)
    };
    write().inspect_err(|_| {
        let _ = fs::remove_file(&new);
    })?;
    Ok(())
}

/// Writes a file that may not be there yet.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    if is_stdin(path) {
        let mut out = io::stdout().lock();
        out.write_all(bytes)?;
        return Ok(out.flush()?);
    }
    let written = match std::str::from_utf8(bytes) {
        Ok(text) if path.is_file() => replace(path, text),
        _ => fs::write(path, bytes).map_err(Into::into),
    };
    written.with_context(|| format!("cannot write {}", path.display()))
}
