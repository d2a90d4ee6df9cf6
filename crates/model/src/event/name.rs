//! The names of events, `TARGET.ACTION` or `TARGET.ACTION.PROPERTY`: what the audit log's filter takes.
//!
//! This table is the one place that has the official names. A test of the `api` crate holds it
//! against the official OpenAPI document.

use std::fmt;

macro_rules! names {
    (
        official { $($official:ident = $target:literal $action:literal $($property:literal)?;)+ }
        own { $($(#[$doc:meta])+ $own:ident = $own_target:literal $own_action:literal $($own_property:literal)?;)+ }
    ) => {
        /// The name of a kind of event.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Name {
            $(
                #[doc = concat!("`", $target, ".", $action, $(".", $property,)? "`")]
                $official,
            )+
            $(
                $(#[$doc])+
                $own,
            )+
        }

        impl Name {
            /// Every name: the official ones in the order of the official document, then our own.
            pub const ALL: &[Self] = &[$(Self::$official,)+ $(Self::$own,)+];

            /// Whether the official audit log has it. The others are ours.
            pub const fn is_official(self) -> bool {
                match self {
                    $(Self::$official => true,)+
                    $(Self::$own => false,)+
                }
            }

            /// What it is about: `NODE`, `API_KEY`, `USER`, `TAILNET`, …
            pub const fn target(self) -> &'static str {
                match self {
                    $(Self::$official => $target,)+
                    $(Self::$own => $own_target,)+
                }
            }

            /// What was done: `CREATE`, `UPDATE`, `DELETE`, `APPROVE`, …
            pub const fn action(self) -> &'static str {
                match self {
                    $(Self::$official => $action,)+
                    $(Self::$own => $own_action,)+
                }
            }

            /// What it was done to, where that is a part of the target: `ACL_TAGS`, …
            pub const fn property(self) -> Option<&'static str> {
                let text = match self {
                    $(Self::$official => concat!($($property)?),)+
                    $(Self::$own => concat!($($own_property)?),)+
                };
                if text.is_empty() { None } else { Some(text) }
            }
        }
    };
}

