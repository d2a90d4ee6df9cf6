//! Capability versions and node capabilities.

/// A client's capability version: what it understands. Release 1.80 has 113.
pub type CapabilityVersion = u32;

/// Oldest clients that are served: release 1.80.
pub const MINIMUM: CapabilityVersion = 113;
/// Since release 1.82 clients pin a relay's certificate by `sha256-raw:` in `CertName`.
pub const PINNED_RELAY_CERTIFICATE: CapabilityVersion = 115;
/// Since release 1.86 clients take `DisplayMessages` in place of `Health`.
pub const DISPLAY_MESSAGES: CapabilityVersion = 117;

/// The user is an administrator of the tailnet.
pub const IS_ADMIN: &str = "https://tailscale.com/cap/is-admin";
/// The user owns the tailnet.
pub const IS_OWNER: &str = "https://tailscale.com/cap/is-owner";
/// The tailnet may use Tailscale SSH; without it clients refuse `--ssh`.
pub const SSH: &str = "https://tailscale.com/cap/ssh";
/// Taildrop is on.
pub const FILE_SHARING: &str = "https://tailscale.com/cap/file-sharing";
/// Default of client auto-update, `[true]` or `[false]`.
pub const DEFAULT_AUTO_UPDATE: &str = "default-auto-update";
/// Do not look for captive portals: our relays do not serve port 80.
pub const NO_CAPTIVE_PORTAL_DETECTION: &str = "disable-captive-portal-detection";
/// The node is an exit node that may be suggested to people.
pub const SUGGEST_EXIT_NODE: &str = "suggest-exit-node";
/// One route for all addresses of the tailnet instead of one for each peer.
pub const ONE_CGNAT_ON: &str = "one-cgnat?v=true";
/// The opposite.
pub const ONE_CGNAT_OFF: &str = "one-cgnat?v=false";
/// SSH clients may set the environment variables that the policy lets them (`acceptEnv`).
pub const SSH_ENVIRONMENT: &str = "ssh-env-vars";
/// Sessions are started without `su`, and SFTP is served by the client itself: as the real service
/// has it on every node.
pub const SSH_BEHAVIOR_V1: &str = "ssh-behavior-v1";
/// App connectors remember routes that they learnt over a restart.
pub const STORE_APP_CONNECTOR_ROUTES: &str = "store-appc-routes";
/// Clients find out how long their NAT keeps a path open.
pub const PROBE_UDP_LIFETIME: &str = "probe-udp-lifetime";
/// The tailnet's name for people, its one value.
pub const TAILNET_DISPLAY_NAME: &str = "tailnet-display-name";
