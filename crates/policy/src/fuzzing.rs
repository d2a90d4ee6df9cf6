//! What the fuzz targets do with their input; the saved corpora run as ordinary tests.

use crate::{Compiled, Policy, Topology, hujson};
use std::sync::Arc;

/// Parses, packs, formats and patches.
///
/// # Panics
/// When a promise of [`mod@hujson`] is broken.
pub fn hujson(input: &[u8]) {
    let Ok(document) = hujson::Value::parse(input) else {
        return;
    };
    assert_eq!(document.pack(), input, "packing changed the text");
    let mut standard = document.clone();
    standard.standardize();
    assert_eq!(
        standard.pack().len(),
        input.len(),
        "standardizing moved something"
    );
    let mut formatted = document.clone();
    formatted.format();
    let once = formatted.pack();
    let again = hujson::Value::parse(&once).map(|mut again| {
        again.format();
        again.pack()
    });
    assert_eq!(again.as_ref(), Ok(&once), "formatting is not stable");
    let meaning = |mut value: hujson::Value| {
        value.minimize();
        serde_json::from_slice::<serde_json::Value>(&value.pack()).ok()
    };
    // Some strings that Go accepts have no meaning here, such as half a surrogate pair.
    if let Some(before) = meaning(document.clone()) {
        assert_eq!(
            meaning(formatted),
            Some(before),
            "formatting changed the meaning"
        );
    }
    // The input as its own patch: it fails or not, but it ends.
    let mut patched = document;
    let _ = patched.patch(input);
}

/// Reads a policy, applies it to the tailnet that it implies, and asks everything.
///
/// # Panics
/// When a promise of the crate is broken.
pub fn policy(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let policy = match Policy::parse(text) {
        Ok(policy) => Arc::new(policy),
        Err(errors) => {
            assert!(!errors.is_empty(), "refused without a reason");
            return;
        }
    };
    let topology = Topology::implied_by(&policy);
    let net = Compiled::new(Arc::clone(&policy), &topology);
    let _ = net.run_tests();
    let diff = net.diff(&policy, &[]);
    assert!(
        diff.access.is_empty() && diff.ssh.is_empty(),
        "a policy differs from itself"
    );
    let ids: Vec<u64> = net.devices().map(|device| device.id).collect();
    for id in ids.iter().copied().take(20) {
        let _ = (
            net.filters_for(id),
            net.ssh_for(id),
            net.caps_for(id),
            net.primary_routes(id),
        );
        for other in ids.iter().copied().take(20) {
            assert_eq!(
                net.visible(id, other),
                net.visible(other, id),
                "visibility is not mutual"
            );
        }
    }
}
