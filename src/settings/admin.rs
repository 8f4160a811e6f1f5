//! The settings of the listener for operators.

use crate::config::declare::*;
use crate::config::scalar;
use crate::net::settings::{Auth, AuthKeys, ServerTls, is_local, is_loopback};

settings! {
    /// HTTP for operators: the [page](page.md) at `/`, and `/healthz`, `/readyz`, `/metrics` and
    /// `/stats`.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Admin in "admin", with defaults {
        /// Address to listen on; `none` turns the listener off.
        pub bind_address: Option<String> = key("bindAddress", text(&BIND_ADDRESS))
            .or("127.0.0.1:8082")
            .none("none")
            .also(&["address", "listen"]);
        /// Credentials that all pages require except `/healthz` and `/readyz`. Default: none, so
        /// everybody who reaches the port can read metrics and statistics. Events and dead letters
        /// are then shown to clients on the same machine only.
        pub auth: Auth = key("auth", maybe::<AuthKeys>());
        /// Other credentials, which may read everything and change nothing.
        pub viewer: Auth = key("viewer", maybe::<AuthKeys>());
        /// Lets the page replay and drop dead letters, for clients with the credentials of `auth`.
        /// Requires `auth`, and `tls` unless the address is on loopback.
        pub write: bool = key("write", FLAG).or("false");
        /// Serves HTTPS instead of HTTP.
        pub tls: Option<ServerTls> = key("tls", maybe::<ServerTls>());
    }
    check check_admin;
}

static BIND_ADDRESS: TextFormat = TextFormat {
    allowed: "`HOST:PORT`, or `none`",
    check: |text| match text {
        "none" => Ok(text.into()),
        _ => scalar::bind_address(text).ok_or_else(|| BIND_ADDRESS.must()),
    },
    any_scalar: false,
};

fn check_admin(found: &CheckedMap, problems: &mut Problems) {
    let address = Some(found.text("bindAddress")).filter(|address| *address != "none");
    let has = |key| found.maybe_block(key).is_some();
    if found.flag("write") {
        let is_safe = has("tls") || address.is_some_and(is_loopback);
        let path = found.path_of("write");
        if !has("auth") {
            problems.error(found.line_of("write"), &path, "`write` requires `auth`");
        } else if !is_safe {
            let message = "`write` requires `tls`, or a `bindAddress` on loopback";
            problems.error(found.line_of("write"), &path, message);
        }
    }
    if has("viewer") && !has("auth") {
        let message = "`viewer` requires `auth`, without which everybody may read";
        problems.error(found.line_of("viewer"), &found.path_of("viewer"), message);
    }
    exposed(
        address,
        has("auth"),
        has("tls"),
        (found.line_of("bindAddress"), found.path_of("bindAddress")),
        problems,
    );
}

/// Warns of a listener that other machines reach without authentication, or with a password that
/// they send in clear text.
fn exposed(
    address: Option<&str>,
    has_auth: bool,
    has_tls: bool,
    (line, path): (usize, String),
    problems: &mut Problems,
) {
    let host = address.map(|address| address.rsplit_once(':').map_or(address, |(host, _)| host));
    if host.is_none_or(is_local) {
        return;
    }
    let message = match (has_auth, has_tls) {
        (false, _) => "everybody who reaches this address can read metrics and statistics; set `auth`",
        (true, false) => "clients send the credentials of `auth` over plain HTTP; set `tls`",
        (true, true) => return,
    };
    problems.warn(line, &path, message);
}

/// The same for the listener of an old format, which has no TLS.
pub(super) fn warn_exposed(
    address: Option<&str>,
    auth: &Auth,
    found: &CheckedMap,
    key: &str,
    problems: &mut Problems,
) {
    exposed(address, *auth != Auth::None, false, (found.line_of(key), found.path_of(key)), problems);
}
