//! A whole simulated device: it joins, follows its map and reports about itself.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bowline_modelclient::{ModelClient, Rules};
use serde_json::{Map, Value, json};

use super::connection::{Connection, Server};
use super::identity::Identity;
use super::map_stream::{Compression, MapFrames};

/// The capability version that a client claims unless told otherwise: that of 1.102.
pub const CAPABILITY_VERSION: u16 = 142;

/// How long [`FollowedStream::until`] waits. Twenty times what any test should need.
const PATIENCE: Duration = Duration::from_secs(5);

const ZERO_KEY: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// A simulated device. It opens a new Noise connection for each call, but for the one that its
/// map stream keeps.
#[derive(Debug, Clone)]
pub struct Client {
    server: Server,
    identity: Identity,
    capability_version: u16,
    hostinfo: Map<String, Value>,
}

impl Client {
    /// A Linux device with this host name.
    pub fn new(server: Server, identity: Identity, hostname: &str) -> Self {
        let hostinfo = json!({
            "Hostname": hostname, "OS": "linux", "OSVersion": "6.1", "GoArch": "amd64",
            "IPNVersion": "1.102.5",
            "Services": [{"Proto": "peerapi4", "Port": 40_000}, {"Proto": "peerapi6", "Port": 40_000}],
        });
        let hostinfo = hostinfo.as_object().cloned().unwrap_or_default();
        Self {
            server,
            identity,
            capability_version: CAPABILITY_VERSION,
            hostinfo,
        }
    }

    /// The same device claiming another capability version.
    #[must_use]
    pub fn with_capability_version(mut self, version: u16) -> Self {
        self.capability_version = version;
        self
    }

    /// The same device with one field of its host info set.
    #[must_use]
    pub fn with_hostinfo(mut self, field: &str, value: Value) -> Self {
        self.hostinfo.insert(field.to_owned(), value);
        self
    }

    /// The same device with other keys.
    #[must_use]
    pub fn with_identity(mut self, identity: Identity) -> Self {
        self.identity = identity;
        self
    }

    /// Its keys.
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// A new Noise connection.
    ///
    /// # Errors
    /// When any step fails or is refused.
    pub async fn connect(&self) -> anyhow::Result<Connection> {
        Connection::open(&self.server, &self.identity, self.capability_version).await
    }

    /// The body of a registration as the Go client sends it, without a way to authenticate.
    pub fn register_request(&self) -> Value {
        json!({
            "Version": self.capability_version,
            "NodeKey": self.identity.node_key_text(),
            "OldNodeKey": format!("nodekey:{ZERO_KEY}"),
            "NLKey": format!("nlpub:{ZERO_KEY}"),
            "Expiry": "0001-01-01T00:00:00Z",
            "Followup": "",
            "Hostinfo": self.hostinfo,
            "NodeKeySignature": null,
            "Tailnet": "",
        })
    }

    /// Registers with an auth key and returns the whole answer.
    ///
    /// # Errors
    /// When the answer is not that of an accepted device; the server's text is in the message.
    pub async fn join(&self, auth_key: &str) -> anyhow::Result<Value> {
        let mut request = self.register_request();
        request["Auth"] = json!({"AuthKey": auth_key});
        self.register(&request).await
    }

    /// Sends a registration and checks the answer as both kinds of client do.
    ///
    /// # Errors
    /// As for [`Client::join`].
    pub async fn register(&self, request: &Value) -> anyhow::Result<Value> {
        let answer = self.connect().await?.register(request).await?;
        for field in [
            "User",
            "Login",
            "NodeKeyExpired",
            "MachineAuthorized",
            "AuthURL",
            "Error",
        ] {
            ensure!(
                answer.get(field).is_some(),
                "the official Rust client needs {field}: {answer}"
            );
        }
        match (answer["Error"].as_str(), answer["AuthURL"].as_str()) {
            (Some(""), Some("")) => {}
            (Some(""), Some(url)) => bail!("asked to visit {url}"),
            (error, _) => bail!("refused: {}", error.unwrap_or("an Error that is not text")),
        }
        ensure!(
            answer["NodeKeyExpired"] == json!(false),
            "the node key has expired"
        );
        ensure!(answer["User"]["ID"].is_u64(), "no user: {answer}");
        ensure!(
            answer["Login"]["LoginName"]
                .as_str()
                .is_some_and(|name| !name.is_empty()),
            "no login"
        );
        Ok(answer)
    }

