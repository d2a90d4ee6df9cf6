//! `bowline clock`.

use anyhow::Result;
use serde::Deserialize;
use serde_json::json;

use super::output::{Session, confirm, print};

/// What can be done about the server's clock. For its operator only: not with `--server`.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Show the time that the server goes by, and the machine's clock
    #[command(after_help = "\
Example:
  bowline clock show")]
    Show,
    /// Say that the machine's clock is right after a jump of more than a day
    #[command(after_help = "\
What falls due because of the jump waits for this. On a terminal it asks first; elsewhere it needs \
--yes.

Examples:
  bowline clock confirm
  bowline clock confirm --yes")]
    Confirm {
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Clock {
    time: String,
    wall_clock: String,
    is_held: bool,
    would_expire: WouldExpire,
}

#[derive(Deserialize)]
struct WouldExpire {
    devices: u64,
    keys: u64,
}

impl Clock {
    fn shown(&self) -> String {
        if self.is_held {
            format!(
                "The machine's clock jumped: it shows {}, and the server goes by {}.\n\
                 Set the clock right, or confirm it: bowline clock confirm. {}",
                self.wall_clock,
                self.time,
                self.consequences()
            )
        } else {
            format!("The server goes by the machine's clock: {}.", self.time)
        }
    }

    fn consequences(&self) -> String {
        let WouldExpire { devices, keys } = self.would_expire;
        format!("Confirmed, {devices} devices and {keys} auth keys and tokens expire at once.")
    }
}

/// Runs one of the commands.
pub(super) async fn run(command: Command, session: &mut Session) -> Result<()> {
    let answer = session.api.get("clock").await?;
    let clock: Clock = answer.read()?;
    match command {
        Command::Show => session.answer(&answer, || Ok(clock.shown())),
        Command::Confirm { yes } => {
            if !clock.is_held {
                return session.answer(&answer, || Ok(clock.shown()));
            }
            if !session.is_json {
                print(&clock.shown())?;
            }
            confirm(yes, &format!("Is {} right?", clock.wall_clock))?;
            let body = json!({"wallClock": clock.wall_clock});
            let answer = session.api.post("clock/confirm", &body).await?;
            let confirmed: Clock = answer.read()?;
            session.answer(&answer, || Ok(confirmed.shown()))
        }
    }
}
