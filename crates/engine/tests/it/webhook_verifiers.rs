//! The verifiers of `docs/webhooks.md` take what is sent, and nothing else.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use bowline_engine::webhook::NewWebhook;
use bowline_engine::{Delivery, Settings, Webhooks};
use bowline_model::webhook::Subscription;
use bowline_store::Options;
use bowline_testkit::post::Post;

use crate::net::{Net, quick};

const PAGE: &str = include_str!("../../../../docs/webhooks.md");

/// The page's code in a language.
fn code(language: &str) -> &'static str {
    let (_, code) = PAGE.split_once(&format!("\n```{language}\n")).unwrap();
    code.split_once("\n```\n").unwrap().0
}

/// A request after a rotation, with the new secret, the former one and the time of it.
async fn delivery() -> (Delivery, String, String, i64) {
    let post = Arc::new(Post::default());
    let settings = Settings {
        webhooks: Webhooks {
            courier: Some(post.clone()),
            ..Webhooks::default()
        },
        ..quick()
    };
    let net = Net::with(settings, Options::default()).await;
    let new = NewWebhook {
        url: "https://one.example/".to_owned(),
        provider: None,
        subscriptions: [Subscription::TailnetManagement].into(),
    };
    let (former, endpoint) = net.engine.create_webhook(&net.admin, new).await.unwrap();
    let rotated = net.engine.rotate_webhook(&net.admin, endpoint.id).await;
    let secret = rotated.unwrap().0.expose().to_owned();
    net.engine.run_jobs().await;
    let delivery = post.got.lock().unwrap().remove(0);
    let at = net.now().as_second();
    (delivery, secret, former.expose().to_owned(), at)
}

/// Runs a program that prints `true` or `false` for each case: header, secret and time, by lines of a
/// file, with the body in another one.
async fn check(language: &str, name: &str, program: &str, command: &[&str]) {
    let is_there = Command::new(command[0]).arg("--help").output().is_ok();
    if !is_there {
        bowline_testdata::skip(&format!("{} (its interpreter)", command[0]));
        return;
    }
    let (delivery, secret, former, at) = delivery().await;
    let header = delivery.signature.as_str();
    let other = header.replace(",v1=", ",v1=00");
    let cases = [
        (header, secret.as_str(), at, true),
        (header, former.as_str(), at, true),
        (header, secret.as_str(), at + 299, true),
        (header, secret.as_str(), at + 301, false),
        (header, secret.as_str(), at - 301, false),
        (header, "tskey-webhook-other", at, false),
        (other.as_str(), secret.as_str(), at, false),
        ("", secret.as_str(), at, false),
        ("t=x,v1=", secret.as_str(), at, false),
        ("v1=zz,t=1", secret.as_str(), 1, false),
    ];
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &[u8]| std::fs::write(directory.path().join(name), text);
    write("body", &delivery.body).unwrap();
    let lines = cases.map(|(header, secret, at, _)| format!("{header}\t{secret}\t{at}"));
    write("cases", lines.join("\n").as_bytes()).unwrap();
    write(name, program.replace("CODE", code(language)).as_bytes()).unwrap();
    let output = run(directory.path(), command);
    let printed: Vec<bool> = output
        .lines()
        .map(|line| line.to_lowercase().parse().unwrap())
        .collect();
    assert_eq!(printed, cases.map(|case| case.3), "{language}");
}

fn run(directory: &Path, command: &[&str]) -> String {
    let mut run = Command::new(command[0]);
    // Nothing that it writes stays, and nothing is asked for elsewhere.
    run.args(&command[1..])
        .current_dir(directory)
        .env("GOFLAGS", "-mod=mod")
        .env("GO111MODULE", "off")
        .env("GOTELEMETRY", "off");
    let output = run.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn the_verifier_in_python_takes_what_is_genuine() {
    let program = r#"CODE

body = open("body", "rb").read()
for line in open("cases").read().split("\n"):
    header, secret, now = line.split("\t")
    print(verify(header, body, secret, float(now)))
"#;
    check("python", "check.py", program, &["python3", "check.py"]).await;
}

#[tokio::test]
async fn the_verifier_in_javascript_takes_what_is_genuine() {
    let program = r#"CODE

const fs = require("node:fs");
const body = fs.readFileSync("body");
for (const line of fs.readFileSync("cases", "utf8").split("\n")) {
  const [header, secret, now] = line.split("\t");
  console.log(verify(header, body, secret, Number(now) * 1000));
}
"#;
    check("js", "check.js", program, &["node", "check.js"]).await;
}

#[tokio::test]
async fn the_verifier_in_go_takes_what_is_genuine() {
    let program = r#"CODE

func main() {
	body, _ := os.ReadFile("body")
	cases, _ := os.ReadFile("cases")
	for _, line := range strings.Split(string(cases), "\n") {
		parts := strings.Split(line, "\t")
		now, _ := strconv.ParseInt(parts[2], 10, 64)
		fmt.Println(verify(parts[0], body, parts[1], time.Unix(now, 0)))
	}
}
"#;
    let imports = "import (\n\t\"fmt\"\n\t\"os\"\n";
    let code = code("go").replacen("import (\n", imports, 1);
    let program = program.replace("CODE", &code);
    check("go", "check.go", &program, &["go", "run", "check.go"]).await;
}
