//! The API as commands use it: by the server's socket, over the network, or in this process.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use axum::Router;
use axum::body::Body;
use bowline_engine::Engine;
use bowline_policy::Failure;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, ETAG, HOST, IF_MATCH};
use http::request::Builder;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
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
    /// What the server calls itself, once it has answered.
    server_url: Option<String>,
}

/// An answer of 2xx.
pub(super) struct Answer {
    headers: HeaderMap,
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

    /// The body as it came, to the last byte.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.body
    }

    /// The `ETag` without its quotes; empty where there is none.
    pub(super) fn etag(&self) -> &str {
        let value = self.headers.get(ETAG);
        let value = value.and_then(|value| value.to_str().ok());
        value.unwrap_or_default().trim_matches('"')
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
    /// Its text.
    pub(super) message: String,
    /// Tests of a policy file that failed.
    pub(super) data: Vec<Failure>,
}

/// Header of every answer on the operator's socket: what the server calls itself.
pub(crate) const SERVER_URL: &str = "bowline-server-url";

/// A policy file or its tests on the way to the API.
pub(super) struct PolicyText<'a> {
    /// HuJSON.
    pub(super) text: &'a str,
    /// `If-Match`, quoted.
    pub(super) if_match: Option<String>,
}

impl Api {
    /// The API of one tailnet: of the only one, or of the token's, without a name.
    pub(super) fn new(way: Way, tailnet: Option<String>) -> Self {
        Self {
            way,
            tailnet,
            server_url: None,
        }
    }

    /// What the server that answered calls itself: only one of this machine says so.
    pub(super) fn server_url(&self) -> Option<&str> {
        self.server_url.as_deref()
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
        self.send(self.request(Method::GET, path)?, Bytes::new())
            .await
    }

    /// `GET` of one form of what is there.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub(super) async fn get_as(&mut self, path: &str, accept: &'static str) -> Result<Answer> {
        let request = self.request(Method::GET, path)?.header(ACCEPT, accept);
        self.send(request, Bytes::new()).await
    }

    /// `POST` with a JSON body.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub(super) async fn post(&mut self, path: &str, body: &Value) -> Result<Answer> {
        let request = self
            .request(Method::POST, path)?
            .header(CONTENT_TYPE, "application/json");
        self.send(request, Bytes::from(body.to_string())).await
    }

    /// `POST` of a policy file.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub(super) async fn post_policy(
        &mut self,
        path: &str,
        policy: PolicyText<'_>,
    ) -> Result<Answer> {
        let mut request = self
            .request(Method::POST, path)?
            .header(CONTENT_TYPE, "application/hujson");
        if let Some(etag) = policy.if_match {
            request = request.header(IF_MATCH, etag);
        }
        self.send(request, Bytes::from(policy.text.to_owned()))
            .await
    }

    /// `DELETE`.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub(super) async fn delete(&mut self, path: &str) -> Result<Answer> {
        self.send(self.request(Method::DELETE, path)?, Bytes::new())
            .await
    }

    fn request(&self, method: Method, path: &str) -> Result<Builder> {
        let prefix = match &self.way {
            Way::Connection { prefix, .. } => prefix.as_str(),
            Way::InProcess { .. } => "",
        };
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{prefix}/api/v2/{path}"));
        if let Some(name) = &self.tailnet {
            let value = HeaderValue::from_str(name)
                .with_context(|| format!("{name:?} is not the name of a tailnet"))?;
            request = request.header(bowline_api::OPERATOR_TAILNET, value);
        }
        Ok(request)
    }

    async fn send(&mut self, mut request: Builder, bytes: Bytes) -> Result<Answer> {
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
        let (status, answer) = tokio::time::timeout(ANSWER_TIMEOUT, answered)
            .await
            .map_err(|_| {
                let seconds = ANSWER_TIMEOUT.as_secs();
                anyhow!("the server took the request and gave no answer within {seconds} seconds")
            })?
            .context("the server did not answer; look at its log")?;
        if let Some(url) = answer.headers.get(SERVER_URL) {
            self.server_url = url.to_str().ok().map(str::to_owned);
        }
        if status.is_success() {
            return Ok(answer);
        }
        Err(self.refused(status, &answer.body).into())
    }

    fn refused(&self, status: StatusCode, body: &[u8]) -> Refused {
        #[derive(serde::Deserialize)]
        struct Told {
            message: String,
            #[serde(default)]
            data: Value,
        }
        let is_remote = matches!(
            &self.way,
            Way::Connection {
                authorization: Some(_),
                ..
            }
        );
        let (mut message, data) = match serde_json::from_slice::<Told>(body) {
            Ok(told) => (told.message, told.data),
            Err(_) => (
                format!("the server answered {status}; is it a Bowline server?"),
                Value::Null,
            ),
        };
        if is_remote && status == StatusCode::UNAUTHORIZED {
            message
                .push_str("; put one that is valid into BOWLINE_TOKEN or the file of --token-file");
        }
        if self.tailnet.is_none() && message == "there are several tailnets: name one" {
            message.push_str(" with --tailnet; bowline tailnet list shows them");
        }
        Refused {
            status,
            message,
            data: serde_json::from_value(data).unwrap_or_default(),
        }
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

async fn collect<B>(response: http::Response<B>) -> Result<(StatusCode, Answer)>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (head, body) = response.into_parts();
    match Limited::new(body, ANSWER_LIMIT).collect().await {
        Ok(body) => {
            let answer = Answer {
                headers: head.headers,
                body: body.to_bytes(),
            };
            Ok((head.status, answer))
        }
        Err(error) => bail!("the answer broke off: {error}"),
    }
}

/// Whether the server said that what was asked for is not there.
pub(super) fn is_not_found(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<Refused>()
        .is_some_and(|refused| refused.status == StatusCode::NOT_FOUND)
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
