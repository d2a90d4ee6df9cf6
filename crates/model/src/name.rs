//! Names of devices: DNS labels made from what the operating system calls the machine.
//!
//! Source: `docs/protocol/control-protocol.md`, section 6.2 (ts-go `util/dnsname/dnsname.go`).

/// Longest DNS label, in bytes.
pub const LABEL_MAX: usize = 63;

/// Makes a label of a host name: without `.local`, `.localdomain` or `.lan` at the end, in lower
/// case, space, `.`, `@` and `_` as `-`, other characters dropped, at most 63 bytes, beginning
/// and ending with a letter or digit. Empty when nothing is left.
pub fn sanitise(hostname: &str) -> String {
    let lower = hostname.trim().to_lowercase();
    let base = [".local", ".localdomain", ".lan"]
        .iter()
        .find_map(|suffix| lower.strip_suffix(suffix))
        .unwrap_or(&lower);
    let mapped: String = base
        .chars()
        .filter_map(|c| match c {
            'a'..='z' | '0'..='9' | '-' => Some(c),
            ' ' | '.' | '@' | '_' => Some('-'),
            _ => None,
        })
        .collect();
    let trimmed = mapped.trim_matches('-');
    let cut = &trimmed[..trimmed.len().min(LABEL_MAX)]; // ASCII only by now
    cut.trim_end_matches('-').to_owned()
}

/// Whether a text is a label that an administrator may give: RFC 1123, lower case, 1 to 63 bytes.
pub fn is_label(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= LABEL_MAX
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// The `n`th candidate for a wanted label: the label itself, then `label-1`, `label-2`, …,
/// shortened so that it stays a label.
pub fn candidate(label: &str, n: usize) -> String {
    if n == 0 {
        return label.to_owned();
    }
    let suffix = format!("-{n}");
    let keep = label.len().min(LABEL_MAX - suffix.len());
    format!("{}{suffix}", label[..keep].trim_end_matches('-'))
}

/// Whether a text is a domain name of labels, at most 253 bytes, without a dot at the end. Used
/// for search paths and split DNS.
pub fn is_domain(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 253
        && text.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= LABEL_MAX
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn host_names_become_labels() {
        for (host, label) in [
            ("Ann's MacBook Pro.local", "anns-macbook-pro"),
            ("web_1.example.com", "web-1-example-com"),
            ("--x--", "x"),
            ("日本", ""),
            ("HOST.LAN", "host"),
            ("a\"b\\c", "abc"),
        ] {
            assert_eq!(sanitise(host), label, "{host}");
        }
    }

    proptest! {
        #[test]
        fn a_sanitised_name_is_a_label_or_empty(host in "\\PC{0,90}", n in 0usize..200_000) {
            let label = sanitise(&host);
            prop_assert!(label.is_empty() || is_label(&label), "{label}");
            if !label.is_empty() {
                prop_assert!(is_label(&candidate(&label, n)));
            }
        }
    }
}
