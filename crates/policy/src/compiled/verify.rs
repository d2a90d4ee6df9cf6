//! Running `tests` and `sshTests`.

use super::access::{Subject, Wrong};
use super::{Compiled, SshDecision};
use crate::budget::Budget;
use crate::decode::Reading;
use crate::diagnostic::{Diagnostic, Failure};
use crate::hujson::quote;
use crate::port;
use crate::section::tests::{AccessTest, SshTest};
use crate::selector::Selector;
use crate::set::Slot;
use std::collections::HashSet;

/// The most errors of one test that are told.
const ERRORS_MAX: usize = 100;
/// Steps of looking at one SSH rule for two devices, and of looking an address up.
const SSH_RULE: usize = 16;
const ADDRESS: usize = 100;

impl Compiled {
    /// Runs the policy's `tests` and `sshTests`.
    ///
    /// # Errors
    /// The message for the API, with one failure for each test that failed.
    pub fn run_tests(&self) -> Result<(), Diagnostic> {
        self.run_tests_within(&Budget::default())
    }

    /// The same with a budget that is shared with other work.
    ///
    /// # Errors
    /// As [`run_tests`](Self::run_tests), or that the budget does not suffice.
    pub fn run_tests_within(&self, budget: &Budget) -> Result<(), Diagnostic> {
        let mut failures = self.failing_tests(&self.policy.tests, budget);
        let ssh_tests = self.policy.ssh_tests.iter();
        failures.extend(ssh_tests.filter_map(|test| self.ssh_test_failure(test, budget)));
        tests_failed(failures, budget)
    }

    /// Runs tests that are not the policy's own: a HuJSON array like its `tests`.
    ///
    /// # Errors
    /// A syntax error, the failed tests, or that they take too much.
    pub fn run_given_tests(&self, text: &str) -> Result<(), Diagnostic> {
        self.run_given_tests_within(text, &Budget::default())
    }

    /// The same with a budget that is shared with other work.
    ///
    /// # Errors
    /// As [`run_given_tests`](Self::run_given_tests).
    pub fn run_given_tests_within(&self, text: &str, budget: &Budget) -> Result<(), Diagnostic> {
        let reading = Reading::new(text, budget)?;
        let parts = reading.root().list()?;
        let tests: Result<Vec<AccessTest>, Diagnostic> =
            parts.map(crate::section::tests::read_access).collect();
        tests_failed(self.failing_tests(&tests?, budget), budget)
    }

    fn failing_tests(&self, tests: &[AccessTest], budget: &Budget) -> Vec<Failure> {
        let mut failing = Vec::new();
        for test in tests {
            let errors = self.test_errors(test, budget);
            let errors = errors.unwrap_or_else(|error| vec![error]);
            if budget.check().is_err() {
                break;
            }
            if errors.is_empty() {
                continue;
            }
            let size: usize = errors.iter().map(|error| 32 + error.len()).sum();
            let size = size_of::<Failure>() + test.src.len() + size;
            if budget.elements(1, size).is_err() {
                break;
            }
            failing.push(Failure {
                user: test.src.clone(),
                errors,
                place: test.place,
                ..Failure::default()
            });
        }
        failing
    }

    fn test_errors(&self, test: &AccessTest, budget: &Budget) -> Result<Vec<String>, Wrong> {
        let sources = self.subjects(&test.src, test.attributes.as_ref(), budget)?;
        if test.accept.is_empty() && test.deny.is_empty() {
            return Err("test has neither accept nor deny".to_owned());
        }
        let protocols = match test.protocol.as_str() {
            "" => vec![6, 17],
            name => vec![port::parse_protocol(name)?],
        };
        let mut errors = Vec::new();
        let wanted = test.accept.iter().map(|dst| (dst, true));
        for (dst, accept) in wanted.chain(test.deny.iter().map(|dst| (dst, false))) {
            let protocol = match test.protocol.as_str() {
                "" => String::new(),
                name => format!(" (protocol {})", quote(name)),
            };
            let address = format!("address {}{protocol}", quote(dst));
            if errors.len() >= ERRORS_MAX || !budget.allows(1) {
                break;
            }
            match self.judge(&sources, dst, (&protocols, accept), budget) {
                Ok(true) => {}
                Ok(false) if accept => errors.push(format!("{address}: want: Accept, got: Drop")),
                Ok(false) => errors.push(format!("{address}: want: Drop, got: Accept")),
                Err(wrong) => errors.push(format!("{address}: {wrong}")),
            }
        }
        Ok(errors)
    }

