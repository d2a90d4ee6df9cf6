//! What the writer of one tailnet costs as the tailnet grows, printed as a table.
//!
//! `cargo bench -p bowline-engine --bench writer` runs it for 1,000 and 10,000 devices; arguments
//! are other numbers of devices.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a program for developers, which prints"
)]

use std::time::{Duration, Instant};

use bowline_engine::{Registered, Registration, Report, Settings};
use bowline_model::id::DeviceId;
use bowline_netmap::Encoding;
use bowline_netmap::delta;
use bowline_netmap::full;
use bowline_netmap::viewer::Viewer;
use bowline_store::Options;
use bowline_testkit::net::{Net, request};
use futures_util::future::join_all;

fn row(devices: usize, what: &str, count: usize, took: Duration) {
    let each = took.as_secs_f64() * 1e6 / f64::from(u32::try_from(count.max(1)).unwrap());
    println!("{devices:>8}  {what:<52} {took:>12.1?}  {each:>10.1} us each");
}

async fn run(devices: usize) {
    let net = Net::with(Settings::default(), Options::default()).await;
    let (engine, auth_key) = (&net.engine, net.reusable().await);

    let start = Instant::now();
    let join = |number: usize| {
        let number = u64::try_from(number).unwrap();
        let (engine, auth_key) = (engine.clone(), auth_key.clone());
        async move {
            let request = Registration {
                capability_version: 141,
                ..request(number, &auth_key)
            };
            match engine.register(request).await.unwrap() {
                Registered::In { device, .. } => device,
                other => panic!("{other:?}"),
            }
        }
    };
    let ids: Vec<DeviceId> = join_all((0..devices).map(join)).await;
    row(devices, "devices join at once", devices, start.elapsed());

    let open = || async {
        let opened = ids.iter().map(|id| engine.open_stream(net.tailnet, *id));
        let streams = join_all(opened).await;
        engine.tick().await;
        streams
    };
    let start = Instant::now();
    let streams = open().await;
    row(
        devices,
        "streams open, and their devices come online",
        devices,
        start.elapsed(),
    );
    let start = Instant::now();
    let again = open().await;
    row(
        devices,
        "streams open again while their devices are online",
        devices,
        start.elapsed(),
    );
    drop(streams);

    let report = |port: u16| {
        let reports = ids.iter().map(move |id| (*id, port));
        let engine = engine.clone();
        async move {
            join_all(reports.map(|(id, port)| {
                let endpoints = Some(vec![format!("192.0.2.1:{port}").parse().unwrap()]);
                engine.report(
                    net.tailnet,
                    id,
                    Report {
                        endpoints,
                        ..Report::default()
                    },
                )
            }))
            .await;
            engine.tick().await;
        }
    };
    let start = Instant::now();
    report(1).await;
    row(
        devices,
        "reports of new endpoints",
        devices,
        start.elapsed(),
    );
    let start = Instant::now();
    report(1).await;
    row(
        devices,
        "reports that say nothing new",
        devices,
        start.elapsed(),
    );

    let start = Instant::now();
    for n in 0..20 {
        engine
            .rename_device(&net.admin, ids[0], &format!("name{n}"))
            .await
            .unwrap();
    }
    row(devices, "renames, one after the other", 20, start.elapsed());

    let before = engine.publication(net.tailnet).unwrap();
    let viewer = |index: usize| Viewer {
        device: ids[index],
        version: 141,
        encoding: Encoding::Zstd,
        log_upload: false,
    };
    let start = Instant::now();
    full::full(viewer(1), &before, engine.now()).unwrap();
    row(devices, "the first full map (zstd)", 1, start.elapsed());
    let start = Instant::now();
    for index in 0..100 {
        full::full(viewer(index), &before, engine.now()).unwrap();
    }
    row(devices, "further full maps", 100, start.elapsed());
    engine
        .rename_device(&net.admin, ids[0], "another")
        .await
        .unwrap();
    let after = engine.publication(net.tailnet).unwrap();
    let start = Instant::now();
    full::full(viewer(1), &after, engine.now()).unwrap();
    row(devices, "a full map after one change", 1, start.elapsed());
    let tell = |count: usize, before, after| {
        for index in 0..count {
            delta::delta(viewer(index + 1), before, after, engine.now())
                .unwrap()
                .unwrap();
        }
    };
    let start = Instant::now();
    tell(900, &before, &after);
    row(devices, "deltas of one change", 900, start.elapsed());
    report(2).await;
    let all = engine.publication(net.tailnet).unwrap();
    let start = Instant::now();
    tell(100, &after, &all);
    row(
        devices,
        "deltas of a change of every device, to each of them",
        100,
        start.elapsed(),
    );
    drop(again);
    engine.clone().close().await;
}

#[tokio::main]
async fn main() {
    let given: Vec<usize> = std::env::args()
        .filter_map(|text| text.parse().ok())
        .collect();
    let sizes = if given.is_empty() {
        vec![1_000, 10_000]
    } else {
        given
    };
    for devices in sizes {
        run(devices).await;
    }
}
