//! The policy language: text and topology in, compiled policy out.
//!
//! [`Policy::parse`] reads and checks a policy file. [`Compiled::new`] applies it to a
//! [`Topology`], and answers for each device what it is sent: its packet filter, the devices that
//! it sees, its routes, its SSH policy, its capabilities. When the tailnet changes,
//! [`Compiled::apply`] brings the answers up to date at a cost that follows what changed, and says
//! what that may have touched; a copy of the old state costs next to nothing and stays as it was.
//! The policy's own tests, previews, explanations and comparisons are questions to the same thing.
//!
//! The measure of every rule is the real service: its recordings run as a test. This crate does no
//! IO, knows no async, reads no clock and draws no random numbers: all of it is functions.
//!
//! ```
//! use bowline_policy::{Compiled, Policy, Question, Topology};
//! use std::sync::Arc;
//!
//! let policy = Policy::parse(
//!     r#"{
//!         "tagOwners": {"tag:web": []},
//!         "acls": [{"action": "accept", "src": ["alice@example.com"], "dst": ["tag:web:443"]}],
//!     }"#,
//! )
//! .map_err(|errors| errors[0].to_string())?;
//! let policy = Arc::new(policy);
//! // A device for each user and each tag that the file names: alice is 1, tag:web is 2.
//! let net = Compiled::new(Arc::clone(&policy), &Topology::implied_by(&policy));
//! assert!(net.visible(1, 2));
//! let filter = serde_json::to_value(net.filters_for(2)).unwrap();
//! assert_eq!(filter[0]["SrcIPs"][0], "100.64.0.1");
//! assert_eq!(filter[0]["DstPorts"][0]["Ports"]["First"], 443);
//!
//! let question = Question {
//!     src: "alice@example.com".to_owned(),
//!     dst: "tag:web:22".to_owned(),
//!     protocol: None,
//! };
//! assert!(!net.explain(&question)?.allowed);
//! # Ok::<(), String>(())
//! ```

mod budget;
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

pub use budget::{Budget, Cancel, Exhausted, Limits};
pub use compiled::{
    AccessChange, AttributeChange, CapGrant, CapabilityMap, ClassId, Compiled, Connection,
    Described, Diff, Direction, DstPorts, End, Explanation, FailedPosture, FilterRule, Impact,
    Match, Named, Pair, PreviewTarget, Question, Reason, RouteChange, SshAction, SshChange,
    SshDecision, SshPolicyRule, TagAssigner, Unanswered, Verdict,
};
pub use diagnostic::{Diagnostic, Failure, Place, Warning};
pub use policy::Policy;
pub use port::PortRange;
pub use section::attr_config::AttributeConfig;
pub use section::derp_map::{RelayMap, RelayNode, RelayRegion};
pub use section::postures::{AttributeValue, Attributes};
pub use section::settings::PolicySettings;
pub use section::ssh::CheckPeriod;
pub use selector::{Role, check_tag};
pub use set::DeviceSet;
pub use topology::{Device, DeviceId, Owner, Topology, TopologyChange, User, UserId};

/// The policy of a new tailnet: every device may reach every other, and people may open SSH
/// sessions on their own devices. It is in canonical layout, so its `ETag` is the hash of this text.
pub const DEFAULT_POLICY: &str = include_str!("default_policy.hujson");
