//! `autoApprovers`: which routes, exit nodes and services need no approval by a person.

use super::{Target, owners};
use crate::decode::Part;
use crate::diagnostic::Diagnostic;
use crate::hujson::quote;
use crate::selector::{Names, parse_prefix, tag_name};
use ipnet::IpNet;

/// Who approves what.
#[derive(Debug, Clone, Default)]
pub(crate) struct AutoApprovers {
    pub(crate) routes: Vec<(IpNet, Vec<Target>)>,
    pub(crate) exit_node: Vec<Target>,
    /// Keys are `svc:name` or `tag:name`.
    pub(crate) services: Vec<(String, Vec<Target>)>,
}

/// Reads and checks the section.
pub(crate) fn read(part: Part<'_>, names: &Names) -> Result<AutoApprovers, Diagnostic> {
    let mut approvers = AutoApprovers::default();
    part.members(&["routes", "exitNode", "services"], |name, part| {
        match name {
            "routes" => {
                for (key, value) in part.map()? {
                    let context = format!("autoApprovers.routes[{}]: ", quote(&key.text));
                    let prefix = parse_prefix(&key.text)
                        .map_err(|error| Diagnostic::new(key.place, format!("{context}{error}")))?;
                    let list = owners(names, &value.texts()?, &context)?;
                    approvers.routes.push((prefix, list));
                }
            }
            "exitNode" => {
                approvers.exit_node = owners(names, &part.texts()?, "autoApprovers.exitNode: ")?;
            }
            _ => {
                part.warn(|| {
                    "autoApprovers.services has no effect yet: there are no services".to_owned()
                });
                for (key, value) in part.map()? {
                    let context = format!("autoApprovers.services[{}]: ", quote(&key.text));
                    let known = names.tags.contains(&tag_name(&key.text))
                        || key
                            .text
                            .strip_prefix("svc:")
                            .is_some_and(|name| !name.is_empty());
                    if !known {
                        let message = format!(
                            "{} is not a valid service name: must start with 'svc:'",
                            quote(&key.text)
                        );
                        return Err(Diagnostic::new(key.place, message));
                    }
                    let list = owners(names, &value.texts()?, &context)?;
                    approvers.services.push((key.text, list));
                }
            }
        }
        Ok(())
    })?;
    Ok(approvers)
}
