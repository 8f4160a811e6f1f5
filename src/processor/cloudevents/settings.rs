//! The settings of a CloudEvents target over HTTP.

use std::path::Path;
use std::sync::Arc;

use serde_json::json;

use super::CloudEvents;
use super::target_url::{TargetUrl, check_url_file};
use crate::cloudevents::settings::{EnvelopeOptions, EventFormat, Extensions};
use crate::cloudevents::{Envelope, is_encoded_in_headers};
use crate::config::check::Env;
use crate::config::declare::*;
use crate::config::{Secret, scalar};
use crate::net::pem;
use crate::net::settings::{Auth, AuthKeys, HttpClient, warn_clear_text};
use crate::processor::Processor;
use crate::processor::settings::{KindSettings, MakeError};

settings! {
    /// POSTs events to a URL as CloudEvents 1.0.
    #[derive(Clone, Debug, PartialEq)]
    pub struct CloudEventsConfig in "cloudevents" {
        pub url: TargetUrl =
            key("url", HTTP_URL)
                .also(&["address", "uri", "sink", "destination"])
                .doc("URL of the target. Default: `$K_SINK`, which Knative sets; the router then also applies `$K_CE_OVERRIDES`, trusts the roots in `$K_CA_CERTS`, and sends the token in `/oidc/token` if there is one and no `auth`."),
            key("urlFile", SECRET_FILE)
                .doc("File with the URL, if the URL is a secret like that of a webhook. Read again when it changes. Messages and pages show scheme, host and a short hash of such a URL, also if `url` has a variable in it.");
        /// Instead of `url`: an object in the router's own Kubernetes cluster from which the router
        /// gets the address.
        pub reference: Option<Reference> = key("ref", maybe::<Reference>());
        /// Content mode.
        pub mode: ContentMode = key("mode", one_of::<ContentMode>())
            .or("structured")
            .also(&["encoding", "contentMode"]);
        /// `; charset=UTF-8` in the content type of `structured` and `batched`. Some receivers
        /// compare the content type as a whole and need `false`.
        pub charset: bool = key("charset", FLAG).or("true");
        /// Credentials for the target.
        pub auth: Auth = key("auth", maybe::<AuthKeys>());
        /// Additional headers of each request.
        pub headers: Vec<(String, Secret)> = key("headers", FieldType::Map(&HEADERS));
        pub http: HttpClient;
    }
    rules [FieldRule::AtMostOne(&["url", "urlFile", "ref"])];
    check check_cloudevents;
}

impl CloudEventsConfig {
    /// A target with every other setting at its default.
    pub fn new(url: impl Into<TargetUrl>) -> Self {
        CloudEventsConfig { url: url.into(), ..defaults() }
    }
}

impl KindSettings for CloudEventsConfig {
    fn make(&self, envelope: Envelope) -> Result<Arc<dyn Processor>, MakeError> {
        Ok(Arc::new(CloudEvents::new(self, envelope)?))
    }

    fn shown(&self) -> String {
        self.url.shown()
    }

    /// Takes the URL from the environment if the file names no target, and the mode from the
    /// format.
    fn complete(
        &mut self,
        envelope: &mut EnvelopeOptions,
        found: &CheckedMap,
        env: Env<'_>,
        problems: &mut Problems,
    ) {
        if let (Some(reference), Some(found)) = (&self.reference, found.maybe_block("ref")) {
            reference.check(found, "url", env, problems);
        } else if !found.is_given("url") && !found.is_given("urlFile") {
            self.url = sink(&mut envelope.extensions, found, env, problems).into();
            self.trust_sink(found, env, problems);
            if self.auth == Auth::None {
                self.auth = sink_token(SINK_TOKEN.as_ref());
            }
        }
        let key = if found.is_given("urlFile") { "urlFile" } else { "url" };
        warn_clear_text(self.url.with_host(), self.auth != Auth::None, found, key, problems);
        if envelope.format == EventFormat::VebaV08 && !found.is_given("mode") {
            self.mode = ContentMode::Binary;
        }
        if self.mode == ContentMode::Binary {
            warn_of_encoding(&envelope.extensions, found, problems);
        }
    }
}

