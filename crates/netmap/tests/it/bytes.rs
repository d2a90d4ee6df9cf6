//! Shared bytes: who gets the same, gets the same buffer.

use bowline_netmap::delta;
use bowline_netmap::full;
use bowline_netmap::message::Message;
use bowline_netmap::publication::Publication;
use bowline_netmap::viewer::Viewer;
use bowline_wire::map_request::Encoding;
use bytes::Bytes;

use crate::records::{at, device, next, publication, viewer};

/// A message's buffers that are too large to be copied together. Kept alive, so that no two that
/// are compared can have one address by chance.
fn large(message: Message) -> Vec<Bytes> {
    let buffers = message.into_buffers().unwrap();
    buffers.filter(|buffer| buffer.len() >= 1024).collect()
}

fn full_map(viewer: Viewer, publication: &Publication) -> Vec<Bytes> {
    large(full::full(viewer, publication, at(5)).unwrap())
}

/// How many buffers are in both.
fn shared(one: &[Bytes], two: &[Bytes]) -> usize {
    let same = |a: &Bytes, b: &Bytes| (a.as_ptr(), a.len()) == (b.as_ptr(), b.len());
    one.iter()
        .filter(|a| two.iter().any(|b| same(a, b)))
        .count()
}

const BOTH: [Encoding; 2] = [Encoding::Plain, Encoding::Zstd];

#[test]
fn viewers_outside_a_change_get_the_same_buffer_of_it() {
    let before = publication(140);
    let after = next(&before, |draft| {
        for number in 20..84 {
            let mut device = device(number);
            device.name = format!("renamed{number}");
            draft.put_device(device);
        }
    });
    for encoding in BOTH {
        let tell = |number| {
            let viewer = viewer(number, encoding);
            large(
                delta::delta(viewer, &before, &after, at(6))
                    .unwrap()
                    .unwrap(),
            )
        };
        let first = tell(1);
        assert_eq!(first.len(), 1, "{encoding:?}");
        assert_eq!(shared(&first, &tell(2)), 1);
        assert_eq!(shared(&first, &tell(130)), 1);
        // Each of the renamed gets it without itself, and shares with the others what it can: the
        // second block of 32 of the 64 that changed.
        let concerned = tell(30);
        assert_eq!(shared(&first, &concerned), 0);
        assert_eq!(shared(&concerned, &tell(31)), 1);
    }
}

#[test]
fn viewers_outside_a_chunk_get_the_same_buffer_of_it() {
    let publication = publication(256);
    for encoding in BOTH {
        // Devices 1 to 64 are the first chunk, and so on.
        let one = full_map(viewer(1, encoding), &publication);
        assert_eq!(
            shared(&one, &full_map(viewer(70, encoding), &publication)),
            2
        );
        assert_eq!(
            shared(&one, &full_map(viewer(2, encoding), &publication)),
            3
        );
    }
}

#[test]
fn one_change_compresses_one_chunk_again() {
    let before = publication(256);
    for encoding in BOTH {
        let viewer = viewer(150, encoding);
        let old = full_map(viewer, &before);
        let after = next(&before, |draft| {
            let mut device = device(70);
            device.name = "renamed".to_owned();
            draft.put_device(device);
        });
        // Chunk 3 has the viewer and is made for it each time; chunk 2 has changed.
        assert_eq!(shared(&old, &full_map(viewer, &before)), 3);
        assert_eq!(shared(&old, &full_map(viewer, &after)), 2);
    }
}

#[test]
fn what_was_made_of_a_publication_is_in_no_state_made_from_it() {
    let before = publication(140);
    let after = next(&before, |draft| {
        for number in 20..84 {
            let mut device = device(number);
            device.name = format!("renamed{number}");
            draft.put_device(device);
        }
    });
    let viewer = viewer(1, Encoding::Zstd);
    let tell = |to: &Publication| large(delta::delta(viewer, &before, to, at(6)).unwrap().unwrap());
    let told = tell(&after);
    assert_eq!(shared(&told, &tell(&after)), 1);
    // The same devices, published again: whatever is shared would be found in the snapshot.
    let copy = Publication::new((**after.snapshot()).clone());
    assert_eq!(tell(&copy), told);
    assert_eq!(shared(&told, &tell(&copy)), 0);
    // Rows that were stored meanwhile are nothing that viewers are told.
    let stored = after.at_seq(7);
    assert_eq!((stored.snapshot().seq, stored.snapshot().revision), (7, 1));
    assert_eq!(shared(&told, &tell(&stored)), 1);
}
