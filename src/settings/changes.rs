//! The difference between two configurations, part by part, and what a reload does about it.
//!
//! The comparison is pure. Its result is the answer to `event-router reload`, the preview of
//! `check --against-running`, and the plan that the reload carries out.
//!
//! | part | change | effect |
//! |---|---|---|
//! | source, processor | other settings | applied; only this part notices |
//! | source, processor | other `type` | needs a restart |
//! | source, processor | other name | the old one is removed, and the new one has no state |
//! | routes | any | applied to the events that are read from now on |
//! | limits, intervals, log level | other value | applied |
//! | data directory, memory, cluster, admin listener, log format | other value | needs a restart |
//!
//! A part that needs a restart keeps its old settings until then; everything else is applied.

use std::fmt;
use std::mem::discriminant;

use serde::{Deserialize, Serialize};

use super::references::dead_letter_problems;
use super::{Config, ProcessorConfig, RouteConfig, SourceConfig};

/// The effect of a reload on a part of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ReloadAction {
    Added,
    Changed,
    Removed,
    /// The part has changed, and keeps its old settings until a restart.
    NeedsRestart,
    Unchanged,
}

/// One part, with the action and what the operator should know about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PartChange {
    pub action: ReloadAction,
    /// Kind and name, such as `processor fn`, or a key such as `memoryMax`.
    pub part: String,
    /// Empty if there is nothing more to say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// All parts, in the order of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Changes(pub Vec<PartChange>);

/// The comparison of two configurations.
pub struct ReloadPlan {
    pub changes: Changes,
    /// The new configuration, in which every part that needs a restart has its old settings.
    pub config: Config,
    /// Problems of `config`, which neither of the two configurations has: a part that keeps its old
    /// settings can disagree with the new ones of another part.
    pub problems: Vec<String>,
    /// By index in `config`: the sources to start again, because they are new or have changed.
    pub sources: Vec<bool>,
    /// By index in `config`: the processors to make again.
    pub processors: Vec<bool>,
}

/// Compares the running configuration with a new one.
pub fn plan(running: &Config, new: &Config) -> ReloadPlan {
    let mut changes = Vec::new();
    let mut config = new.clone();
    // Sources.
    let wants_xml = running.wants_xml() != new.wants_xml();
    let wants_severities = !running.wants_severities() && new.wants_severities();
    let mut sources = Vec::new();
    for source in &mut config.sources {
        let before = running.sources.iter().find(|before| before.name == source.name);
        let (action, note) = match before {
            None => (ReloadAction::Added, renamed_source(source, running, new)),
            Some(before) if discriminant(&before.kind) != discriminant(&source.kind) => {
                source.clone_from(before);
                (ReloadAction::NeedsRestart, "its `type` has changed; it goes on as before".to_owned())
            }
            Some(before) if before != source => {
                (ReloadAction::Changed, "it stops, and continues from its position".to_owned())
            }
            Some(_) if wants_xml => {
                let note = "it logs in again, since `payload: xml` of a processor decides about its protocol";
                (ReloadAction::Changed, note.to_owned())
            }
            Some(_) if wants_severities => {
                let note = "it logs in again, to read the severities of event types";
                (ReloadAction::Changed, note.to_owned())
            }
            Some(_) => (ReloadAction::Unchanged, String::new()),
        };
        sources.push(matches!(action, ReloadAction::Added | ReloadAction::Changed));
        changes.push(PartChange { action, part: format!("source {}", source.name), note });
    }
    for source in running.sources.iter().filter(|source| !has_source(new, &source.name)) {
        let note = "it stops; its last position stays, until `event-router checkpoint forget`".to_owned();
        changes.push(PartChange {
            action: ReloadAction::Removed,
            part: format!("source {}", source.name),
            note,
        });
    }
    // Processors.
    let mut processors = Vec::new();
    for processor in &mut config.processors {
        let before = running.processors.iter().find(|before| before.name == processor.name);
        let (action, note) = match before {
            None => (ReloadAction::Added, renamed_processor(processor, running, new)),
            Some(before) if discriminant(&before.kind) != discriminant(&processor.kind) => {
                processor.clone_from(before);
                (ReloadAction::NeedsRestart, "its `type` has changed; it goes on as before".to_owned())
            }
            Some(before) if before.delivery.ordering != processor.delivery.ordering => {
                let note = "its next requests use the new settings; the new `ordering` waits for the requests in flight, and for events parked behind refused ones";
                (ReloadAction::Changed, note.to_owned())
            }
            Some(before) if before != processor => {
                (ReloadAction::Changed, "its next requests use the new settings".to_owned())
            }
            Some(_) => (ReloadAction::Unchanged, String::new()),
        };
        processors.push(matches!(action, ReloadAction::Added | ReloadAction::Changed));
        changes.push(PartChange { action, part: format!("processor {}", processor.name), note });
    }
    for processor in running.processors.iter().filter(|processor| !has_processor(new, &processor.name)) {
        let part = format!("processor {}", processor.name);
        changes.push(PartChange { action: ReloadAction::Removed, part, note: REMOVED_PROCESSOR.to_owned() });
    }
    // Routes.
    for route in &new.routes {
        let before = running.routes.iter().find(|before| before.name == route.name);
        let action = match before {
            None => ReloadAction::Added,
            Some(before) if is_same_route(before, route) => ReloadAction::Unchanged,
            Some(_) => ReloadAction::Changed,
        };
        changes.push(PartChange { action, part: format!("route {}", route.name), note: String::new() });
    }
    for route in &running.routes {
        if new.routes.iter().all(|other| other.name != route.name) {
            let part = format!("route {}", route.name);
            changes.push(PartChange { action: ReloadAction::Removed, part, note: String::new() });
        }
    }
    // The rest.
    let mut setting = |part: &str, is_same: bool, action: ReloadAction| {
        if !is_same {
            changes.push(PartChange { action, part: part.to_owned(), note: String::new() });
        }
    };
    setting("log.level", running.log.level == new.log.level, ReloadAction::Changed);
    setting("shutdownTimeout", running.shutdown_timeout == new.shutdown_timeout, ReloadAction::Changed);
    setting(
        "checkpointInterval",
        running.checkpoint_interval == new.checkpoint_interval,
        ReloadAction::Changed,
    );
    setting("deadLetters", running.dead_letters == new.dead_letters, ReloadAction::Changed);
    setting("reloadOnChange", running.reload_on_change == new.reload_on_change, ReloadAction::Changed);
    setting("dataDir", running.state == new.state, ReloadAction::NeedsRestart);
    setting("memoryMax", running.memory_bytes == new.memory_bytes, ReloadAction::NeedsRestart);
    setting("cluster", running.cluster == new.cluster, ReloadAction::NeedsRestart);
    setting("admin", running.admin == new.admin, ReloadAction::NeedsRestart);
    setting("log.format", running.log.format == new.log.format, ReloadAction::NeedsRestart);
    let invocations = |config: &Config| (config.log.invocations, config.log.invocations_per_second);
    setting("log.invocations", invocations(running) == invocations(new), ReloadAction::NeedsRestart);
    config.state.clone_from(&running.state);
    config.memory_bytes = running.memory_bytes;
    config.cluster.clone_from(&running.cluster);
    config.admin.clone_from(&running.admin);
    config.format = running.format;
    config.log.format = running.log.format;
    config.log.invocations = running.log.invocations;
    config.log.invocations_per_second = running.log.invocations_per_second;
    let problems = config.processors.iter().flat_map(|processor| {
        let found = dead_letter_problems(processor, &config.processors).into_iter();
        found.map(|problem| {
            let name = &processor.name;
            format!("until a restart, `deadLetterTo` of `{name}` does not fit the processors that go on as before: {problem}")
        })
    });
    let problems = problems.collect();
    ReloadPlan { changes: Changes(changes), config, problems, sources, processors }
}

