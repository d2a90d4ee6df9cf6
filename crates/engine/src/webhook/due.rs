//! What falls due of a webhook endpoint: the end of its former secret.

use bowline_model::id::WebhookId;
use bowline_model::kind::Kind;
use bowline_model::webhook::WebhookEndpoint;
use bowline_netmap::snapshot::Snapshot;

use super::former_name;
use crate::core::draft::Draft;
use crate::core::due::{Moments, Rule, Spans};

pub(crate) const RULE: Rule = Rule {
    kind: Kind::Webhook,
    moments,
    run: |draft, id, _, _| {
        if let Some(id) = WebhookId::new(id) {
            run(draft, id);
        }
    },
};

fn moments(snapshot: &Snapshot, id: u64, _: Spans) -> Moments {
    let endpoint = WebhookId::new(id).and_then(|id| snapshot.webhook(id));
    Moments {
        due: endpoint.and_then(|endpoint| endpoint.former_until),
        told: None,
    }
}

/// Forgets a former secret whose time is over.
fn run(draft: &mut Draft<'_>, id: WebhookId) {
    draft.changes.touch::<WebhookEndpoint>(id);
    let Some(endpoint) = draft.view().webhook(id).cloned() else {
        return;
    };
    if endpoint
        .former_until
        .is_some_and(|until| until <= draft.now())
    {
        draft.remove_secret(&former_name(id));
        draft.put(WebhookEndpoint {
            former_until: None,
            ..(*endpoint).clone()
        });
    }
}
