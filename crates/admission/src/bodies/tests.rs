use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use http_body::{Frame, SizeHint};
use http_body_util::Full;

use super::*;

/// Some bytes, and then nothing more: never its end.
struct Stuck(Option<Bytes>);

impl Body for Stuck {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.0.take() {
            Some(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            None => Poll::Pending,
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

fn bodies() -> Bodies {
    let limits = BodyLimits {
        timeout: Duration::from_secs(20),
        total: 4096,
        per_source: 2048,
    };
    Bodies::new(limits, Alarms::default())
}

fn source(host: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, host])
}

fn stuck(
    bodies: &Bodies,
    host: u8,
    bytes: usize,
) -> tokio::task::JoinHandle<Result<Bytes, BodyRefused>> {
    let (bodies, body) = (bodies.clone(), Stuck(Some(Bytes::from(vec![1; bytes]))));
    tokio::spawn(async move { bodies.receive(source(host), body, 4096, None).await })
}

#[tokio::test(start_paused = true)]
async fn a_body_has_a_size_a_time_and_gives_its_part_back() {
    let bodies = bodies();
    let whole = |length| Full::new(Bytes::from(vec![7; length]));
    let received = bodies.receive(source(1), whole(1000), 1000, None).await;
    let received = received.unwrap();
    assert_eq!((received.len(), bodies.in_flight()), (1000, 1000));
    let part = received.slice(1..3);
    drop(received);
    assert_eq!(bodies.in_flight(), 1000, "a part of it is used");
    drop(part);
    assert_eq!(bodies.in_flight(), 0);
    let large = bodies.receive(source(1), whole(1001), 1000, None).await;
    assert_eq!(large.unwrap_err(), BodyRefused::TooLarge);
    let begun = Stuck(Some(Bytes::from(vec![7; 1001])));
    let large = bodies.receive(source(1), begun, 1000, None).await;
    assert_eq!(
        large.unwrap_err(),
        BodyRefused::TooLarge,
        "it did not say so"
    );
    let late = bodies.receive(source(1), Stuck(None), 1000, None).await;
    assert_eq!(late.unwrap_err(), BodyRefused::Late);
    assert_eq!(bodies.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_largest_source_loses_its_oldest_body() {
    let bodies = bodies();
    let first = stuck(&bodies, 1, 1024);
    tokio::task::yield_now().await;
    let second = stuck(&bodies, 1, 1024);
    tokio::task::yield_now().await;
    // At its share: its own first one goes.
    let third = stuck(&bodies, 1, 1024);
    assert_eq!(first.await.unwrap().unwrap_err(), BodyRefused::Crowded);
    let other = stuck(&bodies, 2, 1024);
    let another = stuck(&bodies, 3, 1024);
    tokio::task::yield_now().await;
    assert_eq!(bodies.in_flight(), 4096);
    // All is full: the largest source pays for one who comes.
    let whole = Full::new(Bytes::from(vec![7; 600]));
    let received = bodies.receive(source(4), whole, 600, None).await.unwrap();
    assert_eq!(second.await.unwrap().unwrap_err(), BodyRefused::Crowded);
    assert_eq!(bodies.in_flight(), 3 * 1024 + 600);
    for task in [third, other, another] {
        assert_eq!(task.await.unwrap().unwrap_err(), BodyRefused::Late);
    }
    drop(received);
    assert_eq!(bodies.in_flight(), 0);
    let inside = bodies.inside();
    assert!(inside.arriving.is_empty() && inside.arrived.is_empty() && inside.ends.is_empty());
}

#[tokio::test]
async fn what_is_in_use_is_not_ended_and_counts() {
    let bodies = bodies();
    let whole = || Full::new(Bytes::from(vec![7; 1024]));
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(
            bodies
                .receive(source(1), whole(), 1024, None)
                .await
                .unwrap(),
        );
    }
    let refused = bodies.receive(source(1), whole(), 1024, None).await;
    assert_eq!(refused.unwrap_err(), BodyRefused::Crowded);
    bodies
        .receive(source(2), whole(), 1024, None)
        .await
        .unwrap();
    held.pop();
    bodies
        .receive(source(1), whole(), 1024, None)
        .await
        .unwrap();
    assert_eq!(held[0][..], [7; 1024]);
}

#[tokio::test]
async fn a_connection_has_a_share_of_its_own() {
    let bodies = bodies();
    let share = Share::new(1500);
    let whole = || Full::new(Bytes::from(vec![7; 1024]));
    let receive = || bodies.receive(source(1), whole(), 1024, Some(&share));
    let first = receive().await.unwrap();
    assert_eq!(receive().await.unwrap_err(), BodyRefused::Connection);
    share.set(2048);
    receive().await.unwrap();
    drop(first);
    assert_eq!(share.0.0.load(Ordering::Relaxed), 0);
}