/// Warns of fixed attributes that a header carries percent-encoded.
fn warn_of_encoding(extensions: &Extensions, found: &CheckedMap, problems: &mut Problems) {
    let Some(block) = found.maybe_block("extensions") else { return };
    for (name, _) in extensions.fixed.iter().filter(|(_, value)| is_encoded_in_headers(value.as_bytes())) {
        let message = format!(
            "`{name}` is percent-encoded in the headers of `mode: binary`, as CloudEvents demands, and common SDKs do not decode it; use only printable ASCII without spaces, `\"` and `%`, or another mode"
        );
        problems.warn(block.line_of("static"), &block.path_of("static"), message);
    }
}

impl CloudEventsConfig {
    /// Adds the roots in `$K_CA_CERTS`, which Knative sets beside `$K_SINK`.
    fn trust_sink(&mut self, found: &CheckedMap, env: Env<'_>, problems: &mut Problems) {
        let Some(roots) = env("K_CA_CERTS").filter(|roots| !roots.trim().is_empty()) else { return };
        if let Err(error) = pem::certificates_in(&roots) {
            let message = format!("`$K_CA_CERTS` cannot be used: {error}");
            problems.error(found.line, &found.path, message);
            return;
        }
        let trusted = &mut self.http.tls.ca_certs;
        *trusted = Some(match trusted.take() {
            None => roots,
            Some(configured) => format!("{configured}\n{roots}"),
        });
    }
}

/// The token for the sink, which Knative mounts if the sink requires one.
const SINK_TOKEN: &str = "/oidc/token";

/// The token in `file`, if it exists.
fn sink_token(file: &Path) -> Auth {
    if file.is_file() { Auth::Bearer { token: Secret::file(file) } } else { Auth::None }
}

/// The URL in `$K_SINK`.
fn sink(extensions: &mut Extensions, found: &CheckedMap, env: Env<'_>, problems: &mut Problems) -> String {
    let Some(sink) = env("K_SINK") else {
        problems.error(found.line, &found.path, "`url` is missing, and `$K_SINK` is not set");
        return String::new();
    };
    ce_overrides(extensions, found, env, problems);
    scalar::http_url(&sink).unwrap_or_else(|message| {
        problems.error(found.line, &found.path_of("url"), format!("`$K_SINK` {message}"));
        String::new()
    })
}

/// Applies Knative's `K_CE_OVERRIDES`, `{"extensions": {"name": "value"}}`. Extensions in the file
/// have precedence.
fn ce_overrides(extensions: &mut Extensions, found: &CheckedMap, env: Env<'_>, problems: &mut Problems) {
    #[derive(serde::Deserialize)]
    struct Overrides {
        #[serde(default)]
        extensions: std::collections::BTreeMap<String, String>,
    }
    let Some(text) = env("K_CE_OVERRIDES").filter(|text| !text.trim().is_empty()) else { return };
    match serde_json::from_str::<Overrides>(&text) {
        Ok(overrides) => {
            for (name, value) in overrides.extensions {
                if let Err(message) = scalar::check_extension(&name, &value) {
                    let message = format!("an extension of `$K_CE_OVERRIDES` {message}");
                    problems.error(found.line, &found.path, message);
                } else if extensions.fixed.iter().all(|(own, _)| *own != name) {
                    extensions.fixed.push((name, value));
                }
            }
        }
        Err(_) => {
            let message = "`$K_CE_OVERRIDES` is not an object with `extensions`";
            problems.error(found.line, &found.path, message);
        }
    }
}

fn check_cloudevents(found: &CheckedMap, problems: &mut Problems) {
    check_url_file(found, "urlFile", problems);
    if found.text("mode") != ContentMode::Batched.word() {
        warn_one_by_one(found, problems);
    }
    check_authorization(found, problems);
}

/// Reports credentials that are given twice.
pub(crate) fn check_authorization(found: &CheckedMap, problems: &mut Problems) {
    let is_auth = |(name, _): &(String, String)| name.eq_ignore_ascii_case("authorization");
    if found.maybe_block("auth").is_some() && found.map("headers").iter().any(is_auth) {
        let message = "`Authorization` and `auth` exclude each other; keep one";
        problems.error(found.line_of("headers"), &found.path_of("headers"), message);
    }
}

