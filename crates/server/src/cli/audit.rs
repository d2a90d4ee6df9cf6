//! `bowline audit`: the audit log, read, exported and verified.

use std::collections::VecDeque;
use std::io::Write as _;

use anyhow::{Result, bail};
use bowline_model::id::TailnetId;
use bowline_store::{Chain, ChainFault, ChainFaultKind, Examination, examine_audit, hex};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};

use super::api::segment;
use super::backup::DatabaseFlag;
use super::lifetime;
use super::output::{Session, clean, print, table};
use crate::config::Loaded;
use crate::open::store_url;

/// Exit code when a log is not what was written.
const UNSOUND: u8 = 1;
/// Exit code when the logs could not be verified.
pub(super) const NOT_DONE: u8 = 2;
/// Events that are asked for at once.
const PAGE: usize = 1000;
/// Longest value in a table, in characters.
const VALUE_MAX: usize = 40;

/// What can be done with the audit log.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List events: who did what to what
    #[command(after_help = "\
Examples, the second for what one OAuth client did:
  bowline audit list
  bowline audit list --since 90d --actor kAbCdEf12CNTRL
  bowline audit list --event API_KEY.CREATE --event API_KEY.REVOKE --target kAbCdEf12CNTRL")]
    List {
        #[command(flatten)]
        wanted: Wanted,
        /// Not before this: a time in RFC 3339, or how long ago
        #[arg(long, value_name = "TIME", default_value = "7d")]
        since: String,
        /// The most events, the newest ones
        #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// Print events as JSON, one on each line
    #[command(after_help = "\
Each line is an event as the API has it, with its number and hash in the chain, oldest first. An \
export that is kept elsewhere shows later what the log said.

Example:
  bowline audit export --since 2026-11-01T00:00:00Z --until 2026-12-01T00:00:00Z > november.jsonl")]
    Export {
        #[command(flatten)]
        wanted: Wanted,
        /// Not before this: a time in RFC 3339, or how long ago [default: everything that is kept]
        #[arg(long, value_name = "TIME")]
        since: Option<String>,
    },
    /// Verify the chains of the audit logs: whether an event was changed, removed or moved
    #[command(after_help = "\
It reads the database itself, changes nothing, and works beside a running server. Exit codes: 0 every \
log is what was written, 1 one is not, 2 could not be verified.

Example:
  bowline audit verify --json")]
    Verify(DatabaseFlag),
}

/// Which events are wanted.
#[derive(Debug, clap::Args)]
pub(super) struct Wanted {
    /// Not after this: a time in RFC 3339, or how long ago [default: now]
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Who acted: an id, or ~ and a part of a name; may be given several times
    #[arg(long = "actor", value_name = "ACTOR")]
    actors: Vec<String>,
    /// A part of the id, name, type or property of what changed; may be given several times
    #[arg(long = "target", value_name = "TEXT")]
    targets: Vec<String>,
    /// What happened, such as NODE.CREATE; may be given several times
    #[arg(long = "event", value_name = "EVENT")]
    events: Vec<String>,
}

/// A time as it is typed: in RFC 3339, or how long before now.
fn time(text: &str, now: Timestamp) -> Result<Timestamp> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let before = lifetime::parse(text).ok();
    let time = before.and_then(|seconds| now.checked_sub(SignedDuration::from_secs(seconds)).ok());
    match time {
        Some(time) => Ok(time),
        None => bail!(
            "invalid time {text:?}: expected one such as 2026-12-01T00:00:00Z, or how long ago, such as 24h or 90d"
        ),
    }
}

