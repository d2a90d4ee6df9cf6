//! What the client does and refuses.

use std::time::Duration;

use bowline_outbound::{Client, Failure, Limits, Networks, Request, Roots};
use bytes::Bytes;

use crate::server::{Behaviour, FakeResolver, Nobody, Server, certificate};

const LIMITS: Limits = Limits {
    connect: Duration::from_secs(5),
    whole: Duration::from_secs(10),
    answer_bytes: 1000,
};

/// Gives up soon: for servers that never answer.
const SHORT: Limits = Limits {
    connect: Duration::from_millis(200),
    whole: Duration::from_millis(400),
    answer_bytes: 1000,
};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

fn says(text: &str) -> Behaviour {
    Behaviour::Says(text.to_owned())
}

fn listed(networks: &[&str]) -> Networks {
    Networks::public_and(networks.iter().map(|network| network.parse().unwrap()))
}

fn get(url: &str, limits: Limits) -> Request {
    Request::get(url.parse().unwrap(), limits)
}

#[tokio::test]
async fn a_request_reaches_a_listed_network() {
    let server = Server::start("127.0.0.1", says(OK)).await;
    let resolver = FakeResolver::new(&[&["127.0.0.1"]]);
    let client = Client::with_resolver(listed(&["127.0.0.1/32"]), Roots::none(), resolver);
    let url = format!("http://receiver.example:{}/a?b=c", server.address.port());

    let request = Request::post_json(url.parse().unwrap(), Bytes::from("{}"), LIMITS);
    let answer = client.send(request).await.unwrap();
    assert_eq!(
        (answer.status.as_u16(), &*answer.body),
        (200, &b"hello"[..])
    );

    let head = server.heads().remove(0).to_lowercase();
    assert!(head.starts_with("post /a?b=c http/1.1\r\n"), "{head}");
    for field in [
        format!("host: receiver.example:{}", server.address.port()),
        "content-type: application/json".to_owned(),
        "content-length: 2".to_owned(),
        "accept-encoding: identity".to_owned(),
    ] {
        assert!(head.contains(&field), "{field} in {head}");
    }
}

#[tokio::test]
async fn tls_needs_a_trusted_certificate_of_the_host() {
    let (roots, acceptor) = certificate("issuer.example");
    let server = Server::start_on("127.0.0.1", 0, says(OK), Some(acceptor)).await;
    let networks = listed(&["127.0.0.0/8"]);
    let resolver = FakeResolver::new(&[&["127.0.0.1"]]);
    let url = |host: &str| format!("https://{host}:{}/", server.address.port());

    let client = Client::with_resolver(networks.clone(), roots, resolver.clone());
    let answer = client.send(get(&url("issuer.example"), LIMITS)).await;
    assert_eq!(&*answer.unwrap().body, b"hello");

    let other_name = client.send(get(&url("other.example"), LIMITS)).await;
    assert!(matches!(other_name, Err(Failure::Tls(_))), "{other_name:?}");

    let stranger = Client::with_resolver(networks, Roots::none(), resolver);
    let untrusted = stranger.send(get(&url("issuer.example"), LIMITS)).await;
    assert!(matches!(untrusted, Err(Failure::Tls(_))), "{untrusted:?}");
}

#[tokio::test]
async fn addresses_that_are_not_public_are_refused_however_they_are_written() {
    let server = Server::start("127.0.0.1", says(OK)).await;
    let port = server.address.port();
    let client = Client::new(Networks::public(), Roots::none());
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "0.0.0.0",
        "localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "169.254.169.254",
        "10.0.0.1",
        "100.100.100.100",
        "[fd7a:115c:a1e0::1]",
        "[fe80::1]",
    ] {
        for scheme in ["http", "https"] {
            let url = format!("{scheme}://{host}:{port}/");
            let answer = client.send(get(&url, LIMITS)).await;
            // What this machine's resolver does not take for an address has none.
            assert!(
                matches!(answer, Err(Failure::NotAllowed | Failure::Resolve(_))),
                "{url}: {answer:?}"
            );
        }
    }
    assert_eq!(server.accepted(), 0);
}

