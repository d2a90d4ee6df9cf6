//! What each operation needs: generated from its row, compared with a table that people have read, and
//! tried over HTTP.

use std::fmt::Write as _;
use std::path::Path;

use bowline_api::{Operation, Verb, operations};
use bowline_model::id::{KeyId, UserId};
use bowline_model::principal::{Principal, TrustCredential};
use bowline_model::requirement::{Denied, Need, Requirement, Rule};
use bowline_model::right::Right;
use bowline_model::scope::{Scope, Scopes};
use bowline_model::user::Role;
use http::StatusCode;
use serde_json::{Value, json};

use crate::access::{NOT_PERMITTED, Objects, case, objects, takes_no_credential};
use crate::server::Server;

/// Set it to write the table in place of comparing it.
const WRITE: &str = "BOWLINE_WRITE";

const HEAD: &str = "\
# What each operation needs, one line each. `cargo run -p bowline-xtask -- access` writes this file
# from the rows of the operations; read the difference before you commit it.
#
# roles    users of these roles may call it, with an API access token: Owner, Admin, Network admin,
#          It admin, Billing admin, aUditor, Member
# op       the operator of the server may (+)
# scopes   an OAuth client or a federated identity may call it with one of these scopes alone, or with
#          one that grants it; `any` of them; `-`: with none
# refused  what whoever may not is told
#
# Lines below an operation: what it asks for besides, of which one is for the kind of object that it is
# about (none where that is the caller's `own`), or for the member of the body.

";

const ROLES: [(Role, char); 7] = [
    (Role::Owner, 'O'),
    (Role::Admin, 'A'),
    (Role::NetworkAdmin, 'N'),
    (Role::ItAdmin, 'I'),
    (Role::BillingAdmin, 'B'),
    (Role::Auditor, 'U'),
    (Role::Member, 'M'),
];

/// A user who shows an API access token.
fn user(role: Role) -> Principal {
    Principal::User {
        id: UserId::MIN,
        login: "ann@example.com".to_owned(),
        role,
        scopes: Scopes::all(),
    }
}

/// Both kinds of trust credentials, given one scope.
fn trusted(scope: Scope) -> [Principal; 2] {
    let credential = || TrustCredential {
        id: KeyId::MIN,
        scopes: [scope].into_iter().collect(),
        tags: std::collections::BTreeSet::new(),
        narrows_tags: false,
    };
    [
        Principal::OAuthClient(credential()),
        Principal::FederatedIdentity(credential()),
    ]
}

fn letters(may: impl Fn(&Principal) -> bool) -> String {
    ROLES
        .map(|(role, letter)| if may(&user(role)) { letter } else { '.' })
        .into_iter()
        .collect()
}

/// The roles that may, in words.
pub(crate) fn rights(may: impl Fn(&Principal) -> bool) -> String {
    let names = ROLES.iter().filter(|(role, _)| may(&user(*role)));
    let names: Vec<&str> = names.map(|(role, _)| role.as_str()).collect();
    if names.is_empty() {
        return "no role".to_owned();
    }
    format!("roles {}", names.join(", "))
}

/// The scopes of which one alone is enough, in words.
pub(crate) fn scopes_of(may: impl Fn(&Principal) -> bool) -> String {
    match &*scopes(may) {
        "-" => "none is enough".to_owned(),
        "any" => "any".to_owned(),
        names => {
            let names = names.split(" | ").map(|name| format!("`{name}`"));
            names.collect::<Vec<_>>().join(" or ")
        }
    }
}

/// The scopes of which one alone is enough, without those that grant another one of them.
fn scopes(may: impl Fn(&Principal) -> bool) -> String {
    let enough: Vec<Scope> = Scope::every()
        .filter(|scope| {
            let [client, federated] = trusted(*scope).map(|principal| may(&principal));
            assert_eq!(client, federated, "{scope}: both kinds are treated alike");
            client
        })
        .collect();
    if enough.len() == Scope::every().count() {
        return "any".to_owned();
    }
    let least = enough.iter().filter(|scope| {
        // Of two names for one thing, the newer one.
        let grants = |other: &&Scope| {
            scope.grants(**other) && (!other.grants(**scope) || other.area() < scope.area())
        };
        !enough
            .iter()
            .filter(|other| other != scope)
            .any(|other| grants(&other))
    });
    let least: Vec<String> = least.map(ToString::to_string).collect();
    if least.is_empty() {
        return "-".to_owned();
    }
    least.join(" | ")
}

fn refusal(denied: Denied) -> u16 {
    match denied {
        Denied::Forbidden => 403,
        Denied::NotFound => 404,
        Denied::Unauthenticated => 401,
    }
}

