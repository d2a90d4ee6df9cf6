//! SSH policies.

use super::{Compiled, Impact, Touched, user_of};
use crate::program::{AtomId, SshProgram, touch};
use crate::section::ssh::{CheckPeriod, SshUser};
use crate::set::{DeviceSet, Slot};
use crate::topology::{DeviceId, Owner, User, UserId};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A rule of a node's SSH policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshPolicyRule {
    /// Addresses of the sources, sorted as texts. A node with two tags is named twice.
    pub principals: Arc<[Arc<str>]>,
    /// Names that may be asked for, and the local users that they become: `=` is the same name,
    /// empty is refused, `*` is any other name.
    pub users: BTreeMap<String, String>,
    /// What happens.
    pub action: SshAction,
    /// Names of environment variables that the client may set.
    pub accept_env: Vec<String>,
    /// `address:80` of the nodes that record sessions.
    pub recorders: Vec<String>,
    /// Sessions are refused when no recorder can be reached.
    pub enforce_recorder: bool,
}

/// What happens to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SshAction {
    /// It is accepted.
    Accept,
    /// The source's user is asked to confirm.
    Check,
}

/// The policy's answer to one login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SshDecision {
    /// Accepted.
    Accept,
    /// To be confirmed, unless it was confirmed within this time.
    Check(CheckPeriod),
    /// No rule accepts it.
    Deny,
}

impl SshPolicyRule {
    /// The rule as `tailcfg.SSHRule`. `server` is the server's base address, without a slash at
    /// the end; nodes ask there whether a checked session may begin.
    pub fn to_json(&self, server: &str) -> Value {
        let principals: Vec<Value> = self
            .principals
            .iter()
            .map(|address| json!({ "nodeIP": &**address }))
            .collect();
        let mut action = Map::new();
        match self.action {
            SshAction::Accept => {
                action.insert("accept".to_owned(), true.into());
                for forwarding in [
                    "allowAgentForwarding",
                    "allowLocalPortForwarding",
                    "allowRemotePortForwarding",
                ] {
                    action.insert(forwarding.to_owned(), true.into());
                }
            }
            SshAction::Check => {
                let url = format!(
                    "{server}/machine/ssh/action/$SRC_NODE_ID/to/$DST_NODE_ID?local_user=$LOCAL_USER"
                );
                action.insert("holdAndDelegate".to_owned(), url.into());
            }
        }
        if !self.recorders.is_empty() {
            action.insert("recorders".to_owned(), self.recorders.clone().into());
            if self.enforce_recorder {
                let failure = json!({
                    "RejectSessionWithMessage": "session recording is required, and no recorder can be reached",
                    "TerminateSessionWithMessage": "session recording is required, and the recorder was lost",
                });
                action.insert("onRecordingFailure".to_owned(), failure);
            }
        }
        let mut rule = Map::new();
        rule.insert("principals".to_owned(), principals.into());
        rule.insert("sshUsers".to_owned(), json!(self.users));
        rule.insert("action".to_owned(), action.into());
        if !self.accept_env.is_empty() {
            rule.insert("acceptEnv".to_owned(), self.accept_env.clone().into());
        }
        rule.into()
    }
}

/// The part of an SSH rule that concerns one node.
struct Concern {
    sources: DeviceSet,
    /// The node is not a destination: it gets only what `localpart` splits off.
    split_only: bool,
}

impl Compiled {
    /// The SSH policy of a device: the rules in the order in which they are tried. `None` if
    /// there is no such device.
    pub fn ssh_for(&self, device: DeviceId) -> Option<Vec<SshPolicyRule>> {
        let (slot, _) = self.state_of(device)?;
        let mut rules = Vec::new();
        for program in &self.program.ssh {
            if let Some(concern) = self.ssh_concern(slot, program) {
                self.ssh_rules(program, &concern, &mut rules);
            }
        }
        // The sort is stable: otherwise the file's order stays.
        rules.sort_by_key(|rule| rule.action == SshAction::Accept);
        Some(rules)
    }