impl Wanted {
    fn query(&self, since: Option<&str>, now: Timestamp) -> Result<String> {
        let start = match since {
            Some(text) => time(text, now)?,
            None => Timestamp::UNIX_EPOCH,
        };
        let end = match &self.until {
            Some(text) => time(text, now)?,
            None => now,
        };
        let mut query = format!("start={start}&end={end}&limit={PAGE}");
        for (name, values) in [
            ("actor", &self.actors),
            ("target", &self.targets),
            ("event", &self.events),
        ] {
            for value in values {
                query.extend(["&", name, "=", &segment(value)]);
            }
        }
        Ok(query)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    logs: Vec<Value>,
    next_cursor: Option<String>,
}

/// Reads page by page, and shows each event to `take`.
async fn read(
    session: &mut Session,
    query: &str,
    mut take: impl FnMut(Value) -> Result<()>,
) -> Result<()> {
    let path = session.api.in_tailnet("logging/configuration");
    let mut cursor = String::new();
    loop {
        let answer = session.api.get(&format!("{path}?{query}{cursor}")).await?;
        let page: Page = answer.read()?;
        page.logs.into_iter().try_for_each(&mut take)?;
        match page.next_cursor {
            Some(next) => cursor = format!("&cursor={}", segment(&next)),
            None => return Ok(()),
        }
    }
}

/// Runs one of the commands that ask a server.
pub(super) async fn run(command: Command, session: &mut Session) -> Result<()> {
    let now = session.now();
    match command {
        Command::List {
            wanted,
            since,
            limit,
        } => {
            let query = wanted.query(Some(&since), now)?;
            let limit = limit as usize;
            let mut newest = VecDeque::new();
            let take = |event| {
                if newest.len() == limit {
                    newest.pop_front();
                }
                newest.push_back(event);
                Ok(())
            };
            read(session, &query, take).await?;
            if session.is_json {
                print(&json!({ "logs": newest }).to_string())?;
                return Ok(());
            }
            if newest.is_empty() {
                print("No events.")?;
                return Ok(());
            }
            let rows = newest.iter().map(|event| row(event, session));
            let header = ["NUMBER", "WHEN", "WHO", "EVENT", "TARGET", "OLD", "NEW"];
            print(&table(header, rows))?;
        }
        Command::Export { wanted, since } => {
            let query = wanted.query(since.as_deref(), now)?;
            let mut out = std::io::BufWriter::new(std::io::stdout().lock());
            read(session, &query, |event| Ok(writeln!(out, "{event}")?)).await?;
            out.flush()?;
        }
        Command::Verify(_) => {
            bail!("audit verify reads the database itself: run it where that is, without --server");
        }
    }
    Ok(())
}

fn row(event: &Value, session: &Session) -> [String; 7] {
    let text = |value: &Value| clean(value.as_str().unwrap_or_default());
    let (actor, target) = (&event["actor"], &event["target"]);
    let who = match text(&actor["loginName"]) {
        login if login.is_empty() => text(&actor["displayName"]),
        login => login,
    };
    let id = match &actor["type"] {
        kind if kind == "OAUTH_CLIENT" => format!("{who} {}", text(&actor["id"])),
        _ => who,
    };
    let mut name = format!("{}.{}", text(&target["type"]), text(&event["action"]));
    if let Some(property) = target["property"].as_str() {
        name = format!("{name}.{}", clean(property));
    }
    if event["error"].is_string() {
        name.push_str(" (refused)");
    }
    [
        event["number"].to_string(),
        session.time(event["eventTime"].as_str().unwrap_or_default()),
        id,
        name,
        format!("{} {}", text(&target["name"]), text(&target["id"])),
        value(&event["old"]),
        value(&event["new"]),
    ]
}

/// A value in short.
fn value(value: &Value) -> String {
    let text = match value {
        Value::Null => return "-".to_owned(),
        Value::String(text) => clean(text),
        other => clean(&other.to_string()),
    };
    match text.char_indices().nth(VALUE_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Whose log it is.
fn owner(number: u64) -> String {
    TailnetId::new(number).map_or_else(|| "server".to_owned(), TailnetId::stable)
}

fn told(fault: &ChainFault) -> String {
    let (number, owner) = (fault.number, owner(fault.owner));
    match fault.fault {
        ChainFaultKind::Changed => format!("{owner}: event {number} was changed"),
        ChainFaultKind::Missing { to } if to == number => {
            format!("{owner}: event {number} is missing")
        }
        ChainFaultKind::Missing { to } => format!("{owner}: events {number} to {to} are missing"),
        ChainFaultKind::OutOfPlace => {
            format!("{owner}: event {number} does not follow the one before it")
        }
        ChainFaultKind::BehindTheEnd => {
            format!("{owner}: event {number} is behind the noted end of the log")
        }
    }
}

/// Verifies the chains of a database. Gives the exit code.
///
/// # Errors
/// When it cannot be looked at, or standard output is closed.
pub(super) async fn verify(loaded: &Loaded, is_json: bool) -> Result<u8> {
    let found = examine_audit(&store_url(&loaded.settings)).await?;
    if is_json {
        print(&to_json(&found).to_string())?;
    } else {
        print(&to_text(&found))?;
    }
    Ok(if found.is_sound() { 0 } else { UNSOUND })
}

fn to_json(found: &Examination) -> Value {
    let log = |(number, chain): (&u64, &Chain)| {
        json!({
            "log": owner(*number),
            "events": chain.events,
            "removedTo": chain.removed.number,
            "newest": chain.newest.number,
            "newestHash": hex(&chain.newest.hash),
        })
    };
    let fault = |fault: &ChainFault| {
        let (kind, to) = match fault.fault {
            ChainFaultKind::Changed => ("changed", fault.number),
            ChainFaultKind::Missing { to } => ("missing", to),
            ChainFaultKind::OutOfPlace => ("out of place", fault.number),
            ChainFaultKind::BehindTheEnd => ("behind the end", fault.number),
        };
        json!({
            "log": owner(fault.owner), "number": fault.number, "to": to,
            "fault": kind, "text": told(fault),
        })
    };
    let findings = found.findings.iter();
    json!({
        "database": found.place,
        "sound": found.is_sound(),
        "logs": found.chains.iter().map(log).collect::<Vec<_>>(),
        "faults": found.faults.iter().map(fault).collect::<Vec<_>>(),
        "findings": findings.map(|one| json!({"table": one.table, "problem": one.problem})).collect::<Vec<_>>(),
    })
}

fn to_text(found: &Examination) -> String {
    let mut text = if found.is_sound() {
        format!(
            "The audit logs of {} are what was written.\n\n",
            found.place
        )
    } else {
        let mut text = format!(
            "The audit logs of {} are not what was written:\n\n",
            found.place
        );
        let faults: Vec<String> = found.faults.iter().map(told).collect();
        // Those of the chains are among the findings, and said better here.
        let others = found.findings.iter().filter(|one| {
            let is_of_chain = |fault: &ChainFault| one.problem == fault.to_string();
            !found.faults.iter().any(is_of_chain)
        });
        let others = others.map(|one| format!("{}: {}", one.table, one.problem));
        for line in faults.into_iter().chain(others) {
            text.extend(["  ", &line, "\n"]);
        }
        text.push('\n');
        text
    };
    let rows = found.chains.iter().map(|(number, chain)| {
        [
            owner(*number),
            chain.events.to_string(),
            chain.removed.number.to_string(),
            chain.newest.number.to_string(),
            hex(&chain.newest.hash),
        ]
    });
    let header = [
        "LOG",
        "EVENTS",
        "REMOVED TO",
        "NEWEST",
        "HASH OF THE NEWEST",
    ];
    text.push_str(&table(header, rows));
    text.push_str(
        "\n\nKeep number and hash of the newest elsewhere: whoever can write to the database can make \
         all hashes anew, and then they are others.",
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_one_or_how_long_ago() {
        let now: Timestamp = "2026-12-01T00:00:00Z".parse().unwrap();
        for (text, expected) in [
            ("24h", "2026-11-30T00:00:00Z"),
            ("7d", "2026-11-24T00:00:00Z"),
            ("2026-01-02T03:04:05+01:00", "2026-01-02T02:04:05Z"),
        ] {
            assert_eq!(time(text, now).unwrap(), expected.parse().unwrap());
        }
        for text in ["yesterday", "", "2026-12-01"] {
            assert!(time(text, now).is_err(), "{text}");
        }
    }

    #[test]
    fn values_are_short_and_show_as_themselves() {
        assert_eq!(value(&Value::Null), "-");
        assert_eq!(value(&json!({"a": 1})), "{\"a\":1}");
        assert_eq!(value(&json!("é".repeat(50))).chars().count(), 41);
    }
}
