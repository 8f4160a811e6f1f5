//! The YAML of the old router since v0.5, `event-router.vmware.com/v1alpha1`: an event provider, an
//! event processor and a metrics provider.
//!
//! The old rules apply: unknown keys are errors, `apiVersion` and `kind` are not checked, and
//! blocks that `type` does not name are ignored. The provider that this router does not have
//! (Horizon) is refused by name.

use std::path::Path;

use super::admin::warn_exposed;
use super::old;
use super::*;
use crate::config::check::{Env, TableReader, Unknown};
use crate::config::declare::{CERT_FILE, table};
use crate::config::format::{ANY_MAP, MAY_BE_EMPTY, NAME_TEXT, PATH_TEXT};
use crate::config::found::{CheckedMap, NULL_SECRET};
use crate::config::problem::Problems;
use crate::config::tree::{Node, NodeData};
use crate::config::{Block, Field, FieldType, Group, scalar};
use crate::net;

mod webhook;

/// The beginning of `apiVersion` in this format.
pub(super) const API_GROUP: &str = "event-router.vmware.com/";
/// Fields that only this format has. A file with any of them is in this format. Its `apiVersion`
/// may differ, since the old router did not check it.
pub(super) const DISTINCTIVE_FIELDS: [&str; 3] = ["eventProvider", "eventProcessor", "metricsProvider"];

/// The old router's defaults for the checkpoint and the listener.
const CHECKPOINT_DIR: &str = "./checkpoints";
const METRICS_ADDRESS: &str = "0.0.0.0:8082";

const TEXT: FieldType = FieldType::Text(&MAY_BE_EMPTY);

const fn field(key: &'static str, kind: FieldType) -> Field {
    Field::new(key, kind)
}

static ROOT: Block = table!(
    "",
    [
        field("apiVersion", TEXT),
        field("kind", TEXT),
        field("metadata", FieldType::Maybe(&METADATA)),
        field("eventProvider", FieldType::Maybe(&PROVIDER)).required(),
        field("eventProcessor", FieldType::Maybe(&PROCESSOR)).required(),
        field("metricsProvider", FieldType::Maybe(&METRICS)).required(),
        field("certificates", FieldType::Block(&CERTIFICATES)),
    ]
);
static METADATA: Block = table!("metadata", [field("name", TEXT), field("labels", FieldType::Map(&ANY_MAP))]);
static CERTIFICATES: Block = table!("certificates", [field("rootCAs", FieldType::List(&CERT_FILE))]);
static PROVIDER: Block = table!(
    "eventProvider",
    [
        field("type", FieldType::OneOf(&[("vcenter", ""), ("vcsim", ""), ("horizon", ""), ("webhook", "")]))
            .required(),
        field("name", TEXT),
        field("vcenter", FieldType::Raw),
        field("vcsim", FieldType::Raw),
        field("horizon", FieldType::Raw),
        field("webhook", FieldType::Raw),
    ]
);
static VCENTER: Block = table!(
    "vcenter",
    [
        field("address", TEXT).also(&["url", "host"]),
        field("insecureSSL", FieldType::Flag).or("false").also(&["insecure"]),
        field("checkpoint", FieldType::Flag).or("false"),
        field("checkpointDir", FieldType::Text(&PATH_TEXT)),
        field("auth", FieldType::Maybe(&AUTH)).required(),
    ]
);
static VCSIM: Block = table!(
    "vcsim",
    [
        field("address", TEXT),
        field("insecureSSL", FieldType::Flag).or("false"),
        field("auth", FieldType::Maybe(&AUTH)).required(),
    ]
);
static WEBHOOK: Block = table!(
    "webhook",
    [field("bindAddress", TEXT), field("path", TEXT), field("auth", FieldType::Maybe(&AUTH))]
);
static PROCESSOR: Block = table!(
    "eventProcessor",
    [
        field("type", FieldType::OneOf(&[("openfaas", ""), ("aws_event_bridge", ""), ("knative", "")]))
            .required(),
        field("name", TEXT),
        field("openfaas", FieldType::Raw),
        field("awsEventBridge", FieldType::Raw).also(&["aws_event_bridge", "awsEventbridge"]),
        field("knative", FieldType::Raw),
    ]
);
static OPENFAAS: Block = table!(
    "openfaas",
    [
        field("address", TEXT),
        field("async", FieldType::Flag).or("false"),
        field("auth", FieldType::Maybe(&AUTH)),
    ]
);
static AWS: Block = table!(
    "awsEventBridge",
    [
        field("region", TEXT),
        field("eventBus", TEXT),
        field("ruleARN", TEXT),
        field("auth", FieldType::Maybe(&AUTH)).required(),
    ]
);
static KNATIVE: Block = table!(
    "knative",
    [
        field("destination", FieldType::Maybe(&DESTINATION)).required(),
        field("encoding", FieldType::OneOf(&[("structured", ""), ("binary", "")])).required(),
        field("insecureSSL", FieldType::Flag).or("false"),
        field("auth", FieldType::Maybe(&AUTH)),
    ]
);
static DESTINATION: Block =
    table!("destination", [field("ref", FieldType::Maybe(Reference::BLOCK)), field("uri", FieldType::Raw)]);