    fn ssh_concern(&self, slot: Slot, program: &SshProgram) -> Option<Concern> {
        let state = self.state(slot)?;
        let source = self.source_state(program.source)?;
        let user = user_of(&state.device.owner);
        let own = |user: Option<UserId>| {
            let devices = user.and_then(|user| self.devices_of(user));
            devices
                .map(|devices| devices.intersection(&source.named))
                .unwrap_or_default()
        };
        let is_destination = program
            .dst
            .iter()
            .any(|atom| state.standing.flags(*atom) & touch::OWN != 0);
        let concern = if is_destination {
            Concern {
                sources: source.named.clone(),
                split_only: false,
            }
        } else if program.own_devices && user.is_some() {
            Concern {
                sources: own(user),
                split_only: false,
            }
        } else if is_split(program) && source.named.contains(slot) {
            let sources = match user {
                Some(_) => own(user),
                None => std::iter::once(slot).collect(),
            };
            Concern {
                sources,
                split_only: true,
            }
        } else {
            return None;
        };
        (!concern.sources.is_empty()).then_some(concern)
    }

    fn ssh_rules(&self, program: &SshProgram, concern: &Concern, rules: &mut Vec<SshPolicyRule>) {
        let rule = &program.rule;
        let common = common_users(&rule.users);
        let make = |principals: Arc<[Arc<str>]>, users: BTreeMap<String, String>| SshPolicyRule {
            principals,
            users,
            action: if rule.check {
                SshAction::Check
            } else {
                SshAction::Accept
            },
            accept_env: rule.accept_env.clone(),
            recorders: self.recorders(program),
            enforce_recorder: rule.enforce_recorder,
        };
        if !is_split(program) {
            rules.push(make(self.principals(program, &concern.sources), common));
            return;
        }
        let mut users: BTreeMap<UserId, DeviceSet> = BTreeMap::new();
        let mut tagged = DeviceSet::default();
        for slot in concern.sources.iter() {
            match self.state(slot).map(|state| &state.device.owner) {
                Some(Owner::User(id)) => {
                    users.entry(*id).or_default().insert(slot);
                }
                Some(Owner::Tags(_)) => {
                    tagged.insert(slot);
                }
                None => {}
            }
        }
        for (id, devices) in users {
            let principals = self.principal_list(&devices);
            rules.push(make(Arc::clone(&principals), common.clone()));
            let Some(user) = self.users.get(&id) else {
                continue;
            };
            for localpart in localparts(&rule.users, user) {
                let users = BTreeMap::from([(localpart.clone(), localpart)]);
                rules.push(make(Arc::clone(&principals), users));
            }
        }
        if !tagged.is_empty() {
            rules.push(make(self.principal_list(&tagged), common));
        }
    }

    /// The addresses of a rule's sources. The whole list is the same for many nodes, and shared.
    fn principals(&self, program: &SshProgram, sources: &DeviceSet) -> Arc<[Arc<str>]> {
        match self.source_state(program.source) {
            Some(source) if source.named == *sources => Arc::clone(
                source
                    .principals
                    .get_or_init(|| self.principal_list(sources)),
            ),
            _ => self.principal_list(sources),
        }
    }

    fn principal_list(&self, devices: &DeviceSet) -> Arc<[Arc<str>]> {
        let states = devices.iter().filter_map(|slot| self.state(slot));
        let mut list: Vec<Arc<str>> = states
            .flat_map(|state| {
                let times = match &state.device.owner {
                    Owner::Tags(tags) => tags.len().max(1),
                    Owner::User(_) => 1,
                };
                state
                    .strings
                    .iter()
                    .flat_map(move |text| std::iter::repeat_n(text.clone(), times))
            })
            .collect();
        list.sort_unstable();
        list.into()
    }

    fn recorders(&self, program: &SshProgram) -> Vec<String> {
        self.recorder_addresses(program.recorders.iter().copied())
    }

    /// Where the devices with these tags listen as recorders: `address:80`, sorted.
    pub(super) fn recorder_addresses(&self, tags: impl Iterator<Item = AtomId>) -> Vec<String> {
        let mut devices = DeviceSet::default();
        for atom in tags.filter_map(|atom| self.atom_state(atom)) {
            devices.union(&atom.touch);
        }
        let states = devices.iter().filter_map(|slot| self.state(slot));
        let addresses = states.flat_map(|state| state.device.addresses.iter());
        let mut list: Vec<String> = addresses
            .map(|address| std::net::SocketAddr::new(*address, 80).to_string())
            .collect();
        list.sort_unstable();
        list
    }

    /// What the policy says about one login: `user` is the name that is asked for.
    pub fn ssh_decision(&self, source: DeviceId, target: DeviceId, user: &str) -> SshDecision {
        let (Some((source, _)), Some((target, _))) = (self.state_of(source), self.state_of(target))
        else {
            return SshDecision::Deny;
        };
        self.ssh_decision_of(source, target, user)
    }

