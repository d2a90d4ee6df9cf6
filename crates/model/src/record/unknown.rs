//! Members of stored bodies that this program does not know.
//!
//! Two releases may share a database, one after the other or side by side, and the older one must not
//! lose what the newer one has added. So a body is compared, when it is read, with what this program
//! would write for it: what is only in the body is kept beside the record, and put back when the record
//! is written.

use indexmap::IndexMap;
use serde_json::value::RawValue;

use super::RawJson;

/// What a body has that this program does not know. Empty in nearly every case.
///
/// A member belongs to the object that holds it. It is written back where that object is still there,
/// and goes with it: an attribute that was removed takes along what a newer release noted of it.
/// An object in a list is found again by its known members: where one of those was changed, it is
/// another object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unknown {
    /// Members of this object.
    members: Vec<(String, RawJson)>,
    /// By known member of this object: what is unknown inside it.
    inside: Vec<(String, Unknown)>,
    /// Where this is a list: its objects as this program writes them, and what is unknown inside.
    elements: Vec<(RawJson, Unknown)>,
}

type Members<'a> = IndexMap<String, &'a RawValue>;

/// The members of a JSON object; `None` for every other value.
fn members(text: &str) -> Option<Members<'_>> {
    text.trim_start()
        .starts_with('{')
        .then(|| serde_json::from_str(text).ok())
        .flatten()
}

/// The elements of a JSON list; `None` for every other value.
fn elements(text: &str) -> Option<Vec<&RawValue>> {
    text.trim_start()
        .starts_with('[')
        .then(|| serde_json::from_str(text).ok())
        .flatten()
}

impl Unknown {
    /// What is in `found` and not in `written`, which is the same body as this program writes it.
    pub(super) fn between(found: &str, written: &str) -> Self {
        let mut unknown = Self::default();
        if found == written {
            return unknown; // written by this release, as nearly every body
        }
        if let (Some(found), Some(written)) = (members(found), members(written)) {
            for (name, value) in found {
                if let Some(known) = written.get(&name) {
                    let inside = Self::between(value.get(), known.get());
                    if !inside.is_empty() {
                        unknown.inside.push((name, inside));
                    }
                } else {
                    unknown.members.push((name, RawJson::from(value)));
                }
            }
        } else if let (Some(found), Some(written)) = (elements(found), elements(written))
            && found.len() == written.len()
        {
            for (value, known) in found.into_iter().zip(written) {
                let inside = Self::between(value.get(), known.get());
                if !inside.is_empty() {
                    unknown.elements.push((RawJson::from(known), inside));
                }
            }
        }
        unknown
    }

    /// Whether this program knows everything.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty() && self.inside.is_empty() && self.elements.is_empty()
    }

    /// `written` with the unknown members in their places.
    pub(super) fn put_back(&self, written: Box<str>) -> Result<Box<str>, serde_json::Error> {
        if self.is_empty() {
            return Ok(written);
        }
        let mut text = String::with_capacity(written.len() * 2);
        self.write(&written, &mut text)?;
        Ok(text.into())
    }

    fn write(&self, written: &str, text: &mut String) -> Result<(), serde_json::Error> {
        if let Some(known) = members(written) {
            text.push('{');
            for (name, value) in &known {
                begin_member(text, name)?;
                match self.inside.iter().find(|(inside, _)| inside == name) {
                    Some((_, unknown)) => unknown.write(value.get(), text)?,
                    None => text.push_str(value.get()),
                }
            }
            // What this program has learned meanwhile is not unknown any more.
            let own = self.members.iter();
            for (name, value) in own.filter(|(name, _)| !known.contains_key(name)) {
                begin_member(text, name)?;
                text.push_str(value.as_str());
            }
            text.push('}');
        } else if let Some(list) = elements(written) {
            let mut left: Vec<_> = self.elements.iter().collect();
            text.push('[');
            for (index, value) in list.into_iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                let place = left
                    .iter()
                    .position(|(known, _)| known.as_str() == value.get());
                match place.map(|place| left.remove(place)) {
                    Some((_, unknown)) => unknown.write(value.get(), text)?,
                    None => text.push_str(value.get()),
                }
            }
            text.push(']');
        } else {
            text.push_str(written);
        }
        Ok(())
    }
}

fn begin_member(text: &mut String, name: &str) -> Result<(), serde_json::Error> {
    if !text.ends_with('{') {
        text.push(',');
    }
    text.push_str(&serde_json::to_string(name)?);
    text.push(':');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of `found`, which this program would write as `read`, when it writes `changed`.
    fn rewritten(found: &str, read: &str, changed: &str) -> String {
        let unknown = Unknown::between(found, read);
        unknown.put_back(changed.into()).unwrap().into()
    }

    #[test]
    fn an_unknown_member_stays_and_a_known_one_changes() {
        let found = r#"{ "v":1, "new" : 1.50, "name":"a" }"#;
        assert_eq!(
            rewritten(found, r#"{"v":1,"name":"a"}"#, r#"{"v":1,"name":"b"}"#),
            r#"{"v":1,"name":"b","new":1.50}"#
        );
    }

    #[test]
    fn members_inside_objects_and_lists_stay_with_their_object() {
        let found = r#"{"a":{"x":1,"new":2},"l":[{"x":1,"new":3},{"x":2},{"x":1,"new":4}],"gone":{"x":1,"new":5}}"#;
        let read = r#"{"a":{"x":1},"l":[{"x":1},{"x":2},{"x":1}],"gone":{"x":1}}"#;
        let changed = r#"{"a":{"x":9},"l":[{"x":2},{"x":1},{"x":3}]}"#;
        assert_eq!(
            rewritten(found, read, changed),
            r#"{"a":{"x":9,"new":2},"l":[{"x":2},{"x":1,"new":3},{"x":3}]}"#
        );
    }

    #[test]
    fn what_this_program_knows_wins() {
        // An empty list that is left out when it is written looks unknown; it never hides a full one.
        assert_eq!(
            rewritten(r#"{"tags":[]}"#, "{}", r#"{"tags":["tag:a"]}"#),
            r#"{"tags":["tag:a"]}"#
        );
    }

    #[test]
    fn a_body_of_this_release_has_nothing_unknown() {
        let body = r#"{"v":1,"a":{"b":[1,{}]}}"#;
        assert!(Unknown::between(body, body).is_empty());
        let spread = "{\n \"v\": 1, \"a\": {\"b\": [1, {}]}}";
        assert!(Unknown::between(spread, body).is_empty());
    }
}
