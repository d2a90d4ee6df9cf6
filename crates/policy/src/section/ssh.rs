//! `ssh`: who may log in as whom on which device.

use super::{Target, posture_names, postures::Postures};
use crate::decode::{Part, Text};
use crate::diagnostic::{Diagnostic, Place};
use crate::duration;
use crate::hujson::quote;
use crate::selector::{Autogroup, Names, Selector};

/// An SSH rule.
#[derive(Debug, Clone)]
pub(crate) struct SshRule {
    pub(crate) check: bool,
    pub(crate) src: Vec<Target>,
    pub(crate) dst: Vec<Target>,
    pub(crate) users: Vec<SshUser>,
    pub(crate) check_period: CheckPeriod,
    pub(crate) accept_env: Vec<String>,
    pub(crate) recorders: Vec<Target>,
    pub(crate) enforce_recorder: bool,
    /// Names of the rule's own postures; `None` where the default applies.
    pub(crate) postures: Option<Vec<String>>,
}

/// An entry of `users`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SshUser {
    Root,
    NonRoot,
    /// `localpart:*@domain`: the name before the at sign of each source's login.
    Localpart(String, Place),
    /// Any other text is a name.
    Name(String),
}

/// How long a confirmation of a `check` rule lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckPeriod {
    /// Ask each time.
    Always,
    /// So many seconds.
    Seconds(i64),
}

const DEFAULT_PERIOD_SECONDS: i64 = 12 * 3600;
const MAX_PERIOD_NANOSECONDS: i64 = 168 * 3600 * 1_000_000_000;

/// Reads and checks one rule.
pub(crate) fn read(
    part: Part<'_>,
    names: &Names,
    postures: &Postures,
) -> Result<SshRule, Diagnostic> {
    let place = part.place();
    let mut action = Text {
        text: String::new(),
        place,
    };
    let (mut src, mut dst, mut users) = (Vec::new(), Vec::new(), Vec::new());
    let (mut accept_env, mut recorders) = (Vec::new(), Vec::new());
    let mut enforce_recorder = false;
    let mut period: Option<Text> = None;
    let mut posture: Option<Vec<Text>> = None;
    part.members(
        &[
            "action",
            "src",
            "dst",
            "users",
            "checkPeriod",
            "acceptEnv",
            "recorder",
            "enforceRecorder",
            "srcPosture",
        ],
        |name, part| {
            match name {
                "action" => action = trimmed(part.text()?),
                "src" => src = trimmed_all(part)?,
                "dst" => dst = trimmed_all(part)?,
                "users" => users = trimmed_all(part)?,
                "checkPeriod" => period = Some(part.text()?),
                "acceptEnv" => accept_env = part.texts()?,
                "recorder" => recorders = trimmed_all(part)?,
                "enforceRecorder" => enforce_recorder = part.bool()?,
                _ => posture = Some(part.texts()?),
            }
            Ok(())
        },
    )?;
    let check = match action.text.as_str() {
        "accept" => false,
        "check" => true,
        "" => return Err(Diagnostic::new(action.place, "action must be specified")),
        other => {
            let message = format!("{} is not a valid action", quote(other));
            return Err(Diagnostic::new(action.place, message));
        }
    };
    if users.is_empty() {
        return Err(Diagnostic::new(place, "users must be specified"));
    }
    let users: Vec<SshUser> = users.into_iter().map(user).collect::<Result<_, _>>()?;
    let check_period = period.map_or(
        Ok(CheckPeriod::Seconds(DEFAULT_PERIOD_SECONDS)),
        parse_period,
    )?;
    for variable in &accept_env {
        if variable.text.is_empty() {
            return Err(Diagnostic::new(
                variable.place,
                "acceptEnv values cannot be empty",
            ));
        }
    }
    let src: Vec<Target> = src
        .iter()
        .map(|text| source(names, text))
        .collect::<Result<_, _>>()?;
    let dst: Vec<Target> = dst
        .iter()
        .map(|text| destination(names, text))
        .collect::<Result<_, _>>()?;
    check_pairs(&src, &dst)?;
    let recorders = recorders
        .iter()
        .map(|text| match names.selector(&text.text) {
            Ok(selector @ Selector::Tag(_)) => Ok(Target::new(text, selector)),
            Ok(_) => Err(Diagnostic::new(text.place, "recorder can only be a tag")),
            Err(error) => Err(Diagnostic::new(text.place, error)),
        })
        .collect::<Result<_, _>>()?;
    let postures = posture
        .map(|list| posture_names(&list, postures))
        .transpose()?;
    Ok(SshRule {
        check,
        src,
        dst,
        users,
        check_period,
        accept_env: accept_env.into_iter().map(|text| text.text).collect(),
        recorders,
        enforce_recorder,
        postures,
    })
}

