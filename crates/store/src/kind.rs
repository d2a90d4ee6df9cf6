//! The kinds of stored objects: one line each in [`SPECS`], and a table in the migrations.

use std::fmt;

/// A kind of stored object. Each has a table of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The tailnet itself and its settings.
    Tailnet,
    /// A user of one tailnet.
    User,
    /// A device.
    Device,
    /// A credential: auth key, API access token, OAuth client.
    Key,
    /// The DNS configuration of a tailnet.
    Dns,
    /// A policy file.
    Policy,
    /// A device that waits for somebody to say whose it is. The server's.
    WaitingLogin,
    /// An SSH session that waits for somebody to confirm it. The server's.
    SshCheck,
    /// An SSH session that somebody confirmed. The server's.
    SshConfirmation,
}

/// A column that the database keeps unique, beside the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Column {
    /// Name of a [`Kind::Tailnet`], unique in the whole server.
    TailnetName,
    /// Login name of a [`Kind::User`], unique in its tailnet.
    UserLogin,
    /// Node key of a [`Kind::Device`], unique in the whole server.
    NodeKey,
    /// IPv6 address of a [`Kind::Device`], unique in the whole server.
    Ipv6,
}

/// What the store knows of a kind.
pub(crate) struct Spec {
    pub(crate) kind: Kind,
    /// The kind's name in the change log and in dumps. Never changes.
    pub(crate) name: &'static str,
    pub(crate) table: &'static str,
    /// Whether its objects are the server's and no tailnet's.
    pub(crate) server_wide: bool,
    /// Unique columns with their SQL names. The unique index is `<table>_<column>`.
    pub(crate) columns: &'static [(Column, &'static str)],
}

/// Every kind, in the order of [`Kind`].
pub(crate) const SPECS: &[Spec] = &[
    spec(
        Kind::Tailnet,
        "tailnet",
        "tailnets",
        &[(Column::TailnetName, "name")],
    ),
    spec(Kind::User, "user", "users", &[(Column::UserLogin, "login")]),
    spec(
        Kind::Device,
        "device",
        "devices",
        &[(Column::NodeKey, "node_key"), (Column::Ipv6, "ipv6")],
    ),
    spec(Kind::Key, "key", "keys", &[]),
    spec(Kind::Dns, "dns", "dns", &[]),
    spec(Kind::Policy, "policy", "policies", &[]),
    server_wide(Kind::WaitingLogin, "waitinglogin", "waiting_logins"),
    server_wide(Kind::SshCheck, "sshcheck", "ssh_checks"),
    server_wide(
        Kind::SshConfirmation,
        "sshconfirmation",
        "ssh_confirmations",
    ),
];

const fn spec(
    kind: Kind,
    name: &'static str,
    table: &'static str,
    columns: &'static [(Column, &'static str)],
) -> Spec {
    Spec {
        kind,
        name,
        table,
        server_wide: false,
        columns,
    }
}

const fn server_wide(kind: Kind, name: &'static str, table: &'static str) -> Spec {
    Spec {
        server_wide: true,
        ..spec(kind, name, table, &[])
    }
}

impl Kind {
    /// Every kind.
    pub fn all() -> impl Iterator<Item = Self> {
        SPECS.iter().map(|spec| spec.kind)
    }

    /// The kind's name in the change log and in dumps: one lower-case word.
    pub fn name(self) -> &'static str {
        self.spec().name
    }

    /// The kind with this [`Kind::name`].
    pub fn from_name(name: &str) -> Option<Self> {
        SPECS
            .iter()
            .find(|spec| spec.name == name)
            .map(|spec| spec.kind)
    }

    /// The unique columns that rows of this kind may have.
    pub fn columns(self) -> impl Iterator<Item = Column> {
        self.spec().columns.iter().map(|(column, _)| *column)
    }

    /// Whether objects of this kind are the server's and no tailnet's.
    pub fn is_server_wide(self) -> bool {
        self.spec().server_wide
    }

    pub(crate) fn spec(self) -> &'static Spec {
        &SPECS[self as usize]
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_finds_its_own_line_and_its_name() {
        for (index, spec) in SPECS.iter().enumerate() {
            assert_eq!(spec.kind as usize, index);
            assert_eq!(Kind::from_name(spec.kind.name()), Some(spec.kind));
        }
        assert_eq!(Kind::from_name("tables"), None);
    }
}
