//! `bowline device`.

use anyhow::{Result, bail};
use serde::Deserialize;
use serde_json::json;

use super::api::{is_not_found, segment};
use super::output::{Session, clean, confirm, facts, list, print, table};

/// What can be done with devices. A device is named by its id, name or address.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List the devices
    #[command(after_help = "\
Examples:
  bowline device list
  bowline device list --json | jq -r '.devices[].name'")]
    List,
    /// Show a device
    #[command(after_help = "\
Example:
  bowline device show laptop")]
    Show {
        /// Node id, legacy id, name or address
        device: String,
    },
    /// Rename a device
    #[command(after_help = "\
Examples:
  bowline device rename laptop anns-laptop
  bowline device rename anns-laptop --reset")]
    Rename {
        /// Node id, legacy id, name or address
        device: String,
        /// The new name
        #[arg(required_unless_present = "reset", conflicts_with = "reset")]
        name: Option<String>,
        /// Follow the device's host name again
        #[arg(long)]
        reset: bool,
    },
    /// Delete a device from its tailnet
    #[command(after_help = "\
On a terminal it asks first; elsewhere it needs --yes.

Example:
  bowline device delete laptop --yes")]
    Delete {
        /// Node id, legacy id, name or address
        device: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Approve a device, or take the approval away
    #[command(after_help = "\
Examples:
  bowline device authorize laptop
  bowline device authorize laptop --revoke")]
    Authorize {
        /// Node id, legacy id, name or address
        device: String,
        /// Take the approval away
        #[arg(long)]
        revoke: bool,
    },
    /// Expire a device's key: it must log in again
    #[command(after_help = "\
Example:
  bowline device expire laptop --yes")]
    Expire {
        /// Node id, legacy id, name or address
        device: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Show the routes that a device advertises, and set those that are enabled
    #[command(after_help = "\
Examples:
  bowline device routes router
  bowline device routes router --set 192.0.2.0/24,2001:db8::/64
  bowline device routes router --set ''")]
    Routes {
        /// Node id, legacy id, name or address
        device: String,
        /// The complete new list of enabled routes; '' for none
        #[arg(long, value_name = "CIDR,…", value_delimiter = ',')]
        set: Option<Vec<String>>,
    },
}

/// A device of the API.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Device {
    addresses: Vec<String>,
    id: String,
    node_id: String,
    user: String,
    name: String,
    hostname: String,
    client_version: String,
    os: String,
    created: String,
    connected_to_control: bool,
    #[serde(default)]
    last_seen: Option<String>,
    key_expiry_disabled: bool,
    expires: String,
    authorized: bool,
    machine_key: String,
    node_key: String,
    #[serde(default)]
    tags: Vec<String>,
    is_ephemeral: bool,
    #[serde(default)]
    advertised_routes: Vec<String>,
    #[serde(default)]
    enabled_routes: Vec<String>,
    #[serde(default)]
    client_connectivity: Option<Connectivity>,
}

#[derive(Deserialize)]
struct Connectivity {
    #[serde(default)]
    endpoints: Vec<String>,
}

#[derive(Deserialize)]
struct Devices {
    devices: Vec<Device>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Routes {
    advertised_routes: Vec<String>,
    enabled_routes: Vec<String>,
}

impl Device {
    /// The name in its tailnet: `laptop`.
    fn label(&self) -> &str {
        self.name.split('.').next().unwrap_or(&self.name)
    }

    /// The label, for a line of text.
    fn shown(&self) -> String {
        clean(self.label())
    }

    /// Who it belongs to: a user, or its tags.
    fn owner(&self) -> String {
        if self.tags.is_empty() {
            self.user.clone()
        } else {
            list(&self.tags)
        }
    }

    /// The version as people know it: `1.102.5` of `1.102.5-t1a2b3c-g4d5e6f`.
    fn version(&self) -> &str {
        match self.client_version.split('-').next() {
            None | Some("") => "-",
            Some(version) => version,
        }
    }

