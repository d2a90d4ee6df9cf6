//! Memory follows what there is: storms of joins and deletions leave nothing behind.
//!
//! Resident memory is a figure of a whole process, so the storms run in one of their own: this
//! test's program, run again with [`JOB`] set.

use std::process::Command;
use std::sync::Arc;

use bowline_engine::credential::NewAuthKey;
use bowline_engine::{
    Actor, Engine, Registered, Registration, Settings, SystemClock, SystemRandom,
};
use bowline_model::device::HostFacts;
use bowline_model::id::DeviceId;
use bowline_model::key::{MachineKey, NodeKey};
use bowline_model::record::RawJson;
use bowline_store::{Options, Store};
use futures_util::future::join_all;

const JOB: &str = "BOWLINE_TEST_MEMORY";
const STORMS: u64 = 10;
/// Devices of one storm. Enough that what one would leave behind is more than noise.
const DEVICES: u64 = 400;

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.unwrap().trim().trim_end_matches(" kB");
    kilobytes.parse::<u64>().unwrap() * 1024
}

fn key(kind: u8, number: u64) -> [u8; 32] {
    let mut bytes = [kind; 32];
    bytes[24..].copy_from_slice(&number.to_be_bytes());
    bytes
}

async fn storm(engine: &Engine, admin: &Actor, auth_key: &str, first: u64) {
    let joins = (first..first + DEVICES).map(|number| async move {
        let request = Registration {
            machine_key: MachineKey::from_bytes(key(1, number)).unwrap(),
            node_key: NodeKey::from_bytes(key(2, number)).unwrap(),
            old_node_key: None,
            lock_key: String::new(),
            auth_key: Some(auth_key.to_owned()),
            expiry: None,
            ephemeral: false,
            capability_version: 141,
            hostinfo: RawJson::empty_object(),
            facts: HostFacts {
                hostname: format!("host{number}"),
                ..HostFacts::default()
            },
        };
        match engine.register(request).await.unwrap() {
            Registered::In { device, .. } => device,
            other => panic!("{other:?}"),
        }
    });
    let devices: Vec<DeviceId> = join_all(joins).await;
    // Streams, and what each of them is told.
    let opened = devices
        .iter()
        .map(|device| engine.open_stream(admin.tailnet, *device));
    let streams = join_all(opened).await;
    let gone = devices
        .iter()
        .map(|device| engine.delete_device(admin, *device));
    for deleted in join_all(gone).await {
        deleted.unwrap();
    }
    drop(streams);
    engine.tick().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "only as the process that the test of memory measures"]
async fn the_measured_process() {
    if std::env::var_os(JOB).is_none() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bowline.db");
    let store = Store::open(&path.as_path().into(), Options::default())
        .await
        .unwrap();
    let (clock, random) = (Arc::new(SystemClock), Arc::new(SystemRandom));
    let settings = Settings {
        offline_grace: std::time::Duration::from_millis(1),
        ..Settings::default()
    };
    let engine = Engine::open(store, settings, clock, random).await.unwrap();
    let made = engine.create_tailnet("ann@example.com", None).await;
    let admin = engine.authenticate(made.unwrap().token.expose()).unwrap();
    let admin = admin.asking(bowline_model::requirement::Requirement::CALLER);
    let new = NewAuthKey {
        reusable: true,
        ..NewAuthKey::default()
    };
    let (auth_key, _) = engine.create_auth_key(&admin, None, new).await.unwrap();
    for number in 0..STORMS {
        storm(&engine, &admin, auth_key.expose(), number * DEVICES).await;
        let busy = resident_bytes();
        engine.store().shed().await;
        bowline_memory::release();
        println!("\nstorm {number} {busy} {}", resident_bytes());
    }
}

#[test]
fn ten_storms_end_where_the_first_ended() {
    let program = std::env::current_exe().unwrap();
    let output = Command::new(program)
        .args([
            "--ignored",
            "--exact",
            "--nocapture",
            "memory::the_measured_process",
        ])
        .env(JOB, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let resident: Vec<u64> = text
        .lines()
        .filter_map(|line| line.strip_prefix("storm "))
        .map(|line| line.rsplit(' ').next().unwrap().parse().unwrap())
        .collect();
    assert_eq!(resident.len(), usize::try_from(STORMS).unwrap(), "{text}");
    let (first, last) = (resident[0], resident[resident.len() - 1]);
    assert!(
        last <= first + first / 10,
        "{first} bytes after the first storm, {last} after the last: {resident:?}"
    );
}
