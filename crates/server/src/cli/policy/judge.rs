//! Judging a policy file: here, or by what a server says of it.

use std::sync::Arc;

use anyhow::Result;
use bowline_policy::hujson::quote;
use bowline_policy::{Budget, Compiled, Diagnostic, Failure, Place, Policy, Topology, Warning};
use serde::Deserialize;

use super::super::api::{PolicyText, Refused};
use super::super::output::Session;
use super::finding::{Finding, Report, Tests};
use super::place::{self, Finder};
use super::source::Source;

/// What `POST …/acl/validate` answers; empty if all is well.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Verdict {
    message: String,
    data: Vec<Failure>,
}

impl From<Refused> for Verdict {
    fn from(refused: Refused) -> Self {
        Self {
            message: refused.message,
            data: refused.data,
        }
    }
}

/// Checks a file and runs its tests, or the given ones, without a server.
pub(super) fn here(
    source: &Source,
    topology: Option<&Topology>,
    given: Option<&Source>,
    report: &mut Report,
) -> Tests {
    let policy = match source.policy() {
        Ok(policy) => policy,
        Err(findings) => {
            report.errors.extend(findings);
            return Tests::default();
        }
    };
    let (policy, tests) = match given {
        None => (policy, source),
        Some(given) => match with_tests(&policy, given) {
            Ok(policy) => (policy, given),
            Err(findings) => {
                report.errors.extend(findings);
                return Tests::default();
            }
        },
    };
    let policy = Arc::new(policy);
    let count = policy.test_count();
    // The same as a server allows a policy that it is given.
    let budget = Budget::default();
    let net = if let Some(topology) = topology {
        Compiled::new_within(policy, topology, &budget)
    } else {
        let implied = Topology::implied_by(&policy);
        Compiled::new_within(policy, &implied, &budget)
    };
    let net = match net {
        Ok(net) => net,
        Err(exhausted) => {
            let finding = Finding::of(source, Diagnostic::from(exhausted));
            report.errors.extend(finding);
            return Tests::default();
        }
    };
    report.warnings.extend(repetitions(source, net.policy()));
    // What is odd about a tailnet that was made up for the policy says nothing.
    if let Some(topology) = topology {
        report.warnings.extend(oddities(source, &net, topology));
    }
    let failed = match net.run_tests_within(&budget) {
        Ok(()) => 0,
        Err(diagnostic) => {
            let failed = diagnostic.failures.len();
            report.errors.extend(Finding::of(tests, diagnostic));
            failed
        }
    };
    Tests {
        passed: count - failed,
        failed,
    }
}

fn with_tests(policy: &Policy, given: &Source) -> Result<Policy, Vec<Finding>> {
    let text = given.text()?;
    policy
        .with_tests(text)
        .map_err(|diagnostic| Finding::of(given, diagnostic))
}

fn oddities(source: &Source, net: &Compiled, topology: &Topology) -> Vec<Finding> {
    let finder = Finder::new(&source.text);
    let finder = finder.as_ref();
    let unknown = net.unknown_members().into_iter().flat_map(|failure| {
        let group = quote(&failure.user);
        let warnings = failure.warnings.into_iter();
        let messages = warnings.map(move |warning| format!("{group}: {warning}"));
        messages.map(|message| {
            let place = finder.and_then(|finder| finder.quoted(&message));
            Finding::at(source, place.unwrap_or_default(), message)
        })
    });
    let unsynced = net.unsynced_groups().into_iter();
    let unsynced = unsynced.map(|failure| warning(source, finder, failure));
    let logins = topology.users.iter();
    let domains = logins.filter_map(|user| Some(user.login.split_once('@')?.1));
    let foreign = net.policy().check_domains(domains.collect::<Vec<_>>());
    let foreign = foreign.err().into_iter();
    let foreign = foreign.flat_map(|diagnostic: Diagnostic| Finding::of(source, diagnostic));
    unknown.chain(unsynced).chain(foreign).collect()
}

/// What the file says twice, or in vain.
fn repetitions(source: &Source, policy: &Policy) -> Vec<Finding> {
    let warnings = policy.warnings().iter();
    let finding = |warning: &Warning| Finding::at(source, warning.place, warning.message.clone());
    warnings.map(finding).collect()
}

