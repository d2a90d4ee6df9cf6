use std::collections::BTreeSet;

use super::*;
use crate::id::{DeviceId, KeyId, UserId};
use crate::principal::TrustCredential;
use crate::scope::Scopes;
use crate::user::Role;

const KEYS: &[Need] = &[
    Need {
        scopes: &[Scope::AUTH_KEYS],
        right: Right::AuthKeys,
    },
    Need {
        scopes: &[Scope::OAUTH_KEYS],
        right: Right::ApiCredentials,
    },
];
const SETTINGS: &[Field] = &[
    Field {
        name: "devicesApprovalOn",
        need: Need {
            scopes: &[Scope::FEATURE_SETTINGS],
            right: Right::WriteSettings,
        },
    },
    Field {
        name: "httpsEnabled",
        need: Need {
            scopes: &[Scope::NETWORKING_SETTINGS],
            right: Right::WriteNetwork,
        },
    },
];
const SERVICE_HOSTS: Requirement = Requirement::all(
    &[Scope::SERVICES, Scope::DEVICES_CORE],
    Right::WriteServices,
);

fn scopes(texts: &[&str]) -> Scopes {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn user(role: Role, texts: &[&str]) -> Principal {
    Principal::User {
        id: UserId::MIN,
        login: "ann@example.com".to_owned(),
        role,
        scopes: scopes(texts),
    }
}

fn client(texts: &[&str]) -> Principal {
    Principal::OAuthClient(TrustCredential {
        id: KeyId::MIN,
        scopes: scopes(texts),
        tags: BTreeSet::new(),
        narrows_tags: false,
    })
}

fn federated(texts: &[&str]) -> Principal {
    Principal::FederatedIdentity(TrustCredential {
        id: KeyId::MIN,
        scopes: scopes(texts),
        tags: BTreeSet::new(),
        narrows_tags: false,
    })
}

/// Those who call no operation.
fn no_callers() -> [Principal; 3] {
    [
        Principal::AuthKey { id: KeyId::MIN },
        Principal::Device {
            id: DeviceId::MIN,
            name: "host1".to_owned(),
        },
        Principal::System,
    ]
}

#[test]
fn a_user_needs_the_scope_and_the_right() {
    let rule = Requirement::all(&[Scope::DNS], Right::WriteNetwork);
    let may = |role, texts: &[&str]| rule.check(&user(role, texts)).is_ok();
    assert!(may(Role::NetworkAdmin, &["all"]));
    assert!(may(Role::NetworkAdmin, &["dns"]));
    // A credential that was given too little.
    assert!(!may(Role::Owner, &["dns:read"]));
    assert!(!may(Role::Owner, &["all:read"]));
    assert!(!may(Role::Owner, &[]));
    // A role that may not, whatever the credential was given.
    assert!(!may(Role::ItAdmin, &["all"]));
    assert!(!may(Role::Member, &["dns"]));
}

#[test]
fn of_a_trust_credential_the_scopes_alone_count() {
    let rule = Requirement::all(&[Scope::DNS], Right::WriteNetwork);
    for trusted in [client, federated] {
        assert_eq!(rule.check(&trusted(&["dns"])), Ok(()));
        assert_eq!(rule.check(&trusted(&["all"])), Ok(()));
        assert_eq!(
            rule.check(&trusted(&["dns:read", "users"])),
            Err(Denied::Forbidden)
        );
        assert_eq!(rule.check(&trusted(&[])), Err(Denied::Forbidden));
    }
}

#[test]
fn trust_credentials_may_not_call_what_is_for_people() {
    let rule = Requirement::all(&[Scope::DNS], Right::WriteNetwork).people_only();
    for trusted in [client, federated] {
        assert_eq!(rule.check(&trusted(&["all"])), Err(Denied::Forbidden));
    }
    assert_eq!(rule.check(&user(Role::Owner, &["all"])), Ok(()));
    assert_eq!(rule.check(&Principal::Operator), Ok(()));
}

#[test]
fn all_scopes_of_a_need_are_needed() {
    assert!(
        SERVICE_HOSTS
            .check(&client(&["services", "devices:core"]))
            .is_ok()
    );
    assert!(SERVICE_HOSTS.check(&client(&["services"])).is_err());
    assert!(SERVICE_HOSTS.check(&client(&["devices:core"])).is_err());
    assert!(
        SERVICE_HOSTS
            .check(&client(&["services", "devices:core:read"]))
            .is_err()
    );
}

#[test]
fn of_several_needs_one_is_enough() {
    let rule = Requirement::any(KEYS);
    assert!(rule.check(&client(&["oauth_keys"])).is_ok());
    assert!(rule.check(&client(&["auth_keys"])).is_ok());
    assert!(rule.check(&client(&["federated_keys"])).is_err());
    assert!(rule.check(&user(Role::BillingAdmin, &["all"])).is_err());
    // An object of their own is enough as well: whose it is, is looked at later.
    let own = Requirement::any_or_own(KEYS);
    assert!(own.check(&user(Role::BillingAdmin, &["all"])).is_ok());
    assert!(own.check(&client(&["dns:read"])).is_ok());
    assert!(own.check(&user(Role::Member, &["all"])).is_err());
}

#[test]
fn each_member_of_a_body_has_a_need_of_its_own() {
    let rule = Requirement::fields(SETTINGS);
    let may = |principal: &Principal, name| rule.check_field(principal, name).is_ok();
    let network = user(Role::NetworkAdmin, &["all"]);
    assert!(rule.check(&network).is_ok());
    assert!(may(&network, "httpsEnabled") && !may(&network, "devicesApprovalOn"));
    let settings = client(&["feature_settings"]);
    assert!(!may(&settings, "httpsEnabled") && may(&settings, "devicesApprovalOn"));
    assert!(rule.check(&client(&["dns"])).is_err());
    let with = |names: Option<&[&str]>| rule.check_fields(&network, names).is_ok();
    assert!(with(Some(&[])) && with(Some(&["httpsEnabled"])));
    assert!(!with(Some(&["httpsEnabled", "devicesApprovalOn"])));
    // Where nobody said which, it may be any of them.
    assert!(!with(None));
    assert!(rule.check_fields(&Principal::Operator, None).is_ok());
    // A member that nobody declared is nobody's to change.
    assert!(!may(&Principal::Operator, "somethingNew"));
    // What is shown lets everybody in who may use the API.
    let shown = Requirement::shown(SETTINGS);
    assert!(shown.check(&client(&["dns:read"])).is_ok());
    assert!(
        shown
            .check_field(&client(&["dns:read"]), "httpsEnabled")
            .is_err()
    );
    assert!(shown.check(&user(Role::Member, &["all"])).is_err());
}

#[test]
fn a_refusal_is_a_403_unless_what_is_there_is_hidden() {
    let rule = Requirement::all(&[Scope::USERS_READ], Right::ReadUsers);
    let member = user(Role::Member, &["all"]);
    assert_eq!(rule.check(&member), Err(Denied::Forbidden));
    assert_eq!(rule.hidden().check(&member), Err(Denied::NotFound));
}

#[test]
fn what_is_the_operators_is_nobody_elses() {
    assert_eq!(Requirement::OPERATOR.check(&Principal::Operator), Ok(()));
    let others = [
        user(Role::Owner, &["all"]),
        client(&["all"]),
        federated(&["all"]),
    ];
    for other in others.iter().chain(&no_callers()) {
        assert!(Requirement::OPERATOR.check(other).is_err(), "{other:?}");
    }
}

#[test]
fn devices_auth_keys_and_the_server_itself_call_no_operation() {
    let operations = [
        Requirement::CALLER,
        Requirement::OPERATOR,
        Requirement::any(KEYS),
        Requirement::any_or_own(KEYS),
        Requirement::fields(SETTINGS),
        Requirement::shown(SETTINGS),
        SERVICE_HOSTS,
    ];
    for principal in no_callers() {
        for operation in operations {
            assert!(operation.check(&principal).is_err(), "{principal:?}");
        }
    }
}

#[test]
fn the_control_protocol_and_the_servers_own_work_are_for_nobody_else() {
    let [key, device, system] = no_callers();
    let callers = [
        Principal::Operator,
        user(Role::Owner, &["all"]),
        client(&["all"]),
    ];
    assert!(Requirement::NODE.check(&key).is_ok() && Requirement::NODE.check(&device).is_ok());
    assert!(Requirement::SYSTEM.check(&system).is_ok());
    assert!(Requirement::NODE.check(&system).is_err());
    assert!(Requirement::SYSTEM.check(&device).is_err());
    for caller in callers {
        assert!(Requirement::NODE.check(&caller).is_err());
        assert!(Requirement::SYSTEM.check(&caller).is_err());
    }
}

#[test]
fn without_an_operation_nobody_may_anything() {
    let callers = [Principal::Operator, user(Role::Owner, &["all"])];
    for principal in callers.iter().chain(&no_callers()) {
        assert!(Requirement::NOBODY.check(principal).is_err());
    }
}

#[test]
fn what_only_reads_is_known_by_its_scopes() {
    assert!(Requirement::all(&[Scope::DNS_READ], Right::ReadNetwork).only_reads());
    assert!(!Requirement::all(&[Scope::DNS], Right::WriteNetwork).only_reads());
    assert!(!Requirement::any_or_own(KEYS).only_reads());
    assert!(!Requirement::fields(SETTINGS).only_reads());
    assert!(Requirement::shown(SETTINGS).only_reads());
    assert!(!Requirement::CALLER.only_reads());
}