static URI: Block = table!(
    "uri",
    [
        field("scheme", FieldType::OneOf(&[("http", ""), ("https", "")])).required(),
        field("host", TEXT),
        field("path", TEXT),
        field("rawquery", TEXT),
    ]
);
static METRICS: Block = table!(
    "metricsProvider",
    [
        field("type", FieldType::OneOf(&[("default", "")])).required(),
        field("name", TEXT),
        field("default", FieldType::Maybe(&METRICS_DEFAULT)).required(),
    ]
);
static METRICS_DEFAULT: Block =
    table!("default", [field("bindAddress", TEXT), field("auth", FieldType::Maybe(&AUTH))]);
static AUTH: Block = table!(
    "auth",
    [
        field(
            "type",
            FieldType::OneOf(&[
                ("none", ""),
                ("basic_auth", ""),
                ("aws_access_key", ""),
                ("aws_iam_role", ""),
                ("active_directory", ""),
            ]),
        )
        .required(),
        field("basicAuth", FieldType::Maybe(&BASIC)),
        field("awsAccessKeyAuth", FieldType::Maybe(&ACCESS_KEY)),
        field("activeDirectoryAuth", FieldType::Raw),
    ]
);
static BASIC: Block = table!("basicAuth", [field("username", TEXT), field("password", TEXT)]);
static ACCESS_KEY: Block = table!("awsAccessKeyAuth", [field("accessKey", TEXT), field("secretKey", TEXT)]);

/// Builds the configuration in a file. It is meaningless if `problems` has errors afterwards.
pub(super) fn build(root: &Node, env: Env<'_>, problems: &mut Problems) -> Config {
    let found =
        TableReader { problems, env: None, unknown: Unknown::Refuse }.block(root, &ROOT, "", root.line);
    if !found.text("apiVersion").starts_with(API_GROUP) {
        let message = "read as `event-router.vmware.com/v1alpha1` because of its fields";
        problems.warn(found.line_of("apiVersion"), "apiVersion", message);
    }
    let mut builder = V1alpha1Builder { env, problems };
    let ca_files = found.block("certificates").texts("rootCAs").into_iter().map(Into::into).collect();
    let (mut source, state) = match found.maybe_block("eventProvider") {
        Some(provider) => builder.source(provider),
        None => {
            let kind = SourceKind::Vcenter(Vcenter::new("", "", Secret::inline("")));
            (SourceConfig { name: String::new(), kind }, StateLocation::Ephemeral)
        }
    };
    if let SourceKind::Vcenter(vcenter) = &mut source.kind {
        vcenter.tls.ca_files = ca_files;
    }
    let processor = match found.maybe_block("eventProcessor") {
        Some(processor) => builder.processor(processor),
        None => (String::new(), ProcessorKind::Blackhole(Default::default())),
    };
    let admin = match found.maybe_block("metricsProvider").and_then(|metrics| metrics.maybe_block("default"))
    {
        Some(metrics) => builder.admin(metrics),
        None => Admin::default(),
    };
    old::OldConfig { format: ConfigFormat::V1alpha1, state, admin, source, processor }.assemble()
}

