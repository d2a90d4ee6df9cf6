//! The policy language: text and topology in, compiled policy out.

mod compiled;
mod decode;
mod diagnostic;
mod duration;
pub mod fuzzing;
pub mod hujson;
mod policy;
mod port;
mod program;
mod range;
mod section;
mod selector;
mod set;
mod topology;
mod topology_file;

pub use compiled::{
    AccessChange, AttributeChange, CapGrant, CapabilityMap, ClassId, Compiled, Connection,
    Described, Diff, Direction, DstPorts, End, Explanation, FailedPosture, FilterRule, Impact,
    Match, Named, Pair, PreviewTarget, Principal, Question, Reason, RouteChange, SshAction,
    SshChange, SshDecision, SshPolicyRule, Verdict,
};
pub use diagnostic::{Diagnostic, Failure, Place};
pub use policy::Policy;
pub use port::PortRange;
pub use section::attr_config::AttributeConfig;
pub use section::postures::{AttributeValue, Attributes};
pub use section::settings::Settings;
pub use section::ssh::CheckPeriod;
pub use selector::{Role, check_tag};
pub use set::DeviceSet;
pub use topology::{Change, Device, DeviceId, Owner, Topology, User, UserId};

/// The policy of a new tailnet: every device may reach every other, and people may open SSH
/// sessions on their own devices. It is in canonical layout, so its `ETag` is the hash of this text.
pub const DEFAULT_POLICY: &str = include_str!("default_policy.hujson");
