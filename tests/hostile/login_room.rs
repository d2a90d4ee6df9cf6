//! The room in which logins wait, filled by one party through a proxy.

use bowline_testkit::client::{Client, Identity, Server};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{Site, many_files};

/// More than twice of what may wait for one address.
const MANY: u64 = 300;

/// A reverse proxy that appends a line of its own behind what the client sent, as HAProxy does.
/// `seen`: the client's address as the proxy sees it.
async fn proxy(to: String, seen: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.3:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(pass(client, to.clone(), seen));
        }
    });
    address
}

async fn pass(mut client: TcpStream, to: String, seen: &str) -> std::io::Result<()> {
    // From the proxy's own address, which is the one that is trusted.
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.bind("127.0.0.3:0".parse().unwrap())?;
    let mut server = socket.connect(to.parse().unwrap()).await?;
    let mut head = Vec::new();
    let end = loop {
        if let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 2;
        }
        if client.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    };
    let rest = head.split_off(end);
    server.write_all(&head).await?;
    // The client's own line, and behind it the proxy's.
    let lines = format!(
        "X-Forwarded-For: 203.0.113.{}\r\nX-Forwarded-For: {seen}\r\n",
        head.len() % 250
    );
    server.write_all(lines.as_bytes()).await?;
    server.write_all(&rest).await?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

async fn begin(server: &Server, number: u64) -> anyhow::Result<Value> {
    let client = Client::new(server.clone(), Identity::numbered(number), "waits");
    let connection = client.connect().await?;
    connection.register(&client.register_request()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_address_behind_a_proxy_does_not_fill_the_login_room() {
    many_files();
    let (home, made) = crate::home::Home::with_tailnet().await;
    let settings = home.file("proxied.toml", "trusted_proxies = [\"127.0.0.3\"]\n");
    let serving = home
        .serve_with(&["--config", settings.to_str().unwrap()])
        .await;
    let site = Site::with(home, made, serving).await;
    let bystander = site.bystander().await;
    let server = site.as_attacker().await;
    let direct = server.authority().to_owned();
    // Somebody else waits already, and their device follows.
    let waiting = begin(&site.as_bystander().await, 1).await.unwrap();
    let url = waiting["AuthURL"].as_str().unwrap().to_owned();
    let through = server.at(proxy(direct, "198.51.100.66").await);
    for number in 0..MANY {
        begin(&through, 10 + number).await.unwrap();
    }
    // The attacker has as many places as one address may have, whatever its own line says.
    let list = site
        .home
        .prints_json(&["login", "list", "--tailnet", "example.com"])
        .await;
    let waiting = list["logins"].as_array().unwrap().len();
    assert!((100..=129).contains(&waiting), "{waiting} wait");
    let code = url.rsplit('/').next().unwrap();
    assert!(list.to_string().contains(code), "the other one still waits");
    begin(&site.as_bystander().await, 2).await.unwrap();
    bystander.assert_served().await;
}
