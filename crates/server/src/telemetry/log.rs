//! The log's subscriber.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::config::Log;
use one_line::OneLine;

mod one_line;

/// Libraries whose lower levels show what passes through them: headers, names, queries. They may
/// warn; more only when the level names them.
const QUIET: &str = "h2=warn,hyper=warn,hyper_util=warn,rustls=warn,tokio_postgres=warn,\
                     tokio_util=warn,tower=warn,tungstenite=warn";

/// Why the log could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The level is not one; settings that were loaded have a good one.
    #[error("could not read the log's level")]
    Level(#[from] tracing_subscriber::filter::ParseError),
    /// The process has a subscriber already.
    #[error("the log was started before")]
    Started(#[from] TryInitError),
}

/// Starts the log of this process, on standard error.
///
/// # Errors
/// See [`LogError`].
pub fn start_log(settings: &Log) -> Result<(), LogError> {
    let is_terminal = std::io::stderr().is_terminal();
    let is_json = settings.format.is_json();
    subscriber(settings, is_json, is_terminal, std::io::stderr)?.try_init()?;
    Ok(())
}

fn subscriber<W>(
    settings: &Log,
    is_json: bool,
    is_coloured: bool,
    writer: W,
) -> Result<impl Subscriber + Send + Sync + for<'a> LookupSpan<'a>, LogError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + Clone + 'static,
{
    let filter = EnvFilter::try_new(format!("{QUIET},{}", settings.level.as_str()))?;
    let writer = OneLine::new(writer, is_coloured && !is_json);
    let layer = tracing_subscriber::fmt::layer().with_writer(writer.clone());
    // One of the two is there: a layer may be absent, but not of two types.
    let text = (!is_json).then(|| layer.with_ansi(is_coloured));
    let json = is_json.then(|| {
        tracing_subscriber::fmt::layer()
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(true)
            .with_writer(writer)
    });
    Ok(tracing_subscriber::registry()
        .with(filter)
        .with(text)
        .with(json)
        .with(Counting))
}

static ERRORS: AtomicU64 = AtomicU64::new(0);
static WARNINGS: AtomicU64 = AtomicU64::new(0);

/// Counts errors and warnings, for metrics.
struct Counting;

impl<S: Subscriber> Layer<S> for Counting {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let count = match *event.metadata().level() {
            Level::ERROR => &ERRORS,
            Level::WARN => &WARNINGS,
            _ => return,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// How many errors and warnings this process has logged.
pub(super) fn logged() -> (u64, u64) {
    (
        ERRORS.load(Ordering::Relaxed),
        WARNINGS.load(Ordering::Relaxed),
    )
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::config::{CliFlags, Environment, Settings};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("a lock").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(level: &str, is_json: bool) -> String {
        let environment = Environment::new([("BOWLINE_LOG_LEVEL", level)]);
        let settings = Settings::load(&CliFlags::default(), &environment).expect("settings");
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = subscriber(&settings.settings.log, is_json, false, move || {
            writer.clone()
        });
        tracing::subscriber::with_default(subscriber.expect("a subscriber"), || {
            let span = tracing::info_span!("api.device.rename", device.id = "n1");
            let _entered = span.enter();
            tracing::info!(change.seq = 7, "device renamed");
            tracing::debug!("a detail");
            tracing::debug!(target: "h2::codec", "a header");
        });
        let bytes = lines.0.lock().expect("a lock").clone();
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn a_json_line_has_message_fields_and_spans() {
        let text = logged("info", true);
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["message"], "device renamed");
        assert_eq!(line["change.seq"], 7);
        assert_eq!(line["spans"][0]["name"], "api.device.rename");
        assert_eq!(line["spans"][0]["device.id"], "n1");
    }

    #[test]
    fn a_text_line_has_the_same() {
        let text = logged("info", false);
        assert!(
            text.contains("INFO") && text.contains("device renamed change.seq=7"),
            "{text}"
        );
        assert!(
            text.contains("api.device.rename{device.id=\"n1\"}"),
            "{text}"
        );
    }

    #[test]
    fn an_event_is_one_line_whatever_is_in_it() {
        let said = "a\n2026-01-01 INFO forged\u{1b}[2J\u{202e}b\r\u{9b}";
        for (is_json, is_coloured) in [(false, false), (false, true), (true, false)] {
            let environment = Environment::new::<&str, &str>([]);
            let settings = Settings::load(&CliFlags::default(), &environment).expect("settings");
            let lines = Lines::default();
            let writer = lines.clone();
            let make = move || writer.clone();
            let subscriber = subscriber(&settings.settings.log, is_json, is_coloured, make);
            tracing::subscriber::with_default(subscriber.expect("a subscriber"), || {
                tracing::info!(reason = %said, quoted = ?said, "refused {said}");
            });
            let bytes = lines.0.lock().expect("a lock").clone();
            let text = String::from_utf8(bytes).expect("text");
            assert_eq!(text.lines().count(), 1, "{text}");
            assert!(!text.contains("\u{1b}[2J") && !text.contains(['\r', '\u{202e}', '\u{9b}']));
            assert_eq!(text.contains("\u{1b}[2m"), is_coloured, "{text:?}");
            if is_json {
                serde_json::from_str::<serde_json::Value>(&text).expect("JSON");
            }
        }
    }

    #[test]
    fn libraries_show_details_only_when_they_are_named() {
        let text = logged("debug", false);
        assert!(
            text.contains("a detail") && !text.contains("a header"),
            "{text}"
        );
        assert!(logged("debug,h2=debug", false).contains("a header"));
    }
}
