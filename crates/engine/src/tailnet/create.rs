//! Making tailnets.

use bowline_model::audit::ActorRef;
use bowline_model::credential::Credential;
use bowline_model::dns::Dns;
use bowline_model::event::Event;
use bowline_model::id::{TailnetId, UserId};
use bowline_model::tailnet::{Settings, Tailnet, is_name, name_for_owner};
use bowline_model::user::{Role, Status, User, is_login_name};
use bowline_netmap::snapshot::Snapshot;
use bowline_store::Column;

use crate::core::actor::Actor;
use crate::core::engine::Engine;
use crate::core::failure::{Refusal, StoreFailure};
use crate::core::server::draft::ServerDraft;
use crate::core::told;
use crate::credential::Minted;

/// Longest DNS name of a tailnet, in bytes: the longest label of a device (63) and a dot go in
/// front, and clients panic at each start over a name of more than 253.
/// Source: `tailscale/tailscale util/dnsname/dnsname.go ToFQDN`.
pub const DNS_NAME_MAX: usize = 253 - 63 - 1;
/// Longest base domain, in bytes: a tailnet's own label (`tail1a2b3c`) and a dot go in front.
pub const BASE_DOMAIN_MAX: usize = DNS_NAME_MAX - 10 - 1;

/// A tailnet that was just made.
#[derive(Debug)]
pub struct NewTailnet {
    /// The tailnet.
    pub tailnet: TailnetId,
    /// Its owner.
    pub owner: UserId,
    /// An API access token of the owner, shown once, good for 90 days.
    pub token: Minted,
    /// The token's record.
    pub credential: Credential,
}

impl Engine {
    /// Makes a tailnet with its owner and their first API access token, in one change of the server:
    /// its rows, its head and the audit events of both are stored in one transaction.
    ///
    /// `name` is the organisation name; absent: one is made of the owner's login name
    /// ([`name_for_owner`]).
    ///
    /// # Errors
    /// `Invalid` for a login name or tailnet name that is none or is taken.
    pub async fn create_tailnet(
        &self,
        owner: &str,
        name: Option<&str>,
    ) -> Result<NewTailnet, Refusal> {
        if !is_login_name(owner) {
            return Err(Refusal::invalid(format!(
                "{owner:?} is not a login name: expected something like ann@example.com"
            )));
        }
        let made;
        let name = if let Some(name) = name {
            name
        } else {
            made = name_for_owner(owner).ok_or_else(|| {
                Refusal::invalid(format!(
                    "{owner:?} is too long to name a tailnet after: give the tailnet a name of its own, like example.com"
                ))
            })?;
            &made
        };
        if !is_name(name) {
            return Err(Refusal::invalid(format!(
                "{name:?} is not a tailnet name: expected up to 100 letters, digits and \".@-_\", like example.com"
            )));
        }
        self.check_base_domain()?;
        let engine = self.clone();
        let (owner, name) = (owner.to_owned(), name.to_owned());
        let taken = name.clone();
        let made = self
            .write_server(ActorRef::Operator, move |draft| {
                make(&engine, draft, &owner, &name)
            })
            .await;
        match made {
            Err(Refusal::Store(StoreFailure::Taken(Column::TailnetName))) => {
                Err(name_taken(&taken))
            }
            made => made,
        }
    }

    /// Whether names of devices have room in front of the base domain.
    fn check_base_domain(&self) -> Result<(), Refusal> {
        let length = self.0.settings.base_domain.len();
        if length <= BASE_DOMAIN_MAX {
            return Ok(());
        }
        Err(Refusal::invalid(format!(
            "the base domain of this server is too long: it has {length} characters, and at most \
             {BASE_DOMAIN_MAX} leave room for the names of devices"
        )))
    }
}

fn name_taken(name: &str) -> Refusal {
    Refusal::invalid(format!(
        "a tailnet named {name:?} exists already: choose another name"
    ))
}

/// Makes a tailnet in a draft of the server.
fn make(
    engine: &Engine,
    server: &mut ServerDraft<'_>,
    owner: &str,
    name: &str,
) -> Result<NewTailnet, Refusal> {
    if engine.0.directory.name(name).is_some() || server.begins(name) {
        return Err(name_taken(name));
    }
    let now = server.now();
    if crate::core::timekeeper::is_impossible(now) {
        // What it is made with would have expired once the clock is right.
        return Err(Refusal::invalid(format!(
            "the clock shows {now}, which is before this program was made; set it first"
        )));
    }
    let ids = StoreFailure::Defect("ran out of ids");
    let id = TailnetId::new(server.new_id()).ok_or(ids.clone())?;
    let [one, two, three] = server.random();
    let settings = &engine.0.settings;
    let tailnet = Tailnet {
        id,
        name: name.to_owned(),
        dns_name: format!("tail{one:02x}{two:02x}{three:02x}.{}", settings.base_domain),
        created: now,
        settings: Settings {
            devices_key_duration_days: settings.key_duration_days,
            ..Settings::default()
        },
    };
    let empty = Snapshot::new(tailnet.clone(), engine.0.derp_map.clone());
    let mut draft = server.tailnet(empty);
    draft.act_as(Actor::operator(id));
    let user = User {
        id: UserId::new(draft.new_id()).ok_or(ids)?,
        login_name: owner.to_owned(),
        display_name: owner.split('@').next().unwrap_or(owner).to_owned(),
        role: Role::Owner,
        status: Status::Active,
        needs_approval: false,
        created: now,
    };
    let created = Event::TailnetCreated {
        tailnet: Box::new(tailnet.clone()),
        owner: owner.to_owned(),
    };
    draft.audit(created.clone());
    draft.put(tailnet);
    draft.put(Dns::default());
    draft.audit(Event::UserCreated {
        user: Box::new(user.clone()),
    });
    draft.put(user.clone());
    let (token, credential) =
        crate::credential::mint_token(&mut draft, user.id, "first token", None)?;
    told::check(None, &draft.snapshot, &draft.changes).map_err(|untold| {
        tracing::error!(error = %untold, "a new tailnet was refused");
        StoreFailure::Defect("a record of the tailnet has no event that tells it")
    })?;
    let begun = server.begin(draft);
    begun.map_err(|_| StoreFailure::Defect("an object cannot be encoded"))?;
    server.audit(&created);
    Ok(NewTailnet {
        tailnet: id,
        owner: user.id,
        token,
        credential,
    })
}
