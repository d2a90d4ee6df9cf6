use super::*;
use crate::noise::vectors::{bytes, key};

const RECORDS: &str = include_str!("../vectors/records.txt");
const COUNTERS: [u64; 5] = [0, 1, 255, 256, u64::MAX - 1];

fn direction(counter: u64) -> Direction {
    let mut direction = Direction::new(Key::from_bytes(key(RECORDS, "key")));
    direction.set_counter(counter);
    direction
}

#[test]
fn records_are_those_of_the_second_implementation() {
    for counter in COUNTERS {
        let plaintext = bytes(RECORDS, &format!("counter_{counter}_plaintext"));
        let record = bytes(RECORDS, &format!("counter_{counter}_record"));

        let mut sealed = b"before".to_vec();
        let mut sending = direction(counter);
        sending
            .cipher()
            .unwrap()
            .seal(&mut sealed, |out| out.extend_from_slice(&plaintext))
            .unwrap();
        assert_eq!(
            sealed.strip_prefix(b"before"),
            Some(record.as_slice()),
            "counter {counter}"
        );

        let mut ciphertext = record[HEADER_LEN..].to_vec();
        let length = direction(counter)
            .cipher()
            .unwrap()
            .open(&mut ciphertext)
            .unwrap();
        assert_eq!(ciphertext[..length], plaintext, "counter {counter}");
    }
}

#[test]
fn the_counter_goes_on_between_ciphers() {
    let mut sending = direction(0);
    let mut out = Vec::new();
    sending
        .cipher()
        .unwrap()
        .seal(&mut out, |out| out.extend_from_slice(b"first"))
        .unwrap();
    sending.cipher().unwrap().seal(&mut out, |_| ()).unwrap();
    let expected = [
        bytes(RECORDS, "counter_0_record"),
        bytes(RECORDS, "counter_1_record"),
    ]
    .concat();
    assert_eq!(out, expected);
}

#[test]
fn the_last_counter_is_never_used() {
    let mut direction = direction(u64::MAX);
    let mut out = Vec::new();
    direction
        .cipher()
        .unwrap()
        .seal(&mut out, |_| ())
        .unwrap_err();
    assert_eq!(out, b"");
    direction.cipher().unwrap().open(&mut [0; 16]).unwrap_err();
}

#[test]
fn a_record_with_another_counter_does_not_open() {
    let mut ciphertext = bytes(RECORDS, "counter_0_record")[HEADER_LEN..].to_vec();
    let error = direction(1)
        .cipher()
        .unwrap()
        .open(&mut ciphertext)
        .unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
}

#[test]
fn headers_are_taken_within_the_limits_only() {
    assert_eq!(parse_header([4, 0, 16]).unwrap(), 16);
    assert_eq!(parse_header([4, 0x0F, 0xFD]).unwrap(), 4093);
    parse_header([4, 0, 15]).unwrap_err();
    parse_header([4, 0x0F, 0xFE]).unwrap_err();
    parse_header([4, 0xFF, 0xFF]).unwrap_err();
    for kind in (0..=u8::MAX).filter(|kind| *kind != 4) {
        parse_header([kind, 0, 16]).unwrap_err();
    }
}