/// The note about a removed processor; the reload adds the numbers of its events.
const REMOVED_PROCESSOR: &str = "it gets no more events, and delivers those in memory until `shutdownTimeout` is over; spooled events wait until it comes back or `event-router spool drop`";

fn has_source(config: &Config, name: &str) -> bool {
    config.sources.iter().any(|source| source.name == name)
}

fn has_processor(config: &Config, name: &str) -> bool {
    config.processors.iter().any(|processor| processor.name == name)
}

/// Routes are compared without their lines in the file.
fn is_same_route(a: &RouteConfig, b: &RouteConfig) -> bool {
    RouteConfig { line: 0, ..a.clone() } == RouteConfig { line: 0, ..b.clone() }
}

/// Says that a new source looks like a removed one under another name.
fn renamed_source(source: &SourceConfig, running: &Config, new: &Config) -> String {
    let is_twin = |other: &&SourceConfig| other.kind == source.kind && !has_source(new, &other.name);
    match running.sources.iter().find(is_twin) {
        None => "it starts as `startAt` says, unless it has a position".to_owned(),
        Some(old) => format!(
            "it looks like `{}` under another name, but a new name has no position: it starts as `startAt` says",
            old.name
        ),
    }
}

/// Says that a new processor looks like a removed one under another name.
fn renamed_processor(processor: &ProcessorConfig, running: &Config, new: &Config) -> String {
    let is_twin = |other: &&ProcessorConfig| other.kind == processor.kind && !has_processor(new, &other.name);
    match running.processors.iter().find(is_twin) {
        None => "it gets the events that are read from now on".to_owned(),
        Some(old) => format!(
            "it looks like `{}` under another name, but a new name has no events: those of the old name are not delivered to it",
            old.name
        ),
    }
}

impl Changes {
    /// Returns true if no part has changed.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|change| change.action == ReloadAction::Unchanged)
    }

    /// Returns true if a part keeps its old settings until a restart.
    pub fn needs_restart(&self) -> bool {
        self.0.iter().any(|change| change.action == ReloadAction::NeedsRestart)
    }

    /// Adds to the note about a part.
    pub fn add_note(&mut self, part: &str, note: &str) {
        for change in self.0.iter_mut().filter(|change| change.part == part) {
            let separator = if change.note.is_empty() { "" } else { "; " };
            change.note = format!("{}{separator}{note}", change.note);
        }
    }
}

