//! Smaller ones: the document of the API asked for again and again without a credential, and files
//! and sockets that others on the same machine could reach.

use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::time::Instant;

use http::Method;

use crate::harness::Site;
use crate::home::Home;

#[tokio::test]
async fn the_document_of_the_api_costs_no_more_than_its_bytes() {
    let site = Site::start(&[]).await;
    let bystander = site.bystander().await;
    let server = site.as_attacker().await;
    let processor_seconds = async || {
        let metrics = site.serving.metrics().await;
        let line = metrics
            .lines()
            .find(|line| line.starts_with("process_cpu_seconds_total "));
        line.unwrap()
            .rsplit(' ')
            .next()
            .unwrap()
            .parse::<f64>()
            .unwrap()
    };
    let mut spent = Vec::new();
    for path in ["/health", "/api/v2"] {
        let (before, began) = (processor_seconds().await, Instant::now());
        for _ in 0..300 {
            let answer = server.request(Method::GET, path, &[], "").await.unwrap();
            assert_eq!(answer.status, 200);
        }
        spent.push((processor_seconds().await - before, began.elapsed()));
    }
    bystander.rounds(3).await;
    bystander.assert_served().await;
    // Made anew each time it was fifty times as much. The bystander asks meanwhile, so there is
    // something in both.
    let (health, document) = (spent[0].0, spent[1].0);
    assert!(document < 4.0 * health + 0.5, "{spent:?}");
}

#[tokio::test]
async fn nobody_else_on_the_machine_reaches_what_the_server_makes() {
    let site = Site::start(&[]).await;
    let mut sockets = 0;
    for entry in std::fs::read_dir(site.home.data()).unwrap() {
        let entry = entry.unwrap();
        // The settings are what an administrator put there.
        if entry.file_name() == "bowline.toml" {
            continue;
        }
        let metadata = std::fs::symlink_metadata(entry.path()).unwrap();
        let mode = metadata.permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}", entry.path().display());
        sockets += usize::from(metadata.file_type().is_socket());
    }
    assert_eq!(sockets, 1);
    let mode = std::fs::metadata(site.home.data()).unwrap().permissions();
    assert_eq!(mode.mode() & 0o777, 0o700);
}

#[tokio::test]
async fn a_data_directory_where_others_may_put_things_is_not_taken() {
    for mode in [0o777, 0o1777, 0o770, 0o775, 0o2775] {
        let home = Home::new();
        std::fs::create_dir(home.data()).unwrap();
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(home.data(), permissions).unwrap();
        let told = home.refuses(&Home::serve_args(&[])).await;
        assert!(told.contains("can be written by others"), "{told}");
        let left = std::fs::read_dir(home.data()).unwrap().count();
        assert_eq!(left, 0, "nothing was made in it");
    }
}