    pub(super) fn ssh_decision_of(&self, source: Slot, target: Slot, user: &str) -> SshDecision {
        let owner = |slot| {
            self.state(slot)
                .and_then(|state| user_of(&state.device.owner))
        };
        let source_user = owner(source).and_then(|id| self.users.get(&id));
        let matching = |check: bool| {
            self.program
                .ssh
                .iter()
                .filter(move |program| program.rule.check == check)
                .find(|program| {
                    self.ssh_concern(target, program).is_some_and(|concern| {
                        concern.sources.contains(source) && !concern.split_only
                    }) && accepts_user(&program.rule.users, user, source_user.map(|user| &**user))
                })
        };
        if let Some(program) = matching(true) {
            return SshDecision::Check(program.rule.check_period);
        }
        if matching(false).is_some() {
            SshDecision::Accept
        } else {
            SshDecision::Deny
        }
    }

    /// The nodes whose SSH policy may have changed.
    pub(super) fn ssh_impact(&self, touched: &Touched<'_>, impact: &mut Impact) {
        let id = |slot: Slot| self.state(slot).map(|state| state.device.id);
        if !self.program.ssh.is_empty() {
            impact
                .ssh
                .extend(touched.devices.iter().filter_map(|slot| id(*slot)));
        }
        for program in &self.program.ssh {
            let recorders = program
                .recorders
                .iter()
                .any(|atom| touched.atoms.contains(atom));
            let resourced = touched.wires.contains(&program.source);
            // Rules that differ by user change when a source goes from one user to another.
            let own = program.own_devices || is_split(program);
            let users: Vec<&DeviceSet> = touched
                .users
                .iter()
                .filter(|_| own)
                .filter_map(|user| self.devices_of(*user))
                .collect();
            let is_source = |devices: &&DeviceSet| {
                self.source_state(program.source)
                    .is_some_and(|source| !devices.intersection(&source.named).is_empty())
            };
            let reowned = users.iter().any(is_source);
            if !resourced && !recorders && !reowned {
                continue;
            }
            if resourced || recorders || is_split(program) {
                for atom in program.dst.iter().filter_map(|atom| self.atom_state(*atom)) {
                    impact.ssh.extend(atom.touch.iter().filter_map(id));
                }
            }
            impact
                .ssh
                .extend(users.into_iter().flat_map(DeviceSet::iter).filter_map(id));
            // Sources that are not destinations get what `localpart` splits off, recorders included.
            if recorders && (program.own_devices || is_split(program)) {
                impact.ssh.extend(self.devices().map(|device| device.id));
            }
        }
    }
}

/// Whether the rule has other users for each source.
fn is_split(program: &SshProgram) -> bool {
    program
        .rule
        .users
        .iter()
        .any(|user| matches!(user, SshUser::Localpart(..)))
}

fn common_users(users: &[SshUser]) -> BTreeMap<String, String> {
    let mut map = BTreeMap::from([("root".to_owned(), String::new())]);
    for user in users {
        match user {
            SshUser::Root => {
                map.insert("root".to_owned(), "root".to_owned());
            }
            SshUser::NonRoot => {
                map.insert("*".to_owned(), "=".to_owned());
            }
            SshUser::Name(name) => {
                map.insert(name.clone(), name.clone());
            }
            SshUser::Localpart(..) => {}
        }
    }
    map
}

/// The names before the at sign that a user gets by `localpart` entries.
fn localparts(users: &[SshUser], user: &User) -> Vec<String> {
    let Some((name, domain)) = user.login.rsplit_once('@') else {
        return Vec::new();
    };
    let fits = users.iter().any(|entry| {
        matches!(entry, SshUser::Localpart(wanted, _) if wanted.eq_ignore_ascii_case(domain))
    });
    // Nobody becomes root by being called so.
    if fits && name != "root" {
        vec![name.to_owned()]
    } else {
        Vec::new()
    }
}

fn accepts_user(users: &[SshUser], name: &str, source: Option<&User>) -> bool {
    let listed = users.iter().any(|user| match user {
        SshUser::Root => name == "root",
        SshUser::NonRoot => name != "root",
        SshUser::Name(listed) => listed == name,
        SshUser::Localpart(..) => false,
    });
    listed
        || (name != "root"
            && source.is_some_and(|user| localparts(users, user).iter().any(|own| own == name)))
}
