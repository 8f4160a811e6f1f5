//! The JSON array of the old router, v0.3 and v0.4: an object each for the stream (vCenter), the
//! processor and the metrics.
//!
//! The old rules apply. The objects come in any order; of two with the same type, the last one
//! counts. As in Go's JSON package, unknown keys are ignored and the case of keys does not matter.
//! Options are strings, of which only `"true"` means true.

use super::admin::warn_exposed;
use super::old;
use super::*;
use crate::config::check::{Env, TableReader, Unknown, nearest};
use crate::config::declare::table;
use crate::config::format::{ANY_MAP, MAY_BE_EMPTY};
use crate::config::found::CheckedMap;
use crate::config::problem::Problems;
use crate::config::tree::{Node, NodeData};
use crate::config::{Block, Field, FieldType};
use crate::state::settings::default_data_dir;

/// The address that v0.3 listened on.
const METRICS_ADDRESS: &str = "0.0.0.0:8080";

const TEXT: FieldType = FieldType::Text(&MAY_BE_EMPTY);

static ELEMENT: Block = table!(
    "element",
    [
        // The old README calls the metrics `internal` in one place.
        Field::new(
            "type",
            FieldType::OneOf(&[("stream", ""), ("processor", ""), ("metrics", ""), ("internal", "")]),
        )
        .required(),
        Field::new("provider", TEXT),
        Field::new("address", TEXT),
        Field::new("auth", FieldType::Block(&AUTH)),
        Field::new("options", FieldType::Map(&ANY_MAP)),
    ]
);

static AUTH: Block =
    table!("auth", [Field::new("method", TEXT), Field::new("secret", FieldType::Map(&ANY_MAP))]);

/// Builds the configuration in an array. It is meaningless if `problems` has errors afterwards.
pub(super) fn build(root: &Node, env: Env<'_>, problems: &mut Problems) -> Config {
    let NodeData::List(items) = &root.data else { unreachable!("a list is what makes this format") };
    let mut reader = TableReader { problems, env: None, unknown: Unknown::Ignore };
    let elements: Vec<CheckedMap> = items
        .iter()
        .enumerate()
        .map(|(at, item)| reader.block(item, &ELEMENT, &format!("[{at}]"), item.line))
        .collect();
    let mut builder = JsonArrayBuilder { root_line: root.line, elements: &elements, problems };
    let source = builder.source();
    let processor = builder.processor();
    let admin = builder.admin();
    let state = StateLocation::Dir(default_data_dir(env));
    old::OldConfig { format: ConfigFormat::JsonArray, state, admin, source, processor }.assemble()
}

struct JsonArrayBuilder<'a> {
    root_line: usize,
    elements: &'a [CheckedMap],
    problems: &'a mut Problems,
}

