//! The command line.

pub(crate) mod api;
mod audit;
mod backup;
mod clock;
mod config;
mod connect;
mod device;
mod doctor;
mod federated_identity;
mod init;
mod key;
mod lifetime;
mod login;
mod oauth_client;
mod output;
mod policy;
mod progress;
mod restore;
mod scim_key;
mod secret;
mod secret_key;
mod ssh;
mod tailnet;
mod tls;
mod token;
mod user;
mod webhook;

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::error::ErrorKind;
use clap::{Args, CommandFactory as _, Parser, Subcommand};

use self::connect::TargetFlags;
use self::output::Session;
use crate::config::{
    CliFlags, CommonFlags, Environment, Loaded, Problem, ServeFlags, Settings, SettingsError,
    Source,
};
use crate::telemetry;

/// Exit code for what is refused or fails.
const FAILED: u8 = 1;
/// How long the end of the server waits for work on threads of its own, such as judging a policy.
const LAST_WORK: Duration = Duration::from_secs(1);
/// Exit code for what is typed wrong.
const USAGE: u8 = 2;

/// A self-hosted coordination server for Tailscale clients.
#[derive(Debug, Parser)]
#[command(
    name = "bowline",
    version,
    about,
    propagate_version = true,
    arg_required_else_help = true,
    after_help = "\
Start a server, make an auth key and look at the devices:
  bowline serve
  bowline key create
  bowline device list

Commands reach the server of the same data directory by a socket in it, and work on the directory \
itself when no server runs. --server names one elsewhere."
)]
struct Cli {
    #[command(flatten)]
    common: CommonFlags,
    #[command(subcommand)]
    command: Command,
}

/// Commands that go through the API, and where to find it.
#[derive(Debug, Args)]
struct Through<C: Subcommand> {
    #[command(flatten)]
    target: TargetFlags,
    #[command(subcommand)]
    command: C,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server
    #[command(after_help = "\
Example, for devices on the same network:
  bowline serve --listen 0.0.0.0:8080 --url http://192.168.1.10:8080")]
    Serve(ServeFlags),
    /// Make the first tailnet and its owner on an empty data directory
    #[command(after_help = "\
Example:
  bowline init --owner ann@example.com --tailnet example.com")]
    Init(init::Args),
    /// Print the settings in force, and where each came from
    #[command(after_help = "\
Example:
  bowline config --config /etc/bowline/bowline.toml")]
    Config(ServeFlags),
    /// Examine the database: whether everything in it is what was written
    #[command(after_help = "\
It changes nothing, and works beside a running server. Exit codes: 0 sound, 1 damaged, 2 could not \
be examined.

Example, before a backup is trusted:
  bowline doctor --json")]
    Doctor(ServeFlags),
    /// Back up the database, while the server runs
    #[command(after_help = "\
The backup is one file with everything in the database but the sealing key: keep a copy of that \
apart from it. Either engine writes it and either reads it, so that a backup and a restore move a \
server from SQLite to PostgreSQL or back. FILE has its name when it is whole and on the disk, and \
not before. The server need not run, and nothing waits for the backup.

Examples, the second for a place elsewhere:
  bowline backup /var/backups/bowline-$(date +%F)
  bowline backup - | ssh backups.example.com 'cat > bowline-backup'")]
    Backup(backup::Args),
    /// Restore a backup into an empty data directory or database
    #[command(after_help = "\
All of FILE is verified before anything is written, and a server finds the database when it is \
whole, and not before. No server may run on the data directory meanwhile, and the former server \
must not run afterwards. Bring the sealing key along: the file seal.key of the former data directory \
goes into the new one, or is named by the setting seal.key_file. Without it a restore is refused, \
and says what would be lost.

Examples, the second to move a server to PostgreSQL:
  bowline restore --check /var/backups/bowline-2026-12-01
  bowline restore bowline-backup --data new-data --database postgres://bowline@db/bowline")]
    Restore(restore::Args),
    /// Users: create, list
    User(Through<user::Command>),
    /// API access tokens: create, list, revoke
    Token(Through<token::Command>),
    /// Auth keys, with which devices join: create, list, revoke
    Key(Through<key::Command>),
    /// OAuth clients, with which programs get access tokens: create, list, revoke
    OauthClient(Through<oauth_client::Command>),
    /// Federated identities, which get access tokens for the tokens of others: create, list, revoke
    FederatedIdentity(Through<federated_identity::Command>),
    /// The SCIM key, with which a directory provisions users: create, list, revoke
    ScimKey(Through<scim_key::Command>),
    /// Secrets that somebody found: identify
    Secret(Through<secret::Command>),
    /// Devices: list, show, rename, delete, authorize, expire, routes
    Device(Through<device::Command>),
    /// Devices that wait to be let in: list, approve, deny
    Login(Through<login::Command>),
    /// SSH sessions that wait to be confirmed: list, approve, deny
    Ssh(Through<ssh::Command>),
    /// Webhook endpoints, which are told of events: create, list, show, test, rotate, replay, delete
    Webhook(Through<webhook::Command>),
    /// The audit log: list, export, verify
    Audit(Through<audit::Command>),
    /// The policy file: check, fmt, test, preview, explain, diff, get, set
    Policy(Through<policy::Command>),
    /// Tailnets of this server: create, list
    Tailnet(Through<tailnet::Command>),
    /// The server's clock after a jump: show, confirm
    Clock(Through<clock::Command>),
}

