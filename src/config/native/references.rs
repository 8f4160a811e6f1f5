//! Rules about names: unique names, routes, dead letters and unused sources or processors.

use std::collections::HashMap;

use super::NativeBuilder;
use crate::config::check::nearest;
use crate::config::found::CheckedMap;
use crate::config::model::*;
use crate::config::{Secret, scalar};
use crate::event::Payload;

impl NativeBuilder<'_> {
    /// Reports names that are used twice.
    pub(super) fn distinct_names(&mut self, blocks: &[CheckedMap], what: &str) {
        let mut lines: HashMap<&str, usize> = HashMap::new();
        for block in blocks {
            let (name, line) = (block.text("name"), block.line_of("name"));
            if name.is_empty() {
                continue;
            }
            if let Some(first) = lines.get(name) {
                let message = format!("another {what} has the name `{name}`, in line {first}");
                self.problems.error(line, &block.path_of("name"), message);
            } else {
                lines.insert(name, line);
            }
        }
    }

    /// Builds the routes, and reports names of sources and processors that do not exist.
    pub(super) fn routes(
        &mut self,
        root: &CheckedMap,
        sources: &[SourceConfig],
        processors: &[ProcessorConfig],
    ) -> Vec<RouteConfig> {
        if !root.is_given("routes") {
            let routes = vec![RouteConfig::all(sources, processors)];
            self.payloads(root, &routes, processors);
            return routes;
        }
        let blocks = root.blocks("routes");
        self.distinct_names(blocks, "route");
        let source_names: Vec<&str> = sources.iter().map(|source| &*source.name).collect();
        let processor_names: Vec<&str> = processors.iter().map(|processor| &*processor.name).collect();
        let mut routes = Vec::with_capacity(blocks.len());
        for (at, block) in blocks.iter().enumerate() {
            for (key, what, names) in
                [("sources", "source", &source_names), ("processors", "processor", &processor_names)]
            {
                let given = block.texts(key);
                let (line, path) = (block.line_of(key), block.path_of(key));
                for name in given.iter().filter(|name| !names.contains(&&***name)) {
                    self.problems.error(line, &path, no_such(what, name, names.iter().copied()));
                }
            }
            let chosen = block.texts("sources");
            routes.push(RouteConfig {
                name: block.maybe_text("name").map_or_else(|| format!("route-{}", at + 1), Into::into),
                sources: if chosen.is_empty() {
                    source_names.iter().map(|name| (*name).to_owned()).collect()
                } else {
                    chosen
                },
                pattern: block.maybe_pattern("pattern").cloned(),
                line: block.line_of("pattern"),
                processors: block.texts("processors"),
            });
        }
        self.payloads(root, &routes, processors);
        self.unused(root, &routes, processors);
        routes
    }

    /// Checks every `deadLetterTo`: the processor must exist, take every event and end the chain.
    pub(super) fn dead_letter_processors(&mut self, blocks: &[CheckedMap], processors: &[ProcessorConfig]) {
        let find = |name: &str| processors.iter().find(|processor| processor.name == name);
        for (block, processor) in blocks.iter().zip(processors) {
            let Some(name) = processor.delivery.dead_letter.as_deref() else { continue };
            let (line, path) = (block.line_of("deadLetterTo"), block.path_of("deadLetterTo"));
            let Some(sink) = find(name) else {
                let names = processors.iter().map(|processor| &*processor.name);
                self.problems.error(line, &path, no_such("processor", name, names));
                continue;
            };
            if matches!(sink.kind, ProcessorKind::OpenFaas(_) | ProcessorKind::EventBridge(_)) {
                let message = format!(
                    "`{name}` selects events by functions or rules, so a dead letter might go nowhere; name a processor of type `cloudevents`, `console` or `blackhole`"
                );
                self.problems.error(line, &path, message);
            }
            // Follow the chain. A chain that is longer than the number of processors has a cycle.
            let mut chain = vec![&*processor.name];
            let mut next = Some(name);
            while let Some(at) = next
                && chain.len() <= processors.len()
            {
                chain.push(at);
                if at == processor.name {
                    let cycle = chain.join("` → `");
                    let message = format!(
                        "dead letters would go in a circle: `{cycle}`; remove one of these `deadLetterTo`"
                    );
                    self.problems.error(line, &path, message);
                    break;
                }
                next = find(at).and_then(|processor| processor.delivery.dead_letter.as_deref());
            }
        }
    }

    /// The URL with its present value, if it is a secret: it is in a file, or has a variable in it.
    pub(super) fn secret_url(&mut self, found: &CheckedMap) -> Option<(Secret, String)> {
        let Some(file) = found.maybe_secret_file("urlFile") else {
            let url = found.maybe_text("url").filter(|url| found.has_variable("url") && !url.is_empty())?;
            return Some((Secret::inline(url), url.to_owned()));
        };
        if found.is_wrong("urlFile") {
            return None;
        }
        let url = file.read().ok()?;
        match scalar::http_url(&url) {
            Ok(url) => Some((file.clone(), url)),
            Err(message) => {
                let (line, path) = (found.line_of("urlFile"), found.path_of("urlFile"));
                self.problems.error(line, &path, format!("the text in this file {message}"));
                None
            }
        }
    }

    /// Reports sources that cannot deliver the XML that a processor wants.
    fn payloads(&mut self, root: &CheckedMap, routes: &[RouteConfig], processors: &[ProcessorConfig]) {
        for block in root.blocks("sources").iter().filter(|block| block.text("protocol") == "vijson") {
            let reaches = |processor: &ProcessorConfig| {
                routes.iter().any(|route| {
                    route.sources.iter().any(|source| source == block.text("name"))
                        && route.processors.contains(&processor.name)
                })
            };
            let wants = |processor: &&ProcessorConfig| {
                processor.delivery.payload == Payload::Xml && reaches(processor)
            };
            if let Some(processor) = processors.iter().find(wants) {
                let message = format!(
                    "VI/JSON has no XML, which processor `{}` wants (`payload: xml`); remove `protocol`, or choose another `payload`",
                    processor.name
                );
                self.problems.error(block.line_of("protocol"), &block.path_of("protocol"), message);
            }
        }
    }

    /// Warns of sources and processors that no route uses.
    fn unused(&mut self, root: &CheckedMap, routes: &[RouteConfig], processors: &[ProcessorConfig]) {
        for (block, name) in root.blocks("sources").iter().map(|block| (block, block.text("name"))) {
            if !routes.iter().any(|route| route.sources.iter().any(|source| source == name)) {
                self.problems.warn(block.line, &block.path, "no route takes events of this source");
            }
        }
        for (block, name) in root.blocks("processors").iter().map(|block| (block, block.text("name"))) {
            let routed =
                routes.iter().any(|route| route.processors.iter().any(|processor| processor == name));
            let takes_dead_letters =
                processors.iter().any(|p| p.delivery.dead_letter.as_deref() == Some(name));
            if !routed && !takes_dead_letters {
                self.problems.warn(block.line, &block.path, "no route sends events to this processor");
            }
        }
    }
}

/// A message about a name that does not exist, with the names that do.
fn no_such<'n>(what: &str, name: &str, names: impl Iterator<Item = &'n str>) -> String {
    let names: Vec<&str> = names.filter(|name| !name.is_empty()).collect();
    let mut message = format!("there is no {what} `{name}`");
    if let Some(near) = nearest(name, names.iter().copied()) {
        message += &format!("; did you mean `{near}`?");
    }
    let known: Vec<String> = names.iter().take(20).map(|name| format!("`{name}`")).collect();
    message + &format!(" (known: {})", known.join(", "))
}
