//! Credentials that are not good, counted: who guesses waits.
//!
//! Only failures count, so whoever shows what is good never meets the limit, however often they call.
//! A secret has far more bits than anybody can guess; what is spared is the work of looking each guess
//! up, and the log. A limit on a credential holds for the network that failed with it and for no other:
//! nobody can lock somebody else out.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bowline_admission::{Limiter, networks};
use bowline_model::id::KeyId;
use ipnet::IpNet;
use tokio::time::Instant;

use crate::error::ApiError;

/// Failures of one network with one credential that are answered at once, and how many more a second.
/// The OAuth library of Go tries each secret twice.
const OF_CREDENTIAL: (u32, f64) = (20, 0.2);
/// The same of one network with whatever credentials: a whole office may be behind one address.
const OF_NETWORK: (u32, f64) = (200, 2.0);
/// Who waits, at most, before those are looked through who do no longer.
const WAITING_MAX: usize = 16_384;

/// What failed: with a credential, or with any.
type Key = (IpNet, Option<KeyId>);

/// Failures by network and credential.
#[derive(Debug)]
pub(crate) struct Failures {
    of_credential: Limiter<Key>,
    of_network: Limiter<Key>,
    /// Until when nothing is looked at.
    waiting: Mutex<HashMap<Key, Instant>>,
}

impl Failures {
    pub(crate) fn new() -> Self {
        Self {
            of_credential: Limiter::new(OF_CREDENTIAL.0, OF_CREDENTIAL.1),
            of_network: Limiter::new(OF_NETWORK.0, OF_NETWORK.1),
            waiting: Mutex::default(),
        }
    }

    /// Whether a network may try a credential (`None`: one that is not known).
    ///
    /// # Errors
    /// 429 with the time to wait.
    pub(crate) fn check(
        &self,
        address: Option<IpAddr>,
        credential: Option<KeyId>,
    ) -> Result<(), ApiError> {
        let Some(network) = address.and_then(network) else {
            return Ok(());
        };
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let until = waiting.get(&(network, credential));
        match until.and_then(|until| until.checked_duration_since(Instant::now())) {
            Some(wait) if !wait.is_zero() => Err(ApiError::too_many(seconds(wait))),
            _ => Ok(()),
        }
    }

    /// Notes that a network failed with a credential, and what it is told.
    pub(crate) fn failed(&self, address: Option<IpAddr>, credential: Option<KeyId>) -> ApiError {
        // The operator's socket, which nobody else can open.
        let Some(network) = address.and_then(network) else {
            return ApiError::unauthorized();
        };
        let any = (network, None);
        let mut longest = self.limited(&self.of_network, any);
        if credential.is_some() {
            let wait = self.limited(&self.of_credential, (network, credential));
            longest = longest.max(wait);
        }
        longest.map_or_else(ApiError::unauthorized, |wait| {
            ApiError::too_many(seconds(wait))
        })
    }

    fn limited(&self, limiter: &Limiter<Key>, key: Key) -> Option<Duration> {
        let wait = limiter.take(key).err()?;
        let now = Instant::now();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= WAITING_MAX {
            waiting.retain(|_, until| now < *until);
        }
        if waiting.len() < WAITING_MAX {
            waiting.insert(key, now + wait);
        }
        Some(wait)
    }
}

/// The network that an address counts as: the address itself, of IPv6 its /64.
fn network(address: IpAddr) -> Option<IpNet> {
    networks(address).last()
}

/// Whole seconds, the next one: clients do not read fractions.
fn seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)));
    const THERE: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2)));

    fn key(number: u64) -> Option<KeyId> {
        KeyId::new(number)
    }

    #[tokio::test(start_paused = true)]
    async fn who_fails_with_a_credential_waits_and_nobody_else_does() {
        let failures = Failures::new();
        for _ in 0..OF_CREDENTIAL.0 {
            assert_eq!(failures.failed(HERE, key(7)).status, 401);
            assert!(failures.check(HERE, key(7)).is_ok());
        }
        let refused = failures.failed(HERE, key(7));
        assert_eq!(
            (refused.status.as_u16(), refused.retry_after),
            (429, Some(5))
        );
        assert_eq!(failures.check(HERE, key(7)).unwrap_err().status, 429);
        assert!(failures.check(THERE, key(7)).is_ok());
        assert!(failures.check(HERE, key(8)).is_ok());
        assert!(failures.check(HERE, None).is_ok());
        tokio::time::advance(Duration::from_secs(5)).await;
        assert!(failures.check(HERE, key(7)).is_ok());
        assert_eq!(failures.failed(HERE, key(7)).status, 401);
        assert_eq!(failures.failed(HERE, key(7)).status, 429);
    }

    #[tokio::test(start_paused = true)]
    async fn a_network_that_fails_with_ever_other_credentials_waits() {
        let failures = Failures::new();
        for number in 1..=u64::from(OF_NETWORK.0) {
            assert_eq!(failures.failed(HERE, key(number)).status, 401);
        }
        assert_eq!(failures.failed(HERE, key(9999)).status, 429);
        assert_eq!(failures.check(HERE, None).unwrap_err().status, 429);
        // What is known is looked at all the same.
        assert!(failures.check(HERE, key(3)).is_ok());
        assert!(failures.check(THERE, None).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn the_operator_s_socket_is_not_counted() {
        let failures = Failures::new();
        assert!((0..1000).all(|_| failures.failed(None, key(7)).status == 401));
    }
}
