//! `bowline webhook`: endpoints that are told of events.

use anyhow::Result;
use serde::Deserialize;
use serde_json::{Value, json};

use super::api::segment;
use super::output::{Session, clean, confirm, facts, list, print, table};

/// What can be done with webhook endpoints.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Make an endpoint
    #[command(after_help = "\
Examples, the second for everything that happens to devices, users and the policy file:
  bowline webhook create https://hooks.example.com/tailnet --event nodeCreated --event userDeleted
  bowline webhook create https://hooks.slack.com/services/T0/B0/x --provider slack --event categoryTailnetManagement")]
    Create {
        /// Where events are sent to
        #[arg(value_name = "URL")]
        endpoint_url: String,
        /// Type of the events that it is told of, or a category; may be given several times
        #[arg(
            long = "event",
            value_name = "EVENT",
            value_delimiter = ',',
            required = true
        )]
        events: Vec<String>,
        /// Product in whose form they are sent: slack, mattermost, googlechat or discord [default:
        /// the official JSON]
        #[arg(long, value_name = "PRODUCT")]
        provider: Option<String>,
    },
    /// List the endpoints
    #[command(after_help = "\
Example:
  bowline webhook list")]
    List,
    /// Show an endpoint: what waits for it, and what it was not told
    #[command(after_help = "\
Example:
  bowline webhook show wAbCdEf12CNTRL")]
    Show {
        /// Id of the endpoint
        id: String,
    },
    /// Send a test event
    #[command(after_help = "\
Example:
  bowline webhook test wAbCdEf12CNTRL")]
    Test {
        /// Id of the endpoint
        id: String,
    },
    /// Give an endpoint another secret; for a while events are signed with both
    #[command(after_help = "\
Example:
  bowline webhook rotate wAbCdEf12CNTRL")]
    Rotate {
        /// Id of the endpoint
        id: String,
    },
    /// Tell an endpoint what it was not told
    #[command(after_help = "\
Examples:
  bowline webhook replay wAbCdEf12CNTRL
  bowline webhook replay wAbCdEf12CNTRL --delivery eAbCdEf12CNTRL")]
    Replay {
        /// Id of the endpoint
        id: String,
        /// Only this delivery, by its id; may be given several times
        #[arg(long = "delivery", value_name = "ID", value_delimiter = ',')]
        deliveries: Vec<String>,
    },
    /// Delete an endpoint
    #[command(after_help = "\