/// Runs the program with the arguments of the process.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let is_serving = matches!(cli.command, Command::Serve(_));
    let failed = match cli.command {
        Command::Policy(_) => policy::NOT_DONE,
        Command::Doctor(_) => doctor::NOT_DONE,
        Command::Audit(Through {
            command: audit::Command::Verify(_),
            ..
        }) => audit::NOT_DONE,
        _ => FAILED,
    };
    match run(cli) {
        Ok(code) => ExitCode::from(code),
        // The reader, such as `head`, has had enough.
        Err(error) if !is_serving && is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            report(&error);
            let code = if is_typed_wrong(&error) {
                USAGE
            } else {
                failed
            };
            ExitCode::from(code)
        }
    }
}

/// The names of all commands as they are typed, such as `key create`, for the reference to be
/// checked against.
pub fn command_names() -> Vec<String> {
    let mut names = Vec::new();
    for command in Cli::command().get_subcommands() {
        let mut inner = command.get_subcommands().peekable();
        if inner.peek().is_none() {
            names.push(command.get_name().to_owned());
        }
        names.extend(inner.map(|inner| format!("{} {}", command.get_name(), inner.get_name())));
    }
    names
}

/// Whether only values of flags are wrong: settings check them, and not the parser of flags.
fn is_typed_wrong(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<SettingsError>()
        .is_some_and(|error| error.problems().iter().all(is_of_a_flag))
}

fn is_of_a_flag(problem: &Problem) -> bool {
    matches!(
        problem,
        Problem::BadValue {
            at: Source::Flag(_),
            ..
        }
    )
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Help and version as they are; what was typed wrong in the words of every other error.
#[expect(
    clippy::print_stderr,
    reason = "where the command line reports what was typed wrong"
)]
fn usage(error: &clap::Error) -> ExitCode {
    let is_wrong =
        error.use_stderr() && error.kind() != ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
    if is_wrong {
        let text = error.render().to_string();
        let text = text.strip_prefix("error: ").unwrap_or(&text);
        eprint!("bowline: {text}");
    } else if error.print().is_err() {
        return ExitCode::FAILURE;
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(USAGE))
}

/// An error with its causes, one per line, on standard error.
#[expect(
    clippy::print_stderr,
    reason = "the one place where the command line reports an error"
)]
fn report(error: &anyhow::Error) {
    eprintln!("bowline: {error}");
    let mut told = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        // Libraries often say the same once more, with a number in front.
        if !told.ends_with(&cause) && !cause.ends_with(&told) {
            eprintln!("  because: {cause}");
        }
        told = cause;
    }
}

fn load(common: &CommonFlags, serve: ServeFlags) -> Result<Loaded> {
    let flags = CliFlags {
        common: common.clone(),
        serve,
    };
    Ok(Settings::load(&flags, &Environment::of_process())?)
}

