//! Why a request got no answer.

use std::io;

/// Why a request got no answer. The texts name no address that a name resolved to: who wrote the URL
/// need not learn what this server's resolver knows.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The URL can't be asked: another scheme, no host, a user name in it.
    #[error("{0}")]
    Url(&'static str),
    /// All addresses of the host are ones that requests may not go to.
    #[error("the host has no public address, and no setting lists its network")]
    NotAllowed,
    /// Plain HTTP to a host that is not in a listed network.
    #[error("plain HTTP is for listed networks only; use https")]
    Plain,
    /// The name has no address, or nobody could say.
    #[error("could not resolve the host's name")]
    Resolve(#[source] io::Error),
    /// No connection.
    #[error("could not connect")]
    Connect(#[source] io::Error),
    /// No TLS: a certificate that is not trusted or is another host's.
    #[error("could not set up TLS")]
    Tls(#[source] io::Error),
    /// Resolving, connecting and TLS took longer than they may.
    #[error("connecting took too long")]
    ConnectTime,
    /// The whole took longer than it may.
    #[error("the answer took too long")]
    Time,
    /// The answer has more bytes than it may.
    #[error("the answer is larger than {0} bytes")]
    Size(usize),
    /// What came is not HTTP, or ended too early.
    #[error("the answer is not complete HTTP")]
    Http(#[from] hyper::Error),
}
