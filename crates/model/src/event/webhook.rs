//! The types of webhook events.

/// The type of a webhook event, by its official name.
///
/// Source: the official OpenAPI document, `Webhook.subscriptions`; a test of the `api` crate holds
/// the table against it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WebhookEvent {
    /// A device came into the tailnet.
    NodeCreated,
    /// A device waits for its approval.
    NodeNeedsApproval,
    /// A device was approved. Not for one that came in with its approval.
    NodeApproved,
    /// A node key expires within a day.
    NodeKeyExpiringInOneDay,
    /// A node key has expired, or somebody expired it.
    NodeKeyExpired,
    /// A device left the tailnet.
    NodeDeleted,
    /// A node was signed for tailnet lock.
    NodeSigned,
    /// A node waits for its signature for tailnet lock.
    NodeNeedsSignature,
    /// Another policy file came into force.
    PolicyUpdate,
    /// There is a new user.
    UserCreated,
    /// A user waits for their approval.
    UserNeedsApproval,
    /// A user was suspended.
    UserSuspended,
    /// A user may act again.
    UserRestored,
    /// A user was deleted.
    UserDeleted,
    /// A user was approved.
    UserApproved,
    /// A user has another role.
    UserRoleUpdated,
    /// A subnet router does not forward IP packets.
    SubnetIpForwardingNotEnabled,
    /// An exit node does not forward IP packets.
    ExitNodeIpForwardingNotEnabled,
    /// Somebody tries whether the endpoint gets anything. Nobody can subscribe to it.
    Test,
    /// The endpoint has other subscriptions or another secret. It is always told so.
    WebhookUpdated,
    /// The endpoint was deleted. It is always told so.
    WebhookDeleted,
}

impl WebhookEvent {
    /// Every type that an endpoint can subscribe to, in the order of the official document.
    pub const ALL: [Self; 18] = [
        Self::NodeCreated,
        Self::NodeNeedsApproval,
        Self::NodeApproved,
        Self::NodeKeyExpiringInOneDay,
        Self::NodeKeyExpired,
        Self::NodeDeleted,
        Self::NodeSigned,
        Self::NodeNeedsSignature,
        Self::PolicyUpdate,
        Self::UserCreated,
        Self::UserNeedsApproval,
        Self::UserSuspended,
        Self::UserRestored,
        Self::UserDeleted,
        Self::UserApproved,
        Self::UserRoleUpdated,
        Self::SubnetIpForwardingNotEnabled,
        Self::ExitNodeIpForwardingNotEnabled,
    ];

    /// The official name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NodeCreated => "nodeCreated",
            Self::NodeNeedsApproval => "nodeNeedsApproval",
            Self::NodeApproved => "nodeApproved",
            Self::NodeKeyExpiringInOneDay => "nodeKeyExpiringInOneDay",
            Self::NodeKeyExpired => "nodeKeyExpired",
            Self::NodeDeleted => "nodeDeleted",
            Self::NodeSigned => "nodeSigned",
            Self::NodeNeedsSignature => "nodeNeedsSignature",
            Self::PolicyUpdate => "policyUpdate",
            Self::UserCreated => "userCreated",
            Self::UserNeedsApproval => "userNeedsApproval",
            Self::UserSuspended => "userSuspended",
            Self::UserRestored => "userRestored",
            Self::UserDeleted => "userDeleted",
            Self::UserApproved => "userApproved",
            Self::UserRoleUpdated => "userRoleUpdated",
            Self::SubnetIpForwardingNotEnabled => "subnetIPForwardingNotEnabled",
            Self::ExitNodeIpForwardingNotEnabled => "exitNodeIPForwardingNotEnabled",
            Self::Test => "test",
            Self::WebhookUpdated => "webhookUpdated",
            Self::WebhookDeleted => "webhookDeleted",
        }
    }

    /// Whether it belongs to `categoryTailnetManagement`.
    pub const fn is_management(self) -> bool {
        !self.is_misconfiguration() && !self.is_about_endpoint()
    }

    /// Whether it belongs to `categoryDeviceMisconfigurations`.
    pub const fn is_misconfiguration(self) -> bool {
        matches!(
            self,
            Self::SubnetIpForwardingNotEnabled | Self::ExitNodeIpForwardingNotEnabled
        )
    }

    /// Whether it is about an endpoint, which alone is told of it, whatever it subscribed to.
    pub const fn is_about_endpoint(self) -> bool {
        matches!(
            self,
            Self::Test | Self::WebhookUpdated | Self::WebhookDeleted
        )
    }
}
