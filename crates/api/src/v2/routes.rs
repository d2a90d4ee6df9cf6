//! Routes of devices: subnets and exit nodes.

pub(crate) mod list;
pub(crate) mod set;

use bowline_model::address::sort_routes;
use bowline_model::device::Device;
use schemars::JsonSchema;
use serde::Serialize;

/// The routes of a device.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Routes {
    /// What the device offers.
    #[schemars(with = "Vec<String>")]
    advertised_routes: Vec<ipnet::IpNet>,
    /// What others may use, whether or not it is offered now.
    #[schemars(with = "Vec<String>")]
    enabled_routes: Vec<ipnet::IpNet>,
}

impl Routes {
    fn of(device: &Device) -> Self {
        let mut enabled_routes = device.enabled_routes.clone();
        sort_routes(&mut enabled_routes);
        Self {
            advertised_routes: device.facts.advertised_routes.clone(),
            enabled_routes,
        }
    }
}
