//! What tests need and the repository does not hold: documents of others, and services.
//!
//! A test asks here and returns where the answer is `None`. It then counts as skipped: that is
//! said on standard error, past the test harness's capture, and in the summary of `make test`.
//! Where `CI` is `true` nothing may be skipped, and the test fails instead.
//!
//! ```
//! let Some(recordings) = bowline_testdata::recordings() else {
//!     return; // it has been said
//! };
//! assert!(recordings.is_dir());
//! ```

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Environment variable with the path of a file to which one line is added for each skipped test.
pub const SUMMARY: &str = "BOWLINE_SKIPPED";

/// The official OpenAPI document's file: `$BOWLINE_OPENAPI`, or the one beside the repository.
///
/// # Panics
/// Where `CI` is `true` and it is not there, or where the variable names a file that is not there.
#[must_use]
pub fn official_openapi() -> Option<PathBuf> {
    found("BOWLINE_OPENAPI", "reference/tailscale-api.json")
}

/// The directory of recordings of the real service: `$BOWLINE_RECORDINGS`, or the one beside the
/// repository.
///
/// # Panics
/// As [`official_openapi`].
#[must_use]
pub fn recordings() -> Option<PathBuf> {
    found("BOWLINE_RECORDINGS", "conformance/policy")
}

/// URL of a PostgreSQL server on which tests may make databases: `$BOWLINE_TEST_POSTGRES`, which
/// `tests/postgres` sets.
///
/// # Panics
/// Where `CI` is `true` and it is not set.
#[must_use]
pub fn postgres() -> Option<String> {
    const NAME: &str = "BOWLINE_TEST_POSTGRES";
    let url = std::env::var(NAME).ok();
    if url.is_none() {
        skip(&format!("{NAME} (tests/postgres sets it)"));
    }
    url
}

/// Says that the test that runs in this thread is skipped.
///
/// `needs` is what is missing and where it would come from.
///
/// # Panics
/// Where `CI` is `true`.
pub fn skip(needs: &str) {
    let thread = std::thread::current();
    let line = format!(
        "skipped: {} needs {needs}\n",
        thread.name().unwrap_or("a test")
    );
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "nothing may be skipped where CI is true: {line}"
    );
    let _ = std::io::stderr().write_all(line.as_bytes());
    if let Some(path) = std::env::var_os(SUMMARY)
        && let Ok(mut file) = OpenOptions::new().create(true).append(true).open(path)
    {
        let _ = file.write_all(line.as_bytes());
    }
}

fn found(variable: &str, beside: &str) -> Option<PathBuf> {
    let path = match std::env::var_os(variable) {
        Some(path) => {
            let path = PathBuf::from(path);
            assert!(path.exists(), "{variable}: {} is not there", path.display());
            return Some(path);
        }
        None => Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../../shared")
            .join(beside),
    };
    if path.exists() {
        return Some(path);
    }
    skip(variable);
    None
}
