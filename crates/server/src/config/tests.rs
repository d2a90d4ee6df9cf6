//! Loading from all sources: precedence, and every error's exact text.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::*;

/// A directory with a settings file, and flags and variables to go with it.
struct Case {
    directory: TempDir,
    flags: CliFlags,
    variables: Vec<(&'static str, String)>,
}

impl Case {
    /// A case without a settings file.
    fn empty() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut flags = CliFlags::default();
        flags.common.data = Some(directory.path().join("data").display().to_string());
        Self {
            directory,
            flags,
            variables: Vec::new(),
        }
    }

    /// A case whose settings file, `set.toml`, is named by `--config`.
    fn file(text: &str) -> Self {
        let mut case = Self::empty();
        case.write("set.toml", text);
        case.flags.common.config = Some(case.path("set.toml"));
        case
    }

    fn variable(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.variables.push((name, value.into()));
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("a file");
    }

    fn load(&self) -> Result<Loaded, SettingsError> {
        let environment = Environment::new(self.variables.clone());
        Settings::load_with(&self.flags, &environment, &self.path("etc.toml"))
    }

    fn loaded(&self) -> Loaded {
        self.load().expect("good settings")
    }

    /// The error's text with the directory's name taken out.
    fn error(&self) -> String {
        let text = self.load().expect_err("bad settings").to_string();
        text.replace(&format!("{}/", self.directory.path().display()), "")
    }
}