fn trimmed(text: Text) -> Text {
    Text {
        text: text.text.trim().to_owned(),
        place: text.place,
    }
}

fn trimmed_all(part: Part<'_>) -> Result<Vec<Text>, Diagnostic> {
    Ok(part.texts()?.into_iter().map(trimmed).collect())
}

fn user(text: Text) -> Result<SshUser, Diagnostic> {
    match text.text.as_str() {
        "" | "*" => {
            let message = format!("user {} is not valid", quote(&text.text));
            Err(Diagnostic::new(text.place, message))
        }
        "root" => Ok(SshUser::Root),
        "autogroup:nonroot" => Ok(SshUser::NonRoot),
        other => Ok(match other.strip_prefix("localpart:*@") {
            // Without a domain the real service takes it for a name like any other.
            Some(domain) if !domain.is_empty() => SshUser::Localpart(domain.to_owned(), text.place),
            _ => SshUser::Name(text.text),
        }),
    }
}

fn parse_period(text: Text) -> Result<CheckPeriod, Diagnostic> {
    let wrong = |message: String| Err(Diagnostic::new(text.place, message));
    match text.text.as_str() {
        "" => return Ok(CheckPeriod::Seconds(DEFAULT_PERIOD_SECONDS)),
        "always" => return Ok(CheckPeriod::Always),
        _ => {}
    }
    let period = match duration::parse(&text.text) {
        Ok(period) => period,
        Err(message) => return wrong(message),
    };
    if period < 0 {
        let shown = duration::show(period);
        return wrong(format!("checkPeriod {shown} must be a positive duration"));
    }
    if period > MAX_PERIOD_NANOSECONDS {
        let shown = duration::show(period);
        return wrong(format!("checkPeriod {shown} is above the max (168h)"));
    }
    Ok(CheckPeriod::Seconds(period / 1_000_000_000))
}

fn source(names: &Names, text: &Text) -> Result<Target, Diagnostic> {
    let invalid = || Diagnostic::new(text.place, format!("invalid src {}", quote(&text.text)));
    let named = text.text.contains(':') || text.text.contains('@');
    match names.selector(&text.text) {
        Ok(
            selector @ (Selector::User(_)
            | Selector::Domain(_)
            | Selector::Group(_)
            | Selector::Tag(_)
            | Selector::Auto(Autogroup::Member | Autogroup::Tagged | Autogroup::Role(_))),
        ) => Ok(Target::new(text, selector)),
        Err(error) if named => Err(Diagnostic::new(text.place, format!("src={error}"))),
        _ => Err(invalid()),
    }
}

fn destination(names: &Names, text: &Text) -> Result<Target, Diagnostic> {
    let invalid = || Diagnostic::new(text.place, format!("invalid dst {}", quote(&text.text)));
    match names.selector(&text.text) {
        Ok(
            selector @ (Selector::User(_)
            | Selector::Tag(_)
            | Selector::Auto(
                Autogroup::SelfDevices | Autogroup::Member | Autogroup::Tagged,
            )),
        ) => Ok(Target::new(text, selector)),
        Err(error) if text.text.starts_with("tag:") => {
            let message = format!("dst={}: {error}", quote(&text.text));
            Err(Diagnostic::new(text.place, message))
        }
        _ => Err(invalid()),
    }
}

/// Devices of people are reached by people only, and a user's devices named as such only by that
/// same user.
fn check_pairs(src: &[Target], dst: &[Target]) -> Result<(), Diagnostic> {
    let first = src.first().map(|source| &source.selector);
    let one = first.filter(|first| src.iter().all(|source| source.selector == **first));
    let tagged = src.iter().find(|source| {
        matches!(
            source.selector,
            Selector::Tag(_) | Selector::Auto(Autogroup::Tagged)
        )
    });
    for target in dst {
        let own = match &target.selector {
            Selector::User(_) => src.is_empty() || one == Some(&target.selector),
            _ => true,
        };
        if !own {
            let message = format!(
                "dst {} can only be used with that same user as src",
                quote(&target.text)
            );
            return Err(Diagnostic::new(target.place, message));
        }
        let of_people = matches!(
            target.selector,
            Selector::User(_) | Selector::Auto(Autogroup::SelfDevices | Autogroup::Member)
        );
        if let Some(source) = tagged.filter(|_| of_people) {
            let message = format!(
                "src {} cannot be used with dst {}: tagged devices cannot access devices of users",
                quote(&source.text),
                quote(&target.text)
            );
            return Err(Diagnostic::new(source.place, message));
        }
    }
    Ok(())
}
