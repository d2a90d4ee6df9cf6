//! Settings of the log.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::section::section;
use super::value::Value;

section! {
    /// The log. It goes to standard error.
    pub struct Log["log"] {
        /// What is logged: `error`, `warn`, `info`, `debug`, `trace` or `off`, and exceptions by
        /// part.
        ///
        /// For example `info,bowline_control=debug`.
        level: Level, flag "log-level", default "info" { Level::known("info") };

        /// `text` for people, `json` for machines, or `auto`: text on a terminal, JSON elsewhere.
        format: Format, flag "log-format", default "auto" { Format::Auto };
    }
}

/// What is logged, in the words of `tracing-subscriber`'s filter directives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Level(String);

impl Level {
    /// A level that is known to be good.
    pub(super) fn known(directives: &str) -> Self {
        Self(directives.to_owned())
    }

    /// The directives.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Value for Level {
    fn expected() -> String {
        "error, warn, info, debug, trace or off, perhaps with exceptions, such as \
         info,bowline_control=debug"
            .to_owned()
    }

    fn from_text(text: &str) -> Option<Self> {
        // The filter takes any word as the name of a part, so a misspelled level would log
        // everything of a part that does not exist, and nothing else.
        let is_level = |word: &str| !word.is_empty() && word.parse::<LevelFilter>().is_ok();
        let is_good = text
            .split(',')
            .all(|directive| directive.rsplit('=').next().is_some_and(is_level));
        (is_good && EnvFilter::try_new(text).is_ok()).then(|| Self(text.to_owned()))
    }

    fn show(&self) -> String {
        self.0.clone()
    }
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// A line for people.
    Text,
    /// A JSON object.
    Json,
}

impl Format {
    /// Whether JSON is meant, with standard error as it is.
    #[must_use]
    pub fn is_json(self) -> bool {
        match self {
            Self::Auto => !std::io::stderr().is_terminal(),
            Self::Text => false,
            Self::Json => true,
        }
    }
}

impl Value for Format {
    fn expected() -> String {
        "text, json or auto".to_owned()
    }

    fn from_text(text: &str) -> Option<Self> {
        match text {
            "auto" => Some(Self::Auto),
            "text" => Some(Self::Text),
            "json" => Some(Self::Json),
            _ => None,
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Auto => "auto",
            Self::Text => "text",
            Self::Json => "json",
        }
        .to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_may_have_exceptions_and_a_misspelled_one_is_refused() {
        for good in [
            "info",
            "warn,bowline_control=debug",
            "off",
            "INFO,hyper=warn",
        ] {
            assert!(Level::from_text(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "inof",
            "info,bowline_control=loud",
            "info,,",
            "info, hyper=warn",
            "bowline_control",
        ] {
            assert_eq!(Level::from_text(bad), None, "{bad}");
        }
    }
}
