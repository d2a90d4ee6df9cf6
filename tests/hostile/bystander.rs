//! The measure itself: without an attack everybody is served, and a server that stands still is noticed.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::Site;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_attack_everybody_is_served() {
    let site = Site::start(&[]).await;
    let bystander = site.bystander().await;
    bystander.rounds(5).await;
    bystander.assert_served().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stands_still_is_noticed() {
    let site = Site::start(&[]).await;
    let bystander = site.bystander().await;
    bystander.rounds(1).await;
    let pid = Pid::from_raw(i32::try_from(site.serving.pid()).unwrap()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    tokio::time::sleep(Duration::from_millis(1500)).await; // the fault itself takes that long
    kill_process(pid, Signal::CONT).unwrap();
    let slowest = bystander.end().await.unwrap();
    assert!(slowest > Duration::from_secs(1), "{slowest:?}");
}
