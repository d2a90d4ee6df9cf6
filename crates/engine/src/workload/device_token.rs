//! Tokens that say which device somebody is, for services elsewhere that trust this server as an issuer.
//!
//! Source: `tailscale/tailscale tailcfg/tailcfg.go TokenResponse`; RFC 7519; OpenID Connect Core 1.0,
//! section 2.

use bowline_model::key::{MachineKey, NodeKey};
use bowline_netmap::chunk::Entry;
use bowline_netmap::snapshot::Snapshot;
use data_encoding::BASE64URL_NOPAD;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::core::engine::Engine;
use crate::core::failure::StoreFailure;

/// How long a token is good, in seconds: long enough for a request elsewhere.
const LIFETIME_SECONDS: i64 = 300;
/// The most characters of an audience.
const AUDIENCE_MAX: usize = 500;

/// Why a device got no token.
#[derive(Debug, thiserror::Error)]
pub enum DeviceTokenRefused {
    /// No device has the node key.
    #[error("node not found")]
    NoDevice,
    /// The node key is that of another machine.
    #[error("node key is registered to another machine")]
    OtherMachine,
    /// It waits for its approval, or its key has expired.
    #[error("the device is not authorized, or its key has expired")]
    NotAuthorized,
    /// The audience cannot be one.
    #[error("the audience must be a text of 1 to 500 characters")]
    Audience,
    /// The server's key cannot be had.
    #[error(transparent)]
    Store(#[from] StoreFailure),
}

impl Engine {
    /// A token that says to `audience` which device this is, good for five minutes. The caller has seen
    /// that the device has the machine key.
    ///
    /// # Errors
    /// How it is refused.
    pub async fn device_token(
        &self,
        machine_key: MachineKey,
        node_key: &NodeKey,
        audience: &str,
    ) -> Result<String, DeviceTokenRefused> {
        let is_audience = !audience.is_empty()
            && audience.chars().count() <= AUDIENCE_MAX
            && !audience.chars().any(char::is_control);
        if !is_audience {
            return Err(DeviceTokenRefused::Audience);
        }
        let (tailnet, newest, entry) = self
            .find_device(node_key)
            .ok_or(DeviceTokenRefused::NoDevice)?;
        if entry.device.machine_key != machine_key {
            return Err(DeviceTokenRefused::OtherMachine);
        }
        // What a relay asks too: who is let in there is a device that peers know.
        if self.admitted(node_key) != Some(tailnet) {
            return Err(DeviceTokenRefused::NotAuthorized);
        }
        let key = self.signing_key().await?;
        let mut id = [0; 16];
        self.0.random.fill(&mut id);
        let mut claims = claims(newest.snapshot(), &entry, self.now());
        claims["iss"] = json!(self.settings().url);
        claims["aud"] = json!(audience);
        claims["jti"] = json!(BASE64URL_NOPAD.encode(&id));
        Ok(key
            .sign(&claims)
            .ok_or(StoreFailure::Defect("a token cannot be signed"))?)
    }
}

fn claims(snapshot: &Snapshot, entry: &Entry, now: Timestamp) -> Value {
    let device = &entry.device;
    let tailnet = snapshot.tailnet();
    let domain = &tailnet.name;
    let name = format!("{}.{}", device.name, tailnet.dns_name);
    let now = now.as_second();
    let mut claims = json!({
        "sub": name,
        "iat": now,
        "nbf": now,
        "exp": now + LIFETIME_SECONDS,
        "key": device.node_key,
        "addresses": device.addresses(),
        "nid": device.id.get(),
        "node": name,
        "domain": domain,
    });
    if device.is_tagged() {
        let tags = device.tags.iter().map(|tag| format!("{domain}:{tag}"));
        claims["tags"] = tags.collect();
    } else if let Some(user) = device.user.and_then(|user| snapshot.user(user)) {
        claims["user"] = json!(format!("{domain}:{}", user.login_name));
        claims["uid"] = json!(user.id.get());
    }
    claims
}
