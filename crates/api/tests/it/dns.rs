//! DNS settings, and what devices are told of them.

use bowline_engine::Settings;
use bowline_netmap::render;
use serde_json::{Value, json};

use crate::server::Server;

const NAMESERVERS: &str = "/tailnet/-/dns/nameservers";
const PREFERENCES: &str = "/tailnet/-/dns/preferences";
const SEARCH_PATHS: &str = "/tailnet/-/dns/searchpaths";
const SPLIT: &str = "/tailnet/-/dns/split-dns";
const CONFIGURATION: &str = "/tailnet/-/dns/configuration";

/// What devices are told.
fn told(server: &Server) -> Value {
    let snapshot = server.engine.snapshot(server.tailnet.id).unwrap();
    serde_json::to_value(render::dns::config(snapshot.dns(), "suffix.internal")).unwrap()
}

#[tokio::test]
async fn nameservers_are_replaced_in_order_and_reach_the_devices() {
    let server = Server::start().await;
    let count = server.audit(server.tailnet.id).await.len();
    assert_eq!(server.get(NAMESERVERS).await, json!({"dns": []}));
    let list = json!([
        "8.8.8.8",
        "2606:4700::1111",
        "https://dns.google/dns-query",
        "1.1.1.1"
    ]);
    for _ in 0..2 {
        let answer = server
            .call("POST", NAMESERVERS, json!({"dns": list}))
            .await
            .ok();
        assert_eq!(answer, json!({"dns": list, "magicDNS": true}));
    }
    assert_eq!(server.get(NAMESERVERS).await, json!({"dns": list}));
    assert_eq!(
        server.events_after(count).await,
        ["TAILNET.UPDATE.DNS_CONFIG"]
    );
    assert_eq!(told(&server)["FallbackResolvers"][0]["Addr"], "8.8.8.8");
    for bad in ["8.8.8", "dns.google", "http://x.y", "", "8.8.8.8 "] {
        let message = server
            .call("POST", NAMESERVERS, json!({"dns": ["1.1.1.1", bad]}))
            .await
            .message(400);
        assert!(message.contains("invalid nameserver"), "{message}");
    }
    assert!(
        server
            .call("POST", NAMESERVERS, json!({}))
            .await
            .message(400)
            .contains("dns is required")
    );
}

#[tokio::test]
async fn the_last_nameserver_takes_magic_dns_with_it() {
    let server = Server::start().await;
    server
        .call("POST", NAMESERVERS, json!({"dns": ["1.1.1.1"]}))
        .await
        .ok();
    let count = server.audit(server.tailnet.id).await.len();
    for none in [json!([]), Value::Null] {
        let answer = server
            .call("POST", NAMESERVERS, json!({"dns": none}))
            .await
            .ok();
        assert_eq!(answer, json!({"dns": [], "magicDNS": false}));
    }
    assert_eq!(
        server.events_after(count).await,
        ["TAILNET.UPDATE.DNS_CONFIG", "TAILNET.DISABLE.MAGIC_DNS"]
    );
    assert_ne!(told(&server)["Proxied"], true);
    server
        .call("POST", NAMESERVERS, json!({"dns": ["1.1.1.1"]}))
        .await
        .ok();
    assert_eq!(server.get(PREFERENCES).await, json!({"magicDNS": false}));
    for on in [true, true, false] {
        assert_eq!(
            server
                .call("POST", PREFERENCES, json!({"magicDNS": on}))
                .await
                .ok(),
            json!({"magicDNS": on})
        );
        assert_eq!(
            told(&server).get("Proxied").is_some_and(|on| on == true),
            on
        );
    }
    for bad in [json!({}), json!({"magicDNS": null}), json!({"magicDNS": 1})] {
        server.call("POST", PREFERENCES, bad).await.message(400);
    }
}

#[tokio::test]
async fn magic_dns_needs_no_nameserver_unless_a_setting_says_so() {
    for needs in [false, true] {
        let server = Server::start_with(Settings {
            magic_dns_needs_nameserver: needs,
            ..Settings::default()
        })
        .await;
        let set = async |on: bool| {
            server
                .call("POST", PREFERENCES, json!({"magicDNS": on}))
                .await
        };
        // A new tailnet has it on: to say so again changes nothing.
        assert_eq!(server.get(PREFERENCES).await, json!({"magicDNS": true}));
        let count = server.audit(server.tailnet.id).await.len();
        assert_eq!(set(true).await.ok(), json!({"magicDNS": true}), "{needs}");
        assert_eq!(server.events_after(count).await, [""; 0]);
        set(false).await.ok();
        if needs {
            // The text and the status of the founding document.
            let message = set(true).await.message(400);
            assert_eq!(message, "need at least one nameserver to enable MagicDNS");
            assert_eq!(server.get(PREFERENCES).await, json!({"magicDNS": false}));
        } else {
            assert_eq!(set(true).await.ok(), json!({"magicDNS": true}));
            assert_eq!(told(&server)["Proxied"], true);
        }
        // The whole configuration is another operation, which never had the rule.
        let body = json!({"preferences": {"magicDNS": true}});
        let set = server.call("POST", CONFIGURATION, body).await.ok();
        assert_eq!(set["preferences"]["magicDNS"], true);
    }
}

