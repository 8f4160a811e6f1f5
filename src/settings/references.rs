//! Rules about names: unique names, routes, dead letters and unused sources or processors.

use super::*;
use crate::config::check::nearest;
use crate::config::declare::Words;
use crate::config::found::{CheckedMap, distinct_names};
use crate::config::problem::Problems;

/// Completes the routes, and checks all names that refer to sources and processors.
pub(super) fn check(config: &mut Config, root: &CheckedMap, problems: &mut Problems) {
    let (sources, processors) = (&config.sources, &config.processors);
    let mut references = References { root, processors, problems };
    references.dead_letter_processors();
    if root.is_given("routes") {
        references.routes(&mut config.routes, sources);
        references.payloads(&config.routes);
        references.unused(&config.routes);
    } else {
        config.routes = vec![RouteConfig::all(sources, processors)];
        references.payloads(&config.routes);
    }
}

/// The problems with the `deadLetterTo` of one of `processors`.
pub(super) fn dead_letter_problems(
    processor: &ProcessorConfig,
    processors: &[ProcessorConfig],
) -> Vec<String> {
    let Some(name) = processor.delivery.dead_letter.as_deref() else { return Vec::new() };
    let find = |name: &str| processors.iter().find(|processor| processor.name == name);
    let Some(sink) = find(name) else {
        let names = processors.iter().map(|processor| &*processor.name);
        return vec![no_such("processor", name, names)];
    };
    let mut problems = Vec::new();
    if sink.kind.settings().selects() {
        problems.push(format!(
            "`{name}` selects events by functions or rules, so a dead letter might go nowhere; name a processor of another type, such as `cloudevents` or `file`"
        ));
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
            problems.push(format!(
                "dead letters would go in a circle: `{cycle}`; remove one of these `deadLetterTo`"
            ));
            break;
        }
        next = find(at).and_then(|processor| processor.delivery.dead_letter.as_deref());
    }
    problems
}

struct References<'a> {
    root: &'a CheckedMap,
    processors: &'a [ProcessorConfig],
    problems: &'a mut Problems,
}

impl References<'_> {
    /// Fills in the defaults of routes, and reports names of sources and processors that do not
    /// exist.
    fn routes(&mut self, routes: &mut [RouteConfig], sources: &[SourceConfig]) {
        let blocks = self.root.blocks("routes");
        distinct_names(&blocks, "route", self.problems);
        let source_names: Vec<&str> = sources.iter().map(|source| &*source.name).collect();
        let processor_names: Vec<&str> = self.processors.iter().map(|processor| &*processor.name).collect();
        for (at, (route, block)) in routes.iter_mut().zip(blocks).enumerate() {
            for (key, what, given, names) in [
                ("sources", "source", &route.sources, &source_names),
                ("processors", "processor", &route.processors, &processor_names),
            ] {
                let (line, path) = (block.line_of(key), block.path_of(key));
                for name in given.iter().filter(|name| !names.contains(&&***name)) {
                    self.problems.error(line, &path, no_such(what, name, names.iter().copied()));
                }
            }
            if route.name.is_empty() {
                route.name = format!("route-{}", at + 1);
            }
            if route.sources.is_empty() {
                route.sources = source_names.iter().map(|name| (*name).to_owned()).collect();
            }
        }
    }

    /// Checks every `deadLetterTo`: the processor must exist, take every event and end the chain.
    fn dead_letter_processors(&mut self) {
        for (block, processor) in self.root.blocks("processors").into_iter().zip(self.processors) {
            let (line, path) = (block.line_of("deadLetterTo"), block.path_of("deadLetterTo"));
            for problem in dead_letter_problems(processor, self.processors) {
                self.problems.error(line, &path, problem);
            }
        }
    }

    /// Reports sources that cannot deliver the XML that a processor wants.
    fn payloads(&mut self, routes: &[RouteConfig]) {
        let needs_json = |block: &&CheckedMap| block.text("protocol") == Protocol::ViJson.word();
        for block in self.root.blocks("sources").into_iter().filter(needs_json) {
            let reaches = |processor: &ProcessorConfig| {
                routes.iter().any(|route| {
                    route.sources.iter().any(|source| source == block.text("name"))
                        && route.processors.contains(&processor.name)
                })
            };
            let wants = |processor: &&ProcessorConfig| {
                processor.delivery.envelope.payload == Payload::Xml && reaches(processor)
            };
            if let Some(processor) = self.processors.iter().find(wants) {
                let message = format!(
                    "VI/JSON has no XML, which processor `{}` wants (`payload: xml`); remove `protocol`, or choose another `payload`",
                    processor.name
                );
                self.problems.error(block.line_of("protocol"), &block.path_of("protocol"), message);
            }
        }
    }

    /// Warns of sources and processors that no route uses.
    fn unused(&mut self, routes: &[RouteConfig]) {
        for (block, name) in self.root.blocks("sources").into_iter().map(|block| (block, block.text("name")))
        {
            if !routes.iter().any(|route| route.sources.iter().any(|source| source == name)) {
                self.problems.warn(block.line, &block.path, "no route takes events of this source");
            }
        }
        for (block, name) in
            self.root.blocks("processors").into_iter().map(|block| (block, block.text("name")))
        {
            let routed =
                routes.iter().any(|route| route.processors.iter().any(|processor| processor == name));
            let takes_dead_letters =
                self.processors.iter().any(|p| p.delivery.dead_letter.as_deref() == Some(name));
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
