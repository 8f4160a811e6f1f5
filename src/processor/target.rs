//! A target at one address, with the client that sends to it.

use hyper::Uri;

use crate::config::Secret;
use crate::net::settings::{Auth, HttpClient};
use crate::net::{HttpError, Version, address, target_uri};
use crate::outside;
use crate::processor::client::TargetClient;
use crate::redact::Former;

/// The connection settings of a target.
#[derive(Clone, Debug)]
pub struct TargetOptions {
    pub auth: Auth,
    /// Additional headers of each request.
    pub headers: Vec<(String, Secret)>,
    pub http: HttpClient,
}

/// The address of a target, and the client that sends to it.
pub struct Target {
    pub uri: Uri,
    pub client: TargetClient,
    /// The address for people to see.
    pub shown: String,
    /// The parts of the address that are redacted.
    #[expect(dead_code, reason = "keeps them redacted")]
    secrets: Former,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target").field("shown", &self.shown).finish_non_exhaustive()
    }
}

impl Target {
    /// A target whose address may be seen, except for the tokens in it.
    pub fn new(url: &str, options: &TargetOptions) -> Result<Self, HttpError> {
        let secrets = outside::hidden_parts(url);
        let (uri, client) = Target::parts(url, options)?;
        Ok(Target { shown: address(&uri), uri, client, secrets: Former::of(&secrets) })
    }

    /// A target whose address is a secret.
    pub fn secret(url: &str, options: &TargetOptions) -> Result<Self, HttpError> {
        // Before anything can fail: a message may repeat the address.
        let secrets = Former::of(&outside::secret_parts(url));
        let shown = outside::secret_name(url);
        let (uri, client) = Target::parts(url, options)?;
        Ok(Target { uri, client: client.named(shown.clone()), shown, secrets })
    }

    fn parts(url: &str, options: &TargetOptions) -> Result<(Uri, TargetClient), HttpError> {
        let uri = target_uri(url)?;
        let TargetOptions { auth, headers, http } = options;
        let client = TargetClient::new(&uri, http, Version::Auto, auth, headers)?;
        Ok((uri, client))
    }
}
