//! The texts of errors, and the places that they name.

use bowline_policy::Policy;

/// Parses a policy in which the tags `a` and `b`, the group `g` and the host `h` are defined.
fn refused(sections: &str) -> (String, usize) {
    let text = format!(
        "{{\n\"tagOwners\": {{\"tag:a\": [], \"tag:b\": []}},\n\
         \"groups\": {{\"group:g\": [\"u@example.com\"]}},\n\
         \"hosts\": {{\"h\": \"100.64.0.1\", \"net\": \"10.0.0.0/8\"}},\n{sections}\n}}"
    );
    match Policy::parse(&text) {
        Ok(_) => panic!("accepted: {sections}"),
        Err(errors) => (errors[0].message.clone(), errors[0].place.line),
    }
}

#[test]
fn every_documented_error_has_its_text_and_its_line() {
    for (sections, message) in [
        ("\"aclz\": []", "json: unknown field \"aclz\""),
        (
            "\"acls\": [{\"action\": \"accept\", \"source\": []}]",
            "json: unknown field \"source\"",
        ),
        (
            "\"acls\": [{\"action\": 1}]",
            "json: cannot use a number where a string is expected",
        ),
        (
            "\"acls\": {}",
            "json: cannot use an object where an array is expected",
        ),
        (
            "\"acls\": [{\"src\": [\"*\"]}]",
            "action=\"\" is not supported",
        ),
        (
            "\"acls\": [{\"action\": \"accept\", \"src\": [\"*\"], \"ports\": [\"*:*\"]}]",
            "cannot mix users/ports with src/dst in one rule",
        ),
        (
            "\"acls\": [{\"action\": \"accept\", \"src\": [\"group:x\"], \"dst\": []}]",
            "src=group not found: \"group:x\"",
        ),
        (
            "\"acls\": [{\"action\": \"accept\", \"src\": [\"autogroup:x\"], \"dst\": []}]",
            "src=autogroup not found: \"autogroup:x\"",
        ),
        (
            "\"acls\": [{\"action\": \"accept\", \"src\": [\"autogroup:internet\"], \"dst\": []}]",
            "\"autogroup:internet\" not valid on the src side of a rule",
        ),
        (
            "\"acls\": [{\"action\": \"accept\", \"src\": [\"*\"], \"dst\": [\"autogroup:shared:*\"]}]",
            "\"autogroup:shared\" not valid on the dst side of a rule",
        ),
        (
            "\"acls\": [{\"action\": \"accept\", \"src\": [\"*\"], \"dst\": [\"h\"]}]",
            "dst=\"h\": hostport must contain a colon (\":\")",
        ),
        (
            "\"acls\": [{\"action\": \"accept\", \"src\": [\"*\"], \"dst\": [\"h:80,\"]}]",
            "dst=\"h:80,\": invalid port list: \"80,\"",
        ),
        (
            "\"acls\": [{\"action\": \"accept\", \"proto\": \"x\", \"src\": [\"*\"], \"dst\": [\"h:80\"]}]",
            "proto name \"x\" not known; use protocol number 0-255",
        ),
        (
            "\"acls\": [{\"action\": \"accept\", \"proto\": \"gre\", \"src\": [\"*\"], \"dst\": [\"h:80\"]}]",
            "dst=\"h:80\": only TCP, UDP and SCTP have ports; use '*'",
        ),
        (
            "\"acls\": [{\"action\": \"accept\", \"src\": [\"*\"], \"srcPosture\": [\"posture:x\"]}]",
            "posture not found: \"posture:x\"",
        ),
        (
            "\"grants\": [{\"src\": [\"*\"], \"dst\": [\"*\"], \"ip\": [\"\"]}]",
            "empty string",
        ),
        (
            "\"grants\": [{\"src\": [\"*\"], \"dst\": [\"*\"], \"ip\": [\":80\"]}]",
            "empty protocol",
        ),
        (
            "\"grants\": [{\"src\": [\"*\"], \"dst\": [\"*\"], \"ip\": [\"*\"], \"via\": [\"group:g\"]}]",
            "via can only be a tag",
        ),
        (
            "\"grants\": [{\"src\": [\"*\"], \"dst\": [\"*\"], \"app\": {\"x\": [{}]}}]",
            "capability name must have the form {domain}/{path}",
        ),
        (
            "\"ssh\": [{\"action\": \"accept\", \"src\": [\"*\"], \"dst\": [\"tag:a\"], \"users\": [\"root\"]}]",
            "invalid src \"*\"",
        ),
        (
            "\"ssh\": [{\"action\": \"accept\", \"src\": [\"tag:a\"], \"dst\": [\"autogroup:self\"], \"users\": [\"root\"]}]",
            "src \"tag:a\" cannot be used with dst \"autogroup:self\": tagged devices cannot access devices of users",
        ),
        (
            "\"ssh\": [{\"action\": \"accept\", \"src\": [\"group:g\"], \"dst\": [\"u@example.com\"], \"users\": [\"root\"]}]",
            "dst \"u@example.com\" can only be used with that same user as src",
        ),
        (
            "\"ssh\": [{\"action\": \"check\", \"checkPeriod\": \"168h1s\", \"users\": [\"root\"]}]",
            "checkPeriod 168h0m1s is above the max (168h)",
        ),
        (
            "\"ssh\": [{\"action\": \"check\", \"checkPeriod\": \"-1m\", \"users\": [\"root\"]}]",
            "checkPeriod -1m0s must be a positive duration",
        ),
        (
            "\"ssh\": [{\"action\": \"check\", \"checkPeriod\": \"abc\", \"users\": [\"root\"]}]",
            "time: invalid duration \"abc\"",
        ),
        (
            "\"ssh\": [{\"action\": \"accept\", \"acceptEnv\": [\"\"], \"users\": [\"root\"]}]",
            "acceptEnv values cannot be empty",
        ),
        (
            "\"ssh\": [{\"action\": \"accept\", \"recorder\": [\"group:g\"], \"users\": [\"root\"]}]",
            "recorder can only be a tag",
        ),
        (
            "\"nodeAttrs\": [{\"target\": [\"tag:x\"]}]",
            "tag not found: \"tag:x\"",
        ),
        (
            "\"nodeAttrs\": [{\"target\": [\"autogroup:self\"]}]",
            "\"autogroup:self\" cannot be a target of nodeAttrs",
        ),
        (
            "\"nodeAttrs\": [{\"target\": [\"*\"], \"ipPool\": [\"10.0.0.0/8\"]}]",
            "IPPool(10.0.0.0/8): network must be within 100.64.0.0/10",
        ),
        (
            "\"autoApprovers\": {\"routes\": {\"10.0.0.0/8\": [\"h\"]}}",
            "autoApprovers.routes[\"10.0.0.0/8\"]: invalid owner \"h\"",
        ),
        (
            "\"autoApprovers\": {\"services\": {\"x\": []}}",
            "\"x\" is not a valid service name: must start with 'svc:'",
        ),
        (
            "\"ipsets\": {\"ipset:a\": [\"ipset:b\"], \"ipset:b\": [\"ipset:a\"]}",
            "ipsets[\"ipset:a\"]: IP sets cannot be recursive",
        ),
        (
            "\"ipsets\": {\"ipset:a\": [\"add host:x\"]}",
            "ipsets[\"ipset:a\"]: host not found: \"x\"",
        ),
        (
            "\"ipsets\": {\"ipset:a\": [\"10.0.0.9-10.0.0.1\"]}",
            "ipsets[\"ipset:a\"]: \"10.0.0.9-10.0.0.1\": invalid range",
        ),
        (
            "\"postures\": {\"posture:a\": [\"os == 'x'\"]}",
            "postures[\"posture:a\"]: \"os == 'x'\": unknown attribute \"os\"",
        ),
        (
            "\"attrConfig\": {\"custom:a\": {\"type\": \"list\"}}",
            "attrConfig[\"custom:a\"]: \"list\" is not a valid type",
        ),
        (
            "\"derpMap\": {\"Regions\": {\"5\": {\"RegionID\": 5}}}",
            "derpMap: custom region id 5 is not within 900-999",
        ),
        (
            "\"OneCGNATRoute\": \"x\"",
            "OneCGNATRoute: \"x\" is not a known value",
        ),
        ("\"nodeVisibility\": []", "nodeVisibility is not supported"),
        (
            "\"sshTests\": [{\"src\": \"autogroup:admin\"}]",
            "SSH tests src contains disallowed element \"autogroup:admin\"",
        ),
    ] {
        assert_eq!(refused(sections), (message.to_owned(), 5), "{sections}");
    }
}