    /// Whether all pairs of addresses are allowed, or none is.
    fn judge(
        &self,
        sources: &[Subject],
        dst: &str,
        (protocols, accept): (&[u8], bool),
        budget: &Budget,
    ) -> Result<bool, Wrong> {
        let (host, port) = port::split_host_port(dst)?;
        let portless = protocols.iter().all(|protocol| !port::has_ports(*protocol));
        let port: u16 = match port.parse() {
            Ok(port) if port > 0 || portless => port,
            _ => return Err(format!("invalid port {}: must be one number", quote(port))),
        };
        let targets = self.destination_subjects(host, budget)?;
        for source in sources {
            let rules = self.rules_from(source, budget);
            for target in &targets {
                let allowed = rules
                    .iter()
                    .filter_map(|rule| self.program.rule(*rule))
                    .take_while(|rule| budget.allows(1 + 2 * rule.entries.len()))
                    .any(|rule| self.allows(rule, source, target, protocols, port));
                if !budget.allows(1) {
                    return Ok(accept);
                }
                if allowed != accept {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    fn destination_subjects(&self, host: &str, budget: &Budget) -> Result<Vec<Subject>, Wrong> {
        let selector = self.policy.names.selector(host)?;
        match selector {
            Selector::Prefix(prefix)
                if prefix.prefix_len() == prefix.max_prefix_len() && !host.contains('/') =>
            {
                let _ = budget.elements(ADDRESS + self.routes.len(), 0);
                Ok(vec![self.address_subject(prefix.addr(), true)])
            }
            Selector::Service(ref name) => {
                let addresses = self
                    .services
                    .get(name)
                    .ok_or_else(|| format!("service not found: {}", quote(host)))?;
                Ok(addresses
                    .iter()
                    .map(|address| self.address_subject(*address, true))
                    .collect())
            }
            Selector::User(ref login) if self.user_of_login(login).is_none() => {
                Err(format!("user not found: {}", quote(host)))
            }
            Selector::User(_) | Selector::Group(_) | Selector::Tag(_) => {
                Ok(self.identity_subjects(&selector, budget))
            }
            _ => Err(format!("invalid destination {}", quote(host))),
        }
    }

    fn ssh_test_failure(&self, test: &SshTest, budget: &Budget) -> Option<Failure> {
        let errors = self
            .ssh_test_errors(test, budget)
            .unwrap_or_else(|error| vec![error]);
        let failure = Failure {
            user: test.src.clone(),
            errors,
            place: test.place,
            ..Failure::default()
        };
        (!failure.errors.is_empty()).then_some(failure)
    }

    fn ssh_test_errors(&self, test: &SshTest, budget: &Budget) -> Result<Vec<String>, Wrong> {
        if test.accept.is_empty() && test.check.is_empty() && test.deny.is_empty() {
            return Err("test has none of accept, check and deny".to_owned());
        }
        if test.dst.is_empty() {
            return Err("test has no dst".to_owned());
        }
        let sources = self.ssh_devices(&test.src, budget)?;
        let wanted = [
            ("accept", &test.accept),
            ("check", &test.check),
            ("deny", &test.deny),
        ];
        let mut errors = Vec::new();
        for dst in &test.dst {
            let targets = self.ssh_devices(dst, budget)?;
            for (want, user) in wanted
                .iter()
                .flat_map(|(want, users)| users.iter().map(move |user| (*want, user)))
            {
                if user.is_empty() {
                    return Err("ssh user \"\" is not valid".to_owned());
                }
                for (source, target) in sources
                    .iter()
                    .flat_map(|source| targets.iter().map(move |to| (source, to)))
                {
                    // Each SSH rule is narrowed to the two devices.
                    let steps = self.program.ssh.len().saturating_mul(SSH_RULE);
                    if errors.len() >= ERRORS_MAX || !budget.allows(1 + steps) {
                        return Ok(errors);
                    }
                    let got = match self.ssh_decision_of(*source, *target, user) {
                        SshDecision::Accept => "accept",
                        SshDecision::Check(_) => "check",
                        SshDecision::Deny => "deny",
                    };
                    if got != want {
                        errors.push(format!(
                            "src {} at {}, dst {} at {}, ssh user {}: want: {} got: {}",
                            quote(&test.src),
                            quote(&self.first_address(*source)),
                            quote(dst),
                            quote(&self.first_address(*target)),
                            quote(user),
                            quote(want),
                            quote(got),
                        ));
                    }
                }
            }
        }
        Ok(errors)
    }

    fn first_address(&self, slot: Slot) -> String {
        let state = self.state(slot);
        state
            .and_then(|state| state.strings.first())
            .map(ToString::to_string)
            .unwrap_or_default()
    }

    /// The devices that a selector of an SSH test names, one for all that the SSH rules cannot
    /// tell apart. There must be some.
    fn ssh_devices(&self, text: &str, budget: &Budget) -> Result<Vec<Slot>, Wrong> {
        let selector = self.policy.names.selector(text)?;
        let devices: Vec<Slot> = match &selector {
            Selector::Prefix(prefix) => self
                .addresses
                .get(&prefix.addr())
                .copied()
                .into_iter()
                .collect(),
            selector => {
                let mut known = HashSet::new();
                let alike = |slot: &Slot| {
                    self.state(*slot).is_some_and(|state| {
                        let standing = &state.standing;
                        known.insert((
                            standing.atoms.clone(),
                            standing.postures.clone(),
                            state.device.owner.clone(),
                        ))
                    })
                };
                let _ = budget.elements(self.devices.len(), 0);
                self.identity_devices(selector)
                    .iter()
                    .take_while(|_| budget.allows(16 + self.program.postures.len() / 8))
                    .filter(alike)
                    .collect()
            }
        };
        if devices.is_empty() {
            return Err(format!("no device for {}", quote(text)));
        }
        Ok(devices)
    }
}

fn tests_failed(failures: Vec<Failure>, budget: &Budget) -> Result<(), Diagnostic> {
    budget.check()?;
    let Some(first) = failures.first() else {
        return Ok(());
    };
    Err(Diagnostic {
        message: "test(s) failed".to_owned(),
        place: first.place,
        failures,
        exhausted: None,
    })
}
