//! Every operation that is served: one table, from which the router and the OpenAPI document are
//! made. What an operation needs is read off its handler's first argument.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::handler::Handler;
use axum::middleware;
use axum::routing::{MethodFilter, MethodRouter, on};
use bowline_model::requirement::Requirement;

use crate::caller::{Caller, Need, ServerOperator, note_refused};
use crate::v2::{
    attributes, clock, devices, dns, keys, logins, policy, settings, ssh_checks, tailnets, users,
};
use crate::{Api, openapi};

/// Method of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// `DELETE`.
    Delete,
    /// `GET`.
    Get,
    /// `PATCH`.
    Patch,
    /// `POST`.
    Post,
    /// `PUT`.
    Put,
}

impl Verb {
    /// The method as requests name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delete => "DELETE",
            Self::Get => "GET",
            Self::Patch => "PATCH",
            Self::Post => "POST",
            Self::Put => "PUT",
        }
    }

    const fn filter(self) -> MethodFilter {
        match self {
            Self::Delete => MethodFilter::DELETE,
            Self::Get => MethodFilter::GET,
            Self::Patch => MethodFilter::PATCH,
            Self::Post => MethodFilter::POST,
            Self::Put => MethodFilter::PUT,
        }
    }
}

/// One operation.
#[derive(Debug, Clone, Copy)]
pub struct Operation {
    /// Method.
    pub verb: Verb,
    /// Path below `/api/v2`, with parameters as `{name}`.
    pub path: &'static str,
    /// Name, unique; the official one where there is one.
    pub id: &'static str,
    /// What a caller must have.
    pub requirement: Requirement,
    pub(crate) summary: &'static str,
    pub(crate) query: &'static [&'static str],
    pub(crate) body: Option<&'static str>,
    pub(crate) answer: Option<&'static str>,
}

impl Operation {
    /// Whether it changes something: what only asks may be a `POST` too.
    pub fn changes(&self) -> bool {
        self.verb != Verb::Get && !self.requirement.only_reads()
    }

    /// Whether it takes a body.
    pub const fn takes_body(&self) -> bool {
        self.body.is_some()
    }

    /// Names of its parameters in the query: names in `components.parameters` of the document.
    pub const fn query(&self) -> &'static [&'static str] {
        self.query
    }
}

/// A row of the table.
struct Row {
    verb: Verb,
    path: &'static str,
    id: &'static str,
    summary: &'static str,
    query: &'static [&'static str],
    body: Option<&'static str>,
    has_policy: bool,
    answer: Option<&'static str>,
    serve: fn(MethodFilter) -> Served,
}

struct Served {
    route: MethodRouter<Api>,
    requirement: Requirement,
}

const fn row(
    verb: Verb,
    path: &'static str,
    id: &'static str,
    summary: &'static str,
    serve: fn(MethodFilter) -> Served,
) -> Row {
    Row {
        verb,
        path,
        id,
        summary,
        query: &[],
        body: None,
        has_policy: false,
        answer: None,
        serve,
    }
}

impl Row {
    /// Parameters in the query: names in `components.parameters`.
    const fn query(mut self, names: &'static [&'static str]) -> Self {
        self.query = names;
        self
    }

    /// Schema of the request's body.
    const fn body(mut self, schema: &'static str) -> Self {
        self.body = Some(schema);
        self
    }

    /// Schema of the request's body, which has a policy file in it and so may be large.
    const fn policy_body(mut self, schema: &'static str) -> Self {
        self.has_policy = true;
        self.body(schema)
    }

    /// Schema of the answer; without one it has an empty body.
    const fn answer(mut self, schema: &'static str) -> Self {
        self.answer = Some(schema);
        self
    }
}

/// An argument that lets callers in: the first of every handler.
trait Gate {
    const REQUIREMENT: Requirement;
}

impl<N: Need> Gate for Caller<N> {
    const REQUIREMENT: Requirement = N::REQUIREMENT;
}

impl Gate for ServerOperator {
    const REQUIREMENT: Requirement = Requirement::OPERATOR;
}

/// Argument lists, as axum names them: how arguments come, then the arguments.
trait Arguments {
    const REQUIREMENT: Requirement;
}

impl Arguments for ((),) {
    const REQUIREMENT: Requirement = Requirement::ANYBODY;
}

