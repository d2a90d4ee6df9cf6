//! What is refused, in which words.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;

use crate::home::{Home, end_of};

#[tokio::test]
async fn a_port_in_use_names_who_uses_it() {
    let home = Home::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let holder = if cfg!(target_os = "linux") {
        let name = fs::read_to_string("/proc/self/comm").unwrap();
        format!("process {} ({})", std::process::id(), name.trim_end())
    } else {
        "another process".to_owned()
    };
    for (flag, what) in [
        ("listen", "the server"),
        ("derp-listen", "the relay"),
        ("metrics-listen", "metrics"),
    ] {
        let taken = format!("--{flag}={address}");
        let args = [&Home::serve_args(&[])[..1], &["--stun-listen=off"]].concat();
        let free = [
            "--listen=127.0.0.1:0",
            "--derp-listen=127.0.0.1:0",
            "--metrics-listen=off",
        ];
        let free = free
            .into_iter()
            .filter(|other| !other.starts_with(&format!("--{flag}=")));
        let args: Vec<_> = args
            .into_iter()
            .chain(free)
            .chain([taken.as_str()])
            .collect();
        assert_eq!(
            home.refuses(&args).await,
            format!(
                "bowline: cannot listen on {address} for {what}: {holder} uses {address}; stop it, \
                 or choose another address with --{flag}\n  \
                 because: Address already in use (os error 98)\n"
            )
        );
    }
}

#[tokio::test]
async fn a_data_directory_that_cannot_be_made_is_named() {
    let home = Home::new();
    home.file("data", "in the way");
    let path = home.data().join("below");
    let mut command = home.command(&["init", "--owner", "ann@example.com"]);
    command.env("BOWLINE_DATA", &path);
    // The flag stands before the variable.
    let told = end_of(command).await.err;
    assert_eq!(
        told,
        format!(
            "bowline: cannot make the data directory {data}; choose another with --data, or give \
             this user write access\n  because: File exists (os error 17)\n",
            data = home.data().display()
        )
    );
}

