//! The tailnet that a policy is applied to.

use crate::section::postures::Attributes;
use crate::selector::Role;
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Number of a device. Stays the device's own for good.
pub type DeviceId = u64;

/// Number of a user.
pub type UserId = u64;

/// Everything about a tailnet that a policy can refer to.
#[derive(Debug, Clone, Default)]
pub struct Topology {
    /// Users, also those of other tailnets who own a device that is shared in.
    pub users: Vec<User>,
    /// Devices. Order does not matter: [`Device::joined`] does.
    pub devices: Vec<Device>,
    /// Groups synced from a directory (`group:name@domain`), with their members' logins.
    pub groups: BTreeMap<String, Vec<String>>,
    /// Services (`svc:name`) with their virtual addresses.
    pub services: BTreeMap<String, Vec<IpAddr>>,
    /// HTTPS certificates are enabled for the tailnet.
    pub https_enabled: bool,
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Number, also the order of users in SSH policies.
    pub id: UserId,
    /// Login name, such as `alice@example.com`. Case does not matter.
    pub login: String,
    /// Role in the tailnet.
    pub role: Role,
}

/// Who a device belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Owner {
    /// A user.
    User(UserId),
    /// Nobody: the device is tagged. Each tag is `tag:name`.
    Tags(Vec<String>),
}

/// A device.
#[derive(Debug, Clone, PartialEq)]
pub struct Device {
    /// Number.
    pub id: DeviceId,
    /// Name, for explanations only.
    pub name: String,
    /// Place in the order in which devices joined; decides between routers of one route.
    pub joined: u64,
    /// User or tags.
    pub owner: Owner,
    /// Its addresses in the tailnet, IPv4 first.
    pub addresses: Vec<IpAddr>,
    /// Routes that the device advertises, exit routes included.
    pub advertised: Vec<IpNet>,
    /// Routes that are approved and advertised, exit routes included.
    pub routes: Vec<IpNet>,
    /// Posture attributes that hold now.
    pub attributes: Attributes,
    /// Services that the device is an approved host of (`svc:name`).
    pub services: Vec<String>,
    /// Connected. A connected router is primary before one that is not.
    pub online: bool,
    /// Its place in sets of devices, where the caller has a numbering of its own: all devices of a
    /// tailnet have one then, each another. `None`: whichever is free.
    pub slot: Option<u32>,
}

/// A change of the tailnet.
#[derive(Debug, Clone)]
pub enum TopologyChange {
    /// A device came, or something about it changed.
    Device(Box<Device>),
    /// A device left.
    DeviceGone(DeviceId),
    /// A user came, or their role or login changed.
    User(User),
    /// A user left. Their devices should have left before.
    UserGone(UserId),
    /// A directory group changed; no members and gone are the same.
    Group {
        /// `group:name@domain`
        name: String,
        /// Logins.
        members: Vec<String>,
    },
    /// A service changed its addresses; none and gone are the same.
    Service {
        /// `svc:name`
        name: String,
        /// Virtual addresses.
        addresses: Vec<IpAddr>,
    },
    /// HTTPS certificates were switched on or off.
    Https(bool),
}

/// Whether a route is one of the two that make an exit node.
pub(crate) fn is_exit_route(route: IpNet) -> bool {
    route.prefix_len() == 0
}
