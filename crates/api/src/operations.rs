//! Every operation that is served: one table. The router, the OpenAPI document, `docs/api.md`, the fuzz
//! target and the tests that hold for all operations are made from it.
//!
//! A row says which request it is about, what a caller must have, and which handler serves it; what it
//! reads and answers are the handler's types ([`crate::call`]).

use std::sync::LazyLock;

use axum::Router;
use bowline_engine::credential::{
    CHANGE_KEYS, MAKE_KEYS, READ_KEYS, READ_SCIM_KEYS, WRITE_KEYS, WRITE_SCIM_KEYS,
};
use bowline_engine::login::ssh_check::REFUSE_SESSIONS;
use bowline_engine::secret::IDENTIFY_SECRETS;
use bowline_engine::settings::{CHANGED_SETTINGS, SHOWN_SETTINGS};
use bowline_model::requirement::Requirement;
use bowline_model::right::Right;
use bowline_model::scope::Scope;

use crate::operation::Verb::{Delete, Get, Patch, Post, Put};
use crate::operation::{Operation, Row, by, row};
use crate::v2::{
    access_tokens, attributes, clock, devices, dns, keys, logins, logs, oauth, policy, routes,
    scim_keys, secrets, settings, ssh_checks, tailnets, users, webhooks,
};
use crate::{Api, openapi};

/// Reads devices.
const DEVICES_READ: Requirement = Requirement::all(&[Scope::DEVICES_CORE_READ], Right::ReadDevices);
/// Changes devices.
const DEVICES_WRITE: Requirement = Requirement::all(&[Scope::DEVICES_CORE], Right::WriteDevices);
/// Changes tags of devices.
const TAGS_WRITE: Requirement = Requirement::all(&[Scope::DEVICES_CORE], Right::SetDeviceTags);
/// Reads routes of devices.
const ROUTES_READ: Requirement =
    Requirement::all(&[Scope::DEVICES_ROUTES_READ], Right::ReadNetwork);
/// Changes routes of devices.
const ROUTES_WRITE: Requirement = Requirement::all(&[Scope::DEVICES_ROUTES], Right::WriteNetwork);
/// Reads posture attributes.
const ATTRIBUTES_READ: Requirement = Requirement::all(
    &[Scope::DEVICES_POSTURE_ATTRIBUTES_READ],
    Right::PostureAttributes,
);
/// Changes posture attributes.
const ATTRIBUTES_WRITE: Requirement = Requirement::all(
    &[Scope::DEVICES_POSTURE_ATTRIBUTES],
    Right::PostureAttributes,
);
/// Makes auth keys, OAuth clients and federated identities.
const KEYS_MAKE: Requirement = Requirement::any(MAKE_KEYS);
/// Makes API access tokens. A token shows nobody but its user.
const TOKENS_WRITE: Requirement =
    Requirement::all(&[Scope::API_ACCESS_TOKENS], Right::ApiCredentials).people_only();
/// Lists keys.
const KEYS_LIST: Requirement = Requirement::any(READ_KEYS);
/// Reads a key.
const KEYS_READ: Requirement = Requirement::any_or_own(READ_KEYS);
/// Changes a key: an OAuth client or a federated identity.
const KEYS_CHANGE: Requirement = Requirement::any(CHANGE_KEYS);
/// Revokes a key.
const KEYS_REVOKE: Requirement = Requirement::any_or_own(WRITE_KEYS);
/// Lists the SCIM key.
const SCIM_KEYS_READ: Requirement = Requirement::all(READ_SCIM_KEYS.scopes, READ_SCIM_KEYS.right);
/// Makes the SCIM key.
const SCIM_KEYS_WRITE: Requirement =
    Requirement::all(WRITE_SCIM_KEYS.scopes, WRITE_SCIM_KEYS.right);
