//! What a device is told about an SSH session that is to begin on it.
//!
//! Source: `docs/protocol/control-protocol.md`, section 8.2 (ts-go `tailcfg/tailcfg.go`, `SSHAction`).

use serde::Serialize;

/// An action. Precisely one of acceptance, rejection and delegation holds; the client looks for
/// them in this order.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SshAction {
    /// Shown to the session's user; empty: nothing. It is printed as it is, so it ends its line.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The session ends.
    #[serde(skip_serializing_if = "is_false")]
    pub reject: bool,
    /// The session begins.
    #[serde(skip_serializing_if = "is_false")]
    pub accept: bool,
    /// Whether keys of an agent may be used through the session.
    #[serde(skip_serializing_if = "is_false")]
    pub allow_agent_forwarding: bool,
    /// Whether the client may open connections through the device.
    #[serde(skip_serializing_if = "is_false")]
    pub allow_local_port_forwarding: bool,
    /// Whether the device may open connections through the client.
    #[serde(skip_serializing_if = "is_false")]
    pub allow_remote_port_forwarding: bool,
    /// Where the device asks for the next action, at once; empty: nowhere. Of the address only path
    /// and query count: it is asked for inside the device's encrypted connection.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub hold_and_delegate: String,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
const fn is_false(value: &bool) -> bool {
    !*value
}

impl SshAction {
    /// The session begins, and may forward what an accepting rule of a policy lets it.
    pub fn accept() -> Self {
        Self {
            accept: true,
            allow_agent_forwarding: true,
            allow_local_port_forwarding: true,
            allow_remote_port_forwarding: true,
            ..Self::default()
        }
    }

    /// The session ends with a message.
    pub fn reject(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            reject: true,
            ..Self::default()
        }
    }

    /// The user reads a message, and the device asks there.
    pub fn hold(message: impl Into<String>, url: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hold_and_delegate: url.into(),
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_holds_is_written() {
        let json = |action: SshAction| serde_json::to_string(&action).unwrap();
        assert_eq!(
            json(SshAction::accept()),
            r#"{"accept":true,"allowAgentForwarding":true,"allowLocalPortForwarding":true,"allowRemotePortForwarding":true}"#
        );
        assert_eq!(
            json(SshAction::reject("no\n")),
            r#"{"message":"no\n","reject":true}"#
        );
        assert_eq!(
            json(SshAction::hold("wait", "https://unused/x")),
            r#"{"message":"wait","holdAndDelegate":"https://unused/x"}"#
        );
    }
}
