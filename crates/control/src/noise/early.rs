//! The early payload: JSON that a server may send before HTTP/2 begins.
//!
//! It starts with bytes that no HTTP/2 frame starts with, which is how a client tells them apart.
//! Its content has had no reader since clients of 1.90, so this server sends none; reading it is for
//! clients of other servers, as the one of `bowline-testkit` may be.
//!
//! Source: tailscale `control/ts2021/conn.go`; tailscale-rs `ts_control_noise`.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::NoiseStream;

/// What an early payload starts with.
pub const MAGIC: [u8; 5] = [0xFF, 0xFF, 0xFF, b'T', b'S'];
/// Length in bytes of magic and length together. It is also that of an HTTP/2 frame header, so a
/// client can read as much in either case.
pub const HEADER_LEN: usize = 9;
/// Largest JSON in bytes that every client takes.
pub const MAX_JSON: usize = 1024 - HEADER_LEN;

/// Reads the early payload's JSON, as a client does. `None` when the server sent HTTP/2 at once;
/// nothing of that is lost.
///
/// # Errors
/// `InvalidData` over [`MAX_JSON`], and those of the stream.
pub async fn read<S: AsyncRead + Unpin>(
    stream: &mut NoiseStream<S>,
) -> io::Result<Option<Vec<u8>>> {
    let mut header = [0; HEADER_LEN];
    stream.read_exact(&mut header).await?;
    let [magic @ .., a, b, c, d] = header;
    if magic != MAGIC {
        stream.unread(&header);
        return Ok(None);
    }
    let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
    if length > MAX_JSON {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "noise: early payload too long",
        ));
    }
    let mut json = vec![0; length];
    stream.read_exact(&mut json).await?;
    Ok(Some(json))
}
