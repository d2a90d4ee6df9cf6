//! What the server prints when it is ready: what to open and type next.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Result;

use crate::config::{BaseUrl, Settings};

/// The first credential of a server that had no tailnet.
pub(crate) enum FirstToken {
    /// To be printed.
    Shown(zeroize::Zeroizing<String>),
    /// In this file.
    File(PathBuf),
}

/// Where the server listens in fact: a port 0 in the settings is any that is free.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bound {
    pub(crate) main: SocketAddr,
    pub(crate) api: Option<SocketAddr>,
    pub(crate) relay: Option<SocketAddr>,
    pub(crate) metrics: Option<SocketAddr>,
}

/// The URL of the API: that of the server, unless the API has a listener of its own.
pub(crate) fn api_url(settings: &Settings, api: Option<SocketAddr>) -> BaseUrl {
    let url = &settings.server.url;
    let Some(bound) = api else { return url.clone() };
    let is_tls = settings.server.tls_certificate_file.is_some();
    if bound.ip().is_unspecified() {
        url.at(bound.port(), is_tls)
    } else {
        BaseUrl::of(bound, is_tls)
    }
}

/// Prints it on standard output.
///
/// # Errors
/// When standard output is closed.
pub(crate) fn greet(
    settings: &Settings,
    bound: Bound,
    first: Option<&FirstToken>,
    is_json: bool,
) -> Result<()> {
    let mut out = io::stdout().lock();
    if is_json {
        json(&mut out, settings, bound, first)?;
    } else {
        text(&mut out, settings, bound, first)?;
    }
    out.flush()?;
    Ok(())
}

fn json(
    out: &mut impl Write,
    settings: &Settings,
    bound: Bound,
    first: Option<&FirstToken>,
) -> io::Result<()> {
    let file = match first {
        Some(FirstToken::File(path)) => Some(path.display().to_string()),
        _ => None,
    };
    let token = match first {
        Some(FirstToken::Shown(text)) => Some(text.as_str()),
        _ => None,
    };
    let greeting = serde_json::json!({
        "listen": bound.main,
        "apiListen": bound.api,
        "derpListen": bound.relay,
        "metricsListen": bound.metrics,
        "url": settings.server.url.as_str(),
        "token": token,
        "tokenFile": file,
    });
    writeln!(out, "{greeting}")
}

fn text(
    out: &mut impl Write,
    settings: &Settings,
    bound: Bound,
    first: Option<&FirstToken>,
) -> io::Result<()> {
    let url = &settings.server.url;
    let data = settings.server.data.display();
    writeln!(out, "Bowline is running. Open {url} in a browser.\n")?;
    let token = match first {
        Some(FirstToken::Shown(text)) => {
            writeln!(
                out,
                "The owner's API access token, shown this once, good for 90 days:\n\n  {}\n",
                **text
            )?;
            "$TOKEN".to_owned()
        }
        Some(FirstToken::File(path)) => {
            let path = path.display();
            writeln!(
                out,
                "The owner's API access token, good for 90 days, is in {path}.\n"
            )?;
            format!("$(cat {path})")
        }
        None => {
            writeln!(
                out,
                "A new API access token: bowline token create --data {data}\n"
            )?;
            "$TOKEN".to_owned()
        }
    };
    let api = api_url(settings, bound.api);
    writeln!(out, "Make an auth key:\n")?;
    if api.is_https() || api.is_loopback() {
        writeln!(
            out,
            "  curl -u \"{token}:\" {api}/api/v2/tailnet/-/keys \\\n    --data '{{\"capabilities\":{{\"devices\":{{\"create\":{{\"reusable\":true}}}}}}}}'\n"
        )?;
    } else {
        // A token is not to travel over plain HTTP; the command line has a socket.
        writeln!(out, "  bowline key create --reusable --data {data}\n")?;
    }
    writeln!(out, "Then on each device:\n")?;
    writeln!(
        out,
        "  tailscale up --login-server {url} --auth-key tskey-auth-…\n"
    )?;
    if let Some(note) = reach(settings, bound.main) {
        writeln!(out, "{note}\n")?;
    }
    Ok(())
}

