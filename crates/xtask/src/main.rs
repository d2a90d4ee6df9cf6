//! Generators and checks: `cargo run -p bowline-xtask -- <command>`.

use std::io::Write as _;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use bowline_xtask::workspace::Workspace;
use bowline_xtask::{deny, migrations};

const HELP: &str = "\
cargo run -p bowline-xtask -- <command>
  settings            write docs/settings.md from the settings' documentation
  openapi             write openapi/api-v2.json, the operations of docs/api.md and the differences from
                      the official document (crates/api/tests/data/differences.txt) from the API's handlers
  access              write the tables of docs/access.md, docs/users.md and crates/api/tests/data/access.txt
  deny                check licences, versions and sources of dependencies
  release-migrations  note all migrations as released; they may not change after it
";

fn main() -> Result<ExitCode> {
    let workspace = Workspace::find()?;
    let mut out = std::io::stdout();
    match std::env::args().nth(1).as_deref() {
        Some("settings") => generate(
            &workspace,
            "bowline-server",
            "settings_reference_is_current",
        ),
        Some("openapi") => {
            for test in [
                "openapi_document_is_current",
                "differences_from_the_official_document_are_the_reviewed_ones",
                "api_page_is_current",
            ] {
                generate(&workspace, "bowline-api", test)?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Some("access") => {
            generate(&workspace, "bowline-model", "access_page_is_current")?;
            generate(
                &workspace,
                "bowline-api",
                "access_table_is_the_reviewed_one",
            )
        }
        Some("release-migrations") => {
            let path = workspace.root().join(migrations::released_list());
            std::fs::write(&path, migrations::release(&workspace)?)
                .with_context(|| format!("could not write {}", path.display()))?;
            Ok(ExitCode::SUCCESS)
        }
        Some("deny") => {
            let broken = deny::check(&workspace)?;
            for line in &broken {
                writeln!(out, "{line}")?;
            }
            Ok(if broken.is_empty() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            })
        }
        Some("help") | None => {
            out.write_all(HELP.as_bytes())?;
            Ok(ExitCode::SUCCESS)
        }
        Some(other) => bail!("there is no command {other}; `help` lists them"),
    }
}

/// Runs the test that compares a generated file with its source, and lets it write the file
/// instead. So what generates and what checks can't part, and this crate needs no other.
fn generate(workspace: &Workspace, package: &str, test: &str) -> Result<ExitCode> {
    let mut cargo: Command = workspace.cargo();
    cargo
        .args(["test", "--quiet", "--package", package, "--", test])
        .env("BOWLINE_WRITE", "1");
    let status = cargo.status().context("could not start cargo")?;
    if !status.success() {
        bail!("{test} of {package} failed");
    }
    Ok(ExitCode::SUCCESS)
}
