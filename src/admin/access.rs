//! Access to the admin listener: who may read, who may see events, who may change something.
//!
//! ```text
//!                         metrics, screens   events, samples, dead letters   replay, drop
//!  no `auth` configured   everybody          clients on this machine         nobody
//!  `viewer`               yes                yes                             no
//!  `auth`                 yes                yes                             if `admin.write`
//! ```
//!
//! A change must also come from a form of the page itself: its `Origin` is that of the page, and it
//! carries the token that the form had. Another web site can know neither.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Request, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use rand::Rng;

use crate::net::listener::{AuthError, Guard, Peer};
use crate::settings::{Admin, Auth};

/// The rules of one listener.
pub(super) struct Access {
    operator: Guard,
    /// `None` if no other credentials may read.
    viewer: Option<Guard>,
    has_auth: bool,
    may_write: bool,
    has_tls: bool,
    /// The token of all forms of this process.
    token: String,
}

/// The rights of one request. Inserted into its extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rights {
    /// May see events, samples and the bodies of dead letters.
    pub events: bool,
    /// May replay and drop dead letters.
    pub write: bool,
    pub peer: Option<IpAddr>,
}

impl Access {
    pub fn new(admin: &Admin) -> Result<Self, AuthError> {
        let viewer = (admin.viewer != Auth::None).then(|| Guard::new("admin.viewer", &admin.viewer));
        Ok(Access {
            operator: Guard::new("admin.auth", &admin.auth)?,
            viewer: viewer.transpose()?,
            has_auth: admin.auth != Auth::None,
            may_write: admin.write,
            has_tls: admin.tls.is_some(),
            token: format!("{:032x}", rand::rng().random::<u128>()),
        })
    }

    /// The token that a form must carry.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The rights of a request; `None` if it may not read anything.
    fn rights(&self, headers: &HeaderMap, peer: Option<IpAddr>) -> Option<Rights> {
        let given = headers.get(header::AUTHORIZATION);
        if !self.has_auth {
            let events = peer.is_some_and(|peer| peer.to_canonical().is_loopback()) && is_direct(headers);
            return Some(Rights { events, write: false, peer });
        }
        if self.operator.admits(given) {
            return Some(Rights { events: true, write: self.may_write, peer });
        }
        let is_viewer = self.viewer.as_ref().is_some_and(|viewer| viewer.admits(given));
        is_viewer.then_some(Rights { events: true, write: false, peer })
    }

    /// Returns true if a form with this `token` comes from a page of this listener.
    pub fn is_own_form(&self, headers: &HeaderMap, authority: Option<&str>, token: &str) -> bool {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let scheme = if self.has_tls { "https://" } else { "http://" };
        let origin = text(header::ORIGIN).and_then(|origin| origin.strip_prefix(scheme));
        let host = authority.or_else(|| text(header::HOST));
        let is_same = origin.is_some() && origin == host;
        // Compare every byte, wherever the first difference is.
        let differs = self.token.bytes().zip(token.bytes()).fold(0, |differs, (a, b)| differs | (a ^ b));
        is_same && token.len() == self.token.len() && differs == 0
    }
}

/// Returns true if a client asks this machine by its loopback name and through no proxy: so neither
/// a proxy on this machine nor the name of another web site makes a remote client look local.
fn is_direct(headers: &HeaderMap) -> bool {
    let is_forwarded = ["forwarded", "x-forwarded-for", "x-real-ip", "via"];
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
    !is_forwarded.iter().any(|name| headers.contains_key(*name)) && crate::net::settings::is_loopback(host)
}

/// Middleware that answers 401 unless the request may read, and adds its [`Rights`].
pub(super) async fn check(
    State(access): State<Arc<Access>>,
    mut request: Request<Body>,
    next: Next,
) -> Response {
    let peer = request.extensions().get::<Peer>().map(|Peer(address)| address.ip());
    match access.rights(request.headers(), peer) {
        Some(rights) => {
            request.extensions_mut().insert(rights);
            next.run(request).await
        }
        None => {
            let challenge = [(header::WWW_AUTHENTICATE, access.operator.challenge())];
            (StatusCode::UNAUTHORIZED, challenge, "invalid credentials\n").into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;

    use super::*;
    use crate::config::Secret;

    fn access(write: bool) -> Access {
        let basic = |name: &str| Auth::Basic { username: name.into(), password: Secret::inline("p") };
        let admin = Admin { auth: basic("op"), viewer: basic("see"), write, ..Admin::default() };
        Access::new(&admin).expect("no file is read")
    }

    fn headers(of: &[(&'static str, &str)]) -> HeaderMap {
        of.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn viewers_read_and_only_operators_write() {
        let check = |access: &Access, user: &str, expected: Option<(bool, bool)>| {
            let given = base64::engine::general_purpose::STANDARD.encode(format!("{user}:p"));
            let headers = headers(&[("authorization", &format!("Basic {given}"))]);
            let found = access.rights(&headers, None).map(|rights| (rights.events, rights.write));
            assert_eq!(found, expected, "{user}");
        };
        check(&access(true), "op", Some((true, true)));
        check(&access(true), "see", Some((true, false)));
        check(&access(true), "other", None);
        check(&access(false), "op", Some((true, false)));
    }

    #[test]
    fn without_credentials_only_a_direct_client_on_this_machine_sees_events() {
        let access = Access::new(&Admin::default()).expect("no file is read");
        let check = |peer: &str, of: &[(&'static str, &str)], events| {
            let rights = access.rights(&headers(of), Some(peer.parse().unwrap()));
            assert_eq!(
                rights.map(|rights| (rights.events, rights.write)),
                Some((events, false)),
                "{peer} {of:?}"
            );
        };
        check("127.0.0.1", &[("host", "127.0.0.1:8082")], true);
        check("::1", &[("host", "localhost")], true);
        check("::ffff:127.0.0.1", &[("host", "[::1]:8082")], true);
        check("10.0.0.7", &[("host", "127.0.0.1:8082")], false);
        check("127.0.0.1", &[("host", "evil.example")], false);
        check("127.0.0.1", &[("host", "localhost"), ("x-forwarded-for", "10.0.0.7")], false);
    }

    #[test]
    fn a_form_of_another_site_is_refused() {
        let access = access(true);
        let token = access.token().to_owned();
        let check = |of: &[(&'static str, &str)], token: &str, expected| {
            assert_eq!(access.is_own_form(&headers(of), None, token), expected, "{of:?}");
        };
        let own = [("host", "127.0.0.1:8082"), ("origin", "http://127.0.0.1:8082")];
        check(&own, &token, true);
        check(&own, "", false);
        check(&own, &token.replace(char::is_alphanumeric, "x"), false);
        check(&[own[0], ("origin", "http://evil.example")], &token, false);
        check(&[own[0], ("origin", "https://127.0.0.1:8082")], &token, false);
        check(&[own[0], ("origin", "null")], &token, false);
        check(&own[..1], &token, false);
        check(&own[1..], &token, false);
    }
}