Example:
  bowline webhook delete wAbCdEf12CNTRL --yes")]
    Delete {
        /// Id of the endpoint
        id: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// An endpoint of the API.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Webhook {
    endpoint_id: String,
    endpoint_url: String,
    #[serde(default)]
    provider_type: String,
    creator_login_name: String,
    created: String,
    subscriptions: Vec<String>,
    #[serde(default)]
    secret: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Deliveries {
    waiting: Vec<Waiting>,
    undelivered: Vec<Undelivered>,
    failures: u32,
    #[serde(default)]
    last_error: Option<String>,
    #[serde(default)]
    retry_at: Option<String>,
    #[serde(default)]
    last_delivered: Option<String>,
}

#[derive(Deserialize)]
struct Waiting {
    #[serde(rename = "type")]
    kind: String,
    timestamp: String,
    message: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Undelivered {
    delivery_id: String,
    #[serde(rename = "type")]
    kind: String,
    timestamp: String,
    error: String,
}

impl Webhook {
    fn form(&self) -> String {
        match self.provider_type.as_str() {
            "" => "JSON".to_owned(),
            name => name.to_owned(),
        }
    }

    fn with_secret(&self, what: &str) -> String {
        format!(
            "{what} {}.\nIts secret, shown this once:\n\n  {}\n\nHow a receiver checks with it that \
             an event is genuine: docs/webhooks.md",
            self.endpoint_id, self.secret
        )
    }
}

fn path(id: &str, rest: &str) -> String {
    format!("webhooks/{}{rest}", segment(id))
}

/// Runs one of the commands.
pub(super) async fn run(command: Command, session: &mut Session) -> Result<()> {
    match command {
        Command::Create {
            endpoint_url,
            events,
            provider,
        } => {
            let body = json!({
                "endpointUrl": endpoint_url,
                "providerType": provider,
                "subscriptions": events,
            });
            let create = session.api.in_tailnet("webhooks");
            let answer = session.api.post(&create, &body).await?;
            session.answer(&answer, || {
                let made: Webhook = answer.read()?;
                Ok(made.with_secret("Made the webhook endpoint"))
            })
        }
        Command::List => show_all(session).await,
        Command::Show { id } => show(session, &id).await,
        Command::Test { id } => {
            let answer = session.api.post(&path(&id, "/test"), &Value::Null).await?;
            session.answer(&answer, || {
                Ok(format!("A test event is on its way to {}.", clean(&id)))
            })
        }
        Command::Rotate { id } => {
            let answer = session
                .api
                .post(&path(&id, "/rotate"), &Value::Null)
                .await?;
            session.answer(&answer, || {
                let rotated: Webhook = answer.read()?;
                Ok(rotated.with_secret("Another secret for the webhook endpoint"))
            })
        }
        Command::Replay { id, deliveries } => {
            let body = if deliveries.is_empty() {
                json!({})
            } else {
                json!({ "deliveries": deliveries })
            };
            let replay = path(&id, "/deliveries/replay");
            let answer = session.api.post(&replay, &body).await?;
            session.answer(&answer, || {
                let replayed: Value = answer.read()?;
                Ok(match replayed["events"].as_u64() {
                    Some(0) | None => "There is nothing to be told again.".to_owned(),
                    Some(1) => "1 event is told again.".to_owned(),
                    Some(events) => format!("{events} events are told again."),
                })
            })
        }
        Command::Delete { id, yes } => {
            let found: Webhook = session.api.get(&path(&id, "")).await?.read()?;
            let url = clean(&found.endpoint_url);
            confirm(yes, &format!("Delete the webhook endpoint {id} ({url})?"))?;
            let answer = session.api.delete(&path(&id, "")).await?;
            session.answer(&answer, || {
                Ok(format!(
                    "Deleted the webhook endpoint {}.",
                    found.endpoint_id
                ))
            })
        }
    }
}

async fn show_all(session: &mut Session) -> Result<()> {
    #[derive(Deserialize)]
    struct All {
        webhooks: Vec<Webhook>,
    }
    let all = session.api.in_tailnet("webhooks");
    let answer = session.api.get(&all).await?;
    session.answer(&answer, || {
        let all: All = answer.read()?;
        if all.webhooks.is_empty() {
            return Ok("No webhook endpoints.".to_owned());
        }
        let rows = all.webhooks.iter().map(|one| {
            [
                one.endpoint_id.clone(),
                one.form(),
                session.relative_time(&one.created),
                list(&one.subscriptions),
                one.endpoint_url.clone(),
            ]
        });
        Ok(table(["ID", "FORM", "CREATED", "EVENTS", "URL"], rows))
    })
}

async fn show(session: &mut Session, id: &str) -> Result<()> {
    let endpoint = session.api.get(&path(id, "")).await?;
    let deliveries = session.api.get(&path(id, "/deliveries")).await?;
    if session.is_json {
        print(&format!(
            "{{\"webhook\":{},\"deliveries\":{}}}",
            endpoint.text()?,
            deliveries.text()?
        ))?;
        return Ok(());
    }
    let one: Webhook = endpoint.read()?;
    let told: Deliveries = deliveries.read()?;
    let time = |at: &Option<String>| at.as_ref().map_or_else(String::new, |at| session.time(at));
    let mut text = facts([
        ("Id", one.endpoint_id.clone()),
        ("URL", one.endpoint_url.clone()),
        ("Form", one.form()),
        ("Events", list(&one.subscriptions)),
        ("Made by", one.creator_login_name.clone()),
        ("Created", session.time(&one.created)),
        ("Last delivered", time(&told.last_delivered)),
        ("Waiting", told.waiting.len().to_string()),
        ("Not delivered", told.undelivered.len().to_string()),
        (
            "Failed tries",
            if told.failures == 0 {
                String::new()
            } else {
                told.failures.to_string()
            },
        ),
        ("Last error", told.last_error.clone().unwrap_or_default()),
        ("Next try", time(&told.retry_at)),
    ]);
    if !told.waiting.is_empty() {
        let rows = told.waiting.iter().map(|event| {
            [
                event.kind.clone(),
                session.relative_time(&event.timestamp),
                event.message.clone(),
            ]
        });
        text.push_str("\n\n");
        text.push_str(&table(["WAITING", "SINCE", "MESSAGE"], rows));
    }
    if !told.undelivered.is_empty() {
        let rows = told.undelivered.iter().map(|event| {
            [
                event.delivery_id.clone(),
                event.kind.clone(),
                session.relative_time(&event.timestamp),
                event.error.clone(),
            ]
        });
        text.push_str("\n\n");
        text.push_str(&table(["NOT DELIVERED", "EVENT", "WHEN", "WHY"], rows));
        text.push_str("\n\nTell it again: bowline webhook replay ");
        text.push_str(&one.endpoint_id);
    }
    print(&text)?;
    Ok(())
}