names! {
    // Source: the official OpenAPI document, parameter `event` of `listConfigurationAuditLogs`.
    official {
        AdminConsoleLogin = "ADMIN_CONSOLE" "LOGIN";
        AdminConsoleLogout = "ADMIN_CONSOLE" "LOGOUT";
        ApiKeyCreate = "API_KEY" "CREATE";
        ApiKeyExpired = "API_KEY" "EXPIRED";
        ApiKeyRevoke = "API_KEY" "REVOKE";
        BillingCancelSubscription = "BILLING" "CANCEL" "SUBSCRIPTION";
        BillingCreateSubscription = "BILLING" "CREATE" "SUBSCRIPTION";
        BillingUpdateAddress = "BILLING" "UPDATE" "ADDRESS";
        BillingUpdateBillingOwner = "BILLING" "UPDATE" "BILLING_OWNER";
        BillingUpdateEmail = "BILLING" "UPDATE" "EMAIL";
        BillingUpdatePaymentInfo = "BILLING" "UPDATE" "PAYMENT_INFO";
        BillingUpdateStripeCustomerId = "BILLING" "UPDATE" "STRIPE_CUSTOMER_ID";
        BillingUpdateSubscription = "BILLING" "UPDATE" "SUBSCRIPTION";
        FailedRequestUpdate = "FAILED_REQUEST" "UPDATE";
        GroupPushGroupAttributes = "GROUP" "PUSH_GROUP" "ATTRIBUTES";
        InviteAcceptFeature = "INVITE" "ACCEPT" "FEATURE";
        InviteAcceptNodeShare = "INVITE" "ACCEPT" "NODE_SHARE";
        InviteAcceptTailnetInvite = "INVITE" "ACCEPT" "TAILNET_INVITE";
        InviteCreateFeature = "INVITE" "CREATE" "FEATURE";
        InviteCreateNodeShare = "INVITE" "CREATE" "NODE_SHARE";
        InviteCreateTailnetInvite = "INVITE" "CREATE" "TAILNET_INVITE";
        InviteDeleteNodeShare = "INVITE" "DELETE" "NODE_SHARE";
        InviteDeleteTailnetInvite = "INVITE" "DELETE" "TAILNET_INVITE";
        InviteResendNodeShare = "INVITE" "RESEND" "NODE_SHARE";
        InviteResendTailnetInvite = "INVITE" "RESEND" "TAILNET_INVITE";
        NodeApprove = "NODE" "APPROVE";
        NodeCreate = "NODE" "CREATE";
        NodeCreateAttributes = "NODE" "CREATE" "ATTRIBUTES";
        NodeDelete = "NODE" "DELETE";
        NodeDeleteAttributes = "NODE" "DELETE" "ATTRIBUTES";
        NodeDisableKeyExpiry = "NODE" "DISABLE" "KEY_EXPIRY";
        NodeDisconnectNodeClientLog = "NODE" "DISCONNECT_NODE" "CLIENT_LOG";
        NodeEnableKeyExpiry = "NODE" "ENABLE" "KEY_EXPIRY";
        NodeExpiredKeyExpiryTime = "NODE" "EXPIRED" "KEY_EXPIRY_TIME";
        NodeLogin = "NODE" "LOGIN";
        NodeLogout = "NODE" "LOGOUT";
        NodeRevoke = "NODE" "REVOKE";
        NodeUpdateAclTags = "NODE" "UPDATE" "ACL_TAGS";
        NodeUpdateAllowedIps = "NODE" "UPDATE" "ALLOWED_IPS";
        NodeUpdateAttributes = "NODE" "UPDATE" "ATTRIBUTES";
        NodeUpdateAutoApprovedRoutes = "NODE" "UPDATE" "AUTO_APPROVED_ROUTES";
        NodeUpdateExitNode = "NODE" "UPDATE" "EXIT_NODE";
        NodeUpdateKeyExpiryTime = "NODE" "UPDATE" "KEY_EXPIRY_TIME";
        NodeUpdateMachineName = "NODE" "UPDATE" "MACHINE_NAME";
        NodeUpdatePostureIdentity = "NODE" "UPDATE" "POSTURE_IDENTITY";
        NodeUpdateTka = "NODE" "UPDATE" "TKA";
        ShareCreate = "SHARE" "CREATE";
        ShareDelete = "SHARE" "DELETE";
        ShareUpdate = "SHARE" "UPDATE";
        TailnetAcceptFeature = "TAILNET" "ACCEPT" "FEATURE";
        TailnetCreate = "TAILNET" "CREATE";
        TailnetCreateLogstreamEndpoint = "TAILNET" "CREATE" "LOGSTREAM_ENDPOINT";
        TailnetCreatePostureIntegration = "TAILNET" "CREATE" "POSTURE_INTEGRATION";
        TailnetCreateTka = "TAILNET" "CREATE" "TKA";
        TailnetDeleteLogstreamEndpoint = "TAILNET" "DELETE" "LOGSTREAM_ENDPOINT";
        TailnetDeletePostureIntegration = "TAILNET" "DELETE" "POSTURE_INTEGRATION";
        TailnetDeleteTka = "TAILNET" "DELETE" "TKA";
        TailnetDisableCollectPostureIdentity = "TAILNET" "DISABLE" "COLLECT_POSTURE_IDENTITY";
        TailnetDisableCollectServices = "TAILNET" "DISABLE" "COLLECT_SERVICES";
        TailnetDisableFileSharing = "TAILNET" "DISABLE" "FILE_SHARING";
        TailnetDisableGeosteering = "TAILNET" "DISABLE" "GEOSTEERING";
        TailnetDisableHttps = "TAILNET" "DISABLE" "HTTPS";
        TailnetDisableLogExitFlows = "TAILNET" "DISABLE" "LOG_EXIT_FLOWS";
        TailnetDisableMachineApprovalNeeded = "TAILNET" "DISABLE" "MACHINE_APPROVAL_NEEDED";
        TailnetDisableMagicDns = "TAILNET" "DISABLE" "MAGIC_DNS";
        TailnetDisableMullvadVpn = "TAILNET" "DISABLE" "MULLVAD_VPN";
        TailnetDisableNetworkFlowLogging = "TAILNET" "DISABLE" "NETWORK_FLOW_LOGGING";
        TailnetDisableScim = "TAILNET" "DISABLE" "SCIM";
        TailnetDisableTka = "TAILNET" "DISABLE" "TKA";
        TailnetDisableUserApprovalRequired = "TAILNET" "DISABLE" "USER_APPROVAL_REQUIRED";
        TailnetEnableCollectPostureIdentity = "TAILNET" "ENABLE" "COLLECT_POSTURE_IDENTITY";
        TailnetEnableCollectServices = "TAILNET" "ENABLE" "COLLECT_SERVICES";
        TailnetEnableFileSharing = "TAILNET" "ENABLE" "FILE_SHARING";
        TailnetEnableGeosteering = "TAILNET" "ENABLE" "GEOSTEERING";
        TailnetEnableHttps = "TAILNET" "ENABLE" "HTTPS";
        TailnetEnableLogExitFlows = "TAILNET" "ENABLE" "LOG_EXIT_FLOWS";
        TailnetEnableMachineApprovalNeeded = "TAILNET" "ENABLE" "MACHINE_APPROVAL_NEEDED";
        TailnetEnableMagicDns = "TAILNET" "ENABLE" "MAGIC_DNS";
        TailnetEnableMullvadVpn = "TAILNET" "ENABLE" "MULLVAD_VPN";
        TailnetEnableNetworkFlowLogging = "TAILNET" "ENABLE" "NETWORK_FLOW_LOGGING";
        TailnetEnableScim = "TAILNET" "ENABLE" "SCIM";
        TailnetEnableTka = "TAILNET" "ENABLE" "TKA";
        TailnetEnableUserApprovalRequired = "TAILNET" "ENABLE" "USER_APPROVAL_REQUIRED";
        TailnetJoin = "TAILNET" "JOIN";
        TailnetJoinWaitlistFeature = "TAILNET" "JOIN_WAITLIST" "FEATURE";
        TailnetLeave = "TAILNET" "LEAVE";
        TailnetUpdateAccountEmail = "TAILNET" "UPDATE" "ACCOUNT_EMAIL";
        TailnetUpdateAcl = "TAILNET" "UPDATE" "ACL";
        TailnetUpdateDnsConfig = "TAILNET" "UPDATE" "DNS_CONFIG";
        TailnetUpdateLogstreamEndpoint = "TAILNET" "UPDATE" "LOGSTREAM_ENDPOINT";
        TailnetUpdateMaxKeyDuration = "TAILNET" "UPDATE" "MAX_KEY_DURATION";
        TailnetUpdatePostureIntegration = "TAILNET" "UPDATE" "POSTURE_INTEGRATION";
        TailnetUpdateSecurityEmail = "TAILNET" "UPDATE" "SECURITY_EMAIL";
        TailnetUpdateSupportEmail = "TAILNET" "UPDATE" "SUPPORT_EMAIL";
        TailnetUpdateTcd = "TAILNET" "UPDATE" "TCD";
        TailnetUpdateTka = "TAILNET" "UPDATE" "TKA";
        TailnetVerifyAccountEmail = "TAILNET" "VERIFY" "ACCOUNT_EMAIL";
        TailnetVerifySecurityEmail = "TAILNET" "VERIFY" "SECURITY_EMAIL";
        TailnetVerifySupportEmail = "TAILNET" "VERIFY" "SUPPORT_EMAIL";
        UserApprove = "USER" "APPROVE";
        UserCreate = "USER" "CREATE";
        UserDelete = "USER" "DELETE";
        UserInvite = "USER" "INVITE";
        UserPushUserAttributes = "USER" "PUSH_USER" "ATTRIBUTES";
        UserResendTailnetInvite = "USER" "RESEND" "TAILNET_INVITE";
        UserRestore = "USER" "RESTORE";
        UserRestoreGlobal = "USER" "RESTORE_GLOBAL";
        UserSuspend = "USER" "SUSPEND";
        UserSuspendGlobal = "USER" "SUSPEND_GLOBAL";
        UserUpdateUserRole = "USER" "UPDATE" "USER_ROLE";
        WebhookEndpointCreate = "WEBHOOK_ENDPOINT" "CREATE";
        WebhookEndpointDelete = "WEBHOOK_ENDPOINT" "DELETE";
        WebhookEndpointUpdateSecret = "WEBHOOK_ENDPOINT" "UPDATE" "SECRET";
        WebhookEndpointUpdateSubscribedEvents = "WEBHOOK_ENDPOINT" "UPDATE" "SUBSCRIBED_EVENTS";
        WebInterfaceLogin = "WEB_INTERFACE" "LOGIN";
        WebInterfaceLogout = "WEB_INTERFACE" "LOGOUT";
    }
    own {
        /// An API key expires soon.
        ApiKeyExpiring = "API_KEY" "EXPIRING";
        /// An API key that a wrong clock had ended is good again.
        ApiKeyRestored = "API_KEY" "RESTORED";
        /// An OAuth client or a federated identity was given other scopes, tags or rules.
        ApiKeyUpdate = "API_KEY" "UPDATE";
        /// An access token was made from an OAuth client or a federated identity. The official log has
        /// such events, and its list of filters does not.
        OauthAccessTokenCreate = "OAUTH_ACCESS_TOKEN" "CREATE";
        /// An access token was revoked by itself.
        OauthAccessTokenRevoke = "OAUTH_ACCESS_TOKEN" "REVOKE";
        /// A device that waited for its login was refused.
        LoginDeny = "LOGIN" "DENY";
        /// A posture attribute that a wrong clock had ended counts again.
        NodeRestoredAttributes = "NODE" "RESTORED" "ATTRIBUTES";
        /// A node key that a wrong clock had ended is good again.
        NodeRestoredKeyExpiryTime = "NODE" "RESTORED" "KEY_EXPIRY_TIME";
        /// A node key expires within a day.
        NodeExpiringKeyExpiryTime = "NODE" "EXPIRING" "KEY_EXPIRY_TIME";
        /// A device does not forward IP packets, and advertises routes.
        NodeWarnIpForwarding = "NODE" "WARN" "IP_FORWARDING";
        /// Events that a webhook endpoint was not told are to be told again.
        WebhookEndpointReplay = "WEBHOOK_ENDPOINT" "REPLAY";
        /// An SSH session that waited was confirmed.
        NodeApproveSshSession = "NODE" "APPROVE" "SSH_SESSION";
        /// An SSH session that waited was refused.
        NodeDenySshSession = "NODE" "DENY" "SSH_SESSION";
        /// A device was refused tags that it asks for, or no longer is.
        NodeDenyAclTags = "NODE" "DENY" "ACL_TAGS";
        /// The operator said that the server's clock is right after a jump.
        TailnetConfirmClock = "TAILNET" "CONFIRM" "CLOCK";
    }
}

impl fmt::Display for Name {
    /// `NODE.UPDATE.ACL_TAGS`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.target(), self.action())?;
        match self.property() {
            Some(property) => write!(f, ".{property}"),
            None => Ok(()),
        }
    }
}

impl Name {
    /// Reads a name. `None` for a text that is not one.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|name| name.to_string() == text)
    }
}
