//! The pages that people see who open the server in a browser: plain text, no scripts, no forms.
//! What is decided is decided by commands until people can sign in.

use std::fmt::Write as _;

use axum::body::Body;
use bowline_engine::{Engine, Login, LoginState, SshCheck};
use bowline_model::text::is_hidden;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY};
use http::{HeaderValue, Response, StatusCode};

use crate::config::BaseUrl;

/// The first page. `url` is what clients call this server, `api` what users of the API do.
pub(crate) fn home(url: &BaseUrl, api: &BaseUrl) -> Response<Body> {
    html(StatusCode::OK, "Bowline is running", &home_page(url, api))
}

/// The page of a login, by its code.
pub(crate) fn login(engine: &Engine, code: &str) -> Response<Body> {
    match engine.login(code) {
        Some(login) => {
            let (title, body) = login_page(&login);
            html(StatusCode::OK, title, &body)
        }
        None => gone("This login"),
    }
}

/// The page of an SSH session, by its code.
pub(crate) fn ssh(engine: &Engine, code: &str) -> Response<Body> {
    match engine.ssh_check(code) {
        Some(check) => {
            let (title, body) = ssh_page(&check, engine);
            html(StatusCode::OK, title, &body)
        }
        None => gone("This SSH session"),
    }
}

fn home_page(url: &BaseUrl, api: &BaseUrl) -> String {
    let (text, api_text) = (escape(url.as_str()), escape(api.as_str()));
    // A token is not to travel over plain HTTP; the command line has a socket.
    let key = if api.is_https() || api.is_loopback() {
        format!(
            "<p>It shows an address where to learn how the login is confirmed. Or make an auth key \
             with an API access token, then use it on the device:</p>\
             <pre>curl -u \"tskey-api-…:\" {api_text}/api/v2/tailnet/-/keys \\\n  --data '{{\"capabilities\":{{\"devices\":{{\"create\":{{}}}}}}}}'\n\n\
             tailscale up --login-server {text} --auth-key tskey-auth-…</pre>"
        )
    } else {
        format!(
            "<p>It shows an address where to learn how the login is confirmed. Or make an auth key \
             on the server, then use it on the device:</p>\
             <pre>tailscale up --login-server {text} --auth-key tskey-auth-…</pre>"
        )
    };
    format!(
        "<p>This is a coordination server for Tailscale clients. To add a device:</p>\
         <pre>tailscale up --login-server {text}</pre>{key}\
         <p>On the server itself <code>bowline token create</code> makes an API access token and \
         <code>bowline key create</code> an auth key.</p>"
    )
}

fn login_page(login: &Login) -> (&'static str, String) {
    let facts = &login.request.facts;
    match login.state {
        LoginState::Confirmed { .. } => (
            "The device is in",
            "<p>The login was confirmed. You can close this page.</p>".to_owned(),
        ),
        LoginState::Refused => (
            "The login was refused",
            "<p>Somebody with the right to do so refused this device.</p>".to_owned(),
        ),
        LoginState::Waiting => {
            let mut body = String::from("<p>It asks to join a tailnet of this server:</p><dl>");
            fact(&mut body, "Host name", &facts.hostname);
            fact(
                &mut body,
                "System",
                &format!("{} {}", facts.os, facts.os_version),
            );
            fact(&mut body, "Tailscale", &facts.client_version);
            fact(&mut body, "Tags", &facts.request_tags.join(", "));
            let key = login.request.node_key.to_string();
            fact(&mut body, "Node key", &key);
            fact(&mut body, "Waits until", &minutes(login.expires));
            let code = escape(&login.code);
            let _ = write!(
                body,
                "</dl><p>If this is your device, ask the operator of this server to let it in. The \
                 operator runs, with the login name of the user whose device it is:</p>\
                 <pre>bowline login approve {code} --user EMAIL</pre>\
                 <p>To refuse it:</p><pre>bowline login deny {code}</pre>"
            );
            ("A device waits", body)
        }
    }
}

fn ssh_page(check: &SshCheck, engine: &Engine) -> (&'static str, String) {
    match check.decided {
        Some(true) => (
            "The session is confirmed",
            "<p>It begins now. You can close this page.</p>".to_owned(),
        ),
        Some(false) => (
            "The session was refused",
            "<p>Somebody with the right to do so refused this session.</p>".to_owned(),
        ),
        None => {
            let session = &check.session;
            let snapshot = engine.snapshot(session.tailnet);
            let name = |id| {
                let snapshot = snapshot.as_ref()?;
                let device = &snapshot.device(id)?.device;
                Some(format!("{}.{}", device.name, snapshot.tailnet().dns_name))
            };
            let mut body = String::from(
                "<p>The tailnet's policy wants this session confirmed before it begins:</p><dl>",
            );
            fact(&mut body, "From", &name(session.source).unwrap_or_default());
            fact(&mut body, "To", &name(session.target).unwrap_or_default());
            fact(&mut body, "As", &session.user);
            fact(&mut body, "Waits until", &minutes(check.expires));
            let code = escape(&check.code);
            let _ = write!(
                body,
                "</dl><p>If this is your session, ask the operator of this server to confirm it. The \
                 operator runs:</p><pre>bowline ssh approve {code}</pre>\
                 <p>To refuse it:</p><pre>bowline ssh deny {code}</pre>"
            );
            ("A session waits", body)
        }
    }
}

fn gone(what: &str) -> Response<Body> {
    let body = format!(
        "<p>{what} is not known here: it may have waited too long, or the server was started anew. \
         Begin it again.</p>"
    );
    html(StatusCode::NOT_FOUND, "Nothing waits here", &body)
}

/// A line of a description list; none where there is nothing to say.
fn fact(body: &mut String, name: &str, value: &str) {
    let value = value.trim();
    if !value.is_empty() {
        // What devices say of themselves may be long.
        let short: String = value.chars().take(200).collect();
        let _ = write!(body, "<dt>{name}</dt><dd>{}</dd>", escape(&short));
    }
}

fn minutes(at: jiff::Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

/// Text as HTML, also inside quotes; characters that turn text around or hide it are shown as such.
fn escape(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            c if is_hidden(c) => html.push('\u{fffd}'),
            c => html.push(c),
        }
    }
    html
}

fn html(status: StatusCode, title: &str, body: &str) -> Response<Body> {
    let text = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title}</title><style>body{{font:16px/1.5 system-ui,sans-serif;max-width:42rem;margin:3rem auto;padding:0 1rem}}\
         pre{{background:#f4f4f4;padding:.8rem;overflow:auto}}dd{{overflow-wrap:anywhere}}\
         @media(prefers-color-scheme:dark){{body{{background:#111;color:#eee}}pre{{background:#222}}}}</style>\
         <h1>{title}</h1>{body}</html>"
    );
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let set = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (
            CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
        ),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-store"),
    ];
    for (name, value) in set {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_devices_say_is_shown_and_never_markup() {
        let mut body = String::new();
        fact(&mut body, "Host name", "<b>\"x\"</b>&'\u{202e}\u{7}");
        assert_eq!(
            body,
            "<dt>Host name</dt><dd>&lt;b&gt;&quot;x&quot;&lt;/b&gt;&amp;&#39;\u{fffd}\u{fffd}</dd>"
        );
        let mut body = String::new();
        fact(&mut body, "Tags", " ");
        assert_eq!(body, "");
        fact(&mut body, "Host name", &"<".repeat(500));
        assert_eq!(body.matches("&lt;").count(), 200);
    }
}