/// Who reaches the server, where that is not all that its URL says. Never advice to open plain
/// HTTP to others.
fn reach(settings: &Settings, bound: SocketAddr) -> Option<String> {
    let url = &settings.server.url;
    let is_tls = settings.server.tls_certificate_file.is_some();
    if bound.ip().is_loopback() && url.is_loopback() {
        return Some(format!(
            "Only this machine can reach {bound}. For other devices set listen, url and a \
             certificate, or put a reverse proxy in front: docs/operating.md, \"For devices on \
             other machines\"."
        ));
    }
    if url.is_https() && !is_tls {
        let trusted = if settings.server.trusted_proxies.is_empty() {
            " Set trusted_proxies to its address, or all clients count as one."
        } else {
            ""
        };
        return Some(format!(
            "{url} is to lead to {bound} through your reverse proxy.{trusted}"
        ));
    }
    (!url.is_https() && !url.is_loopback()).then(|| {
        format!(
            "{url} is not encrypted: for a network that you trust and no other. Whoever is on the \
             way can read keys and tokens and answer in this server's place."
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{CliFlags, Environment};

    fn settings(variables: &[(&str, &str)]) -> Settings {
        let environment = Environment::new(variables.iter().copied());
        Settings::load(&CliFlags::default(), &environment)
            .unwrap()
            .settings
    }

    fn printed(settings: &Settings, api: Option<&str>) -> String {
        let bound = Bound {
            main: settings.server.listen,
            api: api.map(|address| address.parse().unwrap()),
            relay: None,
            metrics: None,
        };
        let first = FirstToken::Shown("tskey-api-x".to_owned().into());
        let mut out = Vec::new();
        text(&mut out, settings, bound, Some(&first)).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_banner_never_advises_to_open_plain_http() {
        let pair = [
            ("BOWLINE_TLS_CERTIFICATE_FILE", "c.pem"),
            ("BOWLINE_TLS_KEY_FILE", "k.pem"),
        ];
        let behind_a_proxy = [("BOWLINE_URL", "https://bowline.example.com")];
        let trusted = [behind_a_proxy[0], ("BOWLINE_TRUSTED_PROXIES", "127.0.0.1")];
        let private = [
            ("BOWLINE_LISTEN", "0.0.0.0:8080"),
            ("BOWLINE_URL", "http://192.168.1.10:8080"),
        ];
        let with_tls = [
            pair[0],
            pair[1],
            ("BOWLINE_LISTEN", "0.0.0.0:443"),
            behind_a_proxy[0],
        ];
        let cases: [(&[(&str, &str)], &str); 5] = [
            (&[], "Only this machine can reach 127.0.0.1:8080."),
            (
                &behind_a_proxy,
                "through your reverse proxy. Set trusted_proxies",
            ),
            (&trusted, "through your reverse proxy.\n"),
            (&private, "is not encrypted: for a network that you trust"),
            (&with_tls, "tskey-auth-…\n\n"),
        ];
        for (variables, told) in cases {
            let text = printed(&settings(variables), None);
            assert!(text.contains(told), "{variables:?}: {text}");
            assert!(!text.contains("--listen"), "{text}");
            assert!(!text.contains("ADDRESS"), "{text}");
        }
        let text = printed(&settings(&with_tls), None);
        assert!(
            !text.contains("trust") && !text.contains("Only this"),
            "{text}"
        );
    }

    #[test]
    fn a_token_is_never_to_be_sent_over_plain_http_to_another_machine() {
        let private = settings(&[
            ("BOWLINE_LISTEN", "0.0.0.0:8080"),
            ("BOWLINE_URL", "http://192.168.1.10:8080"),
        ]);
        let text = printed(&private, None);
        assert!(!text.contains("curl"), "{text}");
        assert!(text.contains("bowline key create --reusable --data bowline-data"));
        let text = printed(&private, Some("127.0.0.1:8081"));
        assert!(text.contains(" http://127.0.0.1:8081/api/v2/"), "{text}");
        let text = printed(&settings(&[]), None);
        assert!(text.contains(" http://127.0.0.1:8080/api/v2/"), "{text}");
    }

    #[test]
    fn an_api_on_all_interfaces_is_called_by_the_server_s_host() {
        let settings = settings(&[
            ("BOWLINE_TLS_CERTIFICATE_FILE", "c.pem"),
            ("BOWLINE_TLS_KEY_FILE", "k.pem"),
            ("BOWLINE_LISTEN", "0.0.0.0:443"),
            ("BOWLINE_URL", "https://bowline.example.com"),
        ]);
        let of = |bound: &str| api_url(&settings, Some(bound.parse().unwrap())).to_string();
        assert_eq!(of("0.0.0.0:8443"), "https://bowline.example.com:8443");
        assert_eq!(of("10.0.0.5:8443"), "https://10.0.0.5:8443");
    }
}
