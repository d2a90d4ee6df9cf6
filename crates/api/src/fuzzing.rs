//! What the fuzz target does with its input; the saved corpus runs as an ordinary test.

use crate::extract::parse;
use crate::v2::{attributes, devices, dns, keys, settings, tailnets, users};

/// Reads a body as every operation would, up to where the engine takes over.
pub fn body(input: &[u8]) {
    let _ = parse::<devices::RoutesBody>(input);
    let _ = parse::<devices::AuthorizedBody>(input);
    let _ = parse::<devices::NameBody>(input);
    let _ = parse::<devices::TagsBody>(input);
    let _ = parse::<devices::KeyBody>(input);
    let _ = parse::<devices::IpBody>(input);
    let _ = parse::<keys::CreateBody>(input);
    let _ = parse::<keys::TokenBody>(input);
    let _ = parse::<dns::NameserversBody>(input);
    let _ = parse::<dns::PreferencesBody>(input);
    let _ = parse::<dns::SearchPathsBody>(input);
    let _ = parse::<dns::SplitBody>(input).map(dns::split_edit);
    let _ = parse::<dns::Configuration>(input).map(dns::Configuration::into_dns);
    let _ = parse::<attributes::SetBody>(input).and_then(attributes::SetBody::into_edit);
    let _ = parse::<attributes::BatchBody>(input);
    let _ = parse::<settings::Body>(input);
    let _ = parse::<tailnets::CreateBody>(input);
    let _ = parse::<users::CreateBody>(input);
}
