//! The settings of an HTTP endpoint that gets rendered requests.

use std::sync::Arc;

use serde_json::json;

use super::Http;
use super::escape::Escaping;
use super::template::Template;
use crate::cloudevents::Envelope;
use crate::config::declare::*;
use crate::config::{Secret, SecretError, scalar};
use crate::net::settings::{Auth, AuthKeys, HttpClient, warn_clear_text};
use crate::processor::Processor;
use crate::processor::cloudevents::settings::{HEADERS, check_authorization, warn_one_by_one};
use crate::processor::cloudevents::target_url::{TargetUrl, check_url_file};
use crate::processor::settings::{KindSettings, MakeError};

settings! {
    /// Sends one HTTP request for each event to any API: a chat, a ticket system, an automation, an
    /// alerting service. `path`, `headerTemplates` and `body` are [templates](templates.md). A
    /// status of 200 to 299 acknowledges the event. An event for which a template fails becomes a
    /// dead letter at once.
    #[derive(Clone, Debug, PartialEq)]
    pub struct HttpConfig in "http" {
        pub url: TargetUrl =
            key("url", HTTP_URL)
                .also(&["address", "uri", "endpoint"])
                .doc("URL of the API, without values of events; those belong into `path`."),
            key("urlFile", SECRET_FILE)
                .doc("File with the URL, if the URL is a secret like that of a webhook. Read again when it changes. Messages and pages show scheme, host and a short hash of such a URL, also if `url` has a variable in it.");
        /// Method.
        pub method: HttpMethod = key("method", one_of::<HttpMethod>()).or("post");
        /// Template that is appended to the path of the URL: `/` with more segments, or `?` with a
        /// query. Values are percent-encoded, so that each stays one segment or one parameter.
        pub path: Option<String> = key("path", TEXT);
        /// Template of the body. Without it the body is empty.
        pub body: Option<String> = key("body", TEXT).also(&["template", "bodyTemplate", "payloadTemplate"]);
        /// Content type of the body. It decides how values are escaped: as JSON, as form data, as
        /// XML or HTML, and not at all in any other type.
        pub content_type: String = key("contentType", TEXT).or("application/json");
        /// Additional headers of each request, with fixed values.
        pub headers: Vec<(String, Secret)> = key("headers", FieldType::Map(&HEADERS));
        /// Additional headers whose values are templates. Line breaks in values become spaces.
        pub header_templates: Vec<(String, String)> =
            key("headerTemplates", FieldType::Map(&HEADER_TEMPLATES));
        pub secrets: TemplateSecrets =
            key("secrets", FieldType::Map(&SECRETS))
                .doc("Secrets for the templates, which write them as `{{ secrets.NAME }}`. A variable (`${…}`) belongs here, not into a template."),
            key("secretFiles", FieldType::Map(&SECRET_FILES))
                .doc("The same, each in a file, which is read again when it changes.");
        /// Credentials for the API.
        pub auth: Auth = key("auth", maybe::<AuthKeys>());
        pub http: HttpClient;
    }
    rules [FieldRule::ExactlyOne(&["url", "urlFile"])];
    check check_http;
}

impl HttpConfig {
    /// An API with every other setting at its default.
    pub fn new(url: impl Into<TargetUrl>) -> Self {
        HttpConfig { url: url.into(), ..defaults() }
    }
}

impl KindSettings for HttpConfig {
    fn make(&self, envelope: Envelope) -> Result<Arc<dyn Processor>, MakeError> {
        Ok(Arc::new(Http::new(self, envelope)?))
    }

    fn shown(&self) -> String {
        self.url.shown()
    }
}

words! {
    /// The method of each request.
    pub enum HttpMethod {
        /// for most APIs
        Post = "post",
        /// replaces an object
        Put = "put",
        /// changes an object
        Patch = "patch",
        /// removes an object
        Delete = "delete",
        /// without a body
        Get = "get",
    }
}

/// Secrets by the names under which templates know them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TemplateSecrets(pub Vec<(String, Secret)>);

impl Setting for TemplateSecrets {
    const MAY_BE_ABSENT: bool = true;

    fn read(found: &CheckedMap, fields: &[Field]) -> Self {
        let [inline, files] = fields else { unreachable!("the secrets have two keys") };
        let value = |(name, value): &(String, String)| (name.clone(), Secret::inline(&**value));
        let file = |(name, path): &(String, String)| (name.clone(), Secret::file(path));
        let inline = found.map(inline.key).iter().map(value);
        TemplateSecrets(inline.chain(found.map(files.key).iter().map(file)).collect())
    }

    fn write(&self, fields: &[Field], out: &mut Fields) -> Result<(), SecretError> {
        let [inline, files] = fields else { unreachable!("the secrets have two keys") };
        let (mut values, mut paths) = (Vec::new(), Vec::new());
        for (name, secret) in &self.0 {
            match secret.path() {
                Some(path) => paths.push((name.clone(), path.display().to_string())),
                None => values.push((name.clone(), secret.read()?.to_string())),
            }
        }
        out.push((inline.key, Out::Pairs(values)));
        out.push((files.key, Out::Pairs(paths)));
        Ok(())
    }
}

