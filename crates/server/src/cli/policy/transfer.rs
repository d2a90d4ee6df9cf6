//! `bowline policy get` and `set`.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use serde_json::json;

use super::super::api::{PolicyText, Refused};
use super::super::output::Session;
use super::finding::{Finding, Report};
use super::source::Source;
use super::{Context, FOUND, check, fmt, judge};

const HUJSON: &str = "application/hujson";
const JSON: &str = "application/json";
/// `If-Match` for the policy of a new tailnet.
const UNTOUCHED: &str = "ts-default";

/// In which form a policy file is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// As it was written.
    Hujson,
    /// Plain JSON, without comments.
    Json,
}

/// Where the policy in force goes.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct GetArgs {
    /// hujson: as it was written; json: without comments, as with --json
    #[arg(
        long,
        value_enum,
        default_value = "hujson",
        hide_possible_values = true
    )]
    format: Format,
    /// File to write it to instead of standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// File to write its ETag to, for --if-match of bowline policy set
    #[arg(long, value_name = "FILE")]
    etag_file: Option<PathBuf>,
}

/// What is to be put into force.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct SetArgs {
    /// Policy file; - is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Only if the policy in force still has this ETag
    #[arg(long, value_name = "ETAG", conflicts_with = "if_default")]
    if_match: Option<String>,
    /// Only if the policy in force is that of a new tailnet
    #[arg(long)]
    if_default: bool,
    /// Check it and run its tests on the server's tailnet, and change nothing
    #[arg(long, conflicts_with_all = ["if_match", "if_default"])]
    dry_run: bool,
}

/// The policy file that is in force.
pub(super) async fn in_force(session: &mut Session) -> Result<Source> {
    let path = session.api.in_tailnet("acl");
    let answer = session.api.get_as(&path, HUJSON).await?;
    let text = String::from_utf8(answer.bytes().to_vec());
    Ok(Source::of_server(
        text.context("the server's answer is not text")?,
    ))
}

/// Runs `bowline policy get`.
pub(super) fn get(context: &mut Context<'_>, args: &GetArgs) -> Result<u8> {
    let is_json = context.common.json || args.format == Format::Json;
    let answer = context.with_server(async |session| {
        let path = session.api.in_tailnet("acl");
        let accept = if is_json { JSON } else { HUJSON };
        session.api.get_as(&path, accept).await
    })?;
    if let Some(path) = &args.etag_file {
        fmt::write(path, format!("{}\n", answer.etag()).as_bytes())?;
    }
    match &args.output {
        None => fmt::write("-".as_ref(), answer.bytes())?,
        Some(path) => {
            fmt::write(path, answer.bytes())?;
            let told = json!({"file": path.display().to_string(), "etag": answer.etag()});
            context.print(told.to_string(), || {
                format!("Wrote {}, ETag {}", path.display(), answer.etag())
            })?;
        }
    }
    Ok(0)
}

/// Runs `bowline policy set`.
pub(super) fn set(context: &mut Context<'_>, args: &SetArgs) -> Result<u8> {
    let source = context.reader.read(&args.file)?;
    // To the API nothing at all means the policy of a new tailnet, which a truncated file does not.
    if source.text.trim().is_empty() {
        bail!("{} is empty: a policy file is at least {{}}", source.name);
    }
    let mut report = Report::default();
    let text = match source.text() {
        Ok(text) => text,
        Err(findings) => {
            report.errors.extend(findings);
            return check::finish(context, report, &[]);
        }
    };
    if args.dry_run {
        let verdict = context.with_server(async |session| judge::on_server(session, text).await)?;
        judge::add(&source, verdict, &mut report);
        let told = format!("{}: fine, and not set", source.name);
        let lines = if report.is_wrong() {
            vec![]
        } else {
            vec![told]
        };
        return check::finish(context, report, &lines);
    }
    let if_match = match &args.if_match {
        Some(etag) => Some(format!("\"{}\"", etag.trim().trim_matches('"'))),
        None => args.if_default.then(|| format!("\"{UNTOUCHED}\"")),
    };
    let answered = context.with_server(async |session| {
        let path = session.api.in_tailnet("acl?details=1");
        let policy = PolicyText { text, if_match };
        session.api.post_policy(&path, policy).await
    });
    let mut lines = Vec::new();
    match answered {
        Ok(answer) => {
            lines.push(format!(
                "{} is in force, ETag {}",
                source.name,
                answer.etag()
            ));
            report.etag = Some(answer.etag().to_owned());
            // An older server answers with the file alone.
            if let Ok(details) = answer.read() {
                judge::add_details(&source, details, &mut report);
            }
        }
        Err(error) if is_outdated(&error) => {
            let told = if args.if_default {
                "the policy in force is not that of a new tailnet any more; nothing was changed"
            } else {
                "the policy in force has another ETag: somebody changed it meanwhile. Nothing was \
                 changed; get it with bowline policy get, and see what differs with bowline \
                 policy diff"
            };
            if !context.common.json {
                super::super::report(&error.context(told));
                return Ok(FOUND);
            }
            report.errors.push(Finding::whole(&source.name, told));
        }
        Err(error) => judge::add(&source, super::refusal(error)?.into(), &mut report),
    }
    check::finish(context, report, &lines)
}

fn is_outdated(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<Refused>()
        .is_some_and(|refused| refused.status == http::StatusCode::PRECONDITION_FAILED)
}
