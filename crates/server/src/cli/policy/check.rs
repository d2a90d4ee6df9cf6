//! `bowline policy check` and `test`.

use std::path::PathBuf;

use anyhow::{Result, bail};

use super::super::output::Session;
use super::finding::{Finding, Report, Tests};
use super::source::Source;
use super::{Context, FOUND, NOT_DONE, On, judge};

/// What is to be checked.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct CheckArgs {
    /// Policy files; - is standard input
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    on: On,
}

/// Which tests are to be run.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct TestArgs {
    /// Policy file; - is standard input [default: the one in force on the server]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// File with other tests than the policy's own: an array like tests, or an object with tests
    /// and sshTests
    #[arg(long, value_name = "FILE")]
    tests: Option<PathBuf>,
    #[command(flatten)]
    on: On,
}

/// Runs `bowline policy check`.
pub(super) fn check(context: &mut Context<'_>, args: &CheckArgs) -> Result<u8> {
    let is_server = args.on.is_server(context.target)?;
    let topology = match &args.on.topology {
        Some(path) => Some(context.reader.topology(path)?),
        None => None,
    };
    let mut report = Report::default();
    let mut fine = Vec::new();
    let mut is_done = true;
    let mut sources = Vec::new();
    for path in &args.files {
        match context.reader.read(path) {
            Ok(source) => sources.push(source),
            Err(error) => {
                is_done = false;
                if context.common.json {
                    let name = path.display().to_string();
                    report
                        .errors
                        .push(Finding::whole(name, format!("{error:#}")));
                } else {
                    super::super::report(&error);
                }
            }
        }
    }
    let mut note = |source: &Source, mut found: Report, tests: Tests| {
        if !found.is_wrong() {
            fine.push(format!("{}: fine, {}", source.name, passed(tests)));
        }
        report.ran(tests);
        report.errors.append(&mut found.errors);
        report.warnings.append(&mut found.warnings);
    };
    if is_server {
        context.with_server(async |session| {
            for source in &sources {
                let (found, tests) = proposed(session, source).await?;
                note(source, found, tests);
            }
            Ok(())
        })?;
    } else {
        for source in &sources {
            let mut found = Report::default();
            let tests = judge::here(source, topology.as_ref(), None, &mut found);
            note(source, found, tests);
        }
    }
    let code = finish(context, report, &fine)?;
    Ok(if is_done { code } else { NOT_DONE })
}

/// Runs `bowline policy test`.
pub(super) fn test(context: &mut Context<'_>, args: &TestArgs) -> Result<u8> {
    let is_server = args.on.is_server(context.target)?;
    let given = match &args.tests {
        Some(path) => Some(context.reader.read(path)?),
        None => None,
    };
    let mut report = Report::default();
    let (name, tests) = match &args.file {
        Some(path) if is_server => {
            if given.is_some() {
                bail!(
                    "a server runs the tests of the file, or given ones on the policy in force: \
                     leave out FILE or --tests"
                );
            }
            let source = context.reader.read(path)?;
            let (found, tests) =
                context.with_server(async |session| proposed(session, &source).await)?;
            report = found;
            (source.name, tests)
        }
        Some(path) => {
            let topology = match &args.on.topology {
                Some(path) => Some(context.reader.topology(path)?),
                None => None,
            };
            let source = context.reader.read(path)?;
            let tests = judge::here(&source, topology.as_ref(), given.as_ref(), &mut report);
            (source.name, tests)
        }
        None if args.on.topology.is_some() => bail!("--topology needs a policy file"),
        None => {
            let (found, tests, name) =
                context.with_server(async |session| in_force(session, given.as_ref()).await)?;
            report = found;
            (name, tests)
        }
    };
    report.ran(tests);
    // A policy that cannot be read runs no test.
    let mut lines = Vec::new();
    if tests.failed > 0 {
        let count = tests.passed + tests.failed;
        lines.push(format!("{name}: {} of {count} tests passed", tests.passed));
    } else if !report.is_wrong() {
        lines.push(format!("{name}: {}", passed(tests)));
    }
    finish(context, report, &lines)
}

async fn proposed(session: &mut Session, source: &Source) -> Result<(Report, Tests)> {
    let mut report = Report::default();
    match source.text() {
        Ok(text) => {
            let verdict = judge::on_server(session, text).await?;
            judge::add(source, verdict, &mut report);
        }
        Err(findings) => report.errors.extend(findings),
    }
    let tests = judge::count(source, None, &report);
    Ok((report, tests))
}

async fn in_force(
    session: &mut Session,
    given: Option<&Source>,
) -> Result<(Report, Tests, String)> {
    let policy = super::transfer::in_force(session).await?;
    let asked = given.unwrap_or(&policy);
    let mut report = Report::default();
    match asked.text() {
        // An object would be taken as a policy.
        Ok(text) if given.is_some() && !is_array(text) => {
            bail!("{}: a server takes an array of tests", asked.name)
        }
        Ok(text) => {
            let verdict = judge::on_server(session, text).await?;
            judge::add(asked, verdict, &mut report);
        }
        Err(findings) => report.errors.extend(findings),
    }
    let tests = judge::count(&policy, given, &report);
    Ok((report, tests, policy.name))
}

fn is_array(text: &str) -> bool {
    use bowline_policy::hujson::{CompositeKind, Value};
    Value::parse(text.as_bytes()).is_ok_and(|value| {
        let list = value.as_composite();
        list.is_some_and(|list| list.kind == CompositeKind::Array)
    })
}

fn passed(tests: Tests) -> String {
    match tests.passed {
        0 => "no tests".to_owned(),
        1 => "1 test passed".to_owned(),
        count => format!("{count} tests passed"),
    }
}

/// Prints what was found, and passes the exit code.
pub(super) fn finish(context: &Context<'_>, mut report: Report, lines: &[String]) -> Result<u8> {
    report.close();
    if !context.common.json {
        report.complain()?;
    }
    context.print(serde_json::to_string(&report)?, || lines.join("\n"))?;
    Ok(if report.is_wrong() { FOUND } else { 0 })
}
