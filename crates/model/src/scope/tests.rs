use super::*;

fn scope(text: &str) -> Scope {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

/// The names of the official OpenAPI document and, after them, those of older credentials.
const NAMES: &[&str] = &[
    "all",
    "all:read",
    "account_settings",
    "account_settings:read",
    "api_access_tokens",
    "api_access_tokens:read",
    "auth_keys",
    "auth_keys:read",
    "device_invites",
    "device_invites:read",
    "devices:core",
    "devices:core:read",
    "devices:posture_attributes",
    "devices:posture_attributes:read",
    "devices:routes",
    "devices:routes:read",
    "dns",
    "dns:read",
    "feature_settings",
    "feature_settings:read",
    "federated_keys",
    "federated_keys:read",
    "log_streaming",
    "log_streaming:read",
    "logs:configuration:read",
    "logs:network",
    "logs:network:read",
    "networking_settings",
    "networking_settings:read",
    "oauth_apps",
    "oauth_apps:read",
    "oauth_keys",
    "oauth_keys:read",
    "policy_file",
    "policy_file:read",
    "services",
    "services:read",
    "tailnets",
    "tailnets:read",
    "users",
    "users:read",
    "webhooks",
    "webhooks:read",
    "acl",
    "acl:read",
    "devices",
    "devices:read",
    "logs:read",
    "network-logs:read",
    "routes",
    "routes:read",
];

#[test]
fn every_scope_is_printed_as_it_is_read() {
    let every: Vec<String> = Scope::every().map(|scope| scope.to_string()).collect();
    assert_eq!(every, NAMES);
    for name in NAMES {
        assert_eq!(scope(name).to_string(), *name);
        assert_eq!(
            serde_json::to_string(&scope(name)).unwrap(),
            format!("\"{name}\"")
        );
    }
}

#[test]
fn what_is_no_scope_is_refused() {
    for text in [
        "",
        "ALL",
        "devices:core:",
        "devices:core:read:read",
        "logs:configuration",
        "logs",
        "network-logs",
        "users ",
        "read",
        ":read",
        "user_invites",
    ] {
        assert_eq!(text.parse::<Scope>(), Err(NotAScope(text.to_owned())));
    }
}

#[test]
fn write_after_a_scope_is_the_scope_itself() {
    assert_eq!(scope("all:write"), Scope::ALL);
    assert_eq!(scope("devices:core:write"), Scope::DEVICES_CORE);
    assert!("logs:configuration:write".parse::<Scope>().is_err());
}

#[test]
fn all_grants_everything_and_all_read_everything_that_reads() {
    for other in Scope::every() {
        assert!(Scope::ALL.grants(other), "{other}");
        let reads = other.access() == Access::Read;
        assert_eq!(Scope::ALL.read().grants(other), reads, "{other}");
        // Nothing else is as much as `all`.
        assert_eq!(other.grants(Scope::ALL), other == Scope::ALL, "{other}");
    }
}

#[test]
fn a_scope_grants_itself_and_its_own_read_and_nothing_else() {
    let of_today = || Scope::every().filter(|scope| scope.area().covers() == [scope.area()]);
    for own in of_today().filter(|own| own.area() != Area::All) {
        for other in of_today() {
            let expected = own.area() == other.area() && own.access() >= other.access();
            assert_eq!(own.grants(other), expected, "{own} {other}");
        }
    }
}

#[test]
fn old_names_grant_what_they_became() {
    let granted = |text: &str| -> Vec<String> {
        Scope::every()
            .filter(|other| scope(text).grants(*other))
            .map(|scope| scope.to_string())
            .collect()
    };
    assert_eq!(
        granted("acl:read"),
        [
            "devices:posture_attributes:read",
            "policy_file:read",
            "acl:read"
        ]
    );
    assert_eq!(
        granted("devices:read"),
        [
            "auth_keys:read",
            "devices:core:read",
            "devices:posture_attributes:read",
            "devices:routes:read",
            "devices:read",
            "routes:read"
        ]
    );
    assert_eq!(
        granted("logs:read"),
        ["logs:configuration:read", "logs:read"]
    );
    assert_eq!(
        granted("network-logs:read"),
        ["logs:network:read", "network-logs:read"]
    );
    assert_eq!(
        granted("routes"),
        [
            "devices:routes",
            "devices:routes:read",
            "routes",
            "routes:read"
        ]
    );
}

#[test]
fn credentials_that_make_devices_need_tags() {
    let need: Vec<String> = Scope::every()
        .filter(|scope| scope.needs_tags())
        .map(|scope| scope.to_string())
        .collect();
    assert_eq!(need, ["auth_keys", "devices:core", "devices"]);
}

#[test]
fn nobody_gives_on_what_they_do_not_have() {
    let own: Scopes = ["devices:core", "users:read"]
        .map(scope)
        .into_iter()
        .collect();
    assert!(own.grant_all(&["devices:core:read", "users:read"].map(scope)));
    for more in ["users", "all:read", "devices:routes:read", "devices"] {
        assert!(!own.grant_all(&[scope(more)]), "{more}");
    }
    assert!(!Scopes::default().grant(Scope::DNS.read()));
}

#[test]
fn what_two_credentials_have_in_common_is_what_both_grant() {
    let scopes =
        |texts: &[&str]| -> Scopes { texts.iter().map(|it| it.parse().unwrap()).collect() };
    for (own, others, both) in [
        (
            &["dns", "users:read"][..],
            &["dns:read"][..],
            &["dns:read"][..],
        ),
        (
            &["dns", "users"],
            &["dns", "users:read"],
            &["dns", "users:read"],
        ),
        (&["all"], &["dns", "users:read"], &["dns", "users:read"]),
        (&["all:read"], &["dns"], &["dns:read"]),
        (&["devices"], &["devices:core", "dns"], &["devices:core"]),
        (&["devices:core:read"], &["devices"], &["devices:core:read"]),
        (&["dns"], &["users"], &[]),
        (&["dns"], &[], &[]),
    ] {
        let (own, others) = (scopes(own), scopes(others));
        assert_eq!(own.within(&others), scopes(both), "{own} and {others}");
    }
}
