//! Routes: who is primary, and who is told of which.

use super::{Compiled, Touched};
use crate::program::{AtomId, SourceId, touch};
use crate::selector::Selector;
use crate::set::Slot;
use crate::topology::{Device, DeviceId, Owner, is_exit_route};
use ipnet::IpNet;
use std::sync::Arc;

/// A subnet route that some device has approved.
#[derive(Debug, Clone, Default)]
pub(super) struct RouteState {
    /// Its routers in the order in which they joined.
    pub(super) routers: Vec<Router>,
    /// Selectors that it overlaps, ascending.
    atoms: Arc<[AtomId]>,
    /// Sources with one of those selectors, ascending.
    sources: Arc<[SourceId]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Router {
    joined: u64,
    id: DeviceId,
    pub(super) slot: Slot,
    online: bool,
}

/// How a viewer gets to a subnet.
enum Steering {
    /// Not at all.
    None,
    /// Through the route's primary router.
    Primary,
    /// Through the routers that `via` chose.
    Through(Vec<Slot>),
}

impl RouteState {
    /// The first of these routers that is connected, or else the first.
    fn first(&self, suits: impl Fn(&Router) -> bool) -> Option<Slot> {
        let mut suitable = self.routers.iter().filter(|router| suits(router));
        let online = suitable.clone().find(|router| router.online);
        online.or_else(|| suitable.next()).map(|router| router.slot)
    }
}

impl Compiled {
    /// Updates the routes of one device.
    pub(super) fn index_routes(
        &mut self,
        slot: Slot,
        old: Option<&Device>,
        new: Option<&Device>,
        touched: &mut Touched<'_>,
    ) {
        let before = old.map(subnets).unwrap_or_default();
        let after = new.map(subnets).unwrap_or_default();
        let router = new.map(|device| Router {
            joined: device.joined,
            id: device.id,
            slot,
            online: device.online,
        });
        let exit = |device: Option<&Device>| {
            device.is_some_and(|device| device.routes.iter().any(|route| is_exit_route(*route)))
        };
        touched.routes |= exit(old) != exit(new);
        let count = self.routes.len();
        let mut same_routes = true;
        for route in before.iter().filter(|route| !after.contains(route)) {
            touched.routes = true;
            if let Some(state) = self.routes.get_mut(route) {
                let state = Arc::make_mut(state);
                state.routers.retain(|router| router.slot != slot);
                if state.routers.is_empty() {
                    self.routes.remove(route);
                    self.tailnet_routes.remove(route);
                    same_routes = false;
                }
            }
        }
        for route in &after {
            let fresh = !self.routes.contains_key(route);
            let state = Arc::make_mut(self.routes.entry(*route).or_default());
            let old = state.routers.iter().position(|known| known.slot == slot);
            let old = old.map(|at| state.routers.remove(at));
            if old != router {
                touched.routes = true;
            }
            if let Some(router) = router {
                let at = state.routers.partition_point(|known| *known < router);
                state.routers.insert(at, router);
            }
            if fresh {
                same_routes = false;
                if crate::range::in_tailnet(*route) {
                    self.tailnet_routes.insert(*route);
                }
                self.refresh_route(*route);
            }
        }
        touched.subnets |= count != self.routes.len() || !same_routes;
    }

    /// `*` as source lists all subnets: once for all that changed.
    pub(super) fn refresh_subnets(&mut self, touched: &mut Touched<'_>) {
        if !touched.subnets {
            return;
        }
        let program = Arc::clone(&self.program);
        for atom in &program.matchers.everything {
            let sources = program.sources_of_atom.get(*atom as usize);
            for source in sources.into_iter().flatten() {
                self.refresh_fixed_wire(*source, touched.budget);
                touched.wires.insert(*source);
            }
        }
    }

    /// Finds out again which selectors a route overlaps.
    pub(super) fn refresh_route(&mut self, route: IpNet) {
        let mut atoms = Vec::new();
        self.route_atoms(route, None, &mut atoms);
        let mut atoms: Vec<AtomId> = atoms.into_iter().map(|(atom, _)| atom).collect();
        atoms.sort_unstable();
        atoms.dedup();
        let known = atoms
            .iter()
            .filter_map(|atom| self.program.sources_of_atom.get(*atom as usize));
        let mut sources: Vec<SourceId> = known.flatten().copied().collect();
        sources.sort_unstable();
        sources.dedup();
        if let Some(state) = self.routes.get_mut(&route) {
            let state = Arc::make_mut(state);
            state.atoms = atoms.into();
            state.sources = sources.into();
        }
    }

    /// The subnet routes for which a device is primary, sorted: IPv4 first, by address and length.
    pub fn primary_routes(&self, device: DeviceId) -> Vec<IpNet> {
        let Some((slot, state)) = self.state_of(device) else {
            return Vec::new();
        };
        let primary = |route: &&IpNet| {
            self.routes
                .get(*route)
                .and_then(|state| state.first(|_| true))
                == Some(slot)
        };
        state
            .standing
            .subnets
            .iter()
            .filter(primary)
            .copied()
            .collect()
    }