fn line(text: &mut String, operation: &Operation) {
    let requirement = operation.requirement;
    let may = |principal: &Principal| requirement.check(principal).is_ok();
    let path = format!("{} {}", operation.verb.as_str(), operation.path);
    if requirement == Requirement::ANYBODY {
        writeln!(text, "{:<40} {path:<59} anybody", operation.id).unwrap();
        return;
    }
    if requirement == Requirement::SHOWS {
        writeln!(text, "{:<40} {path:<59} what the body shows", operation.id).unwrap();
        return;
    }
    writeln!(
        text,
        "{:<40} {path:<59} {} {:<2} {} {}",
        operation.id,
        letters(may),
        if may(&Principal::Operator) { "+" } else { "-" },
        refusal(requirement.denied),
        scopes(may),
    )
    .unwrap();
    let mut detail = |name: &str, need: &Need| {
        let may = |principal: &Principal| {
            requirement.check(principal).is_ok() && need.is_met_by(principal)
        };
        writeln!(text, "    {name:<96} {} {}", letters(may), scopes(may)).unwrap();
    };
    match requirement.rule {
        Rule::Any(needs) => needs.iter().for_each(|need| detail("one of", need)),
        Rule::AnyOrOwn(needs) => needs.iter().for_each(|need| detail("own, or one of", need)),
        Rule::Fields(fields) | Rule::Shown(fields) => {
            for field in fields {
                detail(field.name, &field.need);
            }
        }
        Rule::Anybody
        | Rule::Shows
        | Rule::Caller
        | Rule::All(_)
        | Rule::Operator
        | Rule::Node
        | Rule::System
        | Rule::Nobody => {}
    }
}

#[test]
fn access_table_is_the_reviewed_one() {
    let mut text = HEAD.to_owned();
    for operation in operations() {
        line(&mut text, &operation);
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/access.txt");
    if std::env::var_os(WRITE).is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        return;
    }
    let reviewed = std::fs::read_to_string(&path).unwrap_or_default();
    for (own, reviewed) in text.lines().zip(reviewed.lines()) {
        assert_eq!(own, reviewed, "what an operation needs has changed");
    }
    assert_eq!(text, reviewed, "an operation was added or removed");
}

#[test]
fn who_may_give_a_scope_may_do_what_it_opens() {
    let mut given = 0;
    for operation in operations() {
        for need in operation.requirement.needs() {
            for (role, _) in ROLES {
                if need.scopes.iter().all(|scope| role.may_grant(*scope)) {
                    given += 1;
                    let place = format!("{} as {}", operation.id, role.as_str());
                    assert!(role.has(need.right), "{place}: {need:?}");
                }
            }
        }
    }
    assert!(given > 100, "{given}");
}

/// Whether a role may do what the case of an operation asks for, with its object and its members of
/// the body. What the table says, and of the operations that look at the object what it leaves open.
fn may(operation: &Operation, role: Role) -> bool {
    let requirement = &operation.requirement;
    let user = user(role);
    if requirement.check(&user).is_err() {
        return false;
    }
    match (requirement.rule, operation.id) {
        // The session is the owner's own, whom nobody may act for.
        (_, "confirmSshCheck") => role == Role::Owner,
        (Rule::AnyOrOwn(_), "refuseSshCheck") => role.has(Right::WriteDevices),
        // The key is the owner's auth key.
        (Rule::AnyOrOwn(_), _) => role.has(Right::AuthKeys),
        (Rule::Fields(_), "updateTailnetSettings") => requirement
            .check_field(&user, "devicesKeyDurationDays")
            .is_ok(),
        _ => true,
    }
}

/// A call that is refused for no other reason than who makes it.
async fn call(
    server: &Server,
    operation: &Operation,
    lasting: &Objects,
    number: usize,
) -> (String, Value) {
    let fresh;
    let objects = if operation.changes() {
        // Some operations end what they are given.
        fresh = objects(server).await;
        &fresh
    } else {
        lasting
    };
    let (path, mut value) = case(operation, "-", objects);
    match operation.id {
        // What must be unique.
        "createUser" => value["loginName"] = json!(format!("new{number}@example.com")),
        // Whom everybody may act for.
        "confirmLogin" => value["user"] = json!("max@example.com"),
        "setDeviceIp" | "setDeviceName" => value = json!({}),
        _ => {}
    }
    (path, value)
}

