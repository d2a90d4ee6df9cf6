//! `bowline policy preview` and `explain`.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Result, bail};
use bowline_policy::{
    Budget, Compiled, Diagnostic, Explanation, PreviewTarget, Question, Topology,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::super::api::{PolicyText, segment};
use super::super::output::clean;
use super::finding::{Finding, Report};
use super::source::Source;
use super::{Context, FOUND, NOT_DONE, On, check, judge, lines, transfer};

/// What a preview is about.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct PreviewArgs {
    /// Rules whose sources include this user, by login name
    #[arg(
        long,
        value_name = "LOGIN",
        required_unless_present = "ipport",
        conflicts_with = "ipport"
    )]
    user: Option<String>,
    /// Rules whose destinations include this address and port
    #[arg(long, value_name = "IP:PORT")]
    ipport: Option<SocketAddr>,
    /// Policy file; - is standard input [default: the one in force on the server]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    on: On,
}

/// A connection to be explained.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct ExplainArgs {
    /// Who connects: a device's name or address, a login, a tag, a group
    #[arg(long, value_name = "SOURCE")]
    src: String,
    /// Where to: the same, with a port
    #[arg(long, value_name = "HOST:PORT")]
    dst: String,
    /// Protocol, by name or number [default: tcp]
    #[arg(long, value_name = "PROTOCOL")]
    protocol: Option<String>,
    /// Exit with 1 if it is denied, and with 2 for all else
    #[arg(long)]
    exit_code: bool,
    /// Policy file; - is standard input [default: the one in force on the server]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    on: On,
}

/// What a preview answers.
#[derive(Debug, Deserialize)]
struct Preview {
    matches: Vec<Match>,
}

/// A rule.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Match {
    users: Vec<String>,
    ports: Vec<String>,
    line_number: usize,
    #[serde(default)]
    via: Vec<String>,
    #[serde(default)]
    postures: Vec<String>,
}

/// Where a question is answered.
enum Asked {
    /// Here, by a policy on a topology.
    Here(Source, Box<Compiled>),
    /// By the server, for a proposed policy or the one in force.
    Server(Option<Source>),
    /// The policy is wrong.
    Wrong(Report),
}

/// Runs `bowline policy preview`.
pub(super) fn preview(context: &mut Context<'_>, args: &PreviewArgs) -> Result<u8> {
    let (target, kind, wanted) = match (&args.user, args.ipport) {
        (Some(login), None) => (PreviewTarget::User(login.clone()), "user", login.clone()),
        (None, Some(address)) => (
            PreviewTarget::IpPort(address.ip(), address.port()),
            "ipport",
            address.to_string(),
        ),
        _ => bail!("preview takes either --user or --ipport"),
    };
    let (name, json, read): (Option<String>, String, Preview) = match asked(
        context,
        args.file.as_ref(),
        &args.on,
    )? {
        Asked::Wrong(report) => return check::finish(context, report, &[]),
        Asked::Here(source, net) => {
            let mut answer = json!({
                "matches": net.preview_within(&target, &Budget::default())?, "type": kind, "previewFor": wanted,
            });
            let postures = net.posture_assertions();
            if !postures.is_empty() {
                answer["postures"] = json!(postures);
            }
            (
                Some(source.name),
                answer.to_string(),
                Preview::deserialize(answer)?,
            )
        }
        Asked::Server(proposed) => {
            let answered = context.with_server(async |session| {
                let policy = match &proposed {
                    Some(_) => None,
                    None => Some(transfer::in_force(session).await?),
                };
                let text = match proposed.as_ref().or(policy.as_ref()) {
                    Some(source) => source.text.as_str(),
                    None => "",
                };
                let query = format!("type={kind}&previewFor={}", segment(&wanted));
                let path = session.api.in_tailnet(&format!("acl/preview?{query}"));
                let if_match = None;
                let answer = session
                    .api
                    .post_policy(&path, PolicyText { text, if_match })
                    .await?;
                Ok((answer.text()?.to_owned(), answer.read()?))
            });
            match answered {
                Ok((json, read)) => (proposed.map(|source| source.name), json, read),
                Err(error) => {
                    let report = judge::blame(proposed.as_ref(), error)?;
                    return check::finish(context, report, &[]);
                }
            }
        }
    };
    context.print(json, || rules(name.as_deref(), &wanted, &read))?;
    Ok(0)
}

