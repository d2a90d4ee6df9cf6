//! Where randomness comes from: nonces of the handshake and the spread of keep-alives.

use std::{fmt, sync::Arc};

/// The source of randomness gave nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no randomness available")]
pub struct NoEntropy;

/// A source of random bytes, passed in so that tests can fix it.
#[derive(Clone)]
pub struct Entropy(Arc<Fill>);

type Fill = dyn Fn(&mut [u8]) -> Result<(), NoEntropy> + Send + Sync;

impl Entropy {
    /// The operating system's generator. The only right choice outside tests: nonces come from it.
    pub fn system() -> Self {
        Self::from_fn(|out| getrandom::fill(out).map_err(|_| NoEntropy))
    }

    /// A source that `fill` provides; it must fill the whole slice or fail.
    pub fn from_fn(
        fill: impl Fn(&mut [u8]) -> Result<(), NoEntropy> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(fill))
    }

    /// Fills `out` with random bytes.
    ///
    /// # Errors
    /// When the source fails; `out` is then unspecified.
    pub fn fill(&self, out: &mut [u8]) -> Result<(), NoEntropy> {
        (self.0)(out)
    }
}

impl Default for Entropy {
    fn default() -> Self {
        Self::system()
    }
}

impl fmt::Debug for Entropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entropy")
    }
}