macro_rules! arguments {
    ($($rest:ident)*) => {
        impl<M, G: Gate, $($rest),*> Arguments for (M, G, $($rest,)*) {
            const REQUIREMENT: Requirement = G::REQUIREMENT;
        }
    };
}

arguments!();
arguments!(A);
arguments!(A B);
arguments!(A B C);
arguments!(A B C D);

fn by<H, T>(handler: H) -> impl Fn(MethodFilter) -> Served
where
    H: Handler<T, Api>,
    T: Arguments + 'static,
{
    move |method| Served {
        route: on(method, handler.clone()),
        requirement: T::REQUIREMENT,
    }
}

use Verb::{Delete, Get, Patch, Post, Put};

const DEVICE: &str = "/device/{deviceId}";
const DEVICES: &str = "/tailnet/{tailnet}/devices";
const LOGIN: &str = "/tailnet/{tailnet}/logins/{code}";
const SSH_CHECK: &str = "/tailnet/{tailnet}/ssh-checks/{code}";
const KEYS: &str = "/tailnet/{tailnet}/keys";
const KEY: &str = "/tailnet/{tailnet}/keys/{keyId}";
const NAMESERVERS: &str = "/tailnet/{tailnet}/dns/nameservers";
const PREFERENCES: &str = "/tailnet/{tailnet}/dns/preferences";
const SEARCH_PATHS: &str = "/tailnet/{tailnet}/dns/searchpaths";
const SPLIT_DNS: &str = "/tailnet/{tailnet}/dns/split-dns";
const DNS: &str = "/tailnet/{tailnet}/dns/configuration";
const SETTINGS: &str = "/tailnet/{tailnet}/settings";
const ROUTES: &str = "/device/{deviceId}/routes";
const ATTRIBUTE: &str = "/device/{deviceId}/attributes/{attributeKey}";