static SECRETS: MapFormat = MapFormat {
    allowed: "a map of names to secrets",
    has_secrets: true,
    check: |name, value| match value.is_empty() {
        _ if !is_identifier(name) => Err(NO_IDENTIFIER.into()),
        true => Err("is empty".into()),
        false => Ok(()),
    },
    schema: |text| json!({ "type": "object", "additionalProperties": text }),
};

static SECRET_FILES: MapFormat = MapFormat {
    allowed: "a map of names to files with secrets",
    has_secrets: true,
    check: |name, path| match Secret::file(path).read() {
        _ if !is_identifier(name) => Err(NO_IDENTIFIER.into()),
        Ok(_) => Ok(()),
        Err(error) => Err(error.without_path(false)),
    },
    schema: |text| json!({ "type": "object", "additionalProperties": text }),
};

static HEADER_TEMPLATES: MapFormat = MapFormat {
    allowed: "a map of header names to templates",
    has_secrets: false,
    check: |name, _| scalar::check_header(name, "").map_err(Into::into),
    schema: |text| json!({ "type": "object", "additionalProperties": text }),
};

const NO_IDENTIFIER: &str = "is not a name for a template: use letters, digits and `_`, no digit first";

fn is_identifier(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn check_http(found: &CheckedMap, problems: &mut Problems) {
    check_url_file(found, "urlFile", problems);
    warn_one_by_one(found, problems);
    check_authorization(found, problems);
    let url = TargetUrl::read(found, &[key("url", HTTP_URL), key("urlFile", SECRET_FILE)]);
    let credentials = found.maybe_block("auth").is_some()
        || !found.map("secrets").is_empty()
        || !found.map("secretFiles").is_empty();
    let url_key = if found.is_given("urlFile") { "urlFile" } else { "url" };
    warn_clear_text(url.with_host(), credentials, found, url_key, problems);
    let mut error = |key: &str, message: String| {
        problems.error(found.line_of(key), &found.path_of(key), message);
    };
    // Check the fields by themselves.
    if !scalar::is_header_value(found.text("contentType")) {
        error("contentType", "has characters that a header cannot contain".into());
    }
    if found.text("method") == HttpMethod::Get.word() && found.is_given("body") {
        error("body", "a request of the method `get` has no body; choose another `method`".into());
    }
    if found.maybe_text("path").is_some_and(|path| !path.starts_with(['/', '?']) && !path.starts_with("{%")) {
        error("path", "must begin with `/` or `?`".into());
    }
    for (name, _) in found.map("headerTemplates") {
        let is_same = |(other, _): &&(String, String)| other.eq_ignore_ascii_case(name);
        if found.map("headers").iter().any(|header| is_same(&header)) {
            error("headerTemplates", format!("`{name}` is also in `headers`; keep one"));
        }
        if name.eq_ignore_ascii_case("authorization") && found.maybe_block("auth").is_some() {
            error("headerTemplates", format!("`{name}` and `auth` exclude each other; keep one"));
        }
    }
    let (inline, files) = (found.map("secrets"), found.map("secretFiles"));
    for (name, _) in inline.iter().filter(|(name, _)| files.iter().any(|(other, _)| other == name)) {
        error("secretFiles", format!("`{name}` is also in `secrets`; keep one"));
    }
    for key in ["path", "body", "headerTemplates"] {
        if found.has_variable(key) {
            error(
                key,
                "a template cannot have a variable (`${…}`) in it; give the variable a name in `secrets`, and write `{{ secrets.NAME }}`"
                    .into(),
            );
        }
    }
    // Compile the templates.
    let mut doubts = Vec::new();
    let body = Escaping::of_content_type(found.text("contentType"));
    let single = [("path", Escaping::Path), ("body", body)];
    let single =
        single.into_iter().filter_map(|(key, escaping)| Some((key, "", found.maybe_text(key)?, escaping)));
    let headers = found.map("headerTemplates").iter();
    let headers = headers.map(|(name, text)| ("headerTemplates", &**name, &**text, Escaping::Header));
    for (key, name, text, escaping) in single.chain(headers) {
        let of = if name.is_empty() { String::new() } else { format!("`{name}`: ") };
        match Template::new(text, escaping) {
            Err(problem) => error(key, format!("{of}{problem}")),
            Ok(template) => {
                if let Some(doubt) = template.doubt() {
                    doubts
                        .push(format!("{doubt} (tried with an event without data); check commas and quotes"));
                }
                for secret in template.secrets() {
                    let is_known = |(name, _): &&(String, String)| name == secret;
                    if inline.iter().chain(files).find(is_known).is_none() {
                        let message = format!(
                            "{of}`secrets.{secret}` does not exist; add `{secret}` to `secrets` or `secretFiles`"
                        );
                        error(key, message);
                    }
                }
            }
        }
    }
    for doubt in doubts {
        problems.warn(found.line_of("body"), &found.path_of("body"), doubt);
    }
}