#[tokio::test]
async fn a_domain_of_split_dns_is_one_in_any_spelling() {
    let server = Server::start().await;
    let spellings = [
        "corp.example",
        "Corp.Example",
        "corp.example.",
        "CORP.EXAMPLE.",
    ];
    // Two in one request: nobody knows which was meant.
    for (one, two) in [(0, 1), (0, 2), (1, 3)] {
        let body = json!({(spellings[one]): ["10.0.0.1"], (spellings[two]): ["10.0.0.2"]});
        for method in ["PUT", "PATCH"] {
            let message = server.call(method, SPLIT, body.clone()).await.message(400);
            assert!(message.contains("is there twice"), "{message}");
        }
        let of = |address: &str| json!([{"address": address}]);
        let body = json!({"splitDNS": {(spellings[one]): of("10.0.0.1"), (spellings[two]): of("10.0.0.2")}});
        server.call("POST", CONFIGURATION, body).await.message(400);
    }
    let first = json!({"a.com": ["10.0.0.9"], "corp.example": ["10.0.0.1"], "z.com": ["10.0.0.9"]});
    for (number, spelling) in spellings.iter().enumerate() {
        server.call("PUT", SPLIT, first.clone()).await.ok();
        // It is shown as it was written last, and devices have one route.
        let address = format!("10.0.1.{number}");
        let merged = server
            .call("PATCH", SPLIT, json!({(*spelling): [address]}))
            .await;
        let text = String::from_utf8(merged.body.clone()).unwrap();
        assert_eq!(
            text,
            format!(r#"{{"a.com":["10.0.0.9"],"{spelling}":["{address}"],"z.com":["10.0.0.9"]}}"#)
        );
        assert_eq!(
            told(&server)["Routes"]["corp.example"],
            json!([{"Addr": address}])
        );
        // And any spelling takes it away.
        for other in spellings {
            server
                .call("PUT", SPLIT, json!({(*spelling): ["10.0.0.1"]}))
                .await
                .ok();
            let cleared = server.call("PATCH", SPLIT, json!({(other): null})).await;
            assert_eq!(cleared.ok(), json!({}), "{spelling} {other}");
            assert_eq!(told(&server)["Routes"].get("corp.example"), None);
        }
    }
}

#[tokio::test]
async fn lists_of_dns_have_a_length() {
    let server = Server::start().await;
    let addresses = |count: usize| -> Vec<String> {
        (0..count)
            .map(|n| format!("10.0.{}.{}", n / 256, n % 256))
            .collect()
    };
    let domains =
        |count: usize| -> Vec<String> { (0..count).map(|n| format!("d{n}.com")).collect() };
    let split = |domains: &[String], each: usize| -> Value {
        let members = domains
            .iter()
            .map(|domain| (domain.clone(), json!(addresses(each))));
        Value::Object(members.collect())
    };
    for (method, path, good, bad) in [
        (
            "POST",
            NAMESERVERS,
            json!({"dns": addresses(500)}),
            json!({"dns": addresses(501)}),
        ),
        (
            "POST",
            SEARCH_PATHS,
            json!({"searchPaths": domains(500)}),
            json!({"searchPaths": domains(501)}),
        ),
        (
            "PUT",
            SPLIT,
            split(&domains(500), 1),
            split(&domains(501), 1),
        ),
        (
            "PUT",
            SPLIT,
            split(&domains(2), 250),
            split(&domains(2), 500),
        ),
        // What is there counts too.
        (
            "PATCH",
            SPLIT,
            split(&domains(2), 250),
            split(&domains(400)[2..], 2),
        ),
    ] {
        server.call(method, path, good).await.ok();
        let message = server.call(method, path, bad).await.message(400);
        assert!(message.contains("at most"), "{path}: {message}");
    }
}

#[tokio::test]
async fn search_paths_keep_their_order() {
    let server = Server::start().await;
    assert_eq!(server.get(SEARCH_PATHS).await, json!({"searchPaths": []}));
    let body = json!({"searchPaths": ["b.example.com", "a.example.com"]});
    for _ in 0..2 {
        assert_eq!(
            server.call("POST", SEARCH_PATHS, body.clone()).await.ok(),
            body
        );
    }
    assert_eq!(server.get(SEARCH_PATHS).await, body);
    assert_eq!(
        told(&server)["Domains"],
        json!(["suffix.internal", "b.example.com", "a.example.com"])
    );
    for bad in ["", "a b", "a..b", "ä.de", "a.b.."] {
        let message = server
            .call("POST", SEARCH_PATHS, json!({"searchPaths": [bad]}))
            .await
            .message(400);
        assert!(message.contains("invalid domain"), "{message}");
    }
    assert_eq!(
        server
            .call("POST", SEARCH_PATHS, json!({"searchPaths": null}))
            .await
            .ok(),
        json!({"searchPaths": []})
    );
    server
        .call("POST", SEARCH_PATHS, json!({}))
        .await
        .message(400);
}

#[tokio::test]
async fn split_dns_merges_replaces_and_clears() {
    let server = Server::start().await;
    assert_eq!(server.get(SPLIT).await, json!({}));
    let first = json!({"example.com": ["1.1.1.1", "8.8.8.8"], "other.com": ["9.9.9.9"]});
    assert_eq!(server.call("PUT", SPLIT, first.clone()).await.ok(), first);
    let patch = json!({"other.com": null, "example.com": ["8.8.8.8"], "new.com": ["1.0.0.1"], "absent.com": []});
    let merged = json!({"example.com": ["8.8.8.8"], "new.com": ["1.0.0.1"]});
    for _ in 0..2 {
        assert_eq!(
            server.call("PATCH", SPLIT, patch.clone()).await.ok(),
            merged
        );
    }
    assert_eq!(server.get(SPLIT).await, merged);
    assert_eq!(told(&server)["Routes"]["new.com"][0]["Addr"], "1.0.0.1");
    for method in ["PATCH", "PUT"] {
        for bad in [
            json!({"a b": ["1.1.1.1"]}),
            json!({"a.com": ["x"]}),
            json!({"a.com": "1.1.1.1"}),
            json!({"a.com": [1]}),
        ] {
            server.call(method, SPLIT, bad).await.message(400);
        }
    }
    assert_eq!(server.call("PATCH", SPLIT, json!({})).await.ok(), merged);
    assert_eq!(
        server
            .call("PUT", SPLIT, json!({"a.com": null, "b.com": []}))
            .await
            .ok(),
        json!({})
    );
    assert!(told(&server)["Routes"].get("new.com").is_none());
}

#[tokio::test]
async fn the_configuration_is_one_store_with_the_rest() {
    let server = Server::start().await;
    let body = json!({
        "nameservers": [{"address": "1.1.1.1", "useWithExitNode": true}, {"address": "8.8.8.8", "useWithExitNode": false}],
        "splitDNS": {"example.com": [{"address": "9.9.9.9", "useWithExitNode": false}]},
        "searchPaths": ["example.com"],
        "preferences": {"overrideLocalDNS": true, "magicDNS": true},
    });
    for _ in 0..2 {
        assert_eq!(
            server.call("POST", CONFIGURATION, body.clone()).await.ok(),
            body
        );
    }
    assert_eq!(server.get(CONFIGURATION).await, body);
    assert_eq!(
        server.get(NAMESERVERS).await,
        json!({"dns": ["1.1.1.1", "8.8.8.8"]})
    );
    assert_eq!(server.get(SPLIT).await, json!({"example.com": ["9.9.9.9"]}));
    assert_eq!(
        told(&server)["Resolvers"][0],
        json!({"Addr": "1.1.1.1", "UseWithExitNode": true})
    );
    // The plain list says nothing of exit nodes: what was said of an address stays.
    server
        .call("POST", NAMESERVERS, json!({"dns": ["1.1.1.1"]}))
        .await
        .ok();
    assert_eq!(
        server.get(CONFIGURATION).await["nameservers"],
        json!([{"address": "1.1.1.1", "useWithExitNode": true}])
    );
    for bad in [
        json!({"nameservers": [{"address": "x"}]}),
        json!({"nameservers": [{}]}),
        json!({"splitDNS": {"a.com": [{"address": ""}]}}),
        json!({"preferences": {"magicDNS": "x"}}),
    ] {
        server.call("POST", CONFIGURATION, bad).await.message(400);
    }
    let cleared = json!({"preferences": {"overrideLocalDNS": false, "magicDNS": false}});
    assert_eq!(
        server
            .call("POST", CONFIGURATION, json!({"preferences": {}}))
            .await
            .ok(),
        cleared
    );
    let nulls =
        json!({"nameservers": null, "splitDNS": null, "searchPaths": null, "preferences": null});
    assert_eq!(
        server.call("POST", CONFIGURATION, nulls).await.ok(),
        cleared
    );
    // The rule of the preferences does not hold here.
    server
        .call(
            "POST",
            CONFIGURATION,
            json!({"preferences": {"magicDNS": true}}),
        )
        .await
        .ok();
    assert_eq!(server.get(PREFERENCES).await, json!({"magicDNS": true}));
}

#[tokio::test]
async fn lists_have_a_limit() {
    let server = Server::start().await;
    let many = vec!["1.1.1.1"; 501];
    assert!(
        server
            .call("POST", NAMESERVERS, json!({"dns": many}))
            .await
            .message(400)
            .contains("500")
    );
    let domains = vec!["a.com"; 501];
    assert!(
        server
            .call("POST", SEARCH_PATHS, json!({"searchPaths": domains}))
            .await
            .message(400)
            .contains("500")
    );
}
