use std::collections::VecDeque;
use std::task::Waker;

use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::super::early;
use super::*;
use crate::noise::record::HEADER_LEN;
use crate::noise::{Initiator, MAX_RECORD, handshake, respond};

const SERVER: [u8; 32] = [0x51; 32];

fn key(byte: u8) -> Key {
    Key::from_bytes([byte; 32])
}

/// A transport in memory. Reads yield the scripted pieces, then its end or nothing; writes take up
/// to the scripted number of bytes (0 means "not ready"), then everything.
#[derive(Default)]
struct Script {
    incoming: VecDeque<Vec<u8>>,
    stays_open: bool,
    room: VecDeque<usize>,
    written: Vec<u8>,
    write_calls: usize,
    is_shut_down: bool,
}

impl Script {
    fn incoming(pieces: impl IntoIterator<Item = Vec<u8>>) -> Self {
        Self {
            incoming: pieces.into_iter().collect(),
            ..Self::default()
        }
    }
}

impl AsyncRead for Script {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let Some(mut piece) = this.incoming.pop_front() else {
            return if this.stays_open {
                Poll::Pending
            } else {
                Poll::Ready(Ok(()))
            };
        };
        if piece.is_empty() {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let rest = piece.split_off(piece.len().min(out.remaining()));
        out.put_slice(&piece);
        if !rest.is_empty() {
            this.incoming.push_front(rest);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Script {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.write_calls += 1;
        let count = this.room.pop_front().unwrap_or(usize::MAX).min(bytes.len());
        if count == 0 {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        this.written.extend_from_slice(&bytes[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().is_shut_down = true;
        Poll::Ready(Ok(()))
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

/// What a sender with key 1 puts on the wire for these writes.
fn sealed(writes: &[&[u8]]) -> Vec<u8> {
    let mut sending = Direction::new(key(1));
    let mut wire = Vec::new();
    for bytes in writes {
        sending
            .cipher()
            .unwrap()
            .seal(&mut wire, |out| out.extend_from_slice(bytes))
            .unwrap();
    }
    wire
}

/// A receiver of what [`sealed`] made.
fn receiver(script: Script) -> NoiseStream<Script> {
    NoiseStream::new(script, key(2), key(1))
}

fn sender(script: Script) -> NoiseStream<Script> {
    NoiseStream::new(script, key(1), key(2))
}

/// Reads until the end or an error.
fn drain(mut stream: NoiseStream<Script>) -> (Vec<u8>, io::Result<()>) {
    let mut received = Vec::new();
    let outcome = block_on(stream.read_to_end(&mut received)).map(drop);
    (received, outcome)
}

fn record_lengths(mut wire: &[u8]) -> Vec<usize> {
    let mut lengths = Vec::new();
    while let Some((header, _)) = wire.split_first_chunk::<HEADER_LEN>() {
        let length = HEADER_LEN + usize::from(u16::from_be_bytes([header[1], header[2]]));
        lengths.push(length);
        wire = &wire[length..];
    }
    lengths
}

/// Cuts bytes at the given lengths, used in turn; 0 yields an empty piece.
fn cut(mut bytes: &[u8], lengths: &[usize]) -> Vec<Vec<u8>> {
    let mut pieces = Vec::new();
    for length in lengths.iter().cycle() {
        if bytes.is_empty() {
            break;
        }
        let (piece, rest) = bytes.split_at((*length).min(bytes.len()));
        pieces.push(piece.to_vec());
        bytes = rest;
    }
    pieces
}

fn cuts() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![0..8_usize, 1..6000_usize], 1..12)
        .prop_filter("some piece must have bytes", |cuts| {
            cuts.iter().any(|cut| *cut > 0)
        })
}

fn payload(length: usize) -> Vec<u8> {
    (0..length)
        .map(|i| u8::try_from(i % 251).unwrap())
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn bytes_arrive_whole_however_reads_and_writes_are_split(
        writes in prop::collection::vec(0..30_000_usize, 0..6),
        flushes: bool,
        room in cuts(),
        arrivals in cuts(),
        read_size in 1..20_000_usize,
    ) {
        let sent = payload(writes.iter().sum());
        let mut stream = sender(Script { room: room.into(), ..Script::default() });
        block_on(async {
            let mut rest = sent.as_slice();
            for length in &writes {
                let (now, later) = rest.split_at(*length);
                stream.write_all(now).await.unwrap();
                if flushes {
                    stream.flush().await.unwrap();
                }
                rest = later;
            }
            stream.shutdown().await.unwrap();
        });
        prop_assert!(stream.io.is_shut_down);
        prop_assert_eq!(stream.heap_size(), 0);
        prop_assert!(record_lengths(&stream.io.written).iter().all(|length| *length <= MAX_RECORD));

        let mut stream = receiver(Script::incoming(cut(&stream.io.written, &arrivals)));
        let mut received = Vec::new();
        let mut piece = vec![0; read_size];
        block_on(async {
            loop {
                let count = stream.read(&mut piece).await.unwrap();
                if count == 0 {
                    break;
                }
                received.extend_from_slice(&piece[..count]);
            }
        });
        prop_assert_eq!(received, sent);
        prop_assert_eq!(stream.heap_size(), 0);
    }

    #[test]
    fn a_changed_bit_ends_the_stream_after_what_came_before(
        lengths in prop::collection::vec(1..600_usize, 1..6),
        position: prop::sample::Index,
        bit in 0..8_u32,
        arrivals in cuts(),
    ) {
        let payloads: Vec<_> = lengths.iter().map(|length| payload(*length)).collect();
        let slices: Vec<_> = payloads.iter().map(Vec::as_slice).collect();
        let mut wire = sealed(&slices);
        let position = position.index(wire.len());
        wire[position] ^= 1 << bit;

        let mut intact = 0;
        let mut end = 0;
        for length in record_lengths(&sealed(&slices)) {
            end += length;
            if position < end {
                break;
            }
            intact += 1;
        }
        let (received, outcome) = drain(receiver(Script::incoming(cut(&wire, &arrivals))));
        prop_assert_eq!(received, slices[..intact].concat());
        // A changed length may make the record longer than what is left of the stream.
        let kind = outcome.unwrap_err().kind();
        prop_assert!(matches!(kind, io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof));
    }

    #[test]
    fn a_cut_stream_ends_well_between_records_only(
        lengths in prop::collection::vec(0..300_usize, 1..5),
        position: prop::sample::Index,
    ) {
        let payloads: Vec<_> = lengths.iter().map(|length| payload(*length)).collect();
        let slices: Vec<_> = payloads.iter().map(Vec::as_slice).collect();
        let wire = sealed(&slices);
        let position = position.index(wire.len() + 1);
        let mut ends = vec![0];
        ends.extend(record_lengths(&wire).iter().scan(0, |end, length| {
            *end += length;
            Some(*end)
        }));
        let whole = ends.iter().rposition(|end| *end <= position).unwrap();

        let (received, outcome) = drain(receiver(Script::incoming([wire[..position].to_vec()])));
        prop_assert_eq!(received, slices[..whole].concat());
        if ends[whole] == position {
            outcome.unwrap();
        } else {
            prop_assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        }
    }
}

#[test]
fn records_out_of_order_repeated_or_left_out_are_refused() {
    let wire = sealed(&[b"one", b"two"]);
    let (one, two) = wire.split_at(wire.len() / 2);
    for (pieces, delivered) in [
        ([two, one], ""),
        ([one, one], "one"),
        ([two, two], ""),
        ([one, b"\x04\x00\x10"], "one"),
    ] {
        let padding = vec![0; 16];
        let incoming = pieces.iter().map(|piece| piece.to_vec()).chain([padding]);
        let (received, outcome) = drain(receiver(Script::incoming(incoming)));
        assert_eq!(received, delivered.as_bytes());
        assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}

#[test]
fn after_a_bad_record_nothing_works_any_more() {
    let mut stream = receiver(Script::incoming([sealed(&[b"good"]), vec![5, 0, 16]]));
    block_on(async {
        let mut received = [0; 64];
        assert_eq!(stream.read(&mut received).await.unwrap(), 4);
        assert_eq!(
            stream.read(&mut received).await.unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
        stream.read(&mut received).await.unwrap_err();
        stream.write(b"x").await.unwrap_err();
        stream.flush().await.unwrap_err();
        stream.shutdown().await.unwrap();
    });
    assert_eq!(stream.io.written, b"");
    assert!(stream.io.is_shut_down);
    assert_eq!(stream.heap_size(), 0);
}

#[test]
fn empty_records_are_skipped() {
    let (received, outcome) = drain(receiver(Script::incoming([sealed(&[
        b"", b"a", b"", b"", b"b", b"",
    ])])));
    outcome.unwrap();
    assert_eq!(received, b"ab");
}

#[test]
fn an_http2_frame_is_one_write_of_full_records() {
    let mut stream = sender(Script::default());
    let (header, body) = ([1; 9], payload(16_384));
    let slices = [
        IoSlice::new(&header),
        IoSlice::new(&[]),
        IoSlice::new(&body),
    ];
    let accepted = block_on(stream.write_vectored(&slices)).unwrap();
    assert_eq!(accepted, header.len() + body.len());
    assert_eq!(stream.io.write_calls, 1);
    let last = accepted - 4 * MAX_PLAINTEXT + MAX_RECORD - MAX_PLAINTEXT;
    assert_eq!(
        record_lengths(&stream.io.written),
        [MAX_RECORD, MAX_RECORD, MAX_RECORD, MAX_RECORD, last]
    );

    let (received, outcome) = drain(receiver(Script::incoming([stream.io.written])));
    outcome.unwrap();
    assert_eq!(received, [header.as_slice(), &body].concat());
}

#[test]
fn a_transport_that_is_not_ready_bounds_what_waits() {
    let mut stream = sender(Script {
        room: vec![0; 100].into(),
        ..Script::default()
    });
    let mut context = Context::from_waker(Waker::noop());
    let bytes = payload(3000);
    let mut accepted = 0;
    while let Poll::Ready(count) = Pin::new(&mut stream).poll_write(&mut context, &bytes) {
        accepted += count.unwrap();
        assert!(stream.heap_size() <= pool::WRITE_BUFFER);
    }
    assert!(accepted > 0 && accepted <= pool::WRITE_BUFFER);

    // Nothing of what was accepted is lost, and nothing of what was refused is sent.
    stream.io.room.clear();
    block_on(stream.flush()).unwrap();
    let (received, outcome) = drain(receiver(Script::incoming([stream.io.written])));
    outcome.unwrap();
    assert_eq!(received, bytes.repeat(accepted / bytes.len()));
}

#[test]
fn an_idle_stream_holds_next_to_nothing() {
    assert!(
        size_of::<NoiseStream<()>>() <= 256,
        "{}",
        size_of::<NoiseStream<()>>()
    );
    let mut script = Script::incoming([sealed(&[&payload(4000)])]);
    script.stays_open = true;
    let mut stream = receiver(script);
    let mut context = Context::from_waker(Waker::noop());
    let mut received = vec![0; 5000];
    block_on(stream.read_exact(&mut received[..4000])).unwrap();
    let mut out = ReadBuf::new(&mut received);
    assert!(
        Pin::new(&mut stream)
            .poll_read(&mut context, &mut out)
            .is_pending()
    );
    assert_eq!(stream.heap_size(), 0);
}

#[test]
fn a_partial_record_costs_only_its_own_bytes() {
    let wire = sealed(&[&payload(4000)]);
    let mut script = Script::incoming([wire[..100].to_vec()]);
    script.stays_open = true;
    let mut stream = receiver(script);
    let mut context = Context::from_waker(Waker::noop());
    let mut received = vec![0; 5000];
    let mut out = ReadBuf::new(&mut received);
    assert!(
        Pin::new(&mut stream)
            .poll_read(&mut context, &mut out)
            .is_pending()
    );
    assert_eq!(stream.heap_size(), 100);

    stream.io.incoming.push_back(wire[100..].to_vec());
    assert!(
        Pin::new(&mut stream)
            .poll_read(&mut context, &mut out)
            .is_ready()
    );
    assert_eq!(out.filled(), payload(4000));
}

#[test]
fn a_reader_without_room_gets_nothing_and_loses_nothing() {
    let mut stream = receiver(Script::incoming([sealed(&[b"abc"])]));
    block_on(async {
        assert_eq!(stream.read(&mut []).await.unwrap(), 0);
        let mut byte = [0];
        for expected in b"abc" {
            assert_eq!(stream.read(&mut byte).await.unwrap(), 1);
            assert_eq!(byte[0], *expected);
        }
    });
}

#[test]
fn the_reply_and_the_first_bytes_leave_together() {
    let initiator =
        Initiator::new(&[3; 32], &handshake::public_key(&SERVER).unwrap(), 141).unwrap();
    let responded = respond(&SERVER, initiator.initiation()).unwrap();
    let mut server = NoiseStream::server(Script::default(), responded);
    let early = b"\xFF\xFF\xFFTS\0\0\0\x21{\"nodeKeyChallenge\":\"chalpub:00\"}settings!";
    block_on(server.write_all(early)).unwrap();
    assert_eq!(server.io.write_calls, 1);

    let (reply, records) = server.io.written.split_at(handshake::REPLY_LEN);
    let (tx, rx) = initiator.finish(reply).unwrap();
    let mut client = NoiseStream::new(Script::incoming([records.to_vec()]), tx, rx);
    block_on(async {
        let json = early::read(&mut client).await.unwrap();
        assert_eq!(
            json.as_deref(),
            Some(br#"{"nodeKeyChallenge":"chalpub:00"}"#.as_slice())
        );
        let mut rest = String::new();
        client.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "settings!");
    });
}

#[test]
fn an_early_payload_over_the_limit_is_refused() {
    let too_long = sealed(&[b"\xFF\xFF\xFFTS\0\0\x04\0"]);
    let mut stream = receiver(Script::incoming([too_long]));
    assert_eq!(
        block_on(early::read(&mut stream)).unwrap_err().kind(),
        io::ErrorKind::InvalidData
    );
}

#[test]
fn without_an_early_payload_the_client_reads_http2_from_its_start() {
    let frame = b"\0\0\x06\x04\0\0\0\0\0SETTNG";
    let mut stream = receiver(Script::incoming([sealed(&[
        &frame[..4],
        &frame[4..12],
        &frame[12..],
    ])]));
    block_on(async {
        assert_eq!(early::read(&mut stream).await.unwrap(), None);
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, frame);
    });
}
