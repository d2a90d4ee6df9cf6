//! The operator's word that the clock of the machine is right after all.

use bowline_model::event::{Event, TailnetRef};
use bowline_model::requirement::Requirement;
use jiff::{SignedDuration, Timestamp};

use crate::core::actor::Actor;
use crate::core::engine::Engine;
use crate::core::failure::Refusal;
use crate::core::timekeeper::{ClockStatus, is_impossible};

/// How far the clock may have gone on between an operator's look and their word.
const SEEN_WITHIN: SignedDuration = SignedDuration::from_hours(1);

/// What the operator's word about the clock would end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FallsDue {
    /// Devices whose node key would expire.
    pub devices: usize,
    /// Auth keys and API access tokens that would expire.
    pub credentials: usize,
}

impl Engine {
    /// What would expire if the wall clock were believed. Nothing where it shows an earlier time.
    pub fn falls_due(&self) -> FallsDue {
        let ClockStatus { time, wall, .. } = self.clock();
        let is_between = |moment: Timestamp| time < moment && moment <= wall;
        let mut due = FallsDue::default();
        for snapshot in self
            .tailnets()
            .into_iter()
            .filter_map(|id| self.snapshot(id))
        {
            let devices = snapshot.devices().filter(|entry| {
                let device = &entry.device;
                !device.expired && device.effective_expiry().is_some_and(is_between)
            });
            let credentials = snapshot.credentials().filter(|credential| {
                credential.is_valid(time) && credential.expires.is_some_and(is_between)
            });
            due.devices += devices.count();
            due.credentials += credentials.count();
        }
        due
    }

    /// The operator's word that the wall clock is right. `seen`: what they saw it show.
    ///
    /// # Errors
    /// `Invalid` when the clock shows something else by now, or a moment that cannot be; a failure
    /// to store the audit events of the tailnets.
    pub async fn confirm_clock(&self, seen: Timestamp) -> Result<ClockStatus, Refusal> {
        let wall = self.clock().wall;
        if wall.duration_since(seen).abs() >= SEEN_WITHIN {
            return Err(Refusal::invalid(format!(
                "the clock shows {wall} now and not {seen}; look at it again"
            )));
        }
        if is_impossible(wall) {
            return Err(Refusal::invalid(format!(
                "the clock shows {wall}, which is before this program was made; set it first"
            )));
        }
        let before = self.now();
        let group = self.new_group();
        for tailnet in self.tailnets() {
            let operator = Actor::operator(tailnet)
                .asking(Requirement::OPERATOR)
                .in_group(group);
            let noted: Result<(), Refusal> = self
                .write(&operator, move |draft| {
                    let tailnet = TailnetRef::of(draft.view().tailnet());
                    draft.audit(Event::ClockConfirmed {
                        tailnet,
                        old: before,
                        new: wall,
                    });
                    Ok(())
                })
                .await;
            noted?;
        }
        self.0.clock.believe();
        self.note_clock().await;
        self.look_at_the_clock().await;
        Ok(self.clock())
    }
}