fn warning(source: &Source, finder: Option<&Finder>, failure: Failure) -> Finding {
    // What the text itself says comes with its line.
    if let Some(line) = failure.user.strip_prefix("line ")
        && let Ok(line) = line.parse()
    {
        let place = Place { line, column: 1 };
        return Finding::at(source, place, failure.warnings.join("; "));
    }
    let place = finder.and_then(|finder| finder.strings(&[&failure.user]));
    Finding::entry(
        source,
        place.unwrap_or_default(),
        "warning(s) found",
        failure,
    )
}

/// Checks a file, or an array of tests, on the server's tailnet.
pub(super) async fn on_server(session: &mut Session, text: &str) -> Result<Verdict> {
    let path = session.api.in_tailnet("acl/validate?details=1");
    let policy = PolicyText {
        text,
        if_match: None,
    };
    match session.api.post_policy(&path, policy).await {
        Ok(answer) => answer.read(),
        Err(error) => super::refusal(error).map(Verdict::from),
    }
}

/// Adds what a server says of a file, with the places that it does not say.
pub(super) fn add(source: &Source, verdict: Verdict, report: &mut Report) {
    let Verdict { message, data } = verdict;
    if message.is_empty() {
        return;
    }
    let finder = Finder::new(&source.text);
    let finder = finder.as_ref();
    if !data.is_empty() {
        for failure in data {
            if failure.errors.is_empty() {
                report.warnings.push(warning(source, finder, failure));
            } else {
                let place = finder.and_then(|finder| finder.test(&failure));
                let place = place.unwrap_or_default();
                let finding = Finding::entry(source, place, "test(s) failed", failure);
                report.errors.push(finding);
            }
        }
        return;
    }
    let (stated, text) = match place::split(&message) {
        Some((place, rest)) => (Some(place), rest),
        None => (None, message.as_str()),
    };
    // What is wrong with the text itself is found here as well, with its place and more of its
    // kind.
    if let Err(findings) = source.policy()
        && findings.iter().any(|finding| finding.says(text))
    {
        report.errors.extend(findings);
        return;
    }
    let place = stated
        .or_else(|| finder?.quoted(&message))
        .or_else(|| finder?.domain(&message));
    let finding = Finding::at(source, place.unwrap_or_default(), text);
    report.errors.push(finding);
}

/// What `POST …/acl?details=1` answers beside the file.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Details {
    warnings: Vec<String>,
}

/// Adds the warnings of a policy that was set.
pub(super) fn add_details(source: &Source, details: Details, report: &mut Report) {
    let finder = Finder::new(&source.text);
    for warning in details.warnings {
        let stated = place::split(&warning).filter(|_| warning.starts_with("line "));
        let finding = if let Some((place, rest)) = stated {
            Finding::at(source, place, rest)
        } else {
            let place = finder.as_ref().and_then(|finder| finder.quoted(&warning));
            Finding::at(source, place.unwrap_or_default(), warning)
        };
        report.warnings.push(finding);
    }
}

/// What a server refuses a question for: a proposed policy that is wrong, or else the question.
pub(super) fn blame(proposed: Option<&Source>, error: anyhow::Error) -> Result<Report> {
    let refused = super::refusal(error)?;
    let mut report = Report::default();
    if let Some(source) = proposed
        && source.policy().is_err()
    {
        add(source, refused.into(), &mut report);
        return Ok(report);
    }
    Err(refused.into())
}

/// The number of tests that ran on a server, as far as it can be told from here.
pub(super) fn count(policy: &Source, given: Option<&Source>, report: &Report) -> Tests {
    let failed = report.errors.iter().filter(|error| error.is_test()).count();
    let parsed = match given {
        Some(given) => Policy::parse("{}")
            .ok()
            .and_then(|policy| with_tests(&policy, given).ok()),
        None => policy.policy().ok(),
    };
    // A policy that is wrong runs no test.
    let has_run = report.errors.len() == failed;
    let count = parsed
        .filter(|_| has_run)
        .map_or(failed, |policy| policy.test_count());
    Tests {
        passed: count.saturating_sub(failed),
        failed,
    }
}