impl fmt::Display for ReloadAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            ReloadAction::Added => "added",
            ReloadAction::Changed => "changed",
            ReloadAction::Removed => "removed",
            ReloadAction::NeedsRestart => "needs a restart",
            ReloadAction::Unchanged => "unchanged",
        })
    }
}

/// One line for each part.
impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for PartChange { action, part, note } in &self.0 {
            match note.is_empty() {
                true => writeln!(f, "{action:<16}{part}")?,
                false => writeln!(f, "{action:<16}{part}: {note}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::load_str;

    const RUNNING: &str = "apiVersion: event-router/v1
sources:
- {name: a, type: vcenter, address: https://a/sdk, username: u, password: pppp1}
- {name: b, type: vcenter, address: https://b/sdk, username: u, password: pppp1}
processors:
- {name: p, type: console}
- {name: q, type: cloudevents, url: https://q, ordering: entity}
routes:
- {name: all, processors: [p, q]}
";

    fn config(text: &str) -> Config {
        load_str(text, "test".as_ref()).unwrap_or_else(|errors| panic!("{errors}")).0
    }

    /// Replaces `from` in the running configuration, and returns the lines of all changed parts.
    fn changed(from: &str, to: &str) -> Vec<String> {
        assert!(RUNNING.contains(from), "{from}");
        let plan = plan(&config(RUNNING), &config(&RUNNING.replace(from, to)));
        let changed = plan.changes.0.iter().filter(|change| change.action != ReloadAction::Unchanged);
        changed.map(|change| format!("{}: {}", change.action, change.part)).collect()
    }

    #[test]
    fn each_part_is_compared_by_itself() {
        let check = |from: &str, to: &str, expected: &[&str]| {
            assert_eq!(changed(from, to), expected, "{from} -> {to}");
        };
        check("apiVersion", "# A comment.\napiVersion", &[]);
        check("https://a", "https://c", &["changed: source a"]);
        check("https://q", "https://r", &["changed: processor q"]);
        check("entity}", "none}", &["changed: processor q"]);
        check("[p, q]", "[q]", &["changed: route all"]);
        check("name: all", "name: every", &["added: route every", "removed: route all"]);
        check("name: a,", "name: c,", &["added: source c", "removed: source a", "changed: route all"]);
        check("name: p, type: console", "name: p, type: blackhole", &["needs a restart: processor p"]);
        check("routes:", "memoryMax: 100MiB\nroutes:", &["needs a restart: memoryMax"]);
        check(
            "routes:",
            "log: {level: debug, format: json}\nroutes:",
            &["changed: log.level", "needs a restart: log.format"],
        );
        check("routes:", "dataDir: /elsewhere\nroutes:", &["needs a restart: dataDir"]);
    }

    /// Each of the two files is right by itself.
    #[test]
    fn a_circle_of_dead_letters_through_a_part_that_needs_a_restart_is_a_problem() {
        let to = |name: &str, more: &str| {
            format!("- {{name: {name}, type: cloudevents, url: https://{name}{more}}}\n")
        };
        let file = |processors: [String; 2]| {
            let (head, tail) =
                (RUNNING.split("- {name: p").next().unwrap(), "routes:\n- {name: all, processors: [p, q]}\n");
            config(&format!("{head}{}{tail}", processors.concat()))
        };
        let running = file([to("p", ", deadLetterTo: q"), to("q", "")]);
        let new = file(["- {name: p, type: console}\n".into(), to("q", ", deadLetterTo: p")]);
        let problems = plan(&running, &new).problems;
        assert!(problems.len() == 2 && problems[0].contains("in a circle"), "{problems:?}");
        assert_eq!(plan(&running, &running).problems, [""; 0]);
    }

    #[test]
    fn a_removed_processor_leaves_its_routes() {
        let new = RUNNING.replace("- {name: p, type: console}\n", "").replace("[p, q]", "[q]");
        let plan = plan(&config(RUNNING), &config(&new));
        let text = plan.changes.to_string();
        assert!(text.contains("removed         processor p: it gets no more events"), "{text}");
        assert!(text.contains("changed         route all\n"), "{text}");
        assert_eq!(plan.processors, [false]);
    }

    #[test]
    fn a_part_that_needs_a_restart_keeps_its_settings() {
        let new = RUNNING.replace("name: p, type: console", "name: p, type: blackhole");
        let new = config(&new.replace("routes:", "memoryMax: 100MiB\nroutes:"));
        let running = config(RUNNING);
        let mut plan = plan(&running, &new);
        plan.config.routes[0].line = running.routes[0].line;
        assert_eq!(plan.config, running);
        assert!(plan.changes.needs_restart());
        assert_eq!((plan.sources, plan.processors), (vec![false; 2], vec![false; 2]));
    }

    #[test]
    fn a_rename_is_said_in_advance() {
        let new = config(&RUNNING.replace("name: b,", "name: c,"));
        let text = plan(&config(RUNNING), &new).changes.to_string();
        assert!(text.contains("source c: it looks like `b` under another name"), "{text}");
    }
}
