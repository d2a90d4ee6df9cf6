//! When a certificate ends.
//!
//! The TLS library keeps that to itself, and it is one field of one structure: a whole X.509
//! parser is more than is needed to show it. Nothing is decided by it, so a certificate that this
//! cannot read is served all the same.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The end of a certificate's validity (`notAfter`). `None` when it cannot be read.
///
/// Source: RFC 5280, section 4.1: a certificate begins with version, serial number, algorithm,
/// issuer and validity.
pub fn not_after(certificate: &[u8]) -> Option<Timestamp> {
    let (certificate, _) = element(certificate, SEQUENCE)?;
    let (mut fields, _) = element(certificate, SEQUENCE)?;
    if let Some((_, rest)) = element(fields, VERSION) {
        fields = rest;
    }
    let (_, fields) = element(fields, INTEGER)?;
    let (_, fields) = element(fields, SEQUENCE)?;
    let (_, fields) = element(fields, SEQUENCE)?;
    let (validity, _) = element(fields, SEQUENCE)?;
    let (_, after) = time(validity)?;
    Some(time(after)?.0)
}

/// Content and rest of an element of this kind, if one is in front.
fn element(bytes: &[u8], kind: u8) -> Option<(&[u8], &[u8])> {
    let (&tag, bytes) = bytes.split_first()?;
    let (&first, mut bytes) = bytes.split_first()?;
    let mut length = usize::from(first);
    if first & 0x80 != 0 {
        let digits = usize::from(first & 0x7f);
        if digits == 0 || digits > 4 {
            return None;
        }
        let (number, rest) = bytes.split_at_checked(digits)?;
        length = number
            .iter()
            .fold(0, |sum, &byte| sum << 8 | usize::from(byte));
        bytes = rest;
    }
    (tag == kind).then(|| bytes.split_at_checked(length))?
}

/// A time in either of its two forms, and the rest. Years of two digits are from 1950 to 2049.
fn time(bytes: &[u8]) -> Option<(Timestamp, &[u8])> {
    let (text, century, rest) = if let Some((text, rest)) = element(bytes, UTC_TIME) {
        let is_last_century = text.first()? >= &b'5';
        (text, if is_last_century { "19" } else { "20" }, rest)
    } else {
        let (text, rest) = element(bytes, GENERALIZED_TIME)?;
        (text, "", rest)
    };
    let text = format!("{century}{}", std::str::from_utf8(text).ok()?);
    let moment = DateTime::strptime("%Y%m%d%H%M%SZ", text).ok()?;
    Some((Offset::UTC.to_timestamp(moment).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(year: i32) -> Vec<u8> {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        parameters.not_before = rcgen::date_time_ymd(2001, 2, 3);
        parameters.not_after = rcgen::date_time_ymd(year, 12, 31);
        parameters.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn the_end_is_read_in_both_forms_of_a_time() {
        for (year, wanted) in [
            (2049, "2049-12-31T00:00:00Z"),
            (2051, "2051-12-31T00:00:00Z"),
            (2026, "2026-12-31T00:00:00Z"),
        ] {
            let end = not_after(&made(year)).map(|end| end.to_string());
            assert_eq!(end.as_deref(), Some(wanted));
        }
    }

    #[test]
    fn a_certificate_that_is_cut_off_or_changed_is_never_a_panic() {
        let whole = made(2049);
        for length in 0..whole.len() {
            let _ = not_after(&whole[..length]);
        }
        for at in 0..whole.len().min(200) {
            for value in [0, 0x30, 0x7f, 0x80, 0x84, 0xff] {
                let mut changed = whole.clone();
                changed[at] = value;
                let _ = not_after(&changed);
            }
        }
        assert_eq!(not_after(b""), None);
    }
}
