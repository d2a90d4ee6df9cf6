//! Every chain of references that the language allows, with 100,000 links: the stack must not
//! follow what a user wrote, since a stack overflow ends the whole process.

use bowline_policy::{Compiled, Policy, TagAssigner, Topology};
use std::fmt::Write as _;
use std::sync::Arc;

const LINKS: usize = 100_000;

/// `"tag:t0": ["tag:t1"], "tag:t1": ["tag:t2"], …`, the last one owned by `last`.
fn tag_chain(last: &str) -> String {
    let mut text = String::from("{\"tagOwners\": {\"tag:zz\": [], ");
    for link in 0..LINKS {
        write!(text, "\"tag:t{link}\": [\"tag:t{}\"], ", link + 1).unwrap();
    }
    write!(text, "\"tag:t{LINKS}\": [{last}]}}}}").unwrap();
    text
}

fn compiled(text: &str) -> Compiled {
    let policy = Arc::new(Policy::parse(text).unwrap());
    let topology = Topology::implied_by_all([]);
    Compiled::new(policy, &topology)
}

/// On a stack of the size that the runtime's threads have.
fn on_a_small_stack(work: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(2 * 1024 * 1024);
    thread.spawn(work).unwrap().join().unwrap();
}

#[test]
fn a_chain_of_tags_that_own_tags_is_followed_to_its_end() {
    on_a_small_stack(|| {
        let net = compiled(&tag_chain("\"tag:zz\""));
        let (first, other) = (["tag:t0".to_owned()], ["tag:t1".to_owned()]);
        let zz = ["tag:zz".to_owned()];
        assert_eq!(net.may_assign_tags(TagAssigner::Tags(&zz), &first), Ok(()));
        // Nobody owns the beginning of the chain by being asked for it.
        assert!(
            net.may_assign_tags(TagAssigner::Tags(&first), &other)
                .is_err()
        );
        assert!(net.may_assign_tags(TagAssigner::User(1), &first).is_err());
    });
}

#[test]
fn a_circle_of_tags_ends() {
    on_a_small_stack(|| {
        let net = compiled(&tag_chain("\"tag:t0\""));
        let (first, zz) = (["tag:t0".to_owned()], ["tag:zz".to_owned()]);
        assert!(net.may_assign_tags(TagAssigner::Tags(&zz), &first).is_err());
        let far = [format!("tag:t{}", LINKS / 2)];
        assert_eq!(net.may_assign_tags(TagAssigner::Tags(&first), &far), Ok(()));
    });
}

#[test]
fn many_tags_at_once_follow_a_chain_once() {
    let net = compiled(&tag_chain("\"tag:zz\""));
    let all: Vec<String> = (0..LINKS).map(|link| format!("tag:t{link}")).collect();
    let zz = ["tag:zz".to_owned()];
    assert_eq!(net.may_assign_tags(TagAssigner::Tags(&zz), &all), Ok(()));
}

/// `"ipset:s0": ["ipset:s1"], "ipset:s1": ["ipset:s2"], …`, the last one with `last`.
fn set_chain(last: &str) -> String {
    let mut text = String::from("{\"ipsets\": {");
    for link in 0..LINKS {
        write!(text, "\"ipset:s{link}\": [\"ipset:s{}\"], ", link + 1).unwrap();
    }
    write!(text, "\"ipset:s{LINKS}\": [{last}]}}, ").unwrap();
    text.push_str(
        "\"acls\": [{\"action\": \"accept\", \"src\": [\"ipset:s0\"], \"dst\": [\"*:1\"]}]}",
    );
    text
}

#[test]
fn a_chain_of_ip_sets_is_followed_to_its_end() {
    on_a_small_stack(|| {
        let net = compiled(&set_chain("\"192.0.2.1\""));
        let address = |text: &str| text.parse().unwrap();
        let allowed = |src: &str| net.allows_connection(address(src), address("192.0.2.9"), 6, 1);
        assert!(allowed("192.0.2.1"));
        assert!(!allowed("192.0.2.2"));
    });
}

#[test]
fn a_circle_of_ip_sets_is_an_error() {
    on_a_small_stack(|| {
        let errors = Policy::parse(&set_chain("\"ipset:s0\"")).unwrap_err();
        assert_eq!(
            errors[0].message,
            "ipsets[\"ipset:s0\"]: IP sets cannot be recursive"
        );
    });
}

#[test]
fn groups_do_not_name_groups_and_hosts_do_not_name_hosts() {
    // So that these have no chains.
    for (text, reason) in [
        (
            r#"{"groups": {"group:a": ["group:b"], "group:b": []}}"#,
            "cannot be recursive",
        ),
        (
            r#"{"hosts": {"a": "b", "b": "10.0.0.1"}}"#,
            "invalid address",
        ),
    ] {
        let errors = Policy::parse(text).unwrap_err();
        assert!(errors[0].message.contains(reason), "{}", errors[0].message);
    }
}