#[test]
fn names_are_checked_before_what_uses_them() {
    for (text, message) in [
        (
            r#"{"groups": {"dev": []}}"#,
            "groups[\"dev\"]: group names must start with 'group:'",
        ),
        (
            r#"{"groups": {"group:a": ["alice"]}}"#,
            "groups[\"group:a\"]: \"alice\": group members must be users",
        ),
        (
            r#"{"groups": {"group:a": ["group:b"], "group:b": ["group:c"], "group:c": ["a@b"]}}"#,
            "groups[\"group:b\"]: \"group:c\": group members cannot be recursive",
        ),
        (
            r#"{"hosts": {"tag:x": "10.0.0.1"}}"#,
            "hosts[\"tag:x\"]: invalid host name",
        ),
        (
            r#"{"hosts": {"x": "10.0.0"}}"#,
            "hosts[\"x\"]: \"10.0.0\": invalid address",
        ),
        (
            r#"{"tagOwners": {"x": []}}"#,
            "tagOwners[\"x\"]: tags must start with 'tag:'",
        ),
        (
            r#"{"tagOwners": {"tag:": []}}"#,
            "tagOwners[\"tag:\"]: tag names must not be empty",
        ),
        (
            r#"{"tagOwners": {"tag:a_b": []}}"#,
            "tagOwners[\"tag:a_b\"]: tag names can only contain numbers, letters, or dashes",
        ),
        (
            r#"{"tagOwners": {"tag:a": ["tag:b"]}}"#,
            "tagOwners[\"tag:a\"]: tag not found: \"tag:b\"",
        ),
        (
            r#"{"tagOwners": {"tag:a": ["autogroup:self"]}}"#,
            "tagOwners[\"tag:a\"]: invalid owner \"autogroup:self\"",
        ),
    ] {
        let errors = Policy::parse(text).unwrap_err();
        assert_eq!(errors[0].message, message);
    }
}

