//! A state that was published, and what was made of it for its viewers.

use std::sync::Arc;

use bowline_model::id::DeviceId;
use bowline_wire::map_request::Encoding;

use crate::applied_policy::Perspective;
use crate::cache::Cache;
use crate::owner_profiles::OwnerProfiles;
use crate::peer_delta::PeerDelta;
use crate::snapshot::Snapshot;
use crate::view::View;

/// From a revision in one perspective to another perspective.
pub(crate) type Way = (u64, Perspective, Perspective);

/// A state that readers and map streams are given, with the policy applied to it. It goes by the
/// revision of its snapshot.
///
/// What all viewers of a class are told alike is made once and kept here, so that streams which are at
/// one publication write the same bytes. It goes when the last stream that is at the publication
/// leaves it; snapshots and drafts made from them hold none of it. (The bytes of a device and of a
/// [`chunk`](crate::chunk) are another matter: they stay with these from publication to publication.)
#[derive(Debug)]
pub struct Publication {
    snapshot: Arc<Snapshot>,
    made: Arc<Made>,
}

/// What was made for viewers.
#[derive(Debug, Default)]
struct Made {
    views: Cache<Perspective, View>,
    profiles: Cache<(Perspective, Encoding), OwnerProfiles>,
    deltas: Cache<Way, PeerDelta>,
}

impl Publication {
    /// Applies the policy to a state and publishes it. Later states are made from its
    /// [snapshot](Self::snapshot), so that what the policy says of two states can be compared.
    pub fn new(snapshot: Snapshot) -> Self {
        snapshot.apply_policy();
        Self {
            snapshot: Arc::new(snapshot),
            made: Arc::default(),
        }
    }

    /// The same state when the change log has gone on without changing it: its revision stays, and
    /// so does what was made for its viewers.
    #[must_use]
    pub fn at_seq(&self, seq: u64) -> Self {
        let mut snapshot = (*self.snapshot).clone();
        snapshot.seq = seq;
        Self {
            snapshot: Arc::new(snapshot),
            made: self.made.clone(),
        }
    }

    /// The state.
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// What a viewer sees, shared by all viewers of its class.
    pub(crate) fn view(&self, perspective: Perspective, viewer: DeviceId) -> Arc<View> {
        let make = || View::of(perspective, viewer, &self.snapshot);
        self.made.views.get_or_make(perspective, make)
    }

    /// The profiles of the owners of all that a perspective sees.
    pub(crate) fn profiles(
        &self,
        perspective: Perspective,
        view: &View,
        encoding: Encoding,
    ) -> Arc<OwnerProfiles> {
        let make = || OwnerProfiles::of(view, &self.snapshot, encoding);
        self.made
            .profiles
            .get_or_make((perspective, encoding), make)
    }

    /// What happened to peers on the way from an earlier publication to this one.
    pub(crate) fn peer_delta(&self, way: Way, make: impl FnOnce() -> PeerDelta) -> Arc<PeerDelta> {
        self.made.deltas.get_or_make(way, make)
    }
}
