//! `bowline`: the server and its command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    bowline_server::cli::main()
}
