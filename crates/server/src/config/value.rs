//! What a setting's value can be, and how it is read from text and from TOML.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use serde_json::json;

/// A value as a source gives it, before a setting's type has looked at it.
#[derive(Debug, Clone, PartialEq)]
pub enum Raw {
    /// A string: from TOML, or anything from the environment and from flags.
    Text(String),
    /// A whole number, as its decimal digits.
    Integer(String),
    /// `true` or `false`.
    Boolean(bool),
    /// A list.
    List(Vec<Raw>),
    /// A TOML kind that no setting has (a fraction, a date, a table), by its name.
    Other(&'static str),
}

impl fmt::Display for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Integer(digits) => f.write_str(digits),
            Self::Boolean(value) => write!(f, "{value}"),
            Self::List(items) => {
                f.write_str("[")?;
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        f.write_str(", ")?;
                    }
                    write!(f, "{item}")?;
                }
                f.write_str("]")
            }
            Self::Other(kind) => f.write_str(kind),
        }
    }
}

/// A type that a setting can have.
pub trait Value: Sized {
    /// Whether the value must never be shown, and has a `_file` twin.
    const SECRET: bool = false;

    /// What a good value is, as it follows "expected": `a whole number from 1 to 60`.
    fn expected() -> String;

    /// Reads the value from the environment or from a flag. `None`: it is not one.
    fn from_text(text: &str) -> Option<Self>;

    /// Reads a secret from the content of the file that its twin names. Text, unless a type says
    /// otherwise; space at its end is not part of it.
    fn from_file(content: &[u8]) -> Option<Self> {
        Self::from_text(std::str::from_utf8(content).ok()?.trim_end())
    }

    /// Reads the value from TOML. Only strings are taken unless a type says otherwise.
    fn from_raw(raw: &Raw) -> Option<Self> {
        match raw {
            Raw::Text(text) => Self::from_text(text),
            _ => None,
        }
    }

    /// The value as text, as a setting would be written; of a secret, that it is set.
    fn show(&self) -> String;

    /// The value as JSON, for `bowline config --json`.
    fn json(&self) -> serde_json::Value {
        json!(self.show())
    }

    /// The value with relative paths taken from `base`, the directory of the file that it
    /// stood in.
    #[must_use]
    fn relative_to(self, base: &Path) -> Self {
        let _ = base;
        self
    }
}

/// A setting that may be absent; absent is shown as `none`.
impl<T: Value> Value for Option<T> {
    const SECRET: bool = T::SECRET;

    fn expected() -> String {
        T::expected()
    }

    fn from_text(text: &str) -> Option<Self> {
        T::from_text(text).map(Some)
    }

    fn from_file(content: &[u8]) -> Option<Self> {
        T::from_file(content).map(Some)
    }

    fn from_raw(raw: &Raw) -> Option<Self> {
        T::from_raw(raw).map(Some)
    }

    fn show(&self) -> String {
        self.as_ref().map_or_else(|| "none".to_owned(), T::show)
    }

    fn json(&self) -> serde_json::Value {
        self.as_ref().map_or(serde_json::Value::Null, T::json)
    }

    fn relative_to(self, base: &Path) -> Self {
        self.map(|value| value.relative_to(base))
    }
}

impl Value for bool {
    fn expected() -> String {
        "true or false".to_owned()
    }

    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn from_raw(raw: &Raw) -> Option<Self> {
        match raw {
            Raw::Boolean(value) => Some(*value),
            _ => None,
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }

    fn json(&self) -> serde_json::Value {
        json!(self)
    }
}

impl Value for SocketAddr {
    fn expected() -> String {
        "an IP address and a port, such as 127.0.0.1:8080 or [::1]:8080".to_owned()
    }

    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for PathBuf {
    fn expected() -> String {
        "a path".to_owned()
    }

    fn from_text(text: &str) -> Option<Self> {
        (!text.is_empty() && !text.contains('\0')).then(|| Self::from(text))
    }

    fn show(&self) -> String {
        self.display().to_string()
    }

    fn relative_to(self, base: &Path) -> Self {
        base.join(self)
    }
}

/// Networks, comma-separated outside TOML; an address without a length is one host.
impl Value for Vec<IpNet> {
    fn expected() -> String {
        "a list of networks, such as [\"127.0.0.1/32\", \"10.0.0.0/8\"]".to_owned()
    }

    fn from_text(text: &str) -> Option<Self> {
        text.split(',').map(|item| network(item.trim())).collect()
    }

    fn from_raw(raw: &Raw) -> Option<Self> {
        let Raw::List(items) = raw else { return None };
        items
            .iter()
            .map(|item| match item {
                Raw::Text(text) => network(text),
                _ => None,
            })
            .collect()
    }

