//! `bowline policy`: the policy file, on files alone or with a server.

mod ask;
mod check;
mod diff;
mod finding;
mod fmt;
mod judge;
mod place;
mod source;
mod transfer;

use std::path::PathBuf;

use anyhow::{Result, bail};

use super::api::Refused;
use super::connect::TargetFlags;
use super::output::{self, Session};
use crate::config::CommonFlags;
use source::Reader;

/// Exit code for what is wrong with a policy, or differs.
const FOUND: u8 = 1;
/// Exit code for what could not be done: a file that cannot be read, a server that does not answer.
pub(super) const NOT_DONE: u8 = 2;

/// What can be done with policy files.
#[derive(Debug, clap::Subcommand)]
#[command(after_help = "\
Exit codes: 0 fine; 1 a policy is wrong, a test fails, the server refuses it; 2 typed wrong, or it \
could not be done.")]
pub(super) enum Command {
    /// Check policy files and run their tests, without a server
    #[command(after_help = "\
Examples:
  bowline policy check policy.hujson
  bowline policy check policy.hujson --topology tailnet.hujson
  bowline policy check policy.hujson --server https://bowline.example.com --json")]
    Check(check::CheckArgs),
    /// Bring policy files into canonical layout, in place
    #[command(after_help = "\
Examples:
  bowline policy fmt policy.hujson
  bowline policy fmt --check --diff policies/*.hujson
  bowline policy fmt - < policy.hujson")]
    Fmt(fmt::FmtArgs),
    /// Run tests and sshTests of a policy file, or tests from another file
    #[command(after_help = "\
Examples:
  bowline policy test policy.hujson
  bowline policy test policy.hujson --topology tailnet.hujson --tests more-tests.hujson
  bowline policy test --tests more-tests.hujson")]
    Test(check::TestArgs),
    /// Show which rules apply to a user, or to an address and port
    #[command(after_help = "\
Examples:
  bowline policy preview --user alice@example.com
  bowline policy preview --ipport 100.64.0.4:443 policy.hujson --topology tailnet.hujson")]
    Preview(ask::PreviewArgs),
    /// Say why a connection is allowed or denied
    #[command(after_help = "\
Examples:
  bowline policy explain --src alice@example.com --dst server:22
  bowline policy explain --src laptop --dst 10.0.5.6:53 --protocol udp
  bowline policy explain --src tag:ci --dst tag:web:443 policy.hujson")]
    Explain(ask::ExplainArgs),
    /// Show what a proposed policy changes: access, SSH, routes, attributes
    #[command(after_help = "\
Examples:
  bowline policy diff policy.hujson
  bowline policy diff new.hujson old.hujson --topology tailnet.hujson
  bowline policy diff policy.hujson --connections open.json --json --exit-code")]
    Diff(diff::DiffArgs),
    /// Print the policy file that is in force
    #[command(after_help = "\
Examples:
  bowline policy get > policy.hujson
  bowline policy get --output policy.hujson --etag-file policy.etag")]
    Get(transfer::GetArgs),
    /// Put a policy file into force; nothing changes if it is wrong or a test fails
    #[command(after_help = "\
Examples:
  bowline policy set policy.hujson
  bowline policy set policy.hujson --if-match \"$(cat policy.etag)\"
  bowline policy set policy.hujson --dry-run")]
    Set(transfer::SetArgs),
}

/// The tailnet that a file is judged on.
#[derive(Debug, clap::Args)]
pub(super) struct On {
    /// File with users and devices to apply the policy to [default: a device for each user and
    /// each tag that the policy names]
    #[arg(long, value_name = "FILE")]
    topology: Option<PathBuf>,

    /// Apply the file to the server's tailnet, as a proposed policy; --server and --tailnet imply it
    #[arg(long)]
    on_server: bool,
}

impl On {
    /// Whether a server is asked.
    ///
    /// # Errors
    /// When a topology is given as well.
    fn is_server(&self, target: &TargetFlags) -> Result<bool> {
        let is_server = self.on_server || target.is_named();
        if is_server && self.topology.is_some() {
            bail!(
                "--topology is for work without a server: leave it out, or --server, --tailnet and --on-server"
            );
        }
        Ok(is_server)
    }
}

/// What the commands share: flags, and what has been read.
struct Context<'a> {
    common: &'a CommonFlags,
    target: &'a TargetFlags,
    reader: Reader,
}

impl Context<'_> {
    /// Runs requests to the server.
    fn with_server<T>(&self, requests: impl AsyncFnOnce(&mut Session) -> Result<T>) -> Result<T> {
        super::through_api(self.common, self.target, requests)
    }

    /// Prints text for people, or JSON for programs.
    fn print(&self, json: String, text: impl FnOnce() -> String) -> Result<()> {
        let text = if self.common.json { json } else { text() };
        if !text.is_empty() {
            output::print(&text)?;
        }
        Ok(())
    }
}

/// Runs one of the commands, and passes its exit code.
pub(super) fn run(common: &CommonFlags, target: &TargetFlags, command: Command) -> Result<u8> {
    let mut context = Context {
        common,
        target,
        reader: Reader::default(),
    };
    match command {
        Command::Check(args) => check::check(&mut context, &args),
        Command::Fmt(args) => fmt::run(&mut context, &args),
        Command::Test(args) => check::test(&mut context, &args),
        Command::Preview(args) => ask::preview(&mut context, &args),
        Command::Explain(args) => ask::explain(&mut context, &args),
        Command::Diff(args) => diff::run(&mut context, &args),
        Command::Get(args) => transfer::get(&mut context, &args),
        Command::Set(args) => transfer::set(&mut context, &args),
    }
}

/// The API's refusal of a policy, for what is its fault; else the error.
fn refusal(error: anyhow::Error) -> Result<Refused> {
    let refused = error.downcast::<Refused>()?;
    match refused.status {
        http::StatusCode::BAD_REQUEST | http::StatusCode::UNPROCESSABLE_ENTITY => Ok(refused),
        _ => Err(refused.into()),
    }
}

/// Lines from the policy engine, without what would move the terminal's cursor.
fn lines(text: &impl ToString) -> String {
    let text = text.to_string();
    text.lines()
        .map(output::clean)
        .collect::<Vec<_>>()
        .join("\n")
}
