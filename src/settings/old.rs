//! Shared by both formats of the old router, which have one vCenter, one processor and one metrics
//! endpoint.
//!
//! The old behaviour is kept: a single order over all events, no content type on invocations, the
//! CloudEvents `time` of the format's releases, and text taken literally (no `${NAME}`).

use super::*;
use crate::config::found::CheckedMap;
use crate::config::problem::Problems;
use crate::config::scalar;
use crate::net;

/// The settings of an old configuration.
pub(super) struct OldConfig {
    pub format: ConfigFormat,
    pub state: StateLocation,
    pub admin: Admin,
    pub source: SourceConfig,
    pub processor: (String, ProcessorKind),
}

impl OldConfig {
    pub fn assemble(self) -> Config {
        let (time, vsphereapiversion) = match self.format {
            // Since v0.7, `time` was vCenter's, and each event carried the API version.
            ConfigFormat::V1alpha1 => (EventTime::Created, true),
            ConfigFormat::JsonArray | ConfigFormat::Native => (EventTime::Router, false),
        };
        let (name, kind) = self.processor;
        let delivery = DeliveryPolicy {
            // Functions written for the appliance drop events with a lower key than the last one.
            ordering: Ordering::Source,
            envelope: EnvelopeOptions {
                time,
                extensions: Extensions { vsphereapiversion, ..Extensions::default() },
                ..EnvelopeOptions::default()
            },
            ..DeliveryPolicy::default()
        };
        let mut config =
            Config::new(self.state, vec![self.source], vec![ProcessorConfig { name, kind, delivery }]);
        config.format = self.format;
        config.admin = self.admin;
        config
    }
}

/// The text of a field that must not be empty. Reports an empty one.
pub(super) fn text<'f>(found: &'f CheckedMap, key: &str, problems: &mut Problems) -> &'f str {
    let text = found.text(key);
    if text.is_empty() && !found.is_wrong(key) {
        let message = if found.is_given(key) { "must not be empty" } else { "is missing" };
        problems.error(found.line_of(key), &found.path_of(key), message);
    }
    text
}

/// The address of a vCenter. As in govmomi, the credentials in `auth` override those in the
/// address.
pub(super) fn sdk_url(found: &CheckedMap, key: &str, problems: &mut Problems) -> String {
    let text = text(found, key, problems);
    match scalar::sdk_url(text) {
        _ if text.is_empty() => String::new(),
        Ok(sdk) => {
            if sdk.credentials_dropped {
                let message = "the credentials in the address are ignored, and those in `auth` are used; remove them here";
                problems.warn(found.line_of(key), &found.path_of(key), message);
            }
            sdk.url
        }
        Err(message) => {
            problems.error(found.line_of(key), &found.path_of(key), message);
            String::new()
        }
    }
}

/// A target's URL.
pub(super) fn http_url(found: &CheckedMap, key: &str, problems: &mut Problems) -> String {
    let text = text(found, key, problems);
    match scalar::http_url(text) {
        _ if text.is_empty() => String::new(),
        Ok(url) => url,
        Err(message) => {
            problems.error(found.line_of(key), &found.path_of(key), message);
            String::new()
        }
    }
}

/// The address of the old `/stats`, or `default` if there is none.
pub(super) fn bind_address(
    found: &CheckedMap,
    key: &str,
    default: &str,
    problems: &mut Problems,
) -> Option<String> {
    let address = Some(found.text(key)).filter(|address| !address.is_empty()).unwrap_or(default);
    let address = scalar::bind_address(address);
    if address.is_none() {
        problems.error(found.line_of(key), &found.path_of(key), "must be `IP:PORT`");
    }
    address
}

/// Warns if credentials would be sent over plain HTTP to the `address` of `found`.
pub(super) fn warn_clear_text(url: &str, credentials: bool, found: &CheckedMap, problems: &mut Problems) {
    net::settings::warn_clear_text(url, credentials, found, "address", problems);
}

/// Notes a secret of an old file, which has all of them as text.
pub(super) fn note_secret(line: usize, path: &str, secret: &str, problems: &mut Problems) {
    problems.inline_secret(line, path, &Secret::inline(secret));
}

/// TLS settings of the old router, which only had `insecure`. Warns if it is set.
pub(super) fn tls(insecure: bool, line: usize, path: &str, problems: &mut Problems) -> ClientTls {
    if insecure {
        let instead = "use `tls.caFile` or `tls.thumbprint` of the native format";
        problems.warn_insecure(line, path, instead);
    }
    ClientTls { insecure, ..ClientTls::default() }
}

/// Basic authentication; none if both are empty, for a gateway without authentication.
pub(super) fn basic(username: &str, password: &str) -> Auth {
    if username.is_empty() && password.is_empty() {
        return Auth::None;
    }
    Auth::Basic { username: username.into(), password: Secret::inline(password) }
}

/// An OpenFaaS processor with the old router's defaults.
pub(super) fn openfaas(gateway: String, asynchronous: bool, auth: Auth) -> ProcessorKind {
    ProcessorKind::OpenFaas(OpenFaasConfig {
        asynchronous,
        auth,
        content_type: None,
        ..OpenFaasConfig::new(gateway)
    })
}

/// An EventBridge processor of the old router, which sent the events of a single rule to a single
/// bus.
pub(super) fn eventbridge(region: &str, bus: &str, rule_arn: &str, auth: AwsAuth) -> ProcessorKind {
    let bus = EventBus { name: bus.into(), rules: vec![rule_arn.into()], forward_all: false };
    ProcessorKind::EventBridge(EventBridgeConfig { auth, buses: vec![bus], ..EventBridgeConfig::new(region) })
}
