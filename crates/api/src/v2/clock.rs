//! The server's clock: for its operator only. Operations of ours.

pub(crate) mod confirm;
pub(crate) mod get;

use bowline_engine::Engine;
use schemars::JsonSchema;
use serde::Serialize;

use crate::text::{Time, time};

/// What the clocks show.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Clock {
    /// The time that the server goes by.
    time: Time,
    /// What the machine's clock shows.
    wall_clock: Time,
    /// The machine's clock jumped, and the server goes on by the time that has passed until the
    /// clock comes back or is confirmed.
    is_held: bool,
    /// Jumps that were held back since the start.
    jumps: u64,
    would_expire: WouldExpire,
}

/// What would expire if the machine's clock were confirmed now.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
struct WouldExpire {
    devices: usize,
    keys: usize,
}

impl Clock {
    fn of(engine: &Engine) -> Self {
        let clock = engine.clock();
        let due = engine.falls_due();
        Self {
            time: time(clock.time),
            wall_clock: time(clock.wall),
            is_held: clock.is_held,
            jumps: clock.jumps,
            would_expire: WouldExpire {
                devices: due.devices,
                keys: due.credentials,
            },
        }
    }
}
