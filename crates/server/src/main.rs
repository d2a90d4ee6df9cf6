//! `bowline`: the server and its command line.

use std::process::ExitCode;

/// Many small allocations that live long: the system's allocator keeps more memory for them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    bowline_server::cli::main()
}