#[rustfmt::skip]
const TABLE: &[Row] = &[
    row(Get, "/", "getOpenapi", "This document", |m| by(openapi::handler)(m))
        .query(&["outputOpenapiSchema"]).answer("Openapi"),

    row(Get, DEVICES, "listTailnetDevices", "List the devices of a tailnet", |m| by(devices::list)(m))
        .query(&["fields"]).answer("DeviceList"),
    row(Patch, "/tailnet/{tailnet}/device-attributes", "batchUpdateCustomDevicePostureAttributes", "Set and delete custom attributes of several devices, all or none", |m| by(attributes::batch)(m))
        .body("AttributesBatch").answer("Null"),
    row(Get, DEVICE, "getDevice", "Get a device", |m| by(devices::get)(m))
        .query(&["fields"]).answer("Device"),
    row(Delete, DEVICE, "deleteDevice", "Delete a device", |m| by(devices::delete)(m)),
    row(Post, "/device/{deviceId}/expire", "expireDeviceKey", "Expire the key of a device", |m| by(devices::expire)(m)),
    row(Get, ROUTES, "listDeviceRoutes", "List the routes of a device", |m| by(devices::routes)(m))
        .answer("Routes"),
    row(Post, ROUTES, "setDeviceRoutes", "Replace the enabled routes of a device", |m| by(devices::set_routes)(m))
        .body("SetRoutes").answer("Routes"),
    row(Post, "/device/{deviceId}/authorized", "authorizeDevice", "Approve a device, or take the approval away", |m| by(devices::authorize)(m))
        .body("SetAuthorized").answer("Empty"),
    row(Post, "/device/{deviceId}/name", "setDeviceName", "Rename a device", |m| by(devices::rename)(m))
        .body("SetName").answer("Empty"),
    row(Post, "/device/{deviceId}/tags", "setDeviceTags", "Replace the tags of a device", |m| by(devices::set_tags)(m))
        .body("SetTags").answer("Empty"),
    row(Post, "/device/{deviceId}/key", "updateDeviceKey", "Disable or enable the key expiry of a device", |m| by(devices::set_key)(m))
        .body("SetKeyExpiry").answer("Empty"),
    row(Post, "/device/{deviceId}/ip", "setDeviceIp", "Set the IPv4 address of a device", |m| by(devices::set_ip)(m))
        .body("SetIp").answer("Empty"),
    row(Get, "/device/{deviceId}/attributes", "getDevicePostureAttributes", "List the posture attributes of a device", |m| by(attributes::get)(m))
        .answer("Attributes"),
    row(Post, ATTRIBUTE, "setCustomDevicePostureAttributes", "Set a custom attribute of a device", |m| by(attributes::set)(m))
        .body("SetAttribute").answer("Attributes"),
    row(Delete, ATTRIBUTE, "deleteCustomDevicePostureAttributes", "Delete a custom attribute of a device", |m| by(attributes::delete)(m))
        .answer("Empty"),

    row(Get, "/tailnet/{tailnet}/logins", "listLogins", "List the devices that wait for somebody to say whose they are", |m| by(logins::list)(m))
        .answer("LoginList"),
    row(Post, LOGIN, "confirmLogin", "Let a device in that waits", |m| by(logins::confirm)(m))
        .body("ConfirmLogin").answer("Device"),
    row(Delete, LOGIN, "refuseLogin", "Refuse a device that waits", |m| by(logins::refuse)(m))
        .answer("Empty"),
    row(Get, "/tailnet/{tailnet}/ssh-checks", "listSshChecks", "List the SSH sessions that wait to be confirmed", |m| by(ssh_checks::list)(m))
        .answer("SshCheckList"),
    row(Post, SSH_CHECK, "confirmSshCheck", "Confirm an SSH session", |m| by(ssh_checks::confirm)(m))
        .answer("Empty"),
    row(Delete, SSH_CHECK, "refuseSshCheck", "Refuse an SSH session", |m| by(ssh_checks::refuse)(m))
        .answer("Empty"),

    row(Get, KEYS, "listTailnetKeys", "List valid keys, the caller's own or all", |m| by(keys::list)(m))
        .query(&["all"]).answer("KeyList"),
    row(Post, KEYS, "createKey", "Make an auth key", |m| by(keys::create)(m))
        .body("NewKey").answer("Key"),
    row(Get, KEY, "getKey", "Get a key, valid or not", |m| by(keys::get)(m))
        .answer("Key"),
    row(Delete, KEY, "deleteKey", "Revoke a key", |m| by(keys::delete)(m))
        .answer("Empty"),
    row(Put, KEY, "setKey", "Change a key; the kinds that are served cannot be changed", |m| by(keys::update)(m))
        .answer("Key"),
    row(Post, "/tailnet/{tailnet}/access-tokens", "createAccessToken", "Make an API access token", |m| by(keys::create_token)(m))
        .body("NewAccessToken").answer("Key"),

    row(Get, "/tailnet/{tailnet}/acl", "getPolicyFile", "Get the policy file", |m| by(policy::get::handler)(m))
        .query(&["details"]).answer("Policy"),
    row(Post, "/tailnet/{tailnet}/acl", "setPolicyFile", "Replace the policy file, or reset it with an empty body", |m| by(policy::set::handler)(m))
        .query(&["details"]).policy_body("Policy").answer("Policy"),
    row(Post, "/tailnet/{tailnet}/acl/preview", "previewRuleMatches", "List the rules of a policy file that concern a user or an address; with an empty body of the one in force", |m| by(policy::preview::handler)(m))
        .query(&["previewType", "previewFor"]).policy_body("Policy").answer("PolicyPreview"),
    row(Post, "/tailnet/{tailnet}/acl/validate", "validateAndTestPolicyFile", "Check a policy file with its tests, or run tests against the one in force", |m| by(policy::validate::handler)(m))
        .query(&["details"]).policy_body("PolicyOrTests").answer("PolicyVerdict"),
    row(Post, "/tailnet/{tailnet}/acl/explain", "explainPolicyFile", "Say why a connection is allowed or denied", |m| by(policy::explain::handler)(m))
        .policy_body("PolicyQuestion").answer("PolicyExplanation"),
    row(Post, "/tailnet/{tailnet}/acl/diff", "diffPolicyFile", "Say what a proposed policy file would change", |m| by(policy::diff::handler)(m))
        .policy_body("PolicyProposal").answer("PolicyDiff"),

    row(Get, NAMESERVERS, "listDnsNameservers", "List the global nameservers", |m| by(dns::nameservers)(m))
        .answer("Nameservers"),
    row(Post, NAMESERVERS, "setDnsNameservers", "Replace the global nameservers", |m| by(dns::set_nameservers)(m))
        .body("Nameservers").answer("NameserversSet"),
    row(Get, PREFERENCES, "getDnsPreferences", "Get the DNS preferences", |m| by(dns::preferences)(m))
        .answer("DnsPreferences"),
    row(Post, PREFERENCES, "setDnsPreferences", "Turn MagicDNS on or off", |m| by(dns::set_preferences)(m))
        .body("DnsPreferences").answer("DnsPreferences"),
    row(Get, SEARCH_PATHS, "listDnsSearchPaths", "List the search paths", |m| by(dns::search_paths)(m))
        .answer("SearchPaths"),
    row(Post, SEARCH_PATHS, "setDnsSearchPaths", "Replace the search paths", |m| by(dns::set_search_paths)(m))
        .body("SearchPaths").answer("SearchPaths"),
    row(Get, SPLIT_DNS, "getSplitDns", "Get the nameservers of domains", |m| by(dns::split)(m))
        .answer("SplitDns"),
    row(Patch, SPLIT_DNS, "updateSplitDns", "Change the nameservers of some domains", |m| by(dns::merge_split)(m))
        .body("SetSplitDns").answer("SplitDns"),
    row(Put, SPLIT_DNS, "setSplitDns", "Replace the nameservers of all domains", |m| by(dns::replace_split)(m))
        .body("SetSplitDns").answer("SplitDns"),
    row(Get, DNS, "getDnsConfiguration", "Get the whole DNS configuration", |m| by(dns::configuration)(m))
        .answer("DnsConfiguration"),
    row(Post, DNS, "setDnsConfiguration", "Replace the whole DNS configuration", |m| by(dns::set_configuration)(m))
        .body("DnsConfiguration").answer("DnsConfiguration"),

    row(Get, SETTINGS, "getTailnetSettings", "Get the settings of a tailnet", |m| by(settings::get)(m))
        .answer("Settings"),
    row(Patch, SETTINGS, "updateTailnetSettings", "Change settings of a tailnet", |m| by(settings::update)(m))
        .body("SetSettings").answer("Settings"),

    row(Get, "/tailnet/{tailnet}/users", "listUsers", "List the users of a tailnet", |m| by(users::list)(m))
        .query(&["type", "role"]).answer("UserList"),
    row(Post, "/tailnet/{tailnet}/users", "createUser", "Make a user", |m| by(users::create)(m))
        .body("NewUser").answer("User"),
    row(Get, "/users/{userId}", "getUser", "Get a user", |m| by(users::get)(m))
        .answer("User"),

    row(Get, "/tailnets", "listTailnets", "List the tailnets of the server", |m| by(tailnets::list)(m))
        .answer("TailnetList"),
    row(Post, "/tailnets", "createTailnet", "Make a tailnet with its owner and their first token", |m| by(tailnets::create)(m))
        .body("NewTailnet").answer("NewTailnetMade"),

    row(Get, "/clock", "getClock", "Get what the server's clocks show", |m| by(clock::get)(m))
        .answer("Clock"),
    row(Post, "/clock/confirm", "confirmClock", "Say that the machine's clock is right after a jump", |m| by(clock::confirm)(m))
        .body("ConfirmClock").answer("Clock"),
];

impl Row {
    fn operation(&self, requirement: Requirement) -> Operation {
        Operation {
            verb: self.verb,
            path: self.path,
            id: self.id,
            requirement,
            summary: self.summary,
            query: self.query,
            body: self.body,
            answer: self.answer,
        }
    }
}

/// Every operation that is served, in the order of the document.
pub fn operations() -> impl Iterator<Item = Operation> {
    TABLE
        .iter()
        .map(|row| row.operation((row.serve)(row.verb.filter()).requirement))
}

/// The routes. Bodies with a policy file have a limit of their own; refused changes are noted.
pub(crate) fn routes(api: &Api) -> Router<Api> {
    TABLE.iter().fold(Router::new(), |router, row| {
        let Served {
            mut route,
            requirement,
        } = (row.serve)(row.verb.filter());
        if row.has_policy {
            route = route.layer(DefaultBodyLimit::max(api.options.policy_limit));
        }
        if row.operation(requirement).changes() {
            let state = (api.clone(), row.id);
            route = route.layer(middleware::from_fn_with_state(state, note_refused));
        }
        router.route(row.path, route)
    })
}
