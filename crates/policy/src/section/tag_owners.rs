//! `tagOwners`: which tags there are, and who may apply them.

use super::{Target, owners};
use crate::decode::{Part, Text};
use crate::diagnostic::Diagnostic;
use crate::hujson::quote;
use crate::selector::{Names, check_tag, tag_name};
use std::collections::BTreeMap;

/// Tags with the texts of their owners.
pub(crate) type Entries = Vec<(Text, Vec<Text>)>;

/// Reads the section.
pub(crate) fn read(part: Part<'_>) -> Result<Entries, Diagnostic> {
    part.map()?
        .into_iter()
        .map(|(tag, owners)| Ok((tag, owners.texts()?)))
        .collect()
}

/// Checks the section. Circles are fine.
pub(crate) fn check(
    entries: &Entries,
    names: &Names,
) -> Result<BTreeMap<String, Vec<Target>>, Diagnostic> {
    let mut all: BTreeMap<String, Vec<Target>> = BTreeMap::new();
    for (tag, texts) in entries {
        let context = format!("tagOwners[{}]: ", quote(&tag.text));
        check_tag(&tag.text)
            .map_err(|error| Diagnostic::new(tag.place, format!("{context}{error}")))?;
        let owners = owners(names, texts, &context)?;
        all.entry(tag_name(&tag.text)).or_default().extend(owners);
    }
    Ok(all)
}