#[tokio::test]
async fn every_operation_is_for_the_roles_of_the_table() {
    let server = Server::start().await;
    let mut tokens = vec![(Role::Owner, server.tailnet.token.clone())];
    for (role, _) in &ROLES[1..] {
        let login = match role {
            Role::Member => "max@example.com".to_owned(),
            role => format!("{}@example.com", role.as_str()),
        };
        let (_, token) = server.user(&login, role.as_str()).await;
        tokens.push((*role, token));
    }
    let lasting = objects(&server).await;
    let mut refused = 0;
    for operation in operations() {
        if takes_no_credential(&operation) {
            continue;
        }
        let verb = operation.verb.as_str();
        for (number, (role, token)) in tokens.iter().enumerate() {
            let (path, value) = call(&server, &operation, &lasting, number).await;
            let reply = server.call_as(token, verb, &path, value).await;
            let place = format!("{} as {}", operation.id, role.as_str());
            if may(&operation, *role) {
                assert_eq!(
                    reply.status.as_u16(),
                    operation.success,
                    "{place}: {reply:?}"
                );
                continue;
            }
            refused += 1;
            assert_eq!(
                reply.status,
                refusal(operation.requirement.denied),
                "{place}"
            );
            let expected = match operation.requirement.denied {
                Denied::Forbidden => NOT_PERMITTED,
                Denied::NotFound => "not found",
                Denied::Unauthenticated => "API token invalid",
            };
            assert_eq!(reply.message(reply.status.as_u16()), expected, "{place}");
        }
    }
    assert!(refused > 100, "{refused}");
}

#[tokio::test]
async fn every_operation_is_for_the_scopes_of_the_table() {
    let server = crate::oauth::server().await;
    let objects = objects(&server).await;
    let (mut refused, mut answered) = (0, 0);
    for scope in Scope::every() {
        let tags = if scope.needs_tags() {
            &["tag:a"][..]
        } else {
            &[]
        };
        let client = crate::oauth::client(&server, &[&scope.to_string()], tags).await;
        let token = crate::oauth::good_token(&server, &client).await;
        let [principal, _] = trusted(scope);
        for operation in operations().filter(|operation| !takes_no_credential(operation)) {
            let requirement = &operation.requirement;
            let (path, value) = case(&operation, "-", &objects);
            let place = format!("{} with {scope}", operation.id);
            let verb = operation.verb.as_str();
            if requirement.check(&principal).is_err() {
                let reply = server.call_as(&token, verb, &path, value).await;
                let status = reply.status.as_u16();
                assert_eq!(status, refusal(requirement.denied), "{place}: {reply:?}");
                refused += 1;
            } else if operation.verb == Verb::Get && matches!(requirement.rule, Rule::All(_)) {
                let reply = server.call_as(&token, verb, &path, value).await;
                assert_eq!(
                    reply.status.as_u16(),
                    operation.success,
                    "{place}: {reply:?}"
                );
                answered += 1;
            }
        }
    }
    assert!(refused > 3000 && answered > 80, "{refused}, {answered}");
}

#[tokio::test]
async fn the_operator_may_call_every_operation() {
    let server = Server::start().await;
    let tailnet = server.tailnet.id.stable();
    server.user("max@example.com", "member").await;
    let lasting = objects(&server).await;
    for (number, operation) in operations().enumerate() {
        let (path, value) = call(&server, &operation, &lasting, number).await;
        let path = path.replace("/tailnet/-/", &format!("/tailnet/{tailnet}/"));
        let reply = server.operate(operation.verb.as_str(), &path, value).await;
        let is_late = operation.id == "confirmClock" && reply.status == StatusCode::BAD_REQUEST;
        assert!(
            is_late || reply.status.as_u16() == operation.success,
            "{}: {reply:?}",
            operation.id
        );
    }
}

#[tokio::test]
async fn a_change_that_waits_behind_the_end_of_its_token_is_refused_as_the_next_request_is() {
    let server = Server::start().await;
    let keys = server.get("/tailnet/-/keys").await;
    let own = keys["keys"][0]["id"].as_str().unwrap();
    let revoke = format!("/tailnet/-/keys/{own}");
    let path = "/tailnet/-/dns/searchpaths";
    let late = json!({"searchPaths": ["late.example.com"]}).to_string();
    // Both are let in at the door, and wait for the writer one behind the other.
    let (revoked, late) = tokio::join!(
        server.ask("DELETE", &revoke, Vec::new()),
        server.ask("POST", path, late.into_bytes()),
    );
    assert_eq!((revoked.as_u16(), late.as_u16()), (200, 401));
    let next = server.call("GET", path, Value::Null).await;
    assert_eq!(next.message(401), "API token invalid");
    let tailnet = format!("/tailnet/{}/dns/searchpaths", server.tailnet.name);
    let kept = server.operate("GET", &tailnet, Value::Null).await.ok();
    assert_eq!(kept, json!({"searchPaths": []}));
}
