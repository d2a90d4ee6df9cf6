//! A server that starts, serves and stops.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use bowline_testkit::client::{Compression, Server};
use http::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::home::{Home, patiently, terminal};

#[tokio::test]
async fn sigterm_ends_streams_and_exits_with_0() {
    let home = Home::new();
    let serving = home.serve().await;
    let laptop = serving.device(&home, 1, "laptop").await;
    let mut stream = laptop.stream(Compression::Zstd).await.unwrap();
    serving.terminate();
    // All that was on its way, and then a clean end.
    while patiently(stream.next()).await.unwrap().is_some() {}
    assert_eq!(serving.end().await.code(), Some(0));
    assert!(!home.data().join("bowline.sock").exists());
}

#[tokio::test]
async fn a_second_start_goes_on_with_the_same_data() {
    let home = Home::new();
    let first = home.serve().await;
    assert!(first.greeting["tokenFile"].is_string());
    first.device(&home, 1, "laptop").await;
    let before = first.server().await;
    let keys = async |server: &Server| {
        let answer = server.request(Method::GET, "/key?v=142", &[], "").await;
        answer.unwrap().json().unwrap()
    };
    let noise = keys(&before).await;
    let devices = home.prints_json(&["device", "list"]).await;
    first.terminate();
    assert_eq!(first.end().await.code(), Some(0));

    let second = home.serve().await;
    assert_eq!(second.greeting["token"], json!(null));
    assert_eq!(second.greeting["tokenFile"], json!(null));
    assert_eq!(keys(&second.server().await).await, noise);
    let again = home.prints_json(&["device", "list"]).await;
    assert_eq!(
        again["devices"][0]["nodeId"],
        devices["devices"][0]["nodeId"]
    );
    assert_eq!(again["devices"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn without_a_terminal_the_first_token_goes_into_a_private_file() {
    let home = Home::new();
    let serving = home.serve().await;
    let path = home.data().join("first-token");
    assert_eq!(serving.greeting["token"], json!(null));
    assert_eq!(serving.greeting["tokenFile"], json!(path));
    assert_eq!(mode(&path), 0o600);
    let token = fs::read_to_string(&path).unwrap();
    let bearer = format!("Bearer {}", token.trim_end());
    let answer = serving
        .server()
        .await
        .request(
            Method::GET,
            "/api/v2/tailnet/-/devices",
            &[("authorization", bearer.as_str())],
            "",
        )
        .await
        .unwrap();
    assert_eq!(answer.json().unwrap(), json!({"devices": []}));
}

#[tokio::test]
async fn on_a_terminal_the_first_token_is_printed_and_kept_nowhere() {
    let home = Home::new();
    let (ours, theirs) = terminal();
    let mut command = home.command(&Home::serve_args(&[]));
    let mut child = command.stdout(Stdio::from(theirs)).spawn().unwrap();
    // With the command goes our copy of the program's end, so that its end is one for us.
    drop(command);
    let printed = tokio::task::spawn_blocking(move || {
        let mut printed = String::new();
        for line in BufReader::new(ours).lines().map_while(Result::ok) {
            printed.push_str(line.trim_end());
            printed.push('\n');
            if line.contains("tailscale up") {
                break;
            }
        }
        printed
    });
    let printed = patiently(printed).await.unwrap();
    let token = printed
        .lines()
        .find_map(|line| line.trim().strip_prefix("tskey-api-"))
        .unwrap_or_else(|| panic!("{printed}"));
    assert!(
        printed.contains("The owner's API access token, shown this once, good for 90 days:\n"),
        "{printed}"
    );
    let pid = Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    assert_eq!(patiently(child.wait()).await.unwrap().code(), Some(0));
    for file in fs::read_dir(home.data()).unwrap() {
        let bytes = fs::read(file.unwrap().path()).unwrap();
        let secret = token.rsplit('-').next().unwrap().as_bytes();
        assert!(!bytes.windows(secret.len()).any(|window| window == secret));
    }
}

#[tokio::test]
async fn only_its_user_may_open_what_the_server_makes() {
    let home = Home::new();
    let _serving = home.serve().await;
    assert_eq!(mode(&home.data()), 0o700);
    for name in ["bowline.sock", "seal.key", "first-token", "lock"] {
        assert_eq!(mode(&home.data().join(name)), 0o600, "{name}");
    }
}

#[tokio::test]
async fn commands_print_what_the_running_server_calls_itself() {
    let (home, _) = Home::with_tailnet().await;
    let url = "http://10.99.0.1:8080";
    let _serving = home.serve_with(&["--url", url]).await;
    for args in [
        &["key", "create"][..],
        &["token", "create"],
        &["device", "list"],
    ] {
        let told = home.prints(args).await;
        assert!(told.contains(url), "{args:?}: {told}");
    }
}

#[tokio::test]
async fn a_killed_server_leaves_nothing_in_the_way() {
    let home = Home::new();
    home.serve().await.kill().await;
    assert!(home.data().join("bowline.sock").exists());
    // Without a server a command works on the directory, and a server starts again.
    home.prints(&["key", "create"]).await;
    let _serving = home.serve().await;
    assert_eq!(
        home.prints_json(&["key", "list"]).await["keys"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test]
async fn health_and_metrics_are_on_their_own_listeners() {
    let home = Home::new();
    let serving = home.serve().await;
    let main = serving.server().await;
    let metrics = Server::with_key(serving.greeting["metricsListen"].as_str().unwrap(), [0; 32]);
    let get = async |server: &Server, path: &str| {
        server.request(Method::GET, path, &[], "").await.unwrap()
    };
    let health = get(&main, "/health").await;
    assert_eq!(health.status, 200);
    assert_eq!(health.json().unwrap(), json!({"status": "pass"}));
    let told = get(&metrics, "/metrics").await;
    assert_eq!(told.status, 200);
    assert!(told.text().contains("\n# TYPE bowline_"), "{}", told.text());
    assert!(told.text().ends_with("# EOF\n"));
    assert_eq!(get(&main, "/metrics").await.status, 404);
}

#[tokio::test]
async fn verify_admits_devices_of_this_server_only() {
    let home = Home::new();
    let serving = home.serve().await;
    let laptop = serving.device(&home, 1, "laptop").await;
    let server = serving.server().await;
    let ask = async |body: String| {
        let answer = server.request(Method::POST, "/verify", &[], body).await;
        let answer = answer.unwrap();
        (answer.status.as_u16(), answer.json().unwrap())
    };
    let of = |key: &str| json!({"NodePublic": key, "Source": "192.0.2.1"}).to_string();
    assert_eq!(
        ask(of(&laptop.identity().node_key_text())).await,
        (200, json!({"Allow": true}))
    );
    assert_eq!(
        ask(of(&format!("nodekey:{}", "ab".repeat(32)))).await,
        (200, json!({"Allow": false}))
    );
    assert_eq!(
        ask("{}".to_owned()).await,
        (
            400,
            json!({"message": "expected {\"NodePublic\":\"nodekey:…\"}"})
        )
    );
}

fn mode(path: &std::path::Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}