    fn status(&self, session: &Session) -> String {
        let mut words = Vec::new();
        if self.connected_to_control {
            words.push("online".to_owned());
        } else {
            words.push(match &self.last_seen {
                Some(time) => format!("seen {}", session.relative_time(time)),
                None => "never seen".to_owned(),
            });
        }
        if !self.authorized {
            words.push("needs approval".to_owned());
        }
        if self.is_expired(session) {
            words.push("key expired".to_owned());
        }
        words.join(", ")
    }

    fn has_expiry(&self) -> bool {
        // The API says "never" with Go's zero time.
        !self.key_expiry_disabled && !self.expires.starts_with("0001-")
    }

    fn is_expired(&self, session: &Session) -> bool {
        self.has_expiry() && session.is_past(&self.expires)
    }

    fn is_named(&self, text: &str) -> bool {
        let name = text.trim_end_matches('.');
        self.node_id == text
            || self.id == text
            || self.name.eq_ignore_ascii_case(name)
            || self.label().eq_ignore_ascii_case(name)
            || self.has_address(text)
    }

    fn has_address(&self, text: &str) -> bool {
        let Ok(wanted) = text.parse::<std::net::IpAddr>() else {
            return false;
        };
        self.addresses
            .iter()
            .any(|address| address.parse() == Ok(wanted))
    }
}

/// The device that a text names.
async fn find(session: &mut Session, text: &str) -> Result<Device> {
    // By its id it is found in any tailnet of the server, and without a list of all.
    let is_id = text.bytes().all(|byte| byte.is_ascii_digit())
        || (text.starts_with('n') && text.ends_with("CNTRL"));
    if is_id && !text.is_empty() {
        let path = format!("device/{}?fields=all", segment(text));
        match session.api.get(&path).await {
            Ok(answer) => return answer.read(),
            // A device may be called 7 as well.
            Err(error) if is_not_found(&error) => {}
            Err(error) => return Err(error),
        }
    }
    let path = session.api.in_tailnet("devices?fields=all");
    let devices = session.api.get(&path).await?.read::<Devices>()?.devices;
    match devices.into_iter().find(|device| device.is_named(text)) {
        Some(device) => Ok(device),
        None => bail!("there is no device {text:?}; bowline device list shows them"),
    }
}

/// Runs one of the commands.
pub(super) async fn run(command: Command, session: &mut Session) -> Result<()> {
    match command {
        Command::List => show_list(session).await,
        Command::Show { device } => show(session, &device).await,
        Command::Rename { device, name, .. } => {
            let found = find(session, &device).await?;
            let path = format!("device/{}/name", segment(&found.node_id));
            let body = json!({"name": name.unwrap_or_default()});
            let answer = session.api.post(&path, &body).await?;
            if session.is_json {
                return session.answer(&answer, || Ok(String::new()));
            }
            // The server may have made another name of it.
            let renamed = find(session, &found.node_id).await?;
            print(&format!(
                "Renamed {} to {} ({}).",
                found.shown(),
                renamed.shown(),
                clean(&renamed.name)
            ))?;
            Ok(())
        }
        Command::Delete { device, yes } => {
            let found = find(session, &device).await?;
            confirm(
                yes,
                &format!(
                    "Delete {} ({}, {})? It is out of the tailnet at once.",
                    found.shown(),
                    list(&found.addresses),
                    found.node_id
                ),
            )?;
            let path = format!("device/{}", segment(&found.node_id));
            let answer = session.api.delete(&path).await?;
            session.answer(&answer, || Ok(format!("Deleted {}.", found.shown())))
        }
        Command::Authorize { device, revoke } => {
            let found = find(session, &device).await?;
            let path = format!("device/{}/authorized", segment(&found.node_id));
            let answer = session
                .api
                .post(&path, &json!({"authorized": !revoke}))
                .await?;
            session.answer(&answer, || {
                let name = found.shown();
                Ok(if revoke {
                    format!("Took the approval of {name} away.")
                } else {
                    format!("Approved {name}.")
                })
            })
        }
        Command::Expire { device, yes } => {
            let found = find(session, &device).await?;
            confirm(
                yes,
                &format!(
                    "Expire the key of {} ({})? It is cut off until somebody logs in again on it.",
                    found.shown(),
                    found.node_id
                ),
            )?;
            let path = format!("device/{}/expire", segment(&found.node_id));
            let answer = session.api.post(&path, &json!({})).await?;
            session.answer(&answer, || {
                Ok(format!(
                    "Expired the key of {}; its user must log in again on it.",
                    found.shown()
                ))
            })
        }
        Command::Routes { device, set } => routes(session, &device, set).await,
    }
}

async fn show_list(session: &mut Session) -> Result<()> {
    let path = session.api.in_tailnet("devices");
    let answer = session.api.get(&path).await?;
    session.answer(&answer, || {
        let devices = answer.read::<Devices>()?.devices;
        if devices.is_empty() {
            return Ok(format!(
                "No devices yet. With an auth key (bowline key create), on each device:\n\n  \
                 tailscale up --login-server {} --auth-key tskey-auth-…",
                session.login_url()
            ));
        }
        let rows = devices.iter().map(|device| {
            [
                device.label().to_owned(),
                device.addresses.first().cloned().unwrap_or_default(),
                device.owner(),
                device.os.clone(),
                device.version().to_owned(),
                device.status(session),
                device.node_id.clone(),
            ]
        });
        Ok(table(
            ["NAME", "ADDRESS", "OWNER", "OS", "VERSION", "STATUS", "ID"],
            rows,
        ))
    })
}

async fn show(session: &mut Session, named: &str) -> Result<()> {
    let found = find(session, named).await?;
    let path = format!("device/{}?fields=all", segment(&found.node_id));
    let answer = session.api.get(&path).await?;
    session.answer(&answer, || {
        let device: Device = answer.read()?;
        let expiry = if device.has_expiry() {
            session.time(&device.expires)
        } else {
            "never".to_owned()
        };
        let endpoints = device
            .client_connectivity
            .as_ref()
            .map_or_else(|| "-".to_owned(), |net| list(&net.endpoints));
        let seen = match &device.last_seen {
            Some(time) => session.time(time),
            None => String::new(),
        };
        Ok(facts([
            ("Name", device.name.clone()),
            ("Host name", device.hostname.clone()),
            ("Node id", device.node_id.clone()),
            ("Legacy id", device.id.clone()),
            ("Owner", device.owner()),
            ("Addresses", list(&device.addresses)),
            ("Status", device.status(session)),
            ("Last seen", seen),
            ("Made", session.time(&device.created)),
            ("Key expires", expiry),
            ("Approved", yes(device.authorized)),
            ("Ephemeral", yes(device.is_ephemeral)),
            ("System", device.os.clone()),
            ("Version", device.client_version.clone()),
            ("Advertised routes", list(&device.advertised_routes)),
            ("Enabled routes", list(&device.enabled_routes)),
            ("Endpoints", endpoints),
            ("Machine key", device.machine_key.clone()),
            ("Node key", device.node_key.clone()),
        ]))
    })
}

fn yes(is_so: bool) -> String {
    if is_so { "yes" } else { "no" }.to_owned()
}

async fn routes(session: &mut Session, named: &str, set: Option<Vec<String>>) -> Result<()> {
    let found = find(session, named).await?;
    let path = format!("device/{}/routes", segment(&found.node_id));
    let answer = match set {
        None => session.api.get(&path).await?,
        Some(routes) => {
            let routes: Vec<_> = routes
                .iter()
                .map(|route| route.trim())
                .filter(|route| !route.is_empty())
                .collect();
            session.api.post(&path, &json!({"routes": routes})).await?
        }
    };
    session.answer(&answer, || {
        let routes: Routes = answer.read()?;
        let mut all = routes.advertised_routes.clone();
        for route in &routes.enabled_routes {
            if !all.contains(route) {
                all.push(route.clone());
            }
        }
        if all.is_empty() {
            return Ok(format!(
                "{} advertises no routes, and none is enabled.",
                found.shown()
            ));
        }
        let rows = all.into_iter().map(|route| {
            let advertised = yes(routes.advertised_routes.contains(&route));
            let enabled = yes(routes.enabled_routes.contains(&route));
            [route, advertised, enabled]
        });
        Ok(table(["ROUTE", "ADVERTISED", "ENABLED"], rows))
    })
}