/// Tells what a secret is. Who has one that is their own may know.
const SECRETS_IDENTIFY: Requirement = Requirement::any_or_own(IDENTIFY_SECRETS);
/// Confirms an SSH session: a person's word about a person.
const SESSIONS_CONFIRM: Requirement = Requirement::any_or_own(REFUSE_SESSIONS).people_only();
/// Refuses an SSH session.
const SESSIONS_REFUSE: Requirement = Requirement::any_or_own(REFUSE_SESSIONS);
/// Reads the policy file.
const POLICY_READ: Requirement =
    Requirement::all(&[Scope::POLICY_FILE_READ], Right::ReadPolicyFile);
/// Changes the policy file.
const POLICY_WRITE: Requirement = Requirement::all(&[Scope::POLICY_FILE], Right::WritePolicyFile);
/// Reads DNS settings.
const DNS_READ: Requirement = Requirement::all(&[Scope::DNS_READ], Right::ReadNetwork);
/// Changes DNS settings.
const DNS_WRITE: Requirement = Requirement::all(&[Scope::DNS], Right::WriteNetwork);
/// Reads users.
const USERS_READ: Requirement = Requirement::all(&[Scope::USERS_READ], Right::ReadUsers).hidden();
/// Changes users. Not hidden: of a change it is told that it was refused.
const USERS_WRITE: Requirement = Requirement::all(&[Scope::USERS], Right::WriteUsers);
/// Reads the audit log.
const AUDIT_READ: Requirement =
    Requirement::all(&[Scope::LOGS_CONFIGURATION_READ], Right::ReadAuditLog);
/// Reads webhook endpoints.
const WEBHOOKS_READ: Requirement =
    Requirement::all(&[Scope::WEBHOOKS_READ], Right::ReadWebhooks).hidden();
/// Changes webhook endpoints. Not hidden: of a change it is told that it was refused.
const WEBHOOKS_WRITE: Requirement = Requirement::all(&[Scope::WEBHOOKS], Right::WriteWebhooks);
/// Reads settings.
const SETTINGS_READ: Requirement = Requirement::shown(SHOWN_SETTINGS);
/// Changes settings.
const SETTINGS_WRITE: Requirement = Requirement::fields(CHANGED_SETTINGS);

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
const WEBHOOKS: &str = "/tailnet/{tailnet}/webhooks";
const WEBHOOK: &str = "/webhooks/{endpointId}";
const ROUTES: &str = "/device/{deviceId}/routes";
const ATTRIBUTE: &str = "/device/{deviceId}/attributes/{attributeKey}";

/// The rows, in the order of the document.
pub(crate) fn table() -> &'static [Row] {
    static TABLE: LazyLock<Vec<Row>> = LazyLock::new(rows);
    &TABLE
}

