//! Builds the router's configuration for a test: sections with fields, written as the native YAML.
//!
//! ```text
//! stack.config()                                        a vCenter and its targets
//!     .set("memoryMax", "4MiB")                         a field of the file
//!     .set_source("vc", "timeouts", json!({"call": "1s"}))
//!     .processor(Section::cloudevents("more", url).set("mode", "binary"))
//! ```
//!
//! A value is JSON, and the file writes it as JSON: every JSON value is a YAML value. A string is
//! literal, so a password needs no quoting and `${HOME}` in one is no variable.
//!
//! Tests whose subject is the text of a configuration (`config*.rs`, `upgrade_samples.rs`) keep
//! their text. The tests of `loadtest` include this file.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};

/// A configuration in the making. A field that is set twice has the second value.
#[derive(Clone, Debug)]
pub struct RouterConfig {
    top: Section,
    sources: Vec<Section>,
    processors: Vec<Section>,
    routes: Vec<Section>,
}

/// The fields of one source, processor or route, in their order.
#[derive(Clone, Debug, Default)]
pub struct Section(Vec<(String, Value)>);

impl Section {
    /// A vCenter that is read from its beginning.
    pub fn vcenter(name: &str, address: &str, user: &str, password: &str) -> Self {
        Section::default()
            .set("name", name)
            .set("type", "vcenter")
            .set("address", address)
            .set("username", user)
            .set("password", password)
            .set("startAt", "beginning")
    }

    pub fn cloudevents(name: &str, url: &str) -> Self {
        Section::default().set("name", name).set("type", "cloudevents").set("url", url)
    }

    pub fn openfaas(name: &str, gateway: &str, user: &str, password: &str) -> Self {
        Section::default()
            .set("name", name)
            .set("type", "openfaas")
            .set("gateway", gateway)
            .set("auth", json!({"username": user, "password": password}))
    }

    pub fn set(mut self, field: &str, value: impl Into<Value>) -> Self {
        let value = value.into();
        match self.0.iter_mut().find(|(known, _)| known == field) {
            Some((_, old)) => *old = value,
            None => self.0.push((field.to_owned(), value)),
        }
        self
    }

    pub fn without(mut self, field: &str) -> Self {
        self.0.retain(|(known, _)| known != field);
        self
    }

    /// The section with the fields of `other`, which win.
    pub fn with(self, other: &Section) -> Self {
        other.0.iter().fold(self, |section, (field, value)| section.set(field, value.clone()))
    }

    fn is_named(&self, name: &str) -> bool {
        self.0.iter().any(|(field, value)| field == "name" && value == name)
    }

    /// The fields, a line each, behind `first` on the first line and `next` on the others.
    fn write(&self, first: &str, next: &str, text: &mut String) {
        for (at, (field, value)) in self.0.iter().enumerate() {
            let indent = if at == 0 { first } else { next };
            // A variable would take the place of `${NAME}`.
            let value = value.to_string().replace("${", "$${");
            writeln!(text, "{indent}{field}: {value}").expect("a string takes all text");
        }
    }
}

/// A content mode stands for a processor's section with that `mode`.
impl From<&str> for Section {
    fn from(mode: &str) -> Self {
        Section::default().set("mode", mode)
    }
}

impl RouterConfig {
    /// Without a source or a processor.
    pub fn new(data: &Path, admin: SocketAddr) -> Self {
        let top = Section::default()
            .set("apiVersion", "event-router/v1")
            .set("dataDir", data.to_str().expect("temporary paths are UTF-8"))
            .set("admin", json!({"bindAddress": admin.to_string()}));
        RouterConfig { top, sources: Vec::new(), processors: Vec::new(), routes: Vec::new() }
    }

    /// Sets a field of the file itself.
    pub fn set(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.top = self.top.set(field, value);
        self
    }

    pub fn data(self, folder: &Path) -> Self {
        self.set("dataDir", folder.to_str().expect("temporary paths are UTF-8"))
    }

    /// Sets a field of the admin listener.
    pub fn set_admin(mut self, field: &str, value: impl Into<Value>) -> Self {
        let admin = self.top.0.iter_mut().find(|(known, _)| known == "admin");
        admin.expect("every configuration has the section").1[field] = value.into();
        self
    }

    pub fn source(mut self, source: Section) -> Self {
        self.sources.push(source);
        self
    }

    /// Sets a field of a source.
    pub fn set_source(self, name: &str, field: &str, value: impl Into<Value>) -> Self {
        self.change_source(name, |source| source.set(field, value))
    }

    #[track_caller]
    pub fn change_source(mut self, name: &str, change: impl FnOnce(Section) -> Section) -> Self {
        let source = self.sources.iter_mut().find(|source| source.is_named(name));
        let source = source.unwrap_or_else(|| panic!("no source `{name}`"));
        *source = change(source.clone());
        self
    }

    pub fn processor(mut self, processor: Section) -> Self {
        self.processors.push(processor);
        self
    }

    /// Sets a field of a processor.
    pub fn set_processor(self, name: &str, field: &str, value: impl Into<Value>) -> Self {
        self.change_processor(name, |processor| processor.set(field, value))
    }

    #[track_caller]
    pub fn change_processor(mut self, name: &str, change: impl FnOnce(Section) -> Section) -> Self {
        let processor = self.processors.iter_mut().find(|processor| processor.is_named(name));
        let processor = processor.unwrap_or_else(|| panic!("no processor `{name}`"));
        *processor = change(processor.clone());
        self
    }

    pub fn without_processor(mut self, name: &str) -> Self {
        self.processors.retain(|processor| !processor.is_named(name));
        self
    }

    pub fn route(self, name: &str, sources: &[&str], processors: &[&str]) -> Self {
        self.any_route(
            Section::default().set("name", name).set("sources", sources).set("processors", processors),
        )
    }

    /// A route for all sources, of the events that `pattern` takes.
    pub fn pattern(self, name: &str, pattern: Value, processors: &[&str]) -> Self {
        self.any_route(
            Section::default().set("name", name).set("pattern", pattern).set("processors", processors),
        )
    }

    pub fn any_route(mut self, route: Section) -> Self {
        self.routes.push(route);
        self
    }

    /// The file.
    pub fn text(&self) -> String {
        let mut text = String::new();
        self.top.write("", "", &mut text);
        let lists = [("sources", &self.sources), ("processors", &self.processors), ("routes", &self.routes)];
        for (name, sections) in lists.into_iter().filter(|(_, sections)| !sections.is_empty()) {
            writeln!(text, "{name}:").expect("a string takes all text");
            sections.iter().for_each(|section| section.write("  - ", "    ", &mut text));
        }
        text
    }
}