    /// The body of a map request for a stream.
    pub fn map_request(&self, compression: Compression) -> Value {
        json!({
            "Version": self.capability_version,
            "Compress": compression.name(),
            "KeepAlive": true,
            "NodeKey": self.identity.node_key_text(),
            "DiscoKey": self.identity.disco_key_text(),
            "Stream": true,
            "Hostinfo": self.hostinfo,
        })
    }

    /// Opens a map stream on a connection of its own and waits for its full map.
    ///
    /// # Errors
    /// When it is refused, or its first message is not one that clients take.
    pub async fn stream(&self, compression: Compression) -> anyhow::Result<FollowedStream> {
        let connection = self.connect().await?;
        let frames = connection.map(&self.map_request(compression)).await?;
        let model = ModelClient::new(Rules::default());
        let mut stream = FollowedStream {
            connection,
            frames,
            model,
        };
        stream.until(|map| map.node().is_some()).await?;
        Ok(stream)
    }

    /// Sends a lite update on a connection of its own: keys, host info and these fields, such as
    /// `{"Endpoints": ["192.0.2.1:41641"], "EndpointTypes": [1]}`.
    ///
    /// # Errors
    /// When the answer is not 200.
    pub async fn update(&self, fields: &Value) -> anyhow::Result<()> {
        self.connect()
            .await?
            .update(&self.update_request(fields))
            .await
    }

    /// The body of a lite update.
    pub fn update_request(&self, fields: &Value) -> Value {
        let mut request = self.map_request(Compression::Zstd);
        request["Stream"] = json!(false);
        request["OmitPeers"] = json!(true);
        for (field, value) in fields.as_object().into_iter().flatten() {
            request[field] = value.clone();
        }
        request
    }
}

/// A map stream whose messages go through the model of a client.
#[derive(Debug)]
pub struct FollowedStream {
    connection: Connection,
    frames: MapFrames,
    model: ModelClient,
}

impl FollowedStream {
    /// What the client knows now.
    pub const fn map(&self) -> &ModelClient {
        &self.model
    }

    /// The connection that carries the stream, for requests beside it.
    pub const fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Receives one message, applies it and returns it decoded. `None` when the server ended the
    /// stream cleanly. Dropping the future loses nothing.
    ///
    /// # Errors
    /// When a real client would leave the stream.
    pub async fn next(&mut self) -> anyhow::Result<Option<Vec<u8>>> {
        let Some(message) = self.frames.next_decoded().await? else {
            return Ok(None);
        };
        self.model.apply(&message).with_context(|| {
            let text = String::from_utf8_lossy(&message);
            format!("a client would not take {text:.2000}")
        })?;
        Ok(Some(message))
    }

    /// Receives messages until what the client knows fulfils the condition, for at most 5 seconds.
    ///
    /// # Errors
    /// When time is up, the stream ends, or a real client would leave it. The message says what
    /// the client knows.
    pub async fn until(
        &mut self,
        condition: impl Fn(&ModelClient) -> bool,
    ) -> anyhow::Result<&ModelClient> {
        let wait = async {
            while !condition(&self.model) {
                ensure!(self.next().await?.is_some(), "the stream ended");
            }
            anyhow::Ok(())
        };
        let outcome = tokio::time::timeout(PATIENCE, wait).await;
        match outcome {
            Ok(Ok(())) => Ok(&self.model),
            Ok(Err(error)) => Err(error),
            Err(_) => bail!("waited in vain; the client knows {:#}", self.model.state()),
        }
    }
}