#[tokio::test]
async fn a_name_that_means_another_address_a_moment_later_gains_nothing() {
    let allowed = Server::start("127.0.0.1", says(OK)).await;
    let port = allowed.address.port();
    let private = Server::start_on("127.0.0.2", port, says(OK), None).await;
    // The first answer is the one that is checked; whoever asks again gets the private one.
    let resolver = FakeResolver::new(&[&["127.0.0.1"], &["127.0.0.2"]]);
    let client = Client::with_resolver(listed(&["127.0.0.1/32"]), Roots::none(), resolver.clone());
    let url = format!("http://rebinding.example:{port}/");

    let first = client.send(get(&url, LIMITS)).await.unwrap();
    assert_eq!(first.status, 200);
    assert_eq!((resolver.asked(), allowed.accepted()), (1, 1));

    let second = client.send(get(&url, LIMITS)).await;
    assert!(matches!(second, Err(Failure::NotAllowed)), "{second:?}");
    assert_eq!((resolver.asked(), private.accepted()), (2, 0));
}

#[tokio::test]
async fn of_several_addresses_only_those_are_tried_that_are_allowed() {
    let allowed = Server::start("127.0.0.1", says(OK)).await;
    let port = allowed.address.port();
    let private = Server::start_on("127.0.0.2", port, says(OK), None).await;
    let resolver = FakeResolver::new(&[&["127.0.0.2", "10.0.0.1", "127.0.0.1"]]);
    let client = Client::with_resolver(listed(&["127.0.0.1/32"]), Roots::none(), resolver);
    let answer = client
        .send(get(&format!("http://both.example:{port}/"), LIMITS))
        .await;
    assert_eq!(answer.unwrap().status, 200);
    assert_eq!((allowed.accepted(), private.accepted()), (1, 0));
}

#[tokio::test]
async fn an_address_that_refuses_does_not_hide_the_next() {
    let second = Server::start("127.0.0.2", says(OK)).await;
    let resolver = FakeResolver::new(&[&["127.0.0.1", "127.0.0.2"]]);
    let client = Client::with_resolver(listed(&["127.0.0.0/8"]), Roots::none(), resolver);
    let url = format!("http://two.example:{}/", second.address.port());
    assert_eq!(client.send(get(&url, LIMITS)).await.unwrap().status, 200);
}

#[tokio::test]
async fn plain_http_is_for_listed_networks() {
    let resolver = FakeResolver::new(&[&["1.1.1.1"]]);
    let client = Client::with_resolver(listed(&["127.0.0.1/32"]), Roots::none(), resolver);
    let answer = client.send(get("http://public.example/", LIMITS)).await;
    assert!(matches!(answer, Err(Failure::Plain)), "{answer:?}");
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let target = Server::start("127.0.0.1", says(OK)).await;
    let redirect = format!(
        "HTTP/1.1 307 Temporary Redirect\r\nLocation: http://127.0.0.1:{}/\r\nContent-Length: 0\r\n\r\n",
        target.address.port()
    );
    let server = Server::start("127.0.0.1", says(&redirect)).await;
    let client = Client::new(listed(&["127.0.0.1/32"]), Roots::none());
    let answer = client
        .send(get(&format!("http://{}/", server.address), LIMITS))
        .await
        .unwrap();
    assert_eq!(answer.status, 307);
    assert_eq!(target.accepted(), 0);
}

#[tokio::test]
async fn an_answer_has_a_largest_size() {
    let client = Client::new(listed(&["127.0.0.1/32"]), Roots::none());
    let body = |length: usize| "x".repeat(length);
    let sized = |length: usize| {
        let text = body(length);
        says(&format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{text}"
        ))
    };
    let until_closed = |length: usize| says(&format!("HTTP/1.1 200 OK\r\n\r\n{}", body(length)));
    for (behaviour, fits) in [
        (sized(1000), true),
        (sized(1001), false),
        (until_closed(1000), true),
        (until_closed(1001), false),
        (
            Behaviour::NeverEnds("HTTP/1.1 200 OK\r\n\r\n".to_owned()),
            false,
        ),
        // Only announced: nothing of it is waited for.
        (
            says("HTTP/1.1 200 OK\r\nContent-Length: 1000000000000000\r\n\r\n"),
            false,
        ),
    ] {
        let server = Server::start("127.0.0.1", behaviour.clone()).await;
        let answer = client
            .send(get(&format!("http://{}/", server.address), LIMITS))
            .await;
        match answer {
            Ok(answer) => assert!(fits && answer.body.len() == 1000, "{behaviour:?}"),
            Err(Failure::Size(1000)) => assert!(!fits, "{behaviour:?}"),
            Err(error) => panic!("{behaviour:?}: {error:?}"),
        }
    }
}