/// One line for each rule, beginning with its place.
fn rules(file: Option<&str>, wanted: &str, preview: &Preview) -> String {
    if preview.matches.is_empty() {
        return format!("no rule applies to {}", clean(wanted));
    }
    let mut text = String::new();
    for rule in &preview.matches {
        let place = match (rule.line_number, file) {
            (0, _) => "implied".to_owned(),
            (line, Some(file)) => format!("{file}:{line}"),
            (line, None) => format!("line {line}"),
        };
        let (users, ports) = (rule.users.join(", "), rule.ports.join(", "));
        let mut line = format!("{place}: {users} -> {ports}");
        for (what, names) in [("via", &rule.via), ("if", &rule.postures)] {
            if !names.is_empty() {
                // Writing to a String cannot fail.
                let _ = write!(line, " {what} {}", names.join(", "));
            }
        }
        text.push_str(&clean(&line));
        text.push('\n');
    }
    text
}

/// Runs `bowline policy explain`.
pub(super) fn explain(context: &mut Context<'_>, args: &ExplainArgs) -> Result<u8> {
    let code_of_wrong = |code: u8| if args.exit_code { NOT_DONE } else { code };
    let (json, read): (String, Explanation) = match asked(context, args.file.as_ref(), &args.on)? {
        Asked::Wrong(report) => return check::finish(context, report, &[]).map(code_of_wrong),
        Asked::Here(_, net) => {
            let question = Question {
                src: args.src.clone(),
                dst: args.dst.clone(),
                protocol: args.protocol.clone(),
            };
            let explanation = net.explain_within(&question, &Budget::default())?;
            (serde_json::to_string(&explanation)?, explanation)
        }
        Asked::Server(proposed) => {
            let body = json!({
                "src": args.src,
                "dst": args.dst,
                "protocol": args.protocol,
                "policy": proposed.as_ref().map(|source| &source.text),
            });
            match context.with_server(async |session| ask(session, "explain", body).await) {
                Ok(answer) => answer,
                Err(error) => {
                    let report = judge::blame(proposed.as_ref(), error)?;
                    return check::finish(context, report, &[]).map(code_of_wrong);
                }
            }
        }
    };
    context.print(json, || lines(&read))?;
    Ok(if args.exit_code && !read.allowed {
        FOUND
    } else {
        0
    })
}

/// Sends a question in JSON, and passes the answer as it came and read. Fields that are null are
/// left out.
pub(super) async fn ask<T: DeserializeOwned>(
    session: &mut super::super::output::Session,
    operation: &str,
    mut body: Value,
) -> Result<(String, T)> {
    if let Some(fields) = body.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    let path = session.api.in_tailnet(&format!("acl/{operation}"));
    let answer = session.api.post(&path, &body).await?;
    Ok((answer.text()?.to_owned(), answer.read()?))
}

/// Reads the file, and decides where the question is answered.
fn asked(context: &mut Context<'_>, file: Option<&PathBuf>, on: &On) -> Result<Asked> {
    let is_server = on.is_server(context.target)?;
    let Some(path) = file else {
        if on.topology.is_some() {
            bail!("--topology needs a policy file");
        }
        return Ok(Asked::Server(None));
    };
    let topology = match &on.topology {
        Some(path) => Some(context.reader.topology(path)?),
        None => None,
    };
    let source = context.reader.read(path)?;
    let wrong = |errors| Asked::Wrong(Report::of(errors));
    if is_server {
        return Ok(match source.text() {
            Ok(_) => Asked::Server(Some(source)),
            Err(findings) => wrong(findings),
        });
    }
    Ok(match source.policy() {
        Ok(policy) => {
            let policy = Arc::new(policy);
            let topology = topology.unwrap_or_else(|| Topology::implied_by(&policy));
            match Compiled::new_within(policy, &topology, &Budget::default()) {
                Ok(net) => Asked::Here(source, Box::new(net)),
                Err(exhausted) => wrong(Finding::of(&source, Diagnostic::from(exhausted))),
            }
        }
        Err(findings) => wrong(findings),
    })
}
