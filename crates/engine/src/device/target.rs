//! How audit events name a device.

use bowline_model::audit::Target;
use bowline_model::device::Device;

pub(crate) fn device_target(device: &Device, property: Option<&str>) -> Target {
    Target {
        id: device.id.stable(),
        name: device.name.clone(),
        kind: "NODE".to_owned(),
        property: property.map(str::to_owned),
    }
}
