//! Settings that must not be shown: the PostgreSQL URL and the sealing key.

use data_encoding::HEXLOWER_PERMISSIVE;
use std::fmt;

use super::value::Value;

/// A text that can't print itself.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(String);

impl SecretText {
    /// The text; for the one call that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Which database the server uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatabaseUrl {
    /// The embedded engine, in the data directory.
    Sqlite,
    /// A PostgreSQL URL; it may hold a password.
    Postgres(SecretText),
}

impl Value for DatabaseUrl {
    const SECRET: bool = true;

    fn expected() -> String {
        "sqlite, or a URL such as postgres://user:password@host/database".to_owned()
    }

    fn from_text(text: &str) -> Option<Self> {
        if text == "sqlite" {
            return Some(Self::Sqlite);
        }
        let rest = text
            .strip_prefix("postgres://")
            .or_else(|| text.strip_prefix("postgresql://"))?;
        (!rest.is_empty()).then(|| Self::Postgres(SecretText(text.to_owned())))
    }

    fn show(&self) -> String {
        match self {
            Self::Sqlite => "sqlite".to_owned(),
            Self::Postgres(url) => without_password(url.expose()),
        }
    }
}

/// The URL's scheme, user, host and database. Everything after `?` may hold a password too and is
/// left out.
fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return "[redacted]".to_owned();
    };
    let (rest, parameters) = match rest.split_once('?') {
        // A password whose `?` was not percent-encoded.
        Some((_, parameters)) if parameters.contains('@') => return "[redacted]".to_owned(),
        Some((rest, _)) => (rest, "?[redacted]"),
        None => (rest, ""),
    };
    let shown = match rest.rsplit_once('@') {
        None => rest.to_owned(),
        Some((user, host)) => match user.split_once(':') {
            None => format!("{user}@{host}"),
            Some((user, _)) => format!("{user}:[redacted]@{host}"),
        },
    };
    format!("{scheme}://{shown}{parameters}")
}

/// The 32 bytes that seal what the server itself must use again, such as its Noise key.
#[derive(Clone, PartialEq, Eq)]
pub struct SealKey([u8; 32]);

impl SealKey {
    /// The bytes; for the one call that needs them.
    #[must_use]
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl Value for SealKey {
    const SECRET: bool = true;

    fn expected() -> String {
        "64 hexadecimal digits (make them with: openssl rand -hex 32)".to_owned()
    }

    fn from_text(text: &str) -> Option<Self> {
        let bytes = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()?;
        bytes.try_into().ok().map(Self)
    }

    /// Also takes the 32 bytes as they are: so the server keeps the key that it made itself.
    fn from_file(content: &[u8]) -> Option<Self> {
        if let Ok(bytes) = content.try_into() {
            return Some(Self(bytes));
        }
        Self::from_text(std::str::from_utf8(content).ok()?.trim_end())
    }

    fn show(&self) -> String {
        "[redacted]".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_url_is_shown_without_its_password() {
        let shown = |text: &str| DatabaseUrl::from_text(text).map(|url| url.show());
        assert_eq!(
            shown("postgres://bowline:hunter2@db.example.com/bowline").as_deref(),
            Some("postgres://bowline:[redacted]@db.example.com/bowline")
        );
        assert_eq!(
            shown("postgresql://db/bowline?password=hunter2").as_deref(),
            Some("postgresql://db/bowline?[redacted]")
        );
        // A password with an @ that was not percent-encoded.
        assert_eq!(
            shown("postgres://bowline:hun@ter2@db/bowline").as_deref(),
            Some("postgres://bowline:[redacted]@db/bowline")
        );
        assert_eq!(
            shown("postgres://bowline:hun?ter2@db/bowline").as_deref(),
            Some("[redacted]")
        );
        assert_eq!(shown("sqlite").as_deref(), Some("sqlite"));
        assert_eq!(shown("mysql://db/bowline"), None);
        assert_eq!(shown("postgres://"), None);
    }

    #[test]
    fn no_secret_prints_itself() {
        let url = DatabaseUrl::from_text("postgres://u:hunter2@h/d").expect("a URL");
        let key = SealKey::from_text(&"ab".repeat(32)).expect("a key");
        assert_eq!(
            format!("{url:?} {key:?} {}", key.show()),
            "Postgres([redacted]) [redacted] [redacted]"
        );
        assert_eq!(key.expose(), &[0xab; 32]);
    }

    #[test]
    fn a_file_with_a_sealing_key_has_its_digits_or_its_bytes() {
        let of = |content: &[u8]| SealKey::from_file(content).map(|key| *key.expose());
        assert_eq!(of(&[7; 32]), Some([7; 32]));
        assert_eq!(
            of(format!("{}\n", "07".repeat(32)).as_bytes()),
            Some([7; 32])
        );
        assert_eq!(of(&[7; 33]), None);
        assert_eq!(of(&[0xff; 31]), None);
    }

    #[test]
    fn a_sealing_key_is_64_hexadecimal_digits() {
        for bad in [
            "",
            "ab",
            &"ab".repeat(33),
            &"zz".repeat(32),
            &"\u{e9}".repeat(32),
        ] {
            assert_eq!(SealKey::from_text(bad), None, "{bad}");
        }
    }
}
