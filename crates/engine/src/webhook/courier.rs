//! The usual way to an endpoint: the guarded client for addresses that users chose.

use std::sync::Arc;
use std::time::Duration;

use bowline_outbound::{Client, Limits, Request};
use http::{HeaderName, HeaderValue, Uri};

use crate::core::engine::Settings;
use crate::core::webhooks::{Courier, Delivery, Sending};

/// What a request may cost. A receiver need not do its work before it answers.
const LIMITS: Limits = Limits {
    connect: Duration::from_secs(5),
    whole: Duration::from_secs(10),
    answer_bytes: 64 * 1024,
};
/// The header with the signature.
const SIGNATURE: HeaderName = HeaderName::from_static("tailscale-webhook-signature");

/// The one that the settings name, or the guarded client.
pub(crate) fn of(settings: &Settings) -> Arc<dyn Courier> {
    match &settings.webhooks.courier {
        Some(courier) => courier.clone(),
        None => Arc::new(Guarded(settings.outbound.clone())),
    }
}

#[derive(Debug)]
struct Guarded(Client);

fn parse(url: &str) -> Result<Uri, String> {
    url.parse().map_err(|_| "is not a URL".to_owned())
}

impl Courier for Guarded {
    fn check(&self, url: &str) -> Result<(), String> {
        let checked = self.0.check(&parse(url)?);
        checked.map_err(|failure| format!("cannot be used: {failure}"))
    }

    fn deliver(&self, delivery: Delivery) -> Sending {
        let client = self.0.clone();
        Box::pin(async move {
            let mut request = Request::post_json(parse(&delivery.url)?, delivery.body, LIMITS);
            let signature = HeaderValue::from_str(&delivery.signature);
            let signature = signature.map_err(|_| "the signature cannot be sent".to_owned())?;
            request.headers.insert(SIGNATURE, signature);
            let answer = client.send(request).await;
            let status = answer.map_err(|failure| failure.to_string())?.status;
            if status.is_success() {
                return Ok(());
            }
            let redirect = if status.is_redirection() {
                "; redirects are not followed"
            } else {
                ""
            };
            Err(format!(
                "the endpoint answered {}{redirect}",
                status.as_u16()
            ))
        })
    }
}