#[test]
fn defaults_need_no_source() {
    let case = Case::empty();
    let loaded = case.loaded();
    let Settings {
        server,
        metrics,
        derp,
        stun,
        database,
        ..
    } = loaded.settings.clone();
    assert_eq!(server.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(server.url.as_str(), "http://127.0.0.1:8080");
    assert_eq!(metrics.listen.show(), "127.0.0.1:9090");
    assert_eq!(derp.listen.show(), "127.0.0.1:8443");
    assert_eq!(derp.hostname.as_str(), "127.0.0.1");
    assert_eq!(stun.listen.show(), "127.0.0.1:3478");
    assert_eq!(database.url, DatabaseUrl::Sqlite);
    assert!(!loaded.settings.tailnet.allow_log_upload);
    assert_eq!(loaded.settings.tailnet.key_expiry().as_secs(), 180 * 86_400);
    assert_eq!(loaded.file, None);
    assert_eq!(loaded.source("listen"), Source::Default);
}

#[test]
fn the_reference_prints_the_defaults_in_force() {
    let mut case = Case::empty();
    case.flags.common.data = None;
    let loaded = case.loaded();
    let fields = sections()
        .iter()
        .flat_map(|section| section.fields)
        .collect::<Vec<_>>();
    assert_eq!(fields.len(), loaded.entries.len());
    for (field, entry) in fields.iter().zip(&loaded.entries) {
        assert_eq!(field.name(), entry.name);
        // A default that follows another setting is described in words.
        if !field.default.contains(' ') {
            assert_eq!(field.default, entry.value, "{}", entry.name);
        }
    }
}

#[test]
fn the_reference_has_every_setting_with_documentation() {
    let text = reference();
    for field in sections().iter().flat_map(|section| section.fields) {
        assert!(
            text.contains(&format!("\n### `{}`\n\n", field.name())),
            "{}",
            field.name()
        );
        assert!(
            text.contains(&format!("`{}`", field.variable())),
            "{}",
            field.name()
        );
        assert!(
            !field.doc.is_empty(),
            "{} has no documentation",
            field.name()
        );
    }
}

#[test]
fn every_flag_is_a_setting() {
    let set = || Some("x".to_owned());
    let flags = CliFlags {
        common: CommonFlags {
            data: set(),
            listen: set(),
            url: set(),
            config: None,
            json: true,
        },
        serve: ServeFlags {
            derp_listen: set(),
            stun_listen: set(),
            metrics_listen: set(),
            database: set(),
            log_format: set(),
            log_level: set(),
        },
    };
    let mut declared: Vec<&str> = sections()
        .iter()
        .flat_map(|section| section.fields)
        .map(|field| field.flag)
        .filter(|flag| !flag.is_empty())
        .collect();
    declared.sort_unstable();
    assert_eq!(flags.values().into_keys().collect::<Vec<_>>(), declared);
}

#[test]
fn a_flag_wins_over_the_environment_and_that_over_the_file() {
    let text = "listen = \"127.0.0.1:1\"\n\n[log]\nlevel = \"warn\"\nformat = \"json\"\n";
    let mut case = Case::file(text)
        .variable("BOWLINE_LISTEN", "127.0.0.1:2")
        .variable("BOWLINE_LOG_LEVEL", "debug");
    case.flags.common.listen = Some("127.0.0.1:3".to_owned());
    let loaded = case.loaded();
    assert_eq!(loaded.settings.server.listen.port(), 3);
    assert_eq!(loaded.source("listen"), Source::Flag("listen"));
    assert_eq!(loaded.settings.log.level.as_str(), "debug");
    assert_eq!(
        loaded.source("log.level"),
        Source::Environment("BOWLINE_LOG_LEVEL".to_owned())
    );
    assert_eq!(loaded.settings.log.format, Format::Json);
    assert_eq!(
        loaded.source("log.format"),
        Source::File(case.path("set.toml"), 5)
    );
    assert_eq!(loaded.source("url"), Source::Default);
    assert_eq!(loaded.settings.server.url.as_str(), "http://127.0.0.1:3");
}

#[test]
fn an_empty_variable_counts_as_absent() {
    let loaded = Case::empty().variable("BOWLINE_LISTEN", "").loaded();
    assert_eq!(loaded.source("listen"), Source::Default);
}

#[test]
fn all_kinds_of_values_are_read_from_toml() {
    let case = Case::file(
        "data = \"data\"\n\
         listen = \"0.0.0.0:8080\"\n\
         url = \"https://bowline.example.com/\"\n\
         trusted_proxies = [\"10.0.0.0/8\", \"::1\"]\n\
         metrics = { listen = \"off\" }\n\
         derp.public_port = 443\n\
         derp.map_file = \"map.json\"\n\
         [tailnet]\n\
         allow_log_upload = true\n\
         ephemeral_inactivity_seconds = 0x78\n",
    );
    let Settings {
        server,
        metrics,
        derp,
        tailnet,
        ..
    } = case.loaded().settings;
    assert_eq!(server.url.as_str(), "https://bowline.example.com");
    assert_eq!(server.trusted_proxies.show(), "10.0.0.0/8, ::1/128");
    assert_eq!(metrics.listen, Listen::Off);
    assert_eq!(derp.listen.show(), "0.0.0.0:8443");
    assert_eq!(derp.hostname.as_str(), "bowline.example.com");
    assert_eq!(derp.told_port(8443), 443);
    assert_eq!(
        derp.map_file,
        Some(case.path("map.json")),
        "relative to the file"
    );
    assert!(tailnet.allow_log_upload);
    assert_eq!(
        tailnet.ephemeral_inactivity_seconds.duration().as_secs(),
        120
    );
}

#[test]
fn paths_outside_the_file_are_left_alone() {
    let loaded = Case::empty()
        .variable("BOWLINE_DERP_MAP_FILE", "map.json")
        .loaded();
    assert_eq!(
        loaded.settings.derp.map_file,
        Some(PathBuf::from("map.json"))
    );
}

#[test]
fn the_file_in_the_data_directory_is_found_before_the_systems() {
    let case = Case::empty();
    assert_eq!(case.loaded().file, None);
    case.write("etc.toml", "listen = \"127.0.0.1:1\"");
    assert_eq!(case.loaded().file, Some(case.path("etc.toml")));
    fs::create_dir(case.path("data")).expect("a directory");
    case.write("data/bowline.toml", "listen = \"127.0.0.1:2\"");
    assert_eq!(case.loaded().file, Some(case.path("data/bowline.toml")));
    case.write("third.toml", "");
    let case = Case {
        variables: vec![(
            "BOWLINE_CONFIG",
            case.path("third.toml").display().to_string(),
        )],
        ..case
    };
    assert_eq!(case.loaded().file, Some(case.path("third.toml")));
}

#[test]
fn the_systems_file_may_move_the_data_directory() {
    let mut case = Case::empty();
    case.write("etc.toml", "data = \"/var/lib/bowline\"");
    case.flags.common.data = None;
    assert_eq!(
        case.loaded().settings.server.data,
        Path::new("/var/lib/bowline")
    );
}

#[test]
fn the_file_in_the_data_directory_may_not_move_it() {
    let case = Case::empty();
    fs::create_dir(case.path("data")).expect("a directory");
    case.write("data/bowline.toml", "\ndata = \"elsewhere\"");
    assert_eq!(
        case.error(),
        "data/bowline.toml:2: `data` can't be set in the file that was found in the data \
         directory; remove it here, or name the file with --config"
    );
}

#[test]
fn a_file_that_is_named_must_be_there() {
    let mut case = Case::empty();
    case.flags.common.config = Some(case.path("absent.toml"));
    assert_eq!(
        case.error(),
        "could not read the settings file absent.toml: No such file or directory (os error 2)"
    );
}

#[test]
fn what_is_no_toml_is_told_with_its_line() {
    let case = Case::file("listen = \"127.0.0.1:1\"\nurl = \n");
    assert_eq!(
        case.error(),
        "set.toml:2: not valid TOML: string values must be quoted, expected literal string"
    );
}

#[test]
fn a_key_twice_is_told_with_its_line() {
    let case = Case::file("listen = \"127.0.0.1:1\"\nlisten = \"127.0.0.1:2\"\n");
    assert_eq!(case.error(), "set.toml:2: not valid TOML: duplicate key");
}

#[test]
fn unknown_keys_are_refused_from_top_to_bottom() {
    let case = Case::file(
        "listn = \"127.0.0.1:1\"\n\
         [logs]\n\
         level = \"info\"\n\
         [log]\n\
         colour = true\n\
         [database]\n\
         connections_file = \"x\"\n",
    );
    assert_eq!(
        case.error(),
        "set.toml:1: unknown key `listn`; did you mean `listen`?\n\
         set.toml:2: unknown key `logs`; did you mean `log`?\n\
         set.toml:5: unknown key `log.colour`; `bowline config` lists the known ones\n\
         set.toml:7: unknown key `database.connections_file`; `bowline config` lists the known ones"
    );
}

#[test]
fn a_section_is_no_key() {
    let case = Case::file("log = \"info\"\n");
    assert_eq!(
        case.error(),
        "set.toml:1: `log` is a section; write [log] and its settings below"
    );
}

#[test]
fn a_key_is_no_section() {
    let case = Case::file("[listen]\nport = 1\n");
    assert_eq!(
        case.error(),
        "set.toml:1: `listen` is a table; expected an IP address and a port, such as \
         127.0.0.1:8080 or [::1]:8080"
    );
}

#[test]
fn bad_values_are_told_with_place_value_and_what_was_expected() {
    let mut case = Case::file(
        "trusted_proxies = [\"10.0.0.0/40\", 1]\n\
         [tailnet]\n\
         key_expiry_days = 181\n\
         allow_log_upload = \"yes\"\n\
         [limits]\n\
         body_bytes = \"1048576\"\n\
         drain_seconds = 1.5\n",
    )
    .variable("BOWLINE_METRICS_LISTEN", "9090");
    case.flags.serve.log_level = Some("inof".to_owned());
    assert_eq!(
        case.error(),
        "set.toml:1: `trusted_proxies` is [\"10.0.0.0/40\", 1]; expected a list of networks, \
         such as [\"127.0.0.1/32\", \"10.0.0.0/8\"]\n\
         BOWLINE_METRICS_LISTEN is \"9090\"; expected an IP address and a port, such as \
         127.0.0.1:8080 or [::1]:8080, or off\n\
         set.toml:3: `tailnet.key_expiry_days` is 181; expected a whole number from 1 to 180\n\
         set.toml:4: `tailnet.allow_log_upload` is \"yes\"; expected true or false\n\
         set.toml:6: `limits.body_bytes` is \"1048576\"; expected a whole number from 65536 to \
         67108864\n\
         set.toml:7: `limits.drain_seconds` is a fraction; expected a whole number of seconds \
         from 0 to 600\n\
         --log-level is \"inof\"; expected error, warn, info, debug, trace or off, perhaps with \
         exceptions, such as info,bowline_control=debug"
    );
}

#[test]
fn a_bad_secret_is_not_printed() {
    let mut case = Case::file("[seal]\nkey = \"hunter2\"\n");
    case.flags.serve.database = Some("mysql://u:hunter3@h".to_owned());
    assert_eq!(
        case.error(),
        "--database has a value that can't be used; expected sqlite, or a URL such as \
         postgres://user:password@host/database\n\
         set.toml:2: `seal.key` has a value that can't be used; expected 64 hexadecimal digits \
         (make them with: openssl rand -hex 32)"
    );
}

#[test]
fn a_secret_may_stand_in_a_file_of_its_own() {
    let case = Case::file("[database]\nurl_file = \"url\"\n");
    case.write("url", "postgres://bowline:hunter2@db/bowline\n");
    case.write("key", &"0f".repeat(32));
    let key = case.path("key").display().to_string();
    let case = case.variable("BOWLINE_SEAL_KEY_FILE", key);
    let loaded = case.loaded();
    let DatabaseUrl::Postgres(url) = &loaded.settings.database.url else {
        panic!("PostgreSQL")
    };
    assert_eq!(url.expose(), "postgres://bowline:hunter2@db/bowline");
    assert_eq!(
        loaded.source("database.url"),
        Source::File(case.path("set.toml"), 2)
    );
    assert_eq!(
        loaded.settings.seal.key.as_ref().map(SealKey::expose),
        Some(&[0x0f; 32])
    );
    assert_eq!(
        loaded.source("seal.key"),
        Source::Environment("BOWLINE_SEAL_KEY_FILE".to_owned())
    );
}

#[test]
fn a_stronger_source_wins_in_either_form() {
    let case = Case::file("[database]\nurl_file = \"absent\"\n")
        .variable("BOWLINE_DATABASE_URL", "sqlite");
    assert_eq!(case.loaded().settings.database.url, DatabaseUrl::Sqlite);
}

#[test]
fn both_forms_in_one_source_are_refused() {
    let case = Case::file("[database]\nurl = \"sqlite\"\nurl_file = \"url\"\n");
    assert_eq!(
        case.error(),
        "set.toml:3: `database.url` and `database.url_file` are both set; keep one of them"
    );
    let case = Case::empty()
        .variable("BOWLINE_DATABASE_URL", "sqlite")
        .variable("BOWLINE_DATABASE_URL_FILE", "url");
    assert_eq!(
        case.error(),
        "BOWLINE_DATABASE_URL_FILE: `database.url` and `database.url_file` are both set; keep one \
         of them"
    );
}

#[test]
fn a_secrets_file_must_be_there_and_good() {
    let case = Case::file("[database]\nurl_file = \"absent\"\n[seal]\nkey_file = \"key\"\n");
    case.write("key", "hunter2");
    assert_eq!(
        case.error(),
        "set.toml:2: `database.url_file` names absent: could not read it: No such file or \
         directory (os error 2)\n\
         set.toml:4: `seal.key_file` names key: its content can't be used; expected 64 \
         hexadecimal digits (make them with: openssl rand -hex 32)"
    );
    let case = Case::file("[seal]\nkey_file = 5\n");
    assert_eq!(
        case.error(),
        "set.toml:2: `seal.key_file` is 5; expected a path"
    );
}

#[test]
fn a_listener_on_all_addresses_needs_a_url() {
    let mut case = Case::empty();
    case.flags.common.listen = Some("0.0.0.0:9000".to_owned());
    assert_eq!(
        case.error(),
        "no client can go to 0.0.0.0:9000; set --url (or BOWLINE_URL, or `url` in the settings \
         file) to the URL that clients shall use, such as https://bowline.example.com"
    );
    case.flags.common.url = Some("http://192.168.1.10:9000".to_owned());
    assert_eq!(
        case.loaded().settings.derp.hostname.as_str(),
        "192.168.1.10"
    );
}

#[test]
fn plain_http_to_others_needs_a_setting() {
    for url in [
        "http://bowline.example.com",
        "http://192.0.2.10:8080",
        "http://[2001:db8::1]",
    ] {
        let case = || Case::empty().variable("BOWLINE_URL", url);
        let error = case().error();
        assert!(
            error.starts_with(&format!("BOWLINE_URL: `url` is {url}: over http://"))
                && error.ends_with("or set `allow_insecure_url` to true"),
            "{error}"
        );
        let loaded = case()
            .variable("BOWLINE_ALLOW_INSECURE_URL", "true")
            .loaded();
        assert_eq!(loaded.warnings.len(), 1, "{:?}", loaded.warnings);
        assert!(loaded.warnings[0].contains("without TLS"));
    }
    // A listener on a public address by itself, too.
    let mut case = Case::empty();
    case.flags.common.listen = Some("198.51.100.7:8080".to_owned());
    assert!(
        case.error()
            .contains("`url` is http://198.51.100.7:8080: over http://")
    );
    for url in [
        "http://10.1.2.3",
        "http://localhost:8080",
        "https://bowline.example.com",
    ] {
        let loaded = Case::empty().variable("BOWLINE_URL", url).loaded();
        assert_eq!(loaded.warnings, [""; 0], "{url}");
    }
}

#[test]
fn a_certificate_makes_the_url_https() {
    let pair = || {
        Case::empty()
            .variable("BOWLINE_TLS_CERTIFICATE_FILE", "c.pem")
            .variable("BOWLINE_TLS_KEY_FILE", "k.pem")
    };
    let mut loaded = pair().loaded();
    assert_eq!(
        loaded.settings.server.url.as_str(),
        "https://127.0.0.1:8080"
    );
    loaded.bound("127.0.0.1:41234".parse().expect("an address"));
    assert_eq!(
        loaded.settings.server.url.as_str(),
        "https://127.0.0.1:41234"
    );
    let error = pair().variable("BOWLINE_URL", "http://10.1.2.3").error();
    assert!(error.contains("the server speaks HTTPS"), "{error}");
    let error = Case::empty()
        .variable("BOWLINE_TLS_KEY_FILE", "k.pem")
        .error();
    assert_eq!(
        error,
        "BOWLINE_TLS_KEY_FILE: `tls_key_file` needs `tls_certificate_file` too; set both or none"
    );
}

#[test]
fn the_relay_has_the_server_s_certificate_where_it_has_its_name() {
    let of = |hostname: Option<&str>| {
        let mut case = Case::empty()
            .variable("BOWLINE_URL", "https://bowline.example.com")
            .variable("BOWLINE_TLS_CERTIFICATE_FILE", "c.pem")
            .variable("BOWLINE_TLS_KEY_FILE", "k.pem");
        if let Some(hostname) = hostname {
            case = case.variable("BOWLINE_DERP_HOSTNAME", hostname);
        }
        let derp = case.loaded().settings.derp;
        (derp.certificate_file.is_some(), derp.key_file.is_some())
    };
    assert_eq!(of(None), (true, true));
    assert_eq!(of(Some("BOWLINE.example.com")), (true, true));
    assert_eq!(of(Some("relay.example.com")), (false, false));
}

#[test]
fn a_file_with_a_secret_that_others_may_read_is_warned_of() {
    use std::os::unix::fs::PermissionsExt as _;
    let case = Case::file("[database]\nurl_file = \"url\"\n");
    case.write("url", "postgres://u:hunter2@db/b");
    let set = |mode| {
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(case.path("url"), mode).expect("permissions");
    };
    set(0o640);
    assert_eq!(case.loaded().warnings, [""; 0]);
    set(0o644);
    let warnings = case.loaded().warnings;
    assert!(warnings[0].contains("holds a secret and can be read by others"));
    assert!(!warnings[0].contains("hunter2"));
}

#[test]
fn a_base_domain_leaves_room_for_the_names_of_devices() {
    let of = |length: usize| {
        let label = "a".repeat(60);
        let mut name = [label.as_str(); 4].join(".");
        name.truncate(length);
        Case::empty().variable("BOWLINE_TAILNET_BASE_DOMAIN", name)
    };
    assert_eq!(
        of(178).loaded().settings.tailnet.base_domain.as_str().len(),
        178
    );
    for length in [179, 230, 243] {
        let error = of(length).error();
        assert!(error.contains(&format!("has {length} characters; at most 178 leave room")));
    }
}

#[test]
fn certificate_and_key_go_together() {
    let case = Case::file("[derp]\ncertificate_file = \"relay.pem\"\n");
    assert_eq!(
        case.error(),
        "set.toml:2: `derp.certificate_file` needs `derp.key_file` too; set both or none"
    );
    let case = Case::empty().variable("BOWLINE_DERP_KEY_FILE", "key.pem");
    assert_eq!(
        case.error(),
        "BOWLINE_DERP_KEY_FILE: `derp.key_file` needs `derp.certificate_file` too; set both or none"
    );
}

#[test]
fn a_url_by_default_follows_the_port_that_was_taken() {
    let address = "127.0.0.1:41234".parse().expect("an address");
    let mut loaded = Case::file("listen = \"127.0.0.1:0\"").loaded();
    loaded.bound(address);
    assert_eq!(
        loaded.settings.server.url.as_str(),
        "http://127.0.0.1:41234"
    );
    assert!(loaded.table().contains("http://127.0.0.1:41234"));
    let mut loaded = Case::file("url = \"https://bowline.example.com\"").loaded();
    loaded.bound(address);
    assert_eq!(
        loaded.settings.server.url.as_str(),
        "https://bowline.example.com"
    );
}

#[test]
fn a_misspelled_variable_is_a_warning_and_a_foreign_one_is_nothing() {
    let case = Case::empty()
        .variable("BOWLINE_LISTNE", "127.0.0.1:1")
        .variable("BOWLINE_SERVICE_HOST", "10.0.0.1");
    assert_eq!(
        case.loaded().warnings,
        ["environment variable BOWLINE_LISTNE is not a setting; did you mean BOWLINE_LISTEN?"]
    );
}

#[test]
fn the_report_tells_value_and_source_and_no_secret() {
    let mut case = Case::file("[database]\nurl = \"postgres://u:hunter2@db/b\"\n")
        .variable("BOWLINE_SEAL_KEY", "0f".repeat(32));
    case.flags.serve.log_level = Some("debug".to_owned());
    let loaded = case.loaded();
    let json = loaded.json();
    let file = case.path("set.toml").display().to_string();
    assert_eq!(json["file"], file);
    assert_eq!(
        json["settings"]["database.url"],
        serde_json::json!({
            "value": "postgres://u:[redacted]@db/b",
            "from": { "source": "file", "file": file, "line": 2 },
        })
    );
    assert_eq!(
        json["settings"]["limits.body_bytes"],
        serde_json::json!({ "value": 1_048_576, "from": { "source": "default" } })
    );
    assert_eq!(json["settings"]["log.level"]["from"]["flag"], "--log-level");
    assert_eq!(
        json["settings"]["derp.public_port"]["value"],
        serde_json::Value::Null
    );
    assert_eq!(json["settings"]["seal.key"]["value"], "[redacted]");
    let table = loaded.table();
    let row = |name: &str| {
        let row = table
            .lines()
            .find(|line| line.trim_start().starts_with(name));
        row.map(|row| row.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    assert_eq!(
        row("log.level").as_deref(),
        Some("log.level debug --log-level")
    );
    assert_eq!(
        row("seal.key").as_deref(),
        Some("seal.key [redacted] BOWLINE_SEAL_KEY")
    );
    assert!(
        table.ends_with(&format!("\nsettings file: {file}")),
        "{table}"
    );
    for shown in [table.clone(), json.to_string(), format!("{loaded:?}")] {
        assert!(
            !shown.contains("hunter2") && !shown.contains("0f0f"),
            "{shown}"
        );
    }
}
