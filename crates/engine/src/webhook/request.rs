//! Requests as endpoints get them: the body in the official JSON or in a product's form, and the
//! signature.

use aws_lc_rs::hmac;
use bowline_model::webhook::{Notice, Provider};
use data_encoding::HEXLOWER;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

/// The most characters of a message that Discord takes. Source: Discord, "Create Message", `content`.
const DISCORD_CHARACTERS: usize = 2000;

/// One event in the official form.
#[derive(Serialize)]
pub(crate) struct Shown<'a> {
    timestamp: Timestamp,
    version: u8,
    #[serde(rename = "type")]
    kind: &'a str,
    tailnet: &'a str,
    message: &'a str,
    data: Value,
}

impl<'a> Shown<'a> {
    /// With its data, the texts in it included.
    pub(crate) fn new(notice: &'a Notice, data: Value) -> Self {
        Self {
            timestamp: notice.at,
            version: 1,
            kind: &notice.event,
            tailnet: &notice.tailnet,
            message: &notice.message,
            data,
        }
    }
}

/// What a product's incoming webhook takes, of one event: a message with a link to what it is about.
pub(crate) fn message(provider: Provider, notice: &Notice, data: &Value) -> Value {
    let mut text = notice.message.clone();
    if let Some(url) = data.get("url").and_then(Value::as_str) {
        text.push(' ');
        text.push_str(url);
    }
    match provider {
        Provider::Slack => json!({ "text": escaped(&text) }),
        Provider::Mattermost | Provider::GoogleChat => json!({ "text": text }),
        Provider::Discord => {
            let content: String = text.chars().take(DISCORD_CHARACTERS).collect();
            // A name in a message calls nobody.
            json!({ "content": content, "allowed_mentions": { "parse": [] } })
        }
    }
}

/// Source: Slack, "Formatting text for app surfaces", escaping text.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// The value of `Tailscale-Webhook-Signature`: `t=<unix seconds>,v1=<hex>`, with a `v1` for each of the
/// secrets, whose whole text is the key.
///
/// Source: tailscale/tailscale `docs/webhooks/example.go`, `verifyWebhookSignature`.
pub(crate) fn signature(secrets: &[impl AsRef<[u8]>], at: Timestamp, body: &[u8]) -> String {
    let seconds = at.as_second();
    let mut value = format!("t={seconds}");
    for secret in secrets {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_ref());
        let mut context = hmac::Context::with_key(&key);
        context.update(seconds.to_string().as_bytes());
        context.update(b".");
        context.update(body);
        value.push_str(",v1=");
        value.push_str(&HEXLOWER.encode(context.sign().as_ref()));
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_that_of_a_known_text() {
        let at = Timestamp::from_second(1_663_781_880).unwrap();
        // python3: hmac.new(b"tskey-webhook-x", b"1663781880.[]", "sha256").hexdigest()
        assert_eq!(
            signature(&["tskey-webhook-x"], at, b"[]"),
            "t=1663781880,v1=1ff1165c70040c25a84edb3f8c74bbfab897c98d2549e24081d62fe05552a8f2"
        );
        let both = signature(&["tskey-webhook-x", "other"], at, b"[]");
        assert_eq!(both.matches(",v1=").count(), 2);
    }

    #[test]
    fn slack_reads_no_markup_in_a_message() {
        assert_eq!(escaped("<!channel> & co"), "&lt;!channel&gt; &amp; co");
    }
}