/// Runs a command, and passes its exit code: 0 but for those that have others for what they found.
fn run(cli: Cli) -> Result<u8> {
    let common = cli.common;
    let done = match cli.command {
        Command::Policy(Through { target, command }) => {
            return policy::run(&common, &target, command);
        }
        Command::Doctor(flags) => {
            let loaded = load(&common, flags)?;
            return runtime()?.block_on(doctor::run(&loaded, common.json));
        }
        Command::Serve(flags) => {
            let loaded = load(&common, flags)?;
            telemetry::start_log(&loaded.settings.log)?;
            make_private();
            let runtime = runtime()?;
            let outcome = runtime.block_on(crate::serve::run(&loaded, common.json));
            // Work on threads beside the runtime cannot be cut off, and is not waited for either.
            runtime.shutdown_timeout(LAST_WORK);
            outcome
        }
        Command::Init(arguments) => {
            let loaded = load(&common, ServeFlags::default())?;
            make_private();
            runtime()?.block_on(init::run(&loaded, &arguments, common.json))
        }
        Command::Backup(arguments) => {
            let loaded = load(&common, arguments.database.clone().into())?;
            make_private();
            let runtime = runtime()?;
            let outcome = runtime.block_on(backup::run(&loaded, &arguments, common.json));
            // One that was interrupted may still be reading the database.
            runtime.shutdown_timeout(LAST_WORK);
            return outcome;
        }
        Command::Restore(arguments) => {
            let loaded = load(&common, arguments.database.clone().into())?;
            make_private();
            runtime()?.block_on(restore::run(&loaded, &arguments, common.json))
        }
        Command::Config(flags) => config::run(&load(&common, flags)?, common.json),
        Command::User(Through { target, command }) => {
            through_api(&common, &target, async |session| {
                user::run(command, session).await
            })
        }
        Command::Token(Through { target, command }) => {
            through_api(&common, &target, async |session| {
                token::run(command, session).await
            })
        }
        Command::Key(Through { target, command }) => {
            through_api(&common, &target, async |session| {
                key::run(command, session).await
            })
        }
        Command::OauthClient(Through { target, command }) => {
            through_api(&common, &target, async |session| {
                oauth_client::run(command, session).await
            })
        }
        Command::FederatedIdentity(Through { target, command }) => {
            through_api(&common, &target, async |session| {
                federated_identity::run(command, session).await
            })
        }
        Command::ScimKey(Through { target, command }) => {
            through_api(&common, &target, async |session| {
                scim_key::run(command, session).await
            })
        }
        Command::Secret(Through { target, command }) => {
            through_api(&common, &target, async |session| {
                secret::run(command, session).await
            })
        }
        Command::Device(Through { target, command }) => {
            through_api(&common, &target, async |session| {
                device::run(command, session).await
            })
        }
        Command::Login(Through { target, command }) => {
            through_api(&common, &target, async |session| {
                login::run(command, session).await
            })
        }
        Command::Webhook(Through { target, command }) => {
            through_api(&common, &target, async |session| {
                webhook::run(command, session).await
            })
        }
        Command::Audit(Through {
            target,
            command: audit::Command::Verify(database),
        }) if target.server().is_none() => {
            let loaded = load(&common, database.into())?;
            return runtime()?.block_on(audit::verify(&loaded, common.json));
        }
        Command::Audit(Through { target, command }) => {
            through_api(&common, &target, async |session| {
                audit::run(command, session).await
            })
        }
        Command::Ssh(Through { target, command }) => {
            through_api(&common, &target, async |session| {
                ssh::run(command, session).await
            })
        }
        Command::Clock(Through { target, command }) => {
            through_api(&common, &target, async |session| {
                clock::run(command, session).await
            })
        }
        Command::Tailnet(Through { target, command }) => {
            through_api(&common, &target, async |session| {
                tailnet::run(command, session).await
            })
        }
    };
    done.map(|()| 0)
}

fn through_api<T>(
    common: &CommonFlags,
    target: &TargetFlags,
    command: impl AsyncFnOnce(&mut Session) -> Result<T>,
) -> Result<T> {
    // One thread: a command is one request after the other.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        let mut session = Session::open(common, target).await?;
        let outcome = command(&mut session).await;
        session.api.close().await;
        outcome
    })
}

/// What this process makes from here on can be read by its user alone, the sockets included. Before
/// the runtime, since the umask is one for all threads.
fn make_private() {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")
}
