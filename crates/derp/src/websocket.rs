//! A protocol inside WebSocket messages, the only way for clients in browsers: DERP here, and the
//! control protocol in `bowline-control`.
//!
//! Binary messages are one byte stream; where a message ends means nothing. There is no
//! compression, since packets are encrypted, and any origin may connect, since what authenticates
//! is the protocol inside. Source: ts-go `derp/derpserver/websocket.go`,
//! `control/controlhttp/controlhttpserver/controlhttpserver.go`, `net/wsconn/wsconn.go`.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::{Buf as _, Bytes};
use futures_util::{Sink, Stream};
use http::{
    HeaderMap, HeaderValue,
    header::{
        HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
        SEC_WEBSOCKET_VERSION, UPGRADE,
    },
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message,
        protocol::{Role, WebSocketConfig},
    },
};

use crate::http::has_token;

/// Longest message in bytes, either way: a client may put its longest frame into one.
const MESSAGE_MAX: usize = 128 << 10;
/// Bytes put into one message by us, and kept for reading and writing.
const CHUNK: usize = 16 << 10;
const READ_BUFFER: usize = 4 << 10;

/// Headers that accept a WebSocket request for `subprotocol`. The answer needs `Connection:
/// Upgrade` besides.
///
/// # Errors
/// Why the request is refused: a line of text for its sender.
pub fn accept(
    headers: &HeaderMap,
    subprotocol: &'static str,
) -> Result<Vec<(HeaderName, HeaderValue)>, &'static str> {
    if !has_token(headers, &SEC_WEBSOCKET_PROTOCOL, subprotocol) {
        return Err("the WebSocket subprotocol is missing or not one that is spoken here\n");
    }
    if !has_token(headers, &SEC_WEBSOCKET_VERSION, "13") {
        return Err("the WebSocket version must be 13\n");
    }
    let key = headers
        .get(SEC_WEBSOCKET_KEY)
        .ok_or("Sec-WebSocket-Key is missing\n")?;
    // RFC 6455, section 4.2.2: proves that the request was understood, and no more than that.
    let salted = [key.as_bytes(), b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"].concat();
    let proof = BASE64_STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &salted));
    let proof = HeaderValue::try_from(proof).map_err(|_| "Sec-WebSocket-Key is wrong\n")?;
    Ok(vec![
        (UPGRADE, HeaderValue::from_static("websocket")),
        (SEC_WEBSOCKET_ACCEPT, proof),
        (
            SEC_WEBSOCKET_PROTOCOL,
            HeaderValue::from_static(subprotocol),
        ),
    ])
}

/// The bytes inside the messages of a WebSocket.
#[derive(Debug)]
pub struct ByteStream<S> {
    socket: WebSocketStream<S>,
    unread: Bytes,
}

impl<S: AsyncRead + AsyncWrite + Unpin> ByteStream<S> {
    /// The server's side of a connection that is past the upgrade.
    pub async fn server(stream: S) -> Self {
        Self::with_role(stream, Role::Server).await
    }

    /// The client's side, for tests and for simulating clients in browsers.
    pub async fn client(stream: S) -> Self {
        Self::with_role(stream, Role::Client).await
    }

    async fn with_role(stream: S, role: Role) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(CHUNK)
            .max_write_buffer_size(2 * MESSAGE_MAX)
            .max_message_size(Some(MESSAGE_MAX))
            .max_frame_size(Some(MESSAGE_MAX));
        let socket = WebSocketStream::from_raw_socket(stream, role, Some(config)).await;
        Self {
            socket,
            unread: Bytes::new(),
        }
    }
}

fn to_io(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        Error::ConnectionClosed | Error::AlreadyClosed => io::ErrorKind::BrokenPipe.into(),
        other => io::Error::new(io::ErrorKind::InvalidData, other),
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for ByteStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.unread.is_empty() {
            match ready!(Pin::new(&mut self.socket).poll_next(cx)) {
                None | Some(Ok(Message::Close(_)) | Err(Error::ConnectionClosed)) => {
                    return Poll::Ready(Ok(()));
                }
                Some(Ok(Message::Binary(bytes))) => self.unread = bytes,
                Some(Ok(Message::Text(_))) => {
                    return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
                }
                // Pings are answered by the library.
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Err(error)) => return Poll::Ready(Err(to_io(error))),
            }
        }
        let len = self.unread.len().min(out.remaining());
        out.put_slice(&self.unread[..len]);
        self.unread.advance(len);
        if self.unread.is_empty() {
            // Lets go of the library's buffer.
            self.unread = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for ByteStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(Pin::new(&mut self.socket).poll_ready(cx)).map_err(to_io)?;
        let chunk = &bytes[..bytes.len().min(CHUNK)];
        let message = Message::Binary(Bytes::copy_from_slice(chunk));
        Pin::new(&mut self.socket)
            .start_send(message)
            .map_err(to_io)?;
        Poll::Ready(Ok(chunk.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx).map_err(to_io)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_close(cx).map_err(to_io)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let header = |(name, value): &(&'static str, &'static str)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        };
        pairs.iter().map(header).collect()
    }

    /// The key and its proof are the example of RFC 6455, section 1.3.
    #[test]
    fn the_proof_is_that_of_the_rfc() {
        let request = headers(&[
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-version", "13"),
            ("sec-websocket-protocol", "chat, derp"),
        ]);
        let accepted: HeaderMap = accept(&request, "derp").unwrap().into_iter().collect();
        assert_eq!(
            accepted["sec-websocket-accept"],
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
        assert_eq!(accepted["sec-websocket-protocol"], "derp");
        assert_eq!(accepted["upgrade"], "websocket");
    }

    #[test]
    fn a_request_that_lacks_something_is_refused() {
        let full = [
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-version", "13"),
            ("sec-websocket-protocol", "derp"),
        ];
        for missing in 0..full.len() {
            let mut pairs = full.to_vec();
            pairs.remove(missing);
            assert!(
                accept(&headers(&pairs), "derp").is_err(),
                "without {}",
                full[missing].0
            );
        }
    }
}