    /// What of a peer's approved routes a viewer is told: the exit routes always, a subnet if
    /// some rule lets the viewer use it, or be used from it. Sorted. The peer's own addresses are
    /// not in it. Whether the two are peers at all is not asked here.
    pub fn allowed_routes(&self, viewer: DeviceId, peer: DeviceId) -> Vec<IpNet> {
        let (Some((_, viewer)), Some((slot, peer))) = (self.state_of(viewer), self.state_of(peer))
        else {
            return Vec::new();
        };
        let through = |route: &IpNet| {
            let Some(state) = self.routes.get(route) else {
                return false;
            };
            match self.steering(viewer.class, *route, state) {
                Steering::None => false,
                Steering::Primary => state.first(|_| true) == Some(slot),
                Steering::Through(routers) => routers.contains(&slot),
            }
        };
        let exit = peer
            .device
            .routes
            .iter()
            .filter(|route| is_exit_route(**route));
        let subnets = peer.standing.subnets.iter().filter(|route| through(route));
        let mut routes: Vec<IpNet> = exit.chain(subnets).copied().collect();
        routes.sort_unstable();
        routes.dedup();
        routes
    }

    fn steering(&self, viewer: super::ClassId, route: IpNet, state: &RouteState) -> Steering {
        let Some(class) = self.class(viewer) else {
            return Steering::None;
        };
        let program = &self.program;
        let sources = &class.rules.sources;
        let regular = sources
            .iter()
            .filter_map(|source| program.reached.get(*source as usize))
            .any(|reached| intersect(reached, &state.atoms));
        if regular {
            return Steering::Primary;
        }
        let through: Vec<Slot> = sources
            .iter()
            .filter_map(|source| program.steering.get(*source as usize))
            .flatten()
            .filter_map(|rule| self.program.rule(*rule))
            .filter(|rule| {
                rule.entries.iter().any(|entry| {
                    state.atoms.binary_search(&entry.atom).is_ok() && self.is_routable(entry.atom)
                })
            })
            .filter_map(|rule| {
                let routers = self.routers_of(rule);
                state.first(|router| routers.contains(router.slot))
            })
            .collect();
        if !through.is_empty() {
            return Steering::Through(through);
        }
        let returns = class
            .key
            .atoms()
            .iter()
            .filter_map(|(atom, _)| program.reaching.get(*atom as usize))
            .any(|reaching| intersect(reaching, &state.sources));
        if returns || class.key.subnets.contains(&route) {
            return Steering::Primary;
        }
        Steering::None
    }

    /// Whether a selector is about addresses that may lie behind a router.
    fn is_routable(&self, atom: AtomId) -> bool {
        matches!(
            self.program.atom(atom),
            Some(Selector::Prefix(_) | Selector::Everything)
        )
    }

    /// Which of the routes that a device advertises the policy approves by itself. Sorted.
    /// Approving is up to the caller, and lasts when an approver is taken away.
    pub fn auto_approved_routes(&self, device: DeviceId) -> Vec<IpNet> {
        let Some((_, state)) = self.state_of(device) else {
            return Vec::new();
        };
        let program = &self.program;
        let selected = |approvers: &[AtomId]| {
            let mut own = state.standing.atoms.iter();
            own.any(|(atom, flags)| {
                flags & touch::OWN != 0 && approvers.binary_search(atom).is_ok()
            })
        };
        let approved = |route: &&IpNet| {
            if is_exit_route(**route) {
                return selected(&program.exit_approvers);
            }
            let mut wider = program.approved_prefixes.around(**route);
            wider.any(|number| {
                let approvers = program.route_approvers.get(number as usize);
                approvers.is_some_and(|approvers| selected(approvers))
            })
        };
        let mut routes: Vec<IpNet> = state
            .device
            .advertised
            .iter()
            .filter(approved)
            .copied()
            .collect();
        routes.sort_unstable();
        routes.dedup();
        routes
    }

    /// Whether the policy by itself approves a device as host of a service (`svc:name`), which
    /// may have tags of its own.
    pub fn auto_approves_service(&self, device: DeviceId, service: &str, tags: &[String]) -> bool {
        let Some((_, state)) = self.state_of(device) else {
            return false;
        };
        let entries = self.policy.auto_approvers.services.iter();
        let named = entries.filter(|(name, _)| name == service || tags.contains(name));
        named.flat_map(|(_, targets)| targets).any(|target| {
            let atom = self.program.index.get(&target.selector);
            atom.is_some_and(|atom| state.standing.flags(*atom) & touch::OWN != 0)
        })
    }

    /// Whether a device is an exit node with approved routes.
    pub fn is_exit_node(&self, device: DeviceId) -> bool {
        self.state_of(device)
            .is_some_and(|(_, state)| state.standing.exit)
    }

    /// Whether a device is tagged.
    pub fn is_tagged(&self, device: DeviceId) -> bool {
        self.device(device)
            .is_some_and(|device| matches!(device.owner, Owner::Tags(_)))
    }
}

fn subnets(device: &Device) -> Vec<IpNet> {
    let mut subnets: Vec<IpNet> = device
        .routes
        .iter()
        .copied()
        .filter(|route| !is_exit_route(*route))
        .collect();
    subnets.sort_unstable();
    subnets.dedup();
    subnets
}

/// Whether two ascending lists have something in common.
fn intersect(left: &[u32], right: &[u32]) -> bool {
    let (short, long) = if left.len() < right.len() {
        (left, right)
    } else {
        (right, left)
    };
    short.iter().any(|atom| long.binary_search(atom).is_ok())
}
