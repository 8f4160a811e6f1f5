//! The settings of the listener for operators.

use crate::config::declare::*;
use crate::config::scalar;
use crate::net::settings::{Auth, AuthKeys, ServerTls, is_loopback};

settings! {
    /// Read-only HTTP for operators: `/healthz`, `/readyz`, `/metrics`, `/stats`.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Admin in "admin", with defaults {
        /// Address to listen on; `none` turns the listener off.
        pub bind_address: Option<String> = key("bindAddress", text(&BIND_ADDRESS))
            .or("127.0.0.1:8082")
            .none("none")
            .also(&["address", "listen"]);
        /// Credentials that `/metrics` and `/stats` require; `/healthz` and `/readyz` never do.
        /// Default: none, so everybody who reaches the port can read all pages.
        pub auth: Auth = key("auth", maybe::<AuthKeys>());
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
    let address = found.text("bindAddress");
    if found.maybe_block("auth").is_none() && address != "none" && !is_loopback(address) {
        let message = "everybody who reaches this address can read metrics and statistics; set `auth`";
        problems.warn(found.line_of("bindAddress"), &found.path_of("bindAddress"), message);
    }
}
