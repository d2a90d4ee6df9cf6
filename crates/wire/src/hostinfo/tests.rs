use super::*;

fn parse(json: &str) -> Hostinfo {
    Hostinfo::parse(json).unwrap().unwrap()
}

fn for_peers(host: &Hostinfo) -> String {
    serde_json::to_string(&PeerHostinfo::of(&host.json)).unwrap()
}

fn shortened(host: &Hostinfo) -> Vec<&str> {
    host.facts.shortened.iter().map(String::as_str).collect()
}

#[test]
fn the_rust_clients_spelling_is_understood() {
    let host = parse(
        r#"{"Hostname":"a","OsVersion":"12","IpnVersion":"1.2","RoutableIps":["10.0.0.0/8"],"NetInfo":{"PreferredDerp":900,"DerpLatency":{"900-v4":0.01}}}"#,
    );
    assert_eq!(host.facts.os_version, "12");
    assert_eq!(host.facts.advertised_routes.len(), 1);
    let net = host.net_info.as_ref().unwrap();
    assert_eq!(
        (net.preferred_derp, net.derp_latency["900-v4"]),
        (900, 0.01)
    );
    assert!(host.json.as_str().contains("\"IPNVersion\":\"1.2\""));
    assert!(!host.json.as_str().contains("NetInfo"));
    assert!(shortened(&host).is_empty());
}

#[test]
fn peers_see_services_that_they_need_and_nothing_private() {
    let host = parse(
        r#"{"OS":"linux","Hostname":"a\"b","BackendLogID":"secret","WoLMACs":["x"],"Services":[{"Proto":"tcp","Port":22},{"Proto":"peerapi4","Port":1234}],"Future":1}"#,
    );
    assert_eq!(
        for_peers(&host),
        r#"{"Hostname":"ab","OS":"linux","Services":[{"Port":1234,"Proto":"peerapi4"}]}"#
    );
    assert!(OwnHostinfo::of(&host.json).get("Future").is_some());
}

