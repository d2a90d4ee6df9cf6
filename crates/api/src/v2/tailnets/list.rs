//! `GET /tailnets`: list the server's tailnets.

use schemars::JsonSchema;
use serde::Serialize;

use crate::Api;
use crate::call::Call;
use crate::caller::NoTailnet;
use crate::error::ApiError;
use crate::extract::Json;
use crate::text::{Time, time};

/// The tailnets of a server.
#[derive(Serialize, JsonSchema)]
pub(crate) struct TailnetList {
    tailnets: Vec<Tailnet>,
}

/// A tailnet.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Tailnet {
    id: String,
    /// The organisation's name.
    name: String,
    /// The domain of its devices' names.
    dns_name: String,
    created: Time,
    device_count: usize,
}

pub(crate) async fn handler(
    api: Api,
    _: Call<(), (), (), NoTailnet>,
) -> Result<Json<TailnetList>, ApiError> {
    let ids = api.engine.tailnets().into_iter();
    let tailnets = ids
        .filter_map(|id| api.engine.snapshot(id))
        .map(|snapshot| {
            let tailnet = snapshot.tailnet();
            Tailnet {
                id: tailnet.id.stable(),
                name: tailnet.name.clone(),
                dns_name: tailnet.dns_name.clone(),
                created: time(tailnet.created),
                device_count: snapshot.device_count(),
            }
        });
    Ok(Json(TailnetList {
        tailnets: tailnets.collect(),
    }))
}
