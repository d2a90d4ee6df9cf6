//! What a device can report.

use std::net::SocketAddr;

use bowline_model::audit::EventGroup;
use bowline_model::device::HostFacts;
use bowline_model::key::DiscoKey;
use bowline_model::record::RawJson;

/// A device's report. Absent: it said nothing of this.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// Capability version.
    pub capability_version: u32,
    /// Path discovery key.
    pub disco_key: Option<DiscoKey>,
    /// Where it may be reached.
    pub endpoints: Option<Vec<SocketAddr>>,
    /// It said more endpoints than are kept.
    pub endpoints_shortened: bool,
    /// Host info without `NetInfo`, and what the server uses of it.
    pub hostinfo: Option<(RawJson, HostFacts)>,
    /// Its host info was too large to be taken: the one before stays.
    pub hostinfo_too_large: bool,
    /// What it says of its network.
    pub net_info: Option<NetReport>,
    /// The registration that it came with: what follows from it is an event of that. `None`: it came
    /// by itself.
    pub group: Option<EventGroup>,
}

/// What a device says of its network.
#[derive(Debug, Clone, PartialEq)]
pub struct NetReport {
    /// `NetInfo`.
    pub json: RawJson,
    /// The region that it wants to be reached through; 0: not known yet.
    pub home_derp: u32,
    /// Something in it did not fit.
    pub is_shortened: bool,
}

impl Report {
    /// Takes the place of this report in what a newer one says.
    pub(crate) fn take_over(&mut self, newer: Self) {
        if newer.capability_version != 0 {
            self.capability_version = newer.capability_version;
        }
        if newer.disco_key.is_some() {
            self.disco_key = newer.disco_key;
        }
        if newer.endpoints.is_some() {
            self.endpoints = newer.endpoints;
            self.endpoints_shortened = newer.endpoints_shortened;
        }
        if newer.hostinfo.is_some() {
            self.hostinfo = newer.hostinfo;
            self.hostinfo_too_large = false;
        }
        self.hostinfo_too_large |= newer.hostinfo_too_large;
        self.group = newer.group;
        if newer.net_info.is_some() {
            self.net_info = newer.net_info;
        }
    }
}
