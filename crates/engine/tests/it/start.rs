//! A start with policies that take long to compile.

use std::time::Duration;

use crate::net::{Net, until};

#[tokio::test]
async fn a_tailnet_whose_policy_takes_long_comes_later_and_is_not_unknown_meanwhile() {
    let mut net = Net::new().await;
    // No policy is as quick as this.
    net.settings.start_patience = Duration::ZERO;
    let net = net.restart(jiff::SignedDuration::ZERO).await;
    let name = until("the tailnet is served", || {
        let snapshot = net.engine.snapshot(net.tailnet);
        // Until then it is held back, and nobody is told that there is no such tailnet.
        assert!(snapshot.is_some() || net.engine.has_starting());
        snapshot.map(|snapshot| snapshot.tailnet().name.clone())
    })
    .await;
    until("nothing is on its way", || {
        (!net.engine.has_starting()).then_some(())
    })
    .await;
    assert!(!net.engine.is_tailnet_held_back(&name));
    assert_eq!(net.engine.find_tailnet(&name), Some(net.tailnet));
}