struct V1alpha1Builder<'a> {
    /// Environment variables for the target of a `ref`. Texts such as `${NAME}` are taken
    /// literally.
    env: Env<'a>,
    problems: &'a mut Problems,
}

impl V1alpha1Builder<'_> {
    /// Reads the block that `type` names. Warns of other blocks, which are ignored.
    fn typed(&mut self, found: &CheckedMap, key: &str, table: &'static Block) -> Option<CheckedMap> {
        for other in found.given.iter().filter(|given| **given != key && !matches!(**given, "type" | "name"))
        {
            let message = format!("ignored, since `type` is `{}`", found.text("type"));
            self.problems.warn(found.line_of(other), &found.path_of(other), message);
        }
        let Some(node) = found.maybe_raw(key) else {
            let message =
                format!("`{key}` is missing; it holds the settings of type `{}`", found.text("type"));
            self.problems.error(found.line, &found.path, message);
            return None;
        };
        let mut reader = TableReader { problems: self.problems, env: None, unknown: Unknown::Refuse };
        Some(reader.block(node, table, &found.path_of(key), found.line_of(key)))
    }

    fn name(&mut self, found: &CheckedMap) -> String {
        let name = Some(found.text("name")).filter(|name| !name.is_empty()).unwrap_or(found.text("type"));
        // A missing `type` was reported already.
        if let Err(message) = (NAME_TEXT.check)(name)
            && !name.is_empty()
        {
            self.problems.error(found.line_of("name"), &found.path_of("name"), message);
        }
        name.into()
    }

    fn source(&mut self, provider: &CheckedMap) -> (SourceConfig, StateLocation) {
        let name = self.name(provider);
        let kind = provider.text("type");
        let block = match kind {
            "vcenter" => self.typed(provider, "vcenter", &VCENTER),
            "vcsim" => self.typed(provider, "vcsim", &VCSIM),
            "webhook" => return self.webhook(name, provider),
            "horizon" => {
                let message = format!(
                    "the event provider `{kind}` is not supported; this router has `vcenter` and `webhook`"
                );
                self.problems.error(provider.line_of("type"), &provider.path_of("type"), message);
                None
            }
            // An unknown type was reported already.
            _ => None,
        };
        let Some(block) = block else {
            let vcenter = Vcenter::new("", "", Secret::inline(""));
            return (SourceConfig { name, kind: SourceKind::Vcenter(vcenter) }, StateLocation::Ephemeral);
        };
        let (username, password) = match block.maybe_block("auth") {
            Some(auth) if auth.text("type") == "basic_auth" => {
                self.credentials(auth, "basicAuth", "username", "password", false)
            }
            Some(auth) => {
                self.refuse_auth_type(auth, auth.text("type"), "`basic_auth`");
                Default::default()
            }
            None => Default::default(),
        };
        let mut vcenter =
            Vcenter::new(old::sdk_url(&block, "address", self.problems), username, Secret::inline(password));
        old::warn_clear_text(&vcenter.sdk_url, true, &block, self.problems);
        let (line, path) = (block.line_of("insecureSSL"), block.path_of("insecureSSL"));
        vcenter.tls = old::tls(block.flag("insecureSSL"), line, &path, self.problems);
        let state = if block.flag("checkpoint") {
            let dir = Path::new(block.maybe_text("checkpointDir").unwrap_or(CHECKPOINT_DIR));
            vcenter.import_checkpoint =
                Some(dir.join(format!("cp-{}.json", scalar::host_of(&vcenter.sdk_url))));
            StateLocation::Dir(dir.into())
        } else {
            if block.is_given("checkpointDir") {
                let message = "ignored, since `checkpoint` is not `true`";
                self.problems.warn(block.line_of("checkpointDir"), &block.path_of("checkpointDir"), message);
            }
            StateLocation::Ephemeral
        };
        (SourceConfig { name, kind: SourceKind::Vcenter(vcenter) }, state)
    }

    fn processor(&mut self, processor: &CheckedMap) -> (String, ProcessorKind) {
        let kind = match processor.text("type") {
            "openfaas" => self.typed(processor, "openfaas", &OPENFAAS).map(|block| self.openfaas(&block)),
            "aws_event_bridge" => self.typed(processor, "awsEventBridge", &AWS).map(|block| self.aws(&block)),
            "knative" => self.typed(processor, "knative", &KNATIVE).map(|block| self.knative(&block)),
            _ => None,
        };
        (self.name(processor), kind.unwrap_or(ProcessorKind::Blackhole(Default::default())))
    }

    fn openfaas(&mut self, block: &CheckedMap) -> ProcessorKind {
        let auth = self.maybe_basic_auth(block, true);
        let gateway = old::http_url(block, "address", self.problems);
        old::warn_clear_text(&gateway, auth != Auth::None, block, self.problems);
        old::openfaas(gateway, block.flag("async"), auth)
    }

    fn aws(&mut self, block: &CheckedMap) -> ProcessorKind {
        let auth = block.maybe_block("auth").map(|auth| match auth.text("type") {
            "aws_access_key" => {
                let (id, secret) =
                    self.credentials(auth, "awsAccessKeyAuth", "accessKey", "secretKey", false);
                AwsAuth::AccessKey {
                    access_key_id: id,
                    secret_access_key: Secret::inline(secret),
                    session_token: None,
                }
            }
            "aws_iam_role" => AwsAuth::DefaultChain,
            other => {
                self.refuse_auth_type(auth, other, "`aws_access_key` or `aws_iam_role`");
                AwsAuth::DefaultChain
            }
        });
        let [region, bus, rule] =
            ["region", "eventBus", "ruleARN"].map(|key| old::text(block, key, self.problems));
        old::eventbridge(region, bus, rule, auth.unwrap_or_default())
    }

    fn knative(&mut self, block: &CheckedMap) -> ProcessorKind {
        let (url, reference) = match block.maybe_block("destination") {
            Some(destination) => self.destination(destination),
            None => Default::default(),
        };
        let auth = self.maybe_basic_auth(block, true);
        if auth != Auth::None {
            let message = "the old router ignored it; this one sends it";
            self.problems.warn(block.line_of("auth"), &block.path_of("auth"), message);
            if let Some(found) = block.maybe_block("destination") {
                net::settings::warn_clear_text(&url, true, found, "uri", self.problems);
            }
        }
        let (line, path) = (block.line_of("insecureSSL"), block.path_of("insecureSSL"));
        let tls = old::tls(block.flag("insecureSSL"), line, &path, self.problems);
        ProcessorKind::CloudEvents(CloudEventsConfig {
            mode: if block.text("encoding") == "binary" {
                ContentMode::Binary
            } else {
                ContentMode::Structured
            },
            auth,
            http: HttpClient { tls, ..HttpClient::default() },
            reference,
            ..CloudEventsConfig::new(url)
        })
    }

    /// The URL of the target, or the object that has it. A `uri` has precedence over a `ref`.
    fn destination(&mut self, destination: &CheckedMap) -> (String, Option<Reference>) {
        if let Some(uri) = destination.maybe_raw("uri") {
            let (line, path) = (destination.line_of("uri"), destination.path_of("uri"));
            let url = match &uri.data {
                NodeData::Scalar(scalar) => scalar.text.clone(),
                _ => match self.joined_url(uri, &path, line) {
                    Some(url) => url,
                    None => return Default::default(),
                },
            };
            let url = scalar::http_url(&url).unwrap_or_else(|message| {
                self.problems.error(line, &path, message);
                String::new()
            });
            return (url, None);
        }
        let Some(found) = destination.maybe_block("ref") else {
            let message = "needs a `uri`, the target's URL, or a `ref`";
            self.problems.error(destination.line, &destination.path, message);
            return Default::default();
        };
        let reference = Reference::read(found);
        reference.check(found, "uri", self.env, self.problems);
        (String::new(), Some(reference))
    }

    /// Joins the parts of a `uri` that is a map. `None` if a part is missing, which is reported.
    fn joined_url(&mut self, uri: &Node, path: &str, line: usize) -> Option<String> {
        let mut reader = TableReader { problems: self.problems, env: None, unknown: Unknown::Refuse };
        let parts = reader.block(uri, &URI, path, line);
        let host = old::text(&parts, "host", self.problems);
        if host.is_empty() || parts.text("scheme").is_empty() {
            return None;
        }
        let slash =
            if parts.text("path").is_empty() || parts.text("path").starts_with('/') { "" } else { "/" };
        let query = Some(parts.text("rawquery")).filter(|query| !query.is_empty());
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        Some(format!("{}://{host}{slash}{}{query}", parts.text("scheme"), parts.text("path")))
    }

    fn admin(&mut self, metrics: &CheckedMap) -> Admin {
        let auth = self.maybe_basic_auth(metrics, false);
        let bind_address = old::bind_address(metrics, "bindAddress", METRICS_ADDRESS, self.problems);
        warn_exposed(bind_address.as_deref(), &auth, metrics, "bindAddress", self.problems);
        Admin { bind_address, auth, ..Admin::default() }
    }

    /// Reads optional basic authentication. `may_be_empty` allows empty credentials, for targets
    /// without authentication.
    fn maybe_basic_auth(&mut self, block: &CheckedMap, may_be_empty: bool) -> Auth {
        let Some(auth) = block.maybe_block("auth") else { return Auth::None };
        match auth.text("type") {
            "none" => Auth::None,
            "basic_auth" => {
                let (username, password) =
                    self.credentials(auth, "basicAuth", "username", "password", may_be_empty);
                old::basic(&username, &password)
            }
            other => {
                self.refuse_auth_type(auth, other, "`basic_auth` or `none`");
                Auth::None
            }
        }
    }

    /// Reads a name and a secret.
    fn credentials(
        &mut self,
        auth: &CheckedMap,
        key: &str,
        name: &str,
        secret: &str,
        may_be_empty: bool,
    ) -> (String, String) {
        let Some(pair) = auth.maybe_block(key) else {
            let message = format!("`{key}` is missing; it holds `{name}` and `{secret}`");
            self.problems.error(auth.line, &auth.path, message);
            return Default::default();
        };
        let keys = [name, secret];
        let [name, secret] = keys.map(|key| match pair.text(key) {
            "" if may_be_empty && pair.is_null(key) => {
                let message = "has no value and is taken as empty; text such as `null` or `~` needs single quotes around it";
                self.problems.warn(pair.line_of(key), &pair.path_of(key), message);
                String::new()
            }
            "" if may_be_empty && pair.is_given(key) => String::new(),
            "" if key == secret && pair.is_null(key) => {
                self.problems.error(pair.line_of(key), &pair.path_of(key), NULL_SECRET);
                String::new()
            }
            _ => old::text(pair, key, self.problems).to_owned(),
        });
        if !secret.is_empty() {
            old::note_secret(pair.line_of(keys[1]), &pair.path_of(keys[1]), &secret, self.problems);
        }
        (name, secret)
    }

    /// Reports an `auth.type` that is not allowed here. A missing or unknown one was reported
    /// already.
    fn refuse_auth_type(&mut self, auth: &CheckedMap, given: &str, allowed: &str) {
        if !given.is_empty() {
            self.problems.error(
                auth.line_of("type"),
                &auth.path_of("type"),
                format!("must be {allowed} here"),
            );
        }
    }
}
