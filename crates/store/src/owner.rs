//! Whose rows are.

use std::fmt;

use bowline_model::id::TailnetId;

/// Whose rows are: a tailnet's, or the server's own. Each owner has a sequence number, a change log
/// and audit events of its own.
///
/// In the database the server has the number 0, which no tailnet has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// The server: what belongs to no tailnet.
    Server,
    /// A tailnet.
    Tailnet(TailnetId),
}

impl Owner {
    /// The number in the database: 0 for the server, else the tailnet's id.
    pub const fn get(self) -> u64 {
        match self {
            Self::Server => 0,
            Self::Tailnet(id) => id.get(),
        }
    }

    /// The tailnet, where it is one.
    pub const fn tailnet(self) -> Option<TailnetId> {
        match self {
            Self::Server => None,
            Self::Tailnet(id) => Some(id),
        }
    }
}

impl From<TailnetId> for Owner {
    fn from(id: TailnetId) -> Self {
        Self::Tailnet(id)
    }
}

impl TryFrom<u64> for Owner {
    type Error = bowline_model::id::OutOfRange;

    fn try_from(number: u64) -> Result<Self, Self::Error> {
        if number == 0 {
            return Ok(Self::Server);
        }
        TailnetId::try_from(number).map(Self::Tailnet)
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server => f.write_str("the server"),
            Self::Tailnet(id) => write!(f, "tailnet {id}"),
        }
    }
}
