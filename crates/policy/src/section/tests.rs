//! `tests` and `sshTests`: what must hold, or the file is refused.

use super::refuse;
use crate::decode::{Part, Text};
use crate::diagnostic::{Diagnostic, Place};
use crate::hujson::quote;
use crate::section::postures::{AttributeValue, Attributes};
use crate::selector::{Autogroup, Names, Selector, tag_name};

/// An entry of `tests`. Texts are judged when the test runs: nonsense in them makes it fail.
#[derive(Debug, Clone, Default)]
pub(crate) struct AccessTest {
    pub(crate) place: Place,
    pub(crate) src: String,
    pub(crate) accept: Vec<String>,
    pub(crate) deny: Vec<String>,
    pub(crate) protocol: String,
    /// Attributes of the source for posture conditions; `None` takes the devices' own.
    pub(crate) attributes: Option<Attributes>,
}

/// An entry of `sshTests`.
#[derive(Debug, Clone, Default)]
pub(crate) struct SshTest {
    pub(crate) place: Place,
    pub(crate) src: String,
    pub(crate) dst: Vec<String>,
    pub(crate) accept: Vec<String>,
    pub(crate) check: Vec<String>,
    pub(crate) deny: Vec<String>,
}

fn plain(part: Part<'_>) -> Result<Vec<String>, Diagnostic> {
    Ok(part.texts()?.into_iter().map(|text| text.text).collect())
}

/// Reads one entry of `tests`.
pub(crate) fn read_access(part: Part<'_>) -> Result<AccessTest, Diagnostic> {
    let mut test = AccessTest {
        place: part.place(),
        ..AccessTest::default()
    };
    part.members_with(
        &[
            "src",
            "user",
            "accept",
            "allow",
            "deny",
            "proto",
            "srcPostureAttrs",
        ],
        &[("user", "src"), ("allow", "accept")],
        |name, part| {
            match name {
                "src" | "user" => test.src = part.text()?.text,
                "accept" | "allow" => test.accept = plain(part)?,
                "deny" => test.deny = plain(part)?,
                "proto" => test.protocol = part.text()?.text,
                _ => test.attributes = Some(attributes(part)?),
            }
            Ok(())
        },
    )?;
    Ok(test)
}

/// Tests that do not stand in the policy file.
#[derive(Debug, Clone, Default)]
pub(crate) struct GivenTests {
    pub(crate) access: Vec<AccessTest>,
    pub(crate) ssh: Vec<SshTest>,
}

/// Reads given tests: an array like `tests`, or an object with `tests` and `sshTests`.
pub(crate) fn read_given(part: Part<'_>, names: &Names) -> Result<GivenTests, Diagnostic> {
    let access = |part: Part<'_>| -> Result<_, _> { part.list()?.map(read_access).collect() };
    let mut given = GivenTests::default();
    if part.is_list() {
        given.access = access(part)?;
        return Ok(given);
    }
    part.members(&["tests", "sshTests"], |name, part| {
        if name == "tests" {
            given.access = access(part)?;
        } else {
            given.ssh = part
                .list()?
                .map(|test| read_ssh(test, names))
                .collect::<Result<_, _>>()?;
        }
        Ok(())
    })?;
    Ok(given)
}

fn attributes(part: Part<'_>) -> Result<Attributes, Diagnostic> {
    let mut attributes = Attributes::new();
    for (name, value) in part.map()? {
        let raw = value.raw()?;
        let parsed = match raw.as_bytes().first() {
            Some(b'"') => AttributeValue::String(value.text()?.text),
            Some(b't') => AttributeValue::Bool(true),
            Some(b'f') => AttributeValue::Bool(false),
            Some(b'n') => continue,
            _ => match raw.parse::<f64>() {
                Ok(number) => AttributeValue::Number(number),
                Err(_) => return value.expected("a string, a number or a boolean"),
            },
        };
        attributes.insert(name.text, parsed);
    }
    Ok(attributes)
}

/// Reads and checks one entry of `sshTests`. Some selectors are refused by name.
pub(crate) fn read_ssh(part: Part<'_>, names: &Names) -> Result<SshTest, Diagnostic> {
    let mut test = SshTest {
        place: part.place(),
        ..SshTest::default()
    };
    let mut source = None;
    let mut destinations: Vec<Text> = Vec::new();
    part.members(&["src", "dst", "accept", "check", "deny"], |name, part| {
        match name {
            "src" => source = Some(part.text()?),
            "dst" => destinations = part.texts()?,
            "accept" => test.accept = plain(part)?,
            "check" => test.check = plain(part)?,
            _ => test.deny = plain(part)?,
        }
        Ok(())
    })?;
    if let Some(source) = source {
        check_element(names, &source, "src")?;
        test.src = source.text;
    }
    for destination in destinations {
        check_element(names, &destination, "dst")?;
        test.dst.push(destination.text);
    }
    Ok(test)
}

fn check_element(names: &Names, text: &Text, side: &str) -> Result<(), Diagnostic> {
    let shown = quote(&text.text);
    if text.text.starts_with("tag:") && !names.tags.contains(&tag_name(&text.text)) {
        return refuse(
            text,
            format!("SSH tests {side} contains unknown tag {shown}"),
        );
    }
    let allowed = match names.selector(&text.text) {
        Ok(Selector::User(_) | Selector::Tag(_)) => true,
        Ok(Selector::Group(_)) => side == "src",
        Ok(Selector::Auto(group)) => side == "src" && group == Autogroup::Member,
        Ok(Selector::Prefix(prefix)) => {
            prefix.prefix_len() == prefix.max_prefix_len() && !text.text.contains('/')
        }
        Ok(_) => false,
        // Unknown groups and the like make the test fail when it runs.
        Err(_) => text.text.is_empty() || text.text.starts_with("group:"),
    };
    if allowed {
        Ok(())
    } else {
        refuse(
            text,
            format!("SSH tests {side} contains disallowed element {shown}"),
        )
    }
}