#[tokio::test]
async fn a_data_directory_that_cannot_be_written_is_named() {
    let home = Home::new();
    let data = home.data();
    fs::create_dir(&data).unwrap();
    let mut command = home.command(&["init", "--owner", "ann@example.com"]);
    if rustix::process::geteuid().is_root() {
        // Root may write anywhere: as somebody else, from a copy that they may run.
        let parent = data.parent().unwrap();
        fs::set_permissions(parent, fs::Permissions::from_mode(0o755)).unwrap();
        let program = parent.join("bowline");
        fs::copy(env!("CARGO_BIN_EXE_bowline"), &program).unwrap();
        command = {
            let mut other = tokio::process::Command::new(program);
            other.args(["init", "--owner", "ann@example.com", "--data"]);
            other.arg(&data).uid(65534).gid(65534);
            other
        };
    }
    fs::set_permissions(&data, fs::Permissions::from_mode(0o555)).unwrap();
    let ran = end_of(command).await;
    fs::set_permissions(&data, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(
        (ran.code, ran.err),
        (
            1,
            format!(
                "bowline: cannot write the data directory {}; give this user write access, or \
                 choose another with --data\n  because: Permission denied (os error 13)\n",
                data.display()
            )
        )
    );
}

#[tokio::test]
async fn a_second_server_on_the_same_data_is_told_which_process_has_it() {
    let home = Home::new();
    let serving = home.serve().await;
    assert_eq!(
        home.refuses(&Home::serve_args(&[])).await,
        format!(
            "bowline: the data directory {} is in use by process {}; stop it, or choose another \
             directory with --data\n",
            home.data().display(),
            serving.pid()
        )
    );
}

#[tokio::test]
async fn a_file_that_is_no_database_is_told_from_a_good_one() {
    let home = Home::new();
    fs::create_dir(home.data()).unwrap();
    fs::write(
        home.data().join("bowline.db"),
        "not a database at all".repeat(500),
    )
    .unwrap();
    for args in [
        &["serve"][..],
        &["init", "--owner", "a@example.com"],
        &["key", "list"],
    ] {
        assert_eq!(
            home.refuses(args).await,
            format!(
                "bowline: the database {} is damaged or unreadable; keep a copy of it, run `bowline \
                 doctor` for the details, and restore the newest backup\n  because: file is not a \
                 database\n",
                home.data().join("bowline.db").display()
            ),
            "{args:?}"
        );
    }
}

#[tokio::test]
async fn a_database_of_a_newer_release_is_left_alone() {
    let (home, _) = Home::with_tailnet().await;
    let database = home.data().join("bowline.db");
    let known: u32 = {
        let connection = rusqlite::Connection::open(&database).unwrap();
        connection
            .execute(
                "INSERT INTO refinery_schema_history (version, name, applied_on, checksum) \
                 VALUES (9999, 'later', '2030-01-01T00:00:00Z', '1')",
                [],
            )
            .unwrap();
        connection
            .query_row(
                "SELECT max(version) FROM refinery_schema_history WHERE version < 9999",
                [],
                |row| row.get(0),
            )
            .unwrap()
    };
    assert_eq!(
        home.refuses(&["serve"]).await,
        format!(
            "bowline: the database has schema 9999, this program knows up to {known}; start the \
             newer release that upgraded it, or restore a backup made before\n"
        )
    );
}

#[tokio::test]
async fn bad_settings_are_told_with_file_line_and_key() {
    let home = Home::new();
    let file = home.file(
        "unknown.toml",
        "listen = \"127.0.0.1:8080\"\n\n[log]\ncolour = true\nlevle = \"info\"\n",
    );
    let file = file.to_str().unwrap();
    assert_eq!(
        home.refuses(&["serve", "--config", file]).await,
        format!(
            "bowline: {file}:4: unknown key `log.colour`; `bowline config` lists the known ones\n\
             {file}:5: unknown key `log.levle`; did you mean `log.level`?\n"
        ),
    );
    let file = home.file("bad.toml", "\n[log]\nlevel = \"loud\"\n");
    let file = file.to_str().unwrap();
    // What the environment says of the level stands before the file.
    let mut command = home.command(&["serve", "--config", file]);
    command.env_remove("BOWLINE_LOG_LEVEL");
    let told = end_of(command).await.err;
    assert_eq!(
        told,
        format!(
            "bowline: {file}:3: `log.level` is \"loud\"; expected error, warn, info, debug, trace or \
             off, perhaps with exceptions, such as info,bowline_control=debug\n"
        )
    );
    // A flag's value is typed wrong like any other.
    let ran = home.run(&["key", "list", "--listen", "8080"]).await;
    assert_eq!(
        (ran.code, ran.err.as_str()),
        (
            2,
            "bowline: --listen is \"8080\"; expected an IP address and a port, such as \
             127.0.0.1:8080 or [::1]:8080\n"
        )
    );
}

#[tokio::test]
async fn init_works_once() {
    let (home, made) = Home::with_tailnet().await;
    let again = ["init", "--owner", "bob@example.com"];
    assert_eq!(
        home.refuses(&again).await,
        format!(
            "bowline: {} has the tailnet {} already; init is for an empty one. Start the server \
             with: bowline serve\n",
            home.data().display(),
            made["tailnet"].as_str().unwrap()
        )
    );
}

#[tokio::test]
async fn what_is_typed_wrong_exits_with_2() {
    let home = Home::new();
    for (args, told) in [
        (
            &["key", "create", "--expires-in", "5"][..],
            "bowline: invalid value '5' for '--expires-in <TIME>': expected a number with a unit \
             s, m, h, d or w, such as 24h or 90d",
        ),
        (
            &["key", "destroy"],
            "bowline: unrecognized subcommand 'destroy'",
        ),
        (
            &["serve", "--port", "1"],
            "bowline: unexpected argument '--port' found",
        ),
    ] {
        let ran = home.run(args).await;
        assert_eq!(ran.code, 2, "{ran:?}");
        assert_eq!(ran.err.lines().next(), Some(told));
    }
    let help = home.run(&["key", "create", "--help"]).await;
    assert_eq!(help.code, 0);
    assert!(
        help.out.contains("  bowline key create --reusable"),
        "{help:?}"
    );
}
