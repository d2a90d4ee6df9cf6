//! The process's limit of open files.

use bowline_admission::Descriptors;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What is assumed where the system says that there is no limit.
const ENOUGH: u64 = 1 << 20;

/// Raises the soft limit of open files to the hard one, and says what connections may have of it.
///
/// The soft limit of a shell is 1,024, which is for programs that use `select`. Where it cannot be
/// raised the server works with what there is.
pub fn raise() -> Descriptors {
    let before = getrlimit(Resource::Nofile);
    if before.current != before.maximum {
        let raised = Rlimit {
            current: before.maximum,
            maximum: before.maximum,
        };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!(%error, "cannot raise the limit of open files");
        }
    }
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(ENOUGH);
    of(limit)
}

/// What is kept for files, databases and the command line: an eighth, up to 512.
fn of(limit: u64) -> Descriptors {
    Descriptors {
        limit,
        reserve: (limit / 8).clamp(32, 512),
    }
}

/// How many half-open connections there may be: at most half of what connections may have, so that
/// there is room for those that have shown who they are.
pub fn half_open(descriptors: Descriptors, most: usize) -> usize {
    let room = descriptors.limit.saturating_sub(descriptors.reserve) / 2;
    most.min(usize::try_from(room).unwrap_or(usize::MAX)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserve_is_kept_and_half_of_the_rest_is_for_those_who_are_known() {
        let small = of(1024);
        assert_eq!((small.limit, small.reserve), (1024, 128));
        assert_eq!(half_open(small, 4096), 448);
        let large = of(65_536);
        assert_eq!(large.reserve, 512);
        assert_eq!(half_open(large, 4096), 4096);
        assert_eq!(half_open(of(16), 4096), 1);
    }
}
