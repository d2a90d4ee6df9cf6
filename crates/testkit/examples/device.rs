//! A device that says what it is told to say, for the tests with real clients: those never send what
//! no honest client would.
//!
//! `device http://HOST:PORT NUMBER`. A line of standard input is a request, `{"path": …, "body": {…}}`;
//! the body's keys and capability version are the device's where it has none. A line of standard
//! output is the answer, `{"status": …, "body": …}`; the body is text where it is not JSON.

use std::io::{BufRead as _, Write as _};

use anyhow::Context as _;
use bowline_testkit::client::{Client, Identity, Server};
use http::Method;
use serde_json::{Map, Value, json};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let usage = "expected: device http://HOST:PORT NUMBER";
    let url = arguments.next().context(usage)?;
    let number = arguments.next().context(usage)?.parse()?;
    let server = Server::discover(&url).await?;
    let device = Client::new(server, Identity::numbered(number), "said");
    let identity = device.identity();
    for line in std::io::stdin().lock().lines() {
        let mut request: Map<String, Value> = serde_json::from_str(&line?)?;
        let path = request.remove("path").context("a request has a path")?;
        let path = path.as_str().context("a path is a text")?;
        let mut body = request.remove("body").unwrap_or_else(|| json!({}));
        let own = [
            ("Version", json!(142)),
            ("NodeKey", json!(identity.node_key_text())),
            ("DiscoKey", json!(identity.disco_key_text())),
        ];
        for (name, value) in own {
            if body.get(name).is_none() {
                body[name] = value;
            }
        }
        let connection = device.connect().await?;
        let answer = connection
            .request(Method::POST, path, body.to_string())
            .await?;
        let body = answer.json().unwrap_or_else(|_| json!(answer.text()));
        let answer = json!({"status": answer.status.as_u16(), "body": body});
        writeln!(std::io::stdout(), "{answer}")?;
    }
    Ok(())
}