#[test]
fn all_errors_of_a_file_are_found_and_the_first_comes_first() {
    let text =
        "{\"acls\": [\n{\"action\": \"deny\"},\n{\"action\": \"accept\", \"src\": [\"tag:x\"]}\n]}";
    let errors = Policy::parse(text).unwrap_err();
    let found: Vec<(usize, &str)> = errors
        .iter()
        .map(|error| (error.place.line, error.message.as_str()))
        .collect();
    assert_eq!(
        found,
        [
            (2, "action=\"deny\" is not supported"),
            (3, "src=tag not found: \"tag:x\"")
        ]
    );
}

#[test]
fn what_looks_odd_but_is_fine_is_accepted() {
    for text in [
        "{}",
        "null",
        r#"{"ACLs": null, "SSH": [], "Groups": {"group:a": []}, "nodeattrs": []}"#,
        r#"{"tagOwners": {"tag:a": ["tag:b"], "tag:b": ["tag:a", "tag:b"]}}"#,
        r#"{"acls": [{"action": "accept", "users": ["*"], "ports": ["2001:db8::/32:443", "[fd7a::1]:22"], "proto": "6"}]}"#,
        r#"{"acls": [{"action": "accept", "src": ["*"], "dst": ["0.0.0.0/0:*"]}]}"#,
        r#"{"ssh": [{"action": " accept", "users": [" root "], "checkPeriod": null, "acceptEnv": ["**"]}]}"#,
        r#"{"grants": [{"src": ["*"], "dst": [], "ip": ["*", "5432"]}]}"#,
        r#"{"derpMap": {"OmitDefaultRegions": true, "Regions": {"1": null, "900": {"RegionID": 900, "Nodes": [{"HostName": "r.example.com"}]}}}}"#,
    ] {
        assert_eq!(Policy::parse(text).err(), None, "{text}");
    }
}