#[tokio::test]
async fn a_head_without_an_end_is_given_up() {
    let client = Client::new(listed(&["127.0.0.1/32"]), Roots::none());
    let behaviour = Behaviour::NeverEnds("HTTP/1.1 200 OK\r\nX-Long: ".to_owned());
    let server = Server::start("127.0.0.1", behaviour).await;
    let answer = client
        .send(get(&format!("http://{}/", server.address), LIMITS))
        .await;
    assert!(matches!(answer, Err(Failure::Http(_))), "{answer:?}");
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_not_an_answer() {
    let client = Client::new(listed(&["127.0.0.1/32"]), Roots::none());
    let behaviour = says("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
    let server = Server::start("127.0.0.1", behaviour).await;
    let answer = client
        .send(get(&format!("http://{}/", server.address), LIMITS))
        .await;
    assert!(matches!(answer, Err(Failure::Http(_))), "{answer:?}");
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up_in_time() {
    let client = Client::new(listed(&["127.0.0.1/32"]), Roots::none());
    let server = Server::start("127.0.0.1", Behaviour::Silent).await;
    let plain = format!("http://{}/", server.address);
    let answer = client.send(get(&plain, SHORT)).await;
    assert!(matches!(answer, Err(Failure::Time)), "{answer:?}");
    // The handshake is a part of connecting.
    let tls = format!("https://{}/", server.address);
    let answer = client.send(get(&tls, SHORT)).await;
    assert!(matches!(answer, Err(Failure::ConnectTime)), "{answer:?}");
}

#[tokio::test]
async fn an_answer_that_trickles_is_given_up_in_time() {
    let behaviour = Behaviour::NeverEnds("HTTP/1.1 200 OK\r\n\r\n".to_owned());
    let server = Server::start("127.0.0.1", behaviour).await;
    let client = Client::new(listed(&["127.0.0.1/32"]), Roots::none());
    let limits = Limits {
        answer_bytes: usize::MAX,
        ..SHORT
    };
    let answer = client
        .send(get(&format!("http://{}/", server.address), limits))
        .await;
    assert!(matches!(answer, Err(Failure::Time)), "{answer:?}");
}

#[tokio::test]
async fn a_resolver_that_says_nothing_is_given_up_in_time() {
    let client = Client::with_resolver(Networks::public(), Roots::none(), Nobody);
    let answer = client.send(get("https://silent.example/", SHORT)).await;
    assert!(matches!(answer, Err(Failure::ConnectTime)), "{answer:?}");
}

#[tokio::test]
async fn urls_that_cannot_be_asked_are_refused_before_anything_is_resolved() {
    let resolver = FakeResolver::new(&[&["127.0.0.1"]]);
    let client = Client::with_resolver(listed(&["0.0.0.0/0"]), Roots::none(), resolver.clone());
    for url in [
        "ftp://host.example/",
        "/path",
        "https://user@host.example/",
        "https://user:password@host.example/",
        "https://host.example:0/",
        "https://host.example:70000/",
    ] {
        let Ok(url) = url.parse() else { continue };
        let answer = client.send(Request::get(url, LIMITS)).await;
        assert!(matches!(answer, Err(Failure::Url(_))), "{answer:?}");
    }
    assert_eq!(resolver.asked(), 0);
}

#[test]
fn what_the_text_of_a_url_tells_is_told_at_once() {
    let client = Client::new(Networks::public(), Roots::none());
    let check = |url: &str| client.check(&url.parse().unwrap());
    assert!(check("https://issuer.example/a").is_ok());
    assert!(check("https://1.1.1.1/").is_ok());
    assert!(matches!(
        check("https://10.0.0.1/"),
        Err(Failure::NotAllowed)
    ));
    assert!(matches!(check("https://[::1]/"), Err(Failure::NotAllowed)));
    assert!(matches!(check("http://1.1.1.1/"), Err(Failure::Plain)));
    assert!(matches!(
        check("https://a@b.example/"),
        Err(Failure::Url(_))
    ));
}