    fn show(&self) -> String {
        if self.is_empty() {
            return "none".to_owned();
        }
        self.iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", ")
    }

    fn json(&self) -> serde_json::Value {
        json!(self.iter().map(ToString::to_string).collect::<Vec<_>>())
    }
}

fn network(text: &str) -> Option<IpNet> {
    text.parse()
        .ok()
        .or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

/// A whole number from `MIN` to `MAX`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Whole<const MIN: u64, const MAX: u64>(u64);

impl<const MIN: u64, const MAX: u64> Whole<MIN, MAX> {
    /// A number known when the program is written: a default.
    ///
    /// # Panics
    /// It lies outside the range; the tests read every default.
    #[must_use]
    pub const fn new(value: u64) -> Self {
        assert!(
            MIN <= value && value <= MAX,
            "a default lies outside its setting's range"
        );
        Self(value)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The number as a size of something in memory.
    #[must_use]
    pub fn size(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl<const MIN: u64, const MAX: u64> Value for Whole<MIN, MAX> {
    fn expected() -> String {
        format!("a whole number from {MIN} to {MAX}")
    }

    fn from_text(text: &str) -> Option<Self> {
        let value = text.parse().ok()?;
        (MIN <= value && value <= MAX).then_some(Self(value))
    }

    fn from_raw(raw: &Raw) -> Option<Self> {
        match raw {
            Raw::Integer(digits) => Self::from_text(digits),
            _ => None,
        }
    }

    fn show(&self) -> String {
        self.0.to_string()
    }

    fn json(&self) -> serde_json::Value {
        json!(self.0)
    }
}

/// A duration of `MIN` to `MAX` seconds, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seconds<const MIN: u64, const MAX: u64>(Whole<MIN, MAX>);

impl<const MIN: u64, const MAX: u64> Seconds<MIN, MAX> {
    /// A duration known when the program is written.
    #[must_use]
    pub const fn new(seconds: u64) -> Self {
        Self(Whole::new(seconds))
    }

    /// The duration.
    #[must_use]
    pub const fn duration(self) -> Duration {
        Duration::from_secs(self.0.get())
    }
}

impl<const MIN: u64, const MAX: u64> Value for Seconds<MIN, MAX> {
    fn expected() -> String {
        format!("a whole number of seconds from {MIN} to {MAX}")
    }

    fn from_text(text: &str) -> Option<Self> {
        Whole::from_text(text).map(Self)
    }

    fn from_raw(raw: &Raw) -> Option<Self> {
        Whole::from_raw(raw).map(Self)
    }

    fn show(&self) -> String {
        self.0.show()
    }

    fn json(&self) -> serde_json::Value {
        self.0.json()
    }
}

/// A short text that clients show: printable ASCII without quotes and backslashes. The official
/// Rust client refuses a message whose strings need escapes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label(String);

impl Label {
    /// A label that is known to be good.
    pub(super) fn known(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The label.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Value for Label {
    fn expected() -> String {
        "1 to 64 printable ASCII characters without quotes, backslashes, < > and &".to_owned()
    }

    fn from_text(text: &str) -> Option<Self> {
        let is_good = (1..=64).contains(&text.len())
            && text
                .bytes()
                .all(|byte| (b' '..=b'~').contains(&byte) && !br#""'\<>&"#.contains(&byte));
        is_good.then(|| Self(text.to_owned()))
    }

    fn show(&self) -> String {
        self.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_may_be_single_addresses() {
        let networks = Vec::<IpNet>::from_text("10.0.0.0/8, ::1").expect("two networks");
        assert_eq!(networks.show(), "10.0.0.0/8, ::1/128");
        assert_eq!(Vec::<IpNet>::from_text("10.0.0.0/33"), None);
        assert_eq!(
            Vec::<IpNet>::from_raw(&Raw::List(vec![Raw::Boolean(true)])),
            None
        );
    }

    #[test]
    fn numbers_keep_their_range() {
        type Small = Whole<2, 4>;
        assert_eq!(Small::from_text("2").map(Small::get), Some(2));
        assert_eq!(Small::from_text("5"), None);
        assert_eq!(Small::from_text("-2"), None);
        assert_eq!(
            Small::from_raw(&Raw::Text("3".into())),
            None,
            "TOML has numbers of its own"
        );
    }

    #[test]
    fn a_label_needs_no_escape_in_json() {
        assert!(Label::from_text("My relay (home)").is_some());
        for bad in ["", "a\"b", "a\\b", "a\nb", "caf\u{e9}", "a&b"] {
            assert_eq!(Label::from_text(bad), None, "{bad:?}");
        }
    }
}
