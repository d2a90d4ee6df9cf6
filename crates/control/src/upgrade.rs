//! The ways into the encrypted connection: `POST /ts2021` with an upgrade of its own, and for
//! clients in browsers, which cannot send that, `GET /ts2021` as a WebSocket.
//!
//! A browser can set no header of a WebSocket request, so the handshake is in the query, and the
//! subprotocol names what is spoken. Any origin may connect: no cookie is looked at, and the Noise
//! handshake is what authenticates.
//!
//! Source: `tailscale/tailscale control/controlhttp/client_js.go`,
//! `control/controlhttp/controlhttpserver/controlhttpserver.go`.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bowline_derp::websocket::{self, ByteStream};
use http::header::{CONNECTION, HeaderName, UPGRADE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::server::{Body, empty};

/// The protocol's name, as value of `Upgrade` and as WebSocket subprotocol.
const PROTOCOL: &str = "tailscale-control-protocol";
/// The header or the query's parameter with the first message of the handshake in base64.
const HANDSHAKE: &str = "X-Tailscale-Handshake";

/// A request that asks for the encrypted connection in a way that is served.
pub(crate) struct Asked {
    /// The first message of the handshake.
    pub(crate) initiation: Vec<u8>,
    /// Of the answer.
    headers: Vec<(HeaderName, HeaderValue)>,
    is_websocket: bool,
}

impl Asked {
    /// What a request asks for, or why it is refused.
    pub(crate) fn of<B>(request: &Request<B>) -> Result<Self, &'static str> {
        let text = |name: &str| request.headers().get(name)?.to_str().ok();
        let upgrade = text("upgrade").unwrap_or_default();
        if upgrade.eq_ignore_ascii_case("websocket") && request.method() == Method::GET {
            let mut headers = websocket::accept(request.headers(), PROTOCOL)?;
            headers.push((CONNECTION, HeaderValue::from_static("upgrade")));
            let query = request.uri().query().unwrap_or_default();
            let parameters: Vec<(String, String)> =
                serde_urlencoded::from_str(query).map_err(|_| "the query cannot be read")?;
            let given = parameters.iter().find(|(name, _)| name == HANDSHAKE);
            let (_, handshake) = given.ok_or("missing X-Tailscale-Handshake in the query")?;
            return Ok(Self {
                initiation: decode(handshake)?,
                headers,
                is_websocket: true,
            });
        }
        if request.method() != Method::POST || !upgrade.eq_ignore_ascii_case(PROTOCOL) {
            return Err(
                "this is the control protocol's address: expected POST with Upgrade: \
                 tailscale-control-protocol, or GET as a WebSocket",
            );
        }
        let handshake = text(HANDSHAKE).ok_or("missing X-Tailscale-Handshake")?;
        Ok(Self {
            initiation: decode(handshake)?,
            headers: vec![
                (UPGRADE, HeaderValue::from_static(PROTOCOL)),
                (CONNECTION, HeaderValue::from_static("upgrade")),
            ],
            is_websocket: false,
        })
    }

    /// The answer that accepts it.
    pub(crate) fn accepted(&self) -> Response<Body> {
        let mut response = Response::new(empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response.headers_mut().extend(self.headers.iter().cloned());
        response
    }

    /// The bytes of the protocol, once the answer is sent.
    pub(crate) async fn stream(self, upgraded: Upgraded) -> Stream {
        if self.is_websocket {
            let messages = ByteStream::server(TokioIo::new(upgraded)).await;
            return Box::new(messages);
        }
        // Without the layers of the HTTP/1 connection where that can be: they hold memory.
        match upgraded.downcast::<TokioIo<TcpStream>>() {
            Ok(parts) if parts.read_buf.is_empty() => Box::new(parts.io.into_inner()),
            Ok(parts) => {
                let (read, write) = parts.io.into_inner().into_split();
                let ahead = std::io::Cursor::new(parts.read_buf);
                let read = tokio::io::AsyncReadExt::chain(ahead, read);
                Box::new(tokio::io::join(read, write))
            }
            Err(upgraded) => Box::new(TokioIo::new(upgraded)),
        }
    }
}

/// What carries the protocol.
pub(crate) type Stream = Box<dyn Carrier>;

/// Bytes both ways.
pub(crate) trait Carrier: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Carrier for S {}

fn decode(handshake: &str) -> Result<Vec<u8>, &'static str> {
    BASE64_STANDARD
        .decode(handshake)
        .map_err(|_| "X-Tailscale-Handshake is not base64")
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEBSOCKET: [(&str, &str); 4] = [
        ("upgrade", "WebSocket"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-version", "13"),
        ("sec-websocket-protocol", PROTOCOL),
    ];

    fn asked(method: Method, uri: &str, headers: &[(&str, &str)]) -> Result<Asked, &'static str> {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Asked::of(&request.body(()).unwrap())
    }

    #[test]
    fn a_browser_sends_the_handshake_in_the_query() {
        let uri = "/ts2021?v=1&X-Tailscale-Handshake=%2B%2F8%3D";
        let asked = asked(Method::GET, uri, &WEBSOCKET).unwrap();
        assert_eq!(asked.initiation, [0xfb, 0xff]);
        let answer = asked.accepted();
        assert_eq!(answer.status(), 101);
        let header = |name: &str| answer.headers()[name].to_str().unwrap();
        assert_eq!(header("upgrade"), "websocket");
        assert_eq!(header("connection"), "upgrade");
        assert_eq!(
            header("sec-websocket-accept"),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
        assert_eq!(header("sec-websocket-protocol"), PROTOCOL);
    }

    #[test]
    fn all_others_send_it_in_a_header() {
        let headers = [("upgrade", PROTOCOL), ("x-tailscale-handshake", "+/8=")];
        let asked = asked(Method::POST, "/ts2021", &headers).unwrap();
        assert_eq!(asked.initiation, [0xfb, 0xff]);
        assert_eq!(asked.accepted().headers()["upgrade"], PROTOCOL);
    }

    #[test]
    fn what_lacks_something_is_refused() {
        let good = "/ts2021?X-Tailscale-Handshake=AAAA";
        for missing in 0..WEBSOCKET.len() {
            let mut headers = WEBSOCKET.to_vec();
            headers.remove(missing);
            assert!(asked(Method::GET, good, &headers).is_err(), "{missing}");
        }
        let mut other = WEBSOCKET.to_vec();
        other[3].1 = "derp";
        assert!(asked(Method::GET, good, &other).is_err());
        for (method, uri) in [
            (Method::POST, good),
            (Method::GET, "/ts2021"),
            (Method::GET, "/ts2021?x-tailscale-handshake=AAAA"),
            (Method::GET, "/ts2021?X-Tailscale-Handshake=*"),
            (Method::GET, "/ts2021?X-Tailscale-Handshake=%ff"),
        ] {
            assert!(asked(method, uri, &WEBSOCKET).is_err(), "{uri}");
        }
        let headers = [("upgrade", PROTOCOL), ("x-tailscale-handshake", "AAAA")];
        assert!(asked(Method::GET, "/ts2021", &headers).is_err());
        assert!(asked(Method::POST, "/ts2021", &headers[..1]).is_err());
    }
}
