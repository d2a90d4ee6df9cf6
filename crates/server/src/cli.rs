//! The command line.

mod config;
mod init;

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};

use crate::config::{CliFlags, CommonFlags, Environment, Loaded, ServeFlags, Settings};
use crate::telemetry;

/// A self-hosted coordination server for Tailscale clients.
#[derive(Debug, Parser)]
#[command(name = "bowline", version, about, propagate_version = true)]
struct Cli {
    #[command(flatten)]
    common: CommonFlags,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server
    Serve(ServeFlags),
    /// Make the first tailnet and its owner on an empty data directory
    Init(init::Args),
    /// Print the settings in force, and where each came from
    Config(ServeFlags),
}

/// Runs the program with the arguments of the process.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&error);
            ExitCode::FAILURE
        }
    }
}

/// An error with its causes, one per line, on standard error.
#[expect(
    clippy::print_stderr,
    reason = "the one place where the command line reports an error"
)]
fn report(error: &anyhow::Error) {
    eprintln!("bowline: {error}");
    for cause in error.chain().skip(1) {
        eprintln!("  because: {cause}");
    }
}

fn load(common: &CommonFlags, serve: ServeFlags) -> Result<Loaded> {
    let flags = CliFlags {
        common: common.clone(),
        serve,
    };
    Ok(Settings::load(&flags, &Environment::of_process())?)
}

fn run(cli: Cli) -> Result<()> {
    let common = cli.common;
    match cli.command {
        Command::Serve(flags) => {
            let loaded = load(&common, flags)?;
            telemetry::start_log(&loaded.settings.log)?;
            runtime()?.block_on(crate::serve::run(&loaded, common.json))
        }
        Command::Init(arguments) => {
            let loaded = load(&common, ServeFlags::default())?;
            runtime()?.block_on(init::run(&loaded, &arguments, common.json))
        }
        Command::Config(flags) => config::run(&load(&common, flags)?, common.json),
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")
}
