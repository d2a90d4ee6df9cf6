//! Reads the committed vectors: lines `name = hex`, and comments.

/// The bytes of one name of a vector file.
pub(super) fn bytes(file: &str, name: &str) -> Vec<u8> {
    let hex = file
        .lines()
        .filter_map(|line| line.split_once(" = "))
        .find_map(|(key, value)| (key == name).then_some(value.trim()))
        .unwrap_or_else(|| panic!("no vector {name}"));
    assert!(
        hex.len().is_multiple_of(2),
        "odd number of digits in {name}"
    );
    (0..hex.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap())
        .collect()
}

/// The 32 bytes of a key.
pub(super) fn key(file: &str, name: &str) -> [u8; 32] {
    bytes(file, name).try_into().unwrap()
}
