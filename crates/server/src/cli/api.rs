//! The API as commands use it: by the server's socket, over the network, or in this process.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use axum::Router;
use axum::body::Body;
use bowline_engine::Engine;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::SendRequest;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tower::ServiceExt as _;

use crate::open::Opened;

/// How long a server has for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest answer in bytes: a list of 100,000 devices is less.
const ANSWER_LIMIT: usize = 512 * 1024 * 1024;

/// How requests reach the API.
pub(super) enum Way {
    /// Over a connection.
    Connection {
        /// Sends requests.
        sender: SendRequest<Full<Bytes>>,
        /// What the server is called in `Host`.
        authority: String,
        /// What stands before `/api/v2`; mostly nothing.
        prefix: String,
        /// `Bearer` and the token, where the server asks for one.
        authorization: Option<HeaderValue>,
    },
    /// To a router in this process, which holds the data directory.
    InProcess {
        /// The operator's API.
        router: Router,
        /// What it works on.
        engine: Engine,
        /// The directory and the database, held until the end.
        opened: Box<Opened>,
    },
}

/// The API, and the tailnet that commands are about.
pub(super) struct Api {
    way: Way,
    tailnet: Option<String>,
}

/// An answer of 2xx.
pub(super) struct Answer {
    body: Bytes,
}

impl Answer {
    /// The JSON as it came; `{}` where the API answers with nothing.
    pub(super) fn text(&self) -> Result<&str> {
        let text = std::str::from_utf8(&self.body).context("the server's answer is not text")?;
        Ok(match text.trim_ascii() {
            "" => "{}",
            text => text,
        })
    }

    /// The JSON, read.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_str(self.text()?).context("the server's answer is not as expected")
    }
}

/// A refusal of the API.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(super) struct Refused {
    /// Its status.
    pub(super) status: StatusCode,
    message: String,
}

impl Api {
    /// The API of one tailnet: of the only one, or of the token's, without a name.
    pub(super) fn new(way: Way, tailnet: Option<String>) -> Self {
        Self { way, tailnet }
    }

    /// The path of something in the tailnet: `keys`.
    pub(super) fn in_tailnet(&self, rest: &str) -> String {
        let name = self.tailnet.as_deref().unwrap_or("-");
        format!("tailnet/{}/{rest}", segment(name))
    }

    /// `GET`.
    ///
    /// # Errors
    /// [`Refused`], or that no answer came.
    pub(super) async fn get(&mut self, path: &str) -> Result<Answer> {
        self.send(Method::GET, path, None).await
    }

    /// `POST` with a JSON body.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub(super) async fn post(&mut self, path: &str, body: &Value) -> Result<Answer> {
        self.send(Method::POST, path, Some(body)).await
    }

    /// `DELETE`.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub(super) async fn delete(&mut self, path: &str) -> Result<Answer> {
        self.send(Method::DELETE, path, None).await
    }

    async fn send(&mut self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer> {
        let bytes = Bytes::from(body.map(Value::to_string).unwrap_or_default());
        let prefix = match &self.way {
            Way::Connection { prefix, .. } => prefix.as_str(),
            Way::InProcess { .. } => "",
        };
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{prefix}/api/v2/{path}"));
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if let Some(name) = &self.tailnet {
            let value = HeaderValue::from_str(name)
                .with_context(|| format!("{name:?} is no name of a tailnet"))?;
            request = request.header(bowline_api::OPERATOR_TAILNET, value);
        }
        let answered = async {
            match &mut self.way {
                Way::Connection {
                    sender,
                    authority,
                    authorization,
                    ..
                } => {
                    request = request.header(HOST, authority.as_str());
                    if let Some(value) = authorization {
                        request = request.header(AUTHORIZATION, value.clone());
                    }
                    sender.ready().await?;
                    let response = sender.send_request(request.body(Full::new(bytes))?).await?;
                    collect(response).await
                }
                Way::InProcess { router, .. } => {
                    let response = router
                        .clone()
                        .oneshot(request.body(Body::from(bytes))?)
                        .await?;
                    collect(response).await
                }
            }
        };
        let (status, body) = tokio::time::timeout(ANSWER_TIMEOUT, answered)
            .await
            .map_err(|_| {
                let seconds = ANSWER_TIMEOUT.as_secs();
                anyhow!("the server took the request and gave no answer within {seconds} seconds")
            })?
            .context("the server did not answer; look at its log")?;
        if status.is_success() {
            return Ok(Answer { body });
        }
        Err(self.refused(status, &body).into())
    }

    fn refused(&self, status: StatusCode, body: &[u8]) -> Refused {
        #[derive(serde::Deserialize)]
        struct Message {
            message: String,
        }
        let is_remote = matches!(
            &self.way,
            Way::Connection {
                authorization: Some(_),
                ..
            }
        );
        let mut message = match serde_json::from_slice::<Message>(body) {
            Ok(told) => told.message,
            Err(_) => format!("the server answered {status}; is it a Bowline server?"),
        };
        if is_remote && status == StatusCode::UNAUTHORIZED {
            message
                .push_str("; put one that is valid into BOWLINE_TOKEN or the file of --token-file");
        }
        if self.tailnet.is_none() && message == "there are several tailnets: name one" {
            message.push_str(" with --tailnet; bowline tailnet list shows them");
        }
        Refused { status, message }
    }

    /// Ends it: what this process wrote itself is flushed.
    pub(super) async fn close(self) {
        match self.way {
            Way::Connection { .. } => {}
            Way::InProcess { engine, opened, .. } => {
                engine.close().await;
                drop(opened);
            }
        }
    }
}

async fn collect<B>(response: http::Response<B>) -> Result<(StatusCode, Bytes)>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let status = response.status();
    match Limited::new(response.into_body(), ANSWER_LIMIT)
        .collect()
        .await
    {
        Ok(body) => Ok((status, body.to_bytes())),
        Err(error) => bail!("the answer broke off: {error}"),
    }
}

/// A text as one segment of a path.
pub(super) fn segment(text: &str) -> String {
    let mut segment = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~@".contains(&byte) {
            segment.push(char::from(byte));
        } else {
            let _ = write!(segment, "%{byte:02X}");
        }
    }
    segment
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_has_no_bytes_that_end_or_change_a_path() {
        assert_eq!(segment("ann@example.com"), "ann@example.com");
        assert_eq!(segment("a/b?c#d e%\u{e9}"), "a%2Fb%3Fc%23d%20e%25%C3%A9");
    }
}