#[rustfmt::skip]
fn rows() -> Vec<Row> {
    vec![
        row(Get, "/", "getOpenapi", "This document", Requirement::ANYBODY, by(openapi::handler)),

        row(Get, DEVICES, "listTailnetDevices", "List the devices of a tailnet", DEVICES_READ, by(devices::list::handler)),
        row(Patch, "/tailnet/{tailnet}/device-attributes", "batchUpdateCustomDevicePostureAttributes", "Set and delete custom attributes of several devices, all or none", ATTRIBUTES_WRITE, by(attributes::batch::handler)),
        row(Get, DEVICE, "getDevice", "Get a device", DEVICES_READ, by(devices::get::handler)),
        row(Delete, DEVICE, "deleteDevice", "Delete a device", DEVICES_WRITE, by(devices::delete::handler)),
        row(Post, "/device/{deviceId}/expire", "expireDeviceKey", "Expire the key of a device", DEVICES_WRITE, by(devices::expire::handler)),
        row(Get, ROUTES, "listDeviceRoutes", "List the routes of a device", ROUTES_READ, by(routes::list::handler)),
        row(Post, ROUTES, "setDeviceRoutes", "Replace the enabled routes of a device", ROUTES_WRITE, by(routes::set::handler)),
        row(Post, "/device/{deviceId}/authorized", "authorizeDevice", "Approve a device, or take the approval away", DEVICES_WRITE, by(devices::authorize::handler)),
        row(Post, "/device/{deviceId}/name", "setDeviceName", "Rename a device", DEVICES_WRITE, by(devices::rename::handler)),
        row(Post, "/device/{deviceId}/tags", "setDeviceTags", "Replace the tags of a device", TAGS_WRITE, by(devices::set_tags::handler)),
        row(Post, "/device/{deviceId}/key", "updateDeviceKey", "Disable or enable the key expiry of a device", DEVICES_WRITE, by(devices::set_key_expiry::handler)),
        row(Post, "/device/{deviceId}/ip", "setDeviceIp", "Set the IPv4 address of a device", DEVICES_WRITE, by(devices::set_ip::handler)),
        row(Get, "/device/{deviceId}/attributes", "getDevicePostureAttributes", "List the posture attributes of a device", ATTRIBUTES_READ, by(attributes::list::handler)),
        row(Post, ATTRIBUTE, "setCustomDevicePostureAttributes", "Set a custom attribute of a device", ATTRIBUTES_WRITE, by(attributes::set::handler)),
        row(Delete, ATTRIBUTE, "deleteCustomDevicePostureAttributes", "Delete a custom attribute of a device", ATTRIBUTES_WRITE, by(attributes::delete::handler)),

        row(Get, "/tailnet/{tailnet}/logins", "listLogins", "List the devices that wait for somebody to say whose they are", DEVICES_READ, by(logins::list::handler)),
        row(Post, LOGIN, "confirmLogin", "Let a device in that waits", DEVICES_WRITE, by(logins::confirm::handler)),
        row(Delete, LOGIN, "refuseLogin", "Refuse a device that waits", DEVICES_WRITE, by(logins::refuse::handler)),
        row(Get, "/tailnet/{tailnet}/ssh-checks", "listSshChecks", "List the SSH sessions that wait to be confirmed", DEVICES_READ, by(ssh_checks::list::handler)),
        row(Post, SSH_CHECK, "confirmSshCheck", "Confirm an SSH session", SESSIONS_CONFIRM, by(ssh_checks::confirm::handler)),
        row(Delete, SSH_CHECK, "refuseSshCheck", "Refuse an SSH session", SESSIONS_REFUSE, by(ssh_checks::refuse::handler)),

        row(Get, KEYS, "listTailnetKeys", "List valid keys, the caller's own or all", KEYS_LIST, by(keys::list::handler)),
        row(Post, KEYS, "createKey", "Make an auth key, an OAuth client or a federated identity", KEYS_MAKE, by(keys::create::handler)),
        row(Get, KEY, "getKey", "Get a key, valid or not", KEYS_READ, by(keys::get::handler)),
        row(Delete, KEY, "deleteKey", "Revoke a key", KEYS_REVOKE, by(keys::delete::handler)),
        row(Put, KEY, "setKey", "Change an OAuth client or a federated identity: all that can be changed of it, at once", KEYS_CHANGE, by(keys::update::handler)),
        row(Post, "/tailnet/{tailnet}/access-tokens", "createAccessToken", "Make an API access token", TOKENS_WRITE, by(access_tokens::create::handler)),

        row(Get, "/tailnet/{tailnet}/scim-keys", "listScimKeys", "List the SCIM key", SCIM_KEYS_READ, by(scim_keys::list::handler)),
        row(Post, "/tailnet/{tailnet}/scim-keys", "createScimKey", "Make the SCIM key, in the place of the one that there is", SCIM_KEYS_WRITE, by(scim_keys::create::handler)),
        row(Post, "/tailnet/{tailnet}/secrets/identify", "identifySecret", "Tell what a secret is that somebody found, by its hash", SECRETS_IDENTIFY, by(secrets::identify::handler)),

        row(Post, "/oauth/token-exchange", "exchangeToken", "Get an access token for the token of a workload's own issuer", Requirement::SHOWS, by(oauth::exchange::handler)).and(&[403, 429]),
        row(Post, "/oauth/token", "createOauthToken", "Get an access token for the secret of an OAuth client", Requirement::SHOWS, by(oauth::token::handler)).and(&[401, 429]),

        row(Get, "/tailnet/{tailnet}/acl", "getPolicyFile", "Get the policy file", POLICY_READ, by(policy::get::handler)).and(&[304]).with_headers(&["Accept", "If-None-Match"]),
        row(Post, "/tailnet/{tailnet}/acl", "setPolicyFile", "Replace the policy file, or reset it with an empty body", POLICY_WRITE, by(policy::set::handler)).and(&[412]).with_headers(&["Accept", "If-Match", "If-None-Match"]),
        row(Post, "/tailnet/{tailnet}/acl/preview", "previewRuleMatches", "List the rules of a policy file that concern a user or an address; with an empty body of the one in force", POLICY_READ, by(policy::preview::handler)),
        row(Post, "/tailnet/{tailnet}/acl/validate", "validateAndTestPolicyFile", "Check a policy file with its tests, or run tests against the one in force", POLICY_READ, by(policy::validate::handler)),
        row(Post, "/tailnet/{tailnet}/acl/explain", "explainPolicyFile", "Say why a connection is allowed or denied", POLICY_READ, by(policy::explain::handler)),
        row(Post, "/tailnet/{tailnet}/acl/diff", "diffPolicyFile", "Say what a proposed policy file would change", POLICY_READ, by(policy::diff::handler)),

        row(Get, NAMESERVERS, "listDnsNameservers", "List the global nameservers", DNS_READ, by(dns::list_nameservers::handler)),
        row(Post, NAMESERVERS, "setDnsNameservers", "Replace the global nameservers", DNS_WRITE, by(dns::set_nameservers::handler)),
        row(Get, PREFERENCES, "getDnsPreferences", "Get the DNS preferences", DNS_READ, by(dns::get_preferences::handler)),
        row(Post, PREFERENCES, "setDnsPreferences", "Turn MagicDNS on or off", DNS_WRITE, by(dns::set_preferences::handler)),
        row(Get, SEARCH_PATHS, "listDnsSearchPaths", "List the search paths", DNS_READ, by(dns::list_search_paths::handler)),
        row(Post, SEARCH_PATHS, "setDnsSearchPaths", "Replace the search paths", DNS_WRITE, by(dns::set_search_paths::handler)),
        row(Get, SPLIT_DNS, "getSplitDns", "Get the nameservers of domains", DNS_READ, by(dns::get_split::handler)),
        row(Patch, SPLIT_DNS, "updateSplitDns", "Change the nameservers of some domains", DNS_WRITE, by(dns::update_split::handler)),
        row(Put, SPLIT_DNS, "setSplitDns", "Replace the nameservers of all domains", DNS_WRITE, by(dns::set_split::handler)),
        row(Get, DNS, "getDnsConfiguration", "Get the whole DNS configuration", DNS_READ, by(dns::get_configuration::handler)),
        row(Post, DNS, "setDnsConfiguration", "Replace the whole DNS configuration", DNS_WRITE, by(dns::set_configuration::handler)),

        row(Get, SETTINGS, "getTailnetSettings", "Get the settings of a tailnet", SETTINGS_READ, by(settings::get::handler)),
        row(Patch, SETTINGS, "updateTailnetSettings", "Change settings of a tailnet", SETTINGS_WRITE, by(settings::update::handler)),

        row(Get, "/tailnet/{tailnet}/users", "listUsers", "List the users of a tailnet", USERS_READ, by(users::list::handler)),
        row(Post, "/tailnet/{tailnet}/users", "createUser", "Make a user", USERS_WRITE, by(users::create::handler)),
        row(Get, "/users/{userId}", "getUser", "Get a user", USERS_READ, by(users::get::handler)),
        row(Post, "/users/{userId}/role", "updateUserRole", "Give a user another role", USERS_WRITE, by(users::set_role::handler)),
        row(Post, "/users/{userId}/approve", "approveUser", "Approve a user who waits for it", USERS_WRITE, by(users::approve::handler)),
        row(Post, "/users/{userId}/suspend", "suspendUser", "Suspend a user: nothing that they have is good until they are restored", USERS_WRITE, by(users::suspend::handler)),
        row(Post, "/users/{userId}/restore", "restoreUser", "Restore a suspended user", USERS_WRITE, by(users::restore::handler)),
        row(Post, "/users/{userId}/delete", "deleteUser", "Delete a user with their devices, and revoke their keys and tokens", USERS_WRITE, by(users::delete::handler)),

        row(Get, "/tailnet/{tailnet}/logging/configuration", "listConfigurationAuditLogs", "List configuration audit logs", AUDIT_READ, by(logs::configuration::handler)),

        row(Get, WEBHOOKS, "listWebhooks", "List the webhook endpoints of a tailnet", WEBHOOKS_READ, by(webhooks::list::handler)),
        row(Post, WEBHOOKS, "createWebhook", "Make a webhook endpoint", WEBHOOKS_WRITE, by(webhooks::create::handler)),
        row(Get, WEBHOOK, "getWebhook", "Get a webhook endpoint", WEBHOOKS_READ, by(webhooks::get::handler)),
        row(Patch, WEBHOOK, "updateWebhook", "Give a webhook endpoint other subscriptions", WEBHOOKS_WRITE, by(webhooks::update::handler)),
        row(Delete, WEBHOOK, "deleteWebhook", "Delete a webhook endpoint", WEBHOOKS_WRITE, by(webhooks::delete::handler)),
        row(Post, "/webhooks/{endpointId}/test", "testWebhook", "Send a test event to a webhook endpoint, soon", WEBHOOKS_WRITE, by(webhooks::test::handler)),
        row(Post, "/webhooks/{endpointId}/rotate", "rotateWebhookSecret", "Give a webhook endpoint another secret", WEBHOOKS_WRITE, by(webhooks::rotate::handler)),
        row(Get, "/webhooks/{endpointId}/deliveries", "listWebhookDeliveries", "List what waits for a webhook endpoint and what it was not told", WEBHOOKS_READ, by(webhooks::deliveries::handler)),
        row(Post, "/webhooks/{endpointId}/deliveries/replay", "replayWebhookDeliveries", "Tell a webhook endpoint what it was not told", WEBHOOKS_WRITE, by(webhooks::replay::handler)),

        row(Get, "/tailnets", "listTailnets", "List the tailnets of the server", Requirement::OPERATOR, by(tailnets::list::handler)),
        row(Post, "/tailnets", "createTailnet", "Make a tailnet with its owner and their first token", Requirement::OPERATOR, by(tailnets::create::handler)),

        row(Get, "/clock", "getClock", "Get what the server's clocks show", Requirement::OPERATOR, by(clock::get::handler)),
        row(Post, "/clock/confirm", "confirmClock", "Say that the machine's clock is right after a jump", Requirement::OPERATOR, by(clock::confirm::handler)),
    ]
}

/// Every operation that is served, in the order of the document.
pub fn operations() -> impl Iterator<Item = Operation> {
    table().iter().map(|row| row.operation)
}

/// The routes.
pub(crate) fn routes(api: &Api) -> Router<Api> {
    table().iter().fold(Router::new(), |router, row| {
        router.route(row.operation.path, row.route(api))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handlers_read_what_their_paths_name() {
        for operation in operations() {
            let mut named: Vec<&str> = operation.path_parameters().collect();
            named.retain(|name| *name != "tailnet");
            assert_eq!(named, operation.objects, "{}", operation.id);
        }
    }
}
