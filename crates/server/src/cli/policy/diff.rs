//! `bowline policy diff`.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Result, bail};
use bowline_policy::{Budget, Compiled, Connection, Diagnostic, Diff, Policy, Topology};
use serde_json::json;

use super::finding::{Finding, Report};
use super::source::Source;
use super::{Context, FOUND, NOT_DONE, ask, check, judge, lines};

/// What is to be compared.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct DiffArgs {
    /// The proposed policy file; - is standard input
    #[arg(value_name = "NEW")]
    new: PathBuf,
    /// The policy file to compare it with, without a server [default: the one in force on the
    /// server]
    #[arg(value_name = "OLD")]
    old: Option<PathBuf>,
    /// File with users and devices to compare on [default: a device for each user and each tag
    /// that the policies name]
    #[arg(long, value_name = "FILE", requires = "old")]
    topology: Option<PathBuf>,
    /// File with open connections, of which those are told that would be cut: an array of objects
    /// with src, dst, protocol and port
    #[arg(long, value_name = "FILE")]
    connections: Option<PathBuf>,
    /// Exit with 1 if anything changes, and with 2 for all else
    #[arg(long)]
    exit_code: bool,
}

/// Runs the command.
pub(super) fn run(context: &mut Context<'_>, args: &DiffArgs) -> Result<u8> {
    if args.old.is_some() && context.target.is_named() {
        bail!("OLD compares two files locally; drop OLD to compare with a server");
    }
    let connections = match &args.connections {
        Some(path) => Some(context.reader.connections(path)?),
        None => None,
    };
    let new = context.reader.read(&args.new)?;
    let compared = match &args.old {
        Some(path) => {
            let old = context.reader.read(path)?;
            let topology = match &args.topology {
                Some(path) => Some(context.reader.topology(path)?),
                None => None,
            };
            let connections = connections.unwrap_or_default();
            match here(&old, &new, topology, &connections) {
                Ok(diff) => Ok((serde_json::to_string(&diff)?, diff)),
                Err(errors) => Err(Report::of(errors)),
            }
        }
        None => on_server(context, &new, connections)?,
    };
    let (json, diff) = match compared {
        Ok(compared) => compared,
        Err(report) => {
            let code = check::finish(context, report, &[])?;
            return Ok(if args.exit_code { NOT_DONE } else { code });
        }
    };
    context.print(json, || lines(&diff))?;
    Ok(if args.exit_code && diff != Diff::default() {
        FOUND
    } else {
        0
    })
}

fn here(
    old_source: &Source,
    new_source: &Source,
    topology: Option<Topology>,
    connections: &[Connection],
) -> Result<Diff, Vec<Finding>> {
    let (old, new): (Policy, Policy) = match (old_source.policy(), new_source.policy()) {
        (Ok(old), Ok(new)) => (old, new),
        (old, new) => {
            let errors = [old, new].into_iter().filter_map(Result::err);
            return Err(errors.flatten().collect());
        }
    };
    let topology = topology.unwrap_or_else(|| Topology::implied_by_all([&old, &new]));
    let budget = Budget::default();
    let exhausted = |source: &Source| {
        let source = source.clone();
        move |exhausted| Finding::of(&source, Diagnostic::from(exhausted))
    };
    let net = Compiled::new_within(Arc::new(old), &topology, &budget);
    let net = net.map_err(exhausted(old_source))?;
    net.diff_within(&Arc::new(new), connections, &budget)
        .map_err(exhausted(new_source))
}

fn on_server(
    context: &Context<'_>,
    new: &Source,
    connections: Option<Vec<Connection>>,
) -> Result<Result<(String, Diff), Report>> {
    let text = match new.text() {
        Ok(text) => text,
        Err(errors) => return Ok(Err(Report::of(errors))),
    };
    let body = json!({"policy": text, "connections": connections});
    match context.with_server(async |session| ask::ask(session, "diff", body).await) {
        Ok(answer) => Ok(Ok(answer)),
        Err(error) => {
            let mut report = Report::default();
            judge::add(new, super::refusal(error)?.into(), &mut report);
            Ok(Err(report))
        }
    }
}