/// Warns of `batch` for a processor that sends one event per request.
pub(crate) fn warn_one_by_one(found: &CheckedMap, problems: &mut Problems) {
    if found.is_given("batch") {
        let message = "has no effect: this type and mode send one event per request";
        problems.warn(found.line_of("batch"), &found.path_of("batch"), message);
    }
}

pub(crate) static HEADERS: MapFormat = MapFormat {
    allowed: "a map of header names to values",
    has_secrets: true,
    check: |name, value| scalar::check_header(name, value).map_err(Into::into),
    schema: |text| json!({ "type": "object", "additionalProperties": text }),
};

words! {
    /// The three content modes of the CloudEvents HTTP binding.
    pub enum ContentMode {
        /// one event per request, completely in the body
        Structured = "structured",
        /// one event per request, attributes in headers
        Binary = "binary",
        /// many events per request, as a JSON array
        Batched = "batched",
    }
}

settings! {
    /// A Kubernetes Service, or an object with a `status.address.url`, such as a Broker, a Channel
    /// or a Knative Service. The service account of the pod must be allowed to `get` it. The roots
    /// in `status.address.CACerts` are trusted. For a `status.address.audience`, project a service
    /// account token with this audience into the pod, and name its file in `auth.tokenFile`.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Reference in "cloudevents.ref" {
        /// API group and version, such as `eventing.knative.dev/v1`.
        pub api_version: String = key("apiVersion", text(&OBJECT_NAME)).required();
        /// Kind, such as `Broker`.
        pub kind: String = key("kind", text(&OBJECT_NAME)).required();
        /// Name.
        pub name: String = key("name", text(&OBJECT_NAME)).required();
        /// Namespace. Default: the namespace of the pod.
        pub namespace: Option<String> = key("namespace", text(&OBJECT_NAME));
    }
}

/// A Kubernetes name, which becomes part of a URL path.
static OBJECT_NAME: TextFormat = TextFormat {
    allowed: "a Kubernetes name of letters, digits, `-`, `.` and `/`",
    check: |text| {
        let part = |part: &str| {
            part.starts_with(|c: char| c.is_ascii_alphanumeric())
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte))
        };
        if text.split('/').all(part) { Ok(text.into()) } else { Err(OBJECT_NAME.must()) }
    },
    any_scalar: false,
};

/// The variable by which Kubernetes tells every pod the address of its API server.
pub(crate) const CLUSTER_VARIABLE: &str = "KUBERNETES_SERVICE_HOST";

impl Reference {
    /// Reports a reference outside a cluster, and suggests an address for `url_key`.
    pub(crate) fn check(&self, found: &CheckedMap, url_key: &str, env: Env<'_>, problems: &mut Problems) {
        if env(CLUSTER_VARIABLE).is_none_or(|host| host.is_empty()) {
            let message = format!(
                "a `ref` needs a router that runs in the Kubernetes cluster, and this is no pod (`${CLUSTER_VARIABLE}` is not set); run it there, or give the address as `{url_key}` ({})",
                self.usual_address()
            );
            problems.error(found.line, &found.path, message);
        }
    }

    /// The usual address of the object within its cluster.
    fn usual_address(&self) -> String {
        let Reference { kind, name, .. } = self;
        let namespace = self.namespace.as_deref().unwrap_or("default");
        match kind.as_str() {
            "Broker" => format!(
                "of a default broker: `http://broker-ingress.knative-eventing.svc.cluster.local/{namespace}/{name}`"
            ),
            "Service" => format!("of a service: `http://{name}.{namespace}.svc.cluster.local`"),
            _ => "`kubectl get` shows its address or URL".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_of_the_sink_is_sent_if_it_is_mounted() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        assert_eq!(sink_token(&file), Auth::None);
        std::fs::write(&file, "a-token").unwrap();
        assert_eq!(sink_token(&file), Auth::Bearer { token: Secret::file(&file) });
    }
}
