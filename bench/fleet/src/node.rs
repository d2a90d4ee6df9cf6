//! One simulated node: connects, registers if it must, follows its map stream.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bowline_testkit::client::{Client, Compression, MapFrames};
use serde_json::json;
use tokio::sync::{OnceCell, Semaphore};

use crate::board::Board;
use crate::scan::{Marker, Scanner};

thread_local! {
    static SCANNER: RefCell<Option<Scanner>> = const { RefCell::new(None) };
}

/// What all nodes of a run share.
pub(crate) struct Crowd {
    pub(crate) board: Board,
    /// 0: a node key of this run, then the 16 digits of its number. 1: a changed name, 2: a
    /// changed endpoint, then 5 digits.
    pub(crate) markers: Vec<Marker>,
    /// How many nodes may be between connecting and their first message at once.
    pub(crate) admission: Semaphore,
    pub(crate) compression: Compression,
    /// How many nodes must be told of a change.
    pub(crate) audience: usize,
}

/// How long the server has for each step until the first message. Go clients give a connection ten
/// seconds, but theirs do not share one processor.
const PATIENCE: Duration = Duration::from_secs(30);

/// One node. Its identity outlives its connections.
pub(crate) struct Node {
    pub(crate) number: usize,
    pub(crate) client: Client,
    /// Used up by the first registration that succeeds.
    pub(crate) auth_key: String,
    registered: OnceCell<()>,
    /// The id by which the API knows it, from its first map.
    pub(crate) stable_id: OnceCell<String>,
}

impl Node {
    pub(crate) fn new(number: usize, client: Client, auth_key: String) -> Self {
        Self {
            number,
            client,
            auth_key,
            registered: OnceCell::new(),
            stable_id: OnceCell::new(),
        }
    }

    /// Stays connected until it is aborted.
    pub(crate) async fn run(self: Arc<Self>, crowd: Arc<Crowd>) {
        // Real clients wait n² · 10 ms after the n-th failure, up to 30 s.
        for attempt in 1_u64.. {
            if let Err(failure) = self.follow(&crowd).await {
                crowd
                    .board
                    .fail(&failure.context(format!("node {}", self.number)));
            }
            tokio::time::sleep(Duration::from_millis((attempt * attempt * 10).min(30_000))).await;
        }
    }

    async fn follow(&self, crowd: &Crowd) -> anyhow::Result<()> {
        let permit = crowd.admission.acquire().await?;
        let connection = self.in_time(crowd, self.client.connect()).await?;
        self.registered
            .get_or_try_init(|| async {
                let mut request = self.client.register_request();
                request["Auth"] = json!({"AuthKey": self.auth_key});
                let registering = connection.register(&request);
                let answer = self.in_time(crowd, registering).await?;
                let error = answer["Error"].as_str().unwrap_or_default();
                ensure!(error.is_empty(), "registration refused: {error}");
                let url = answer["AuthURL"].as_str().unwrap_or_default();
                ensure!(url.is_empty(), "the auth key was not taken");
                anyhow::Ok(())
            })
            .await?;
        let request = self.client.map_request(crowd.compression);
        let mut frames = self.in_time(crowd, connection.map(&request)).await?;
        let mut view = View::new(self.number, crowd);
        let receiving = self.receive(&mut frames, &mut view);
        let first = self.in_time(crowd, receiving).await?;
        drop(permit);
        ensure!(first, "the stream ended before its first message");
        while self.receive(&mut frames, &mut view).await? {}
        anyhow::bail!("the server ended the stream")
    }

    /// A step until the first message, counted where it is refused or takes too long.
    async fn in_time<T>(
        &self,
        crowd: &Crowd,
        step: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        let outcome = tokio::time::timeout(PATIENCE, step).await;
        let counter = match &outcome {
            Ok(Ok(_)) => None,
            Ok(Err(_)) => Some(&crowd.board.refused),
            Err(_) => Some(&crowd.board.timed_out),
        };
        if let Some(counter) = counter {
            counter.fetch_add(1, Relaxed);
        }
        outcome.context("nothing came in time")?
    }

