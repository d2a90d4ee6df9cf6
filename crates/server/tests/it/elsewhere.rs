//! `--server`: commands on a server elsewhere, by a token.

use std::path::Path;
use std::sync::Arc;

use rustls_pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

use crate::home::{Home, Ran, end_of};

async fn run(home: &Home, url: &str, token: &str, args: &[&str]) -> Ran {
    let mut command = home.command(&[args, &["--server", url]].concat());
    command.env("BOWLINE_TOKEN", token);
    end_of(command).await
}

#[tokio::test]
async fn a_token_is_enough() {
    let (home, made) = Home::with_tailnet().await;
    let serving = home.serve().await;
    let elsewhere = Home::new();
    let url = format!("http://{}", serving.authority());
    let token = made["token"].as_str().unwrap();
    let ran = run(&elsewhere, &url, token, &["key", "create", "--json"]).await;
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    let key: Value = serde_json::from_str(&ran.out).unwrap();
    assert!(key["key"].as_str().unwrap().starts_with("tskey-auth-"));
    let ran = run(&elsewhere, &url, token, &["key", "list"]).await;
    assert!(ran.out.contains("  ann@example.com  one-off  "), "{ran:?}");

    let file = elsewhere.file("token", &format!("{token}\n"));
    let args = [
        "user",
        "list",
        "--server",
        &url,
        "--token-file",
        file.to_str().unwrap(),
    ];
    let users = elsewhere.prints_json(&args).await;
    assert_eq!(users["users"][0]["loginName"], json!("ann@example.com"));
    assert!(!elsewhere.data().exists());

    for (token, args, told) in [
        (
            "tskey-api-kBad",
            &["device", "list"][..],
            "API token invalid; put one that is valid into BOWLINE_TOKEN or the file of --token-file",
        ),
        (
            token,
            &["tailnet", "list"],
            "calling actor does not have enough permissions to perform this function",
        ),
        (
            token,
            &["device", "list", "--tailnet", "example.org"],
            "calling actor does not have enough permissions to perform this function",
        ),
        (
            "",
            &["device", "list"],
            "--server needs an API access token in BOWLINE_TOKEN or the file of --token-file; on \
             the server itself, bowline token create makes one",
        ),
    ] {
        let ran = run(&elsewhere, &url, token, args).await;
        assert_eq!((ran.code, ran.err), (1, format!("bowline: {told}\n")));
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    let home = Home::new();
    let address = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let ran = run(
        &home,
        &format!("http://{address}/"),
        "t",
        &["device", "list"],
    )
    .await;
    assert_eq!(
        ran.err,
        format!(
            "bowline: cannot reach the server http://{address}/\n  \
             because: Connection refused (os error 111)\n"
        )
    );
    let ran = run(&home, "bowline.example.com", "t", &["device", "list"]).await;
    assert_eq!(
        ran.err,
        "bowline: --server bowline.example.com must be like https://bowline.example.com\n"
    );
}

#[tokio::test]
async fn a_certificate_must_be_one_that_the_machine_trusts() {
    let (home, made) = Home::with_tailnet().await;
    let serving = home.serve().await;
    let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let trusted = home.file("trusted.pem", &issued.cert.pem());
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let untrusted = home.file("untrusted.pem", &other.cert.pem());
    let port = tls_in_front_of(serving.authority().to_owned(), &issued).await;
    let url = format!("https://localhost:{port}");
    let list = async |authorities: &Path| {
        let mut command = home.command(&["user", "list", "--json", "--server", &url]);
        command
            .env("BOWLINE_TOKEN", made["token"].as_str().unwrap())
            .env("SSL_CERT_FILE", authorities)
            .env_remove("SSL_CERT_DIR");
        end_of(command).await
    };
    let ran = list(&trusted).await;
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    let ran = list(&untrusted).await;
    assert_eq!((ran.code, ran.out.as_str()), (1, ""));
    assert!(
        ran.err.starts_with(&format!(
            "bowline: cannot reach the server {url}\n  because: invalid peer certificate: "
        )),
        "{}",
        ran.err
    );
}

/// Ends TLS in front of a server, as a reverse proxy does.
async fn tls_in_front_of(authority: String, issued: &rcgen::CertifiedKey<rcgen::KeyPair>) -> u16 {
    let key = PrivateKeyDer::try_from(issued.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![issued.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("localhost:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let Ok(mut outer) = acceptor.accept(socket).await else {
                continue;
            };
            let mut inner = TcpStream::connect(&authority).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut outer, &mut inner).await;
        }
    });
    port
}