impl<'a> JsonArrayBuilder<'a> {
    /// The last element with one of these types.
    fn last(&mut self, kinds: &[&str]) -> Option<&'a CheckedMap> {
        let mut of_kind = self.elements.iter().rev().filter(|element| kinds.contains(&element.text("type")));
        let Some(last) = of_kind.next() else {
            let message = format!("there is no element with `\"type\": \"{}\"`", kinds[0]);
            self.problems.error(self.root_line, "", message);
            return None;
        };
        for earlier in of_kind {
            let message = format!("ignored: a later element also has the type `{}`", kinds[0]);
            self.problems.warn(earlier.line, &earlier.path, message);
        }
        Some(last)
    }

    /// Checks that the provider of an element is one of `known`.
    fn provider(&mut self, element: &'a CheckedMap, known: &[&'static str]) -> &'static str {
        let given = element.text("provider");
        if let Some(provider) = known.iter().find(|provider| **provider == given) {
            return provider;
        }
        let words: Vec<_> = known.iter().map(|word| format!("`{word}`")).collect();
        let mut message = format!("must be {}", words.join(" or "));
        if let Some(near) = nearest(given, known.iter().copied()).filter(|_| known.len() > 1) {
            message += &format!("; did you mean `{near}`?");
        }
        self.problems.error(element.line_of("provider"), &element.path_of("provider"), message);
        ""
    }

    /// Checks that the authentication method of an element is one of `known`.
    fn method(&mut self, element: &CheckedMap, known: &[&str]) {
        let auth = element.block("auth");
        if !known.contains(&auth.text("method")) {
            let words: Vec<_> = known.iter().map(|word| format!("`{word}`")).collect();
            let message = format!("must be {}", words.join(" or "));
            self.problems.error(auth.line_of("method"), &format!("{}.auth.method", element.path), message);
        }
    }

    /// A required member of `auth.secret`.
    fn secret(&mut self, element: &'a CheckedMap, key: &str) -> &'a str {
        let auth = element.block("auth");
        let (line, path) = (auth.line_of("secret"), format!("{}.auth.secret", element.path));
        let value = self.member(auth.map("secret"), key, line, &path);
        // The others are names of users and keys.
        if !value.is_empty() && matches!(key, "password" | "aws_secret_access_key") {
            old::note_secret(line, &format!("{path}.{key}"), value, self.problems);
        }
        value
    }

    /// A required member of a map.
    fn member(&mut self, map: &'a [(String, String)], key: &str, line: usize, path: &str) -> &'a str {
        match map.iter().find(|(name, _)| name == key) {
            Some((_, value)) if !value.is_empty() => value,
            found => {
                let what = if found.is_some() { "must not be empty" } else { "is missing" };
                self.problems.error(line, path, format!("`{key}` {what}"));
                ""
            }
        }
    }

    fn source(&mut self) -> SourceConfig {
        let vcenter = self.last(&["stream"]).map(|element| {
            self.provider(element, &["vmware_vcenter"]);
            self.method(element, &["user_password"]);
            let (username, password) = (self.secret(element, "username"), self.secret(element, "password"));
            let line = element.line_of("options");
            let path = format!("{}.options.insecure", element.path);
            let address = old::sdk_url(element, "address", self.problems);
            old::warn_clear_text(&address, true, element, self.problems);
            Vcenter {
                tls: old::tls(is_true(element, "insecure"), line, &path, self.problems),
                ..Vcenter::new(address, username, Secret::inline(password))
            }
        });
        let vcenter = vcenter.unwrap_or_else(|| Vcenter::new("", "", Secret::inline("")));
        SourceConfig { name: "vcenter".into(), kind: SourceKind::Vcenter(vcenter) }
    }

    fn processor(&mut self) -> (String, ProcessorKind) {
        let nothing = (String::new(), ProcessorKind::Blackhole(Default::default()));
        let Some(element) = self.last(&["processor"]) else { return nothing };
        match self.provider(element, &["openfaas", "aws_event_bridge"]) {
            "openfaas" => {
                self.method(element, &["basic_auth"]);
                let [username, password] = ["username", "password"].map(|key| match given(element, key) {
                    // `basic_auth` was required even for a gateway without authentication.
                    Some("") => "",
                    _ => self.secret(element, key),
                });
                let auth = old::basic(username, password);
                let gateway = old::http_url(element, "address", self.problems);
                old::warn_clear_text(&gateway, auth != Auth::None, element, self.problems);
                ("openfaas".into(), old::openfaas(gateway, is_true(element, "async"), auth))
            }
            "aws_event_bridge" => {
                self.method(element, &["access_key"]);
                let auth = AwsAuth::AccessKey {
                    access_key_id: self.secret(element, "aws_access_key_id").into(),
                    secret_access_key: Secret::inline(self.secret(element, "aws_secret_access_key")),
                    session_token: None,
                };
                let options = element.map("options");
                let (line, path) = (element.line_of("options"), element.path_of("options"));
                let region = self.member(options, "aws_region", line, &path);
                let rule = self.member(options, "aws_eventbridge_rule_arn", line, &path);
                let bus = option(element, "aws_eventbridge_event_bus").filter(|bus| !bus.is_empty());
                let kind = old::eventbridge(region, bus.unwrap_or("default"), rule, auth);
                ("aws_event_bridge".into(), kind)
            }
            _ => nothing,
        }
    }

    fn admin(&mut self) -> Admin {
        let Some(element) = self.last(&["metrics", "internal"]) else { return Admin::default() };
        self.method(element, &["none", "basic_auth", ""]);
        let auth = match element.block("auth").text("method") {
            "basic_auth" => old::basic(self.secret(element, "username"), self.secret(element, "password")),
            _ => Auth::None,
        };
        let bind_address = old::bind_address(element, "address", METRICS_ADDRESS, self.problems);
        warn_exposed(bind_address.as_deref(), &auth, element, "address", self.problems);
        Admin { bind_address, auth, ..Admin::default() }
    }
}

/// An optional member of `auth.secret`.
fn given<'f>(element: &'f CheckedMap, key: &str) -> Option<&'f str> {
    let secrets = element.block("auth").map("secret");
    secrets.iter().find(|(name, _)| name == key).map(|(_, value)| &**value)
}

/// An optional member of `options`.
fn option<'f>(element: &'f CheckedMap, key: &str) -> Option<&'f str> {
    element.map("options").iter().find(|(name, _)| name == key).map(|(_, value)| &**value)
}

/// Returns true for the exact text `true`; the old router accepted nothing else.
fn is_true(element: &CheckedMap, key: &str) -> bool {
    option(element, key) == Some("true")
}