    async fn receive(&self, frames: &mut MapFrames, view: &mut View<'_>) -> anyhow::Result<bool> {
        let Some(message) = frames.next().await? else {
            return Ok(false);
        };
        if !self.stable_id.initialized() && self.number < crate::fleet::CHANGED_NODES {
            let decoded = bowline_testkit::client::decode(frames.compression(), &message)?;
            let map: serde_json::Value = serde_json::from_slice(&decoded)?;
            if let Some(id) = map["Node"]["StableID"].as_str() {
                let _ = self.stable_id.set(id.to_owned());
            }
        }
        view.read(&message)?;
        Ok(true)
    }
}

/// What one stream has seen.
struct View<'a> {
    number: usize,
    crowd: &'a Crowd,
    seen: Vec<u64>,
    missing: usize,
    told: Vec<usize>,
}

impl<'a> View<'a> {
    fn new(number: usize, crowd: &'a Crowd) -> Self {
        let size = crowd.board.size();
        Self {
            number,
            crowd,
            seen: vec![0; size.div_ceil(64)],
            missing: size,
            told: Vec::new(),
        }
    }

    fn read(&mut self, message: &[u8]) -> anyhow::Result<()> {
        let Self {
            number,
            crowd,
            seen,
            missing,
            told,
        } = self;
        let board = &crowd.board;
        let before = *missing;
        // Nothing but the changes matters to a node that has seen everybody.
        let skip = usize::from(before == 0);
        let length = SCANNER.with_borrow_mut(|scanner| {
            let scanner = match scanner {
                Some(scanner) => scanner,
                none => none.insert(Scanner::new()?),
            };
            scanner.scan(
                crowd.compression,
                message,
                &crowd.markers[skip..],
                |marker, value| match marker + skip {
                    0 => see(seen, missing, board.size(), value),
                    _ => tell(told, board, crowd.audience, value),
                },
            )
        });
        let length = length.context("a message does not decode")?;
        board.messages.fetch_add(1, Relaxed);
        board.wire_bytes.fetch_add(message.len() as u64, Relaxed);
        board.decoded_bytes.fetch_add(length as u64, Relaxed);
        if before > 0 && *missing == 0 {
            board.set_complete(*number);
        }
        Ok(())
    }
}

/// Marks the node with this number, in 16 hexadecimal digits, as seen.
fn see(seen: &mut [u64], missing: &mut usize, size: usize, digits: &[u8]) {
    let number = std::str::from_utf8(digits)
        .ok()
        .and_then(|digits| usize::from_str_radix(digits, 16).ok())
        .filter(|number| *number < size);
    if let Some(number) = number {
        let (word, bit) = (number / 64, 1 << (number % 64));
        if seen[word] & bit == 0 {
            seen[word] |= bit;
            *missing -= 1;
        }
    }
}

/// Notes that the change with this number, in decimal digits, has arrived.
fn tell(told: &mut Vec<usize>, board: &Board, audience: usize, digits: &[u8]) {
    let number = std::str::from_utf8(digits)
        .ok()
        .and_then(|digits| digits.parse::<usize>().ok());
    if let Some(number) = number.and_then(|number| number.checked_sub(crate::fleet::FIRST_CHANGE))
        && !told.contains(&number)
    {
        // Changes come one after the other: only the last ones can arrive again.
        if told.len() == 8 {
            told.remove(0);
        }
        told.push(number);
        board.set_told(number, audience);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_seen_once() {
        let (mut seen, mut missing) = (vec![0; 2], 100);
        for digits in [
            b"000000000000004f",
            b"000000000000004f",
            b"0000000000000000",
        ] {
            see(&mut seen, &mut missing, 100, digits);
        }
        assert_eq!((missing, seen.as_slice()), (98, [1, 1 << 15].as_slice()));
    }

    #[test]
    fn numbers_of_no_node_are_ignored() {
        let (mut seen, mut missing) = (vec![0; 2], 100);
        for digits in [
            b"0000000000000064",
            b"ffffffffffffffff",
            b"not hexadecimal!",
        ] {
            see(&mut seen, &mut missing, 100, digits);
        }
        assert_eq!(missing, 100);
    }
}