#[test]
fn escapes_never_reach_a_client() {
    let host = parse(r#"{"Hostname":"a\u0026b\/c\\d\ne\u202ef","New":{"a\nb":1,"c":["\u001b"]}}"#);
    let shown = serde_json::to_string(&OwnHostinfo::of(&host.json)).unwrap();
    assert!(!shown.contains('\\'), "{shown}");
    assert_eq!(host.facts.hostname, "a&b/cdef");
}

#[test]
fn what_has_another_type_than_clients_expect_is_left_out_alone_and_named() {
    for (member, bad) in [
        ("OS", "5"),
        ("Hostname", "{}"),
        ("App", "[]"),
        ("ShareeNode", r#""yes""#),
        ("AppConnector", "1"),
        ("AppConnector", r#""true""#),
        ("IngressEnabled", "{}"),
        ("WireIngress", "0"),
        ("Location", "5"),
        ("Location", r#"{"Country":5}"#),
        ("Location", r#"{"Latitude":"north"}"#),
        ("Location", r#"{"Latitude":1e300}"#),
        ("Location", r#"{"Priority":2147483648}"#),
        ("Location", r#"{"Priority":1.0}"#),
        ("Location", r#"{"Priority":1e2}"#),
        ("sshHostKeys", "{}"),
        ("sshHostKeys", "[5]"),
        (
            "sshHostKeys",
            r#"["ssh-ed25519 AAAA\nother.host ssh-ed25519 BBBB"]"#,
        ),
        ("Services", "5"),
        ("Services", "[5]"),
        ("Services", r#"[{"Proto":"peerapi4","Port":65536}]"#),
        ("Services", r#"[{"Proto":"peerapi4","Port":"1"}]"#),
        ("Services", r#"[{"Proto":"peerapi4","Port":-1}]"#),
        ("Services", r#"[{"Proto":5,"Port":1}]"#),
        ("RoutableIPs", r#"["10.0.0.1/8"]"#),
        ("RequestTags", "[{}]"),
        ("TPM", r#"{"Model":4294967296}"#),
        ("StateEncrypted", r#""x""#),
    ] {
        // Another spelling of the name is the same member.
        for name in [member.to_owned(), member.to_uppercase()] {
            let host = parse(&format!(
                r#"{{"Env":"first","{name}":{bad},"Machine":"last"}}"#
            ));
            let shown = serde_json::to_string(&OwnHostinfo::of(&host.json)).unwrap();
            assert_eq!(shortened(&host), [member], "{bad}");
            assert!(shown.contains("first") && shown.contains("last"), "{shown}");
            let peers = for_peers(&host);
            assert!(
                ["{}", r#"{"Location":{}}"#].contains(&peers.as_str()),
                "{member} {bad}: {peers}"
            );
        }
    }
}

#[test]
fn an_older_servers_row_is_read_as_strictly_as_a_report() {
    let row: Value = serde_json::from_str(
        r#"{"OS":5,"Hostname":"evil","Services":[{"Proto":"peerapi4","Port":70000},{"Proto":"peerapi6","Port":7}],"sshHostKeys":{},"Location":[1],"ShareeNode":"x"}"#,
    )
    .unwrap();
    let row = RawJson::of(&row).unwrap();
    assert_eq!(
        serde_json::to_string(&PeerHostinfo::of(&row)).unwrap(),
        r#"{"Hostname":"evil","Services":[{"Port":7,"Proto":"peerapi6"}]}"#
    );
    assert_eq!(OwnHostinfo::of(&row).get("OS"), None);
    let row = RawJson::of(&[1]).unwrap();
    assert_eq!(PeerHostinfo::of(&row), PeerHostinfo::default());
    assert_eq!(OwnHostinfo::of(&row), OwnHostinfo::default());
}

#[test]
fn each_limit_holds_at_it_and_beyond_it() {
    let list = |entry: &str, count: usize| format!("[{}]", vec![entry; count].join(","));
    let text = |length: usize| format!("\"{}\"", "x".repeat(length));
    for (member, at, beyond) in [
        ("OS", text(TEXT_MAX), text(TEXT_MAX + 1)),
        (
            "WoLMACs",
            list("\"m\"", LIST_MAX),
            list("\"m\"", LIST_MAX + 1),
        ),
        (
            "WoLMACs",
            format!("[{}]", text(TEXT_MAX)),
            format!("[{}]", text(TEXT_MAX + 1)),
        ),
        (
            "sshHostKeys",
            list("\"k\"", LIST_MAX),
            list("\"k\"", LIST_MAX + 1),
        ),
        (
            "sshHostKeys",
            format!("[{}]", text(KEY_MAX)),
            format!("[{}]", text(KEY_MAX + 1)),
        ),
        (
            "Services",
            list(r#"{"Proto":"tcp","Port":1}"#, LIST_MAX),
            list(r#"{"Proto":"tcp","Port":1}"#, LIST_MAX + 1),
        ),
        (
            "RequestTags",
            list("\"tag:a\"", TAGS_MAX),
            list("\"tag:a\"", TAGS_MAX + 1),
        ),
        (
            "RoutableIPs",
            list("\"10.0.0.0/8\"", ROUTES_MAX),
            list("\"10.0.0.0/8\"", ROUTES_MAX + 1),
        ),
    ] {
        let parse = |value: &str| parse(&format!(r#"{{"{member}":{value}}}"#));
        assert!(shortened(&parse(&at)).is_empty(), "{member}");
        assert_eq!(shortened(&parse(&beyond)), [member]);
    }
    let future = |length: usize| parse(&format!(r#"{{"Future":"{}"}}"#, "x".repeat(length)));
    assert!(shortened(&future(OTHER_MAX - 2)).is_empty());
    assert_eq!(shortened(&future(OTHER_MAX - 1)), [OTHER]);
    let sized = |length: usize| {
        let json = format!(r#"{{"A":"{}"}}"#, "x".repeat(length - 8));
        assert_eq!(json.len(), length);
        Hostinfo::parse(&json).unwrap()
    };
    assert!(sized(HOSTINFO_MAX).is_ok());
    assert_eq!(sized(HOSTINFO_MAX + 1), Err(TooLarge));
}

#[test]
fn peers_are_told_at_most_their_part_and_services_first() {
    let keys = vec![format!("\"{}\"", "k".repeat(1000)); 20].join(",");
    let host = parse(&format!(
        r#"{{"OS":"{}","Services":[{{"Proto":"peerapi4","Port":1}}],"sshHostKeys":[{keys}]}}"#,
        "世".repeat(TEXT_MAX)
    ));
    let peer = PeerHostinfo::of(&host.json);
    assert_eq!(shortened(&host), ["what peers are told"]);
    assert_eq!((peer.services.len(), peer.ssh_host_keys.len()), (1, 7));
    assert!(for_peers(&host).len() <= PEERS_PART_MAX);
    // The device itself has them all.
    let own = OwnHostinfo::of(&host.json);
    assert_eq!(
        own.get("sshHostKeys").unwrap().as_array().unwrap().len(),
        20
    );
}
