//! The native format: reads a [`Config`], and checks the rules that involve several blocks.

use super::*;
use crate::config::Group;
use crate::config::check::{Env, TableReader, Unknown};
use crate::config::found::{CheckedMap, distinct_names};
use crate::config::problem::Problems;
use crate::config::scalar::exclude_each_other;
use crate::config::tree::Node;
use crate::limits::LEASED_SOURCES_MAX;
use crate::state::settings::default_data_dir;

/// Builds the configuration in a file of the native format. It is meaningless if `problems` has
/// errors afterwards.
pub(super) fn build(root: &Node, env: Env<'_>, problems: &mut Problems) -> Config {
    let mut reader = TableReader { problems, env: Some(env), unknown: Unknown::Refuse };
    let found = reader.block(root, Config::BLOCK, "", root.line);
    let mut config = Config::read(&found);
    state(&mut config, &found, env, problems);
    let blocks = found.blocks("processors");
    for (processor, found) in config.processors.iter_mut().zip(&blocks) {
        let envelope = &mut processor.delivery.envelope;
        processor.kind.settings_mut().complete(envelope, found, env, problems);
    }
    distinct_names(&found.blocks("sources"), "source", problems);
    distinct_names(&blocks, "processor", problems);
    one_vcenter_twice(&found, problems);
    one_address_twice(&config, &found, problems);
    in_cluster(&config, &found, problems);
    references::check(&mut config, &found, problems);
    config
}

/// Fills in the default directory.
fn state(config: &mut Config, found: &CheckedMap, env: Env<'_>, problems: &mut Problems) {
    match &mut config.state {
        StateLocation::Ephemeral if found.is_given("dataDir") => {
            let message = "`ephemeral: true` and `dataDir` exclude each other; keep one";
            problems.error(found.line_of("ephemeral"), "", message);
        }
        StateLocation::Dir(dir) if dir.as_os_str().is_empty() => *dir = default_data_dir(env),
        StateLocation::Dir(dir) => {
            // A directory of such a name would be made in the working directory.
            let first = dir.components().next().map(|part| part.as_os_str().to_string_lossy());
            if let Some(first) = first.filter(|first| first.starts_with(['~', '$'])) {
                let message = format!(
                    "begins with `{first}`, which only a shell replaces; write the whole path, or a variable such as `${{HOME}}`"
                );
                problems.error(found.line_of("dataDir"), "dataDir", message);
            }
        }
        StateLocation::Ephemeral => {}
    }
}

/// Warns of sources that read the same vCenter with the same filter.
fn one_vcenter_twice(found: &CheckedMap, problems: &mut Problems) {
    let vcenters: Vec<_> = found
        .blocks("sources")
        .into_iter()
        .filter(|source| source.variant == "vcenter" && !source.is_wrong("address"))
        .map(|source| (source, source.text("address"), EventFilter::read(source.block("filter"))))
        .collect();
    for (at, (source, address, filter)) in vcenters.iter().enumerate() {
        let first = vcenters[..at].iter().find(|(_, other, its)| other == address && its == filter);
        if let Some((first, ..)) = first.filter(|_| !address.is_empty()) {
            let message = format!(
                "source `{}` reads the same vCenter, so each of its events is delivered twice with the same id; remove one of both",
                first.text("name")
            );
            problems.warn(source.line_of("address"), &source.path_of("address"), message);
        }
    }
}

/// Checks the parts of a router that shares its sources with others.
fn in_cluster(config: &Config, found: &CheckedMap, problems: &mut Problems) {
    if config.cluster.is_none() {
        return;
    }
    let line = found.line_of("cluster");
    let is_read = |source: &&SourceConfig| matches!(source.kind, SourceKind::Vcenter(_));
    let vcenters = config.sources.iter().filter(is_read).count();
    if vcenters > LEASED_SOURCES_MAX {
        let message = format!(
            "has {vcenters} vCenters, and one cluster takes {LEASED_SOURCES_MAX}; make several clusters, each with its own `bucket`"
        );
        problems.error(line, "cluster", message);
    }
    let spills = |processor: &&ProcessorConfig| processor.delivery.overflow.policy == OverflowPolicy::Spill;
    let named = |names: Vec<&str>| format!("`{}`", names.join("`, `"));
    let spilling: Vec<_> = config.processors.iter().filter(spills).map(|one| &*one.name).collect();
    if !spilling.is_empty() {
        let message = format!(
            "what waits on the disk of this node for {} is lost with that disk, and another node does not deliver it; `overflow.policy: block` lets events wait in the vCenter instead",
            named(spilling)
        );
        problems.warn(line, "cluster", message);
    }
    let pushed: Vec<_> =
        config.sources.iter().filter(|source| !is_read(source)).map(|one| &*one.name).collect();
    if !pushed.is_empty() {
        let message = format!(
            "events that are pushed to {} wait on the disk of the node that accepted them, and are lost with it",
            named(pushed)
        );
        problems.warn(line, "cluster", message);
    }
}

/// Refuses listeners that exclude each other: the second could never start.
fn one_address_twice(config: &Config, found: &CheckedMap, problems: &mut Problems) {
    let webhooks: Vec<_> = found
        .blocks("sources")
        .into_iter()
        .filter(|source| source.variant == "webhook" && !source.is_wrong("bindAddress"))
        .map(|source| (source, source.text("bindAddress")))
        .collect();
    for (at, (source, address)) in webhooks.iter().enumerate() {
        let excludes = |other: &str| !address.is_empty() && exclude_each_other(address, other);
        let first = webhooks[..at].iter().find(|(_, other)| excludes(other));
        let taken = match first {
            Some((first, other)) => format!("source `{}` listens on `{other}`", first.text("name")),
            None => match config.admin.bind_address.as_deref().filter(|other| excludes(other)) {
                Some(other) => format!("`admin.bindAddress` is `{other}`"),
                None => continue,
            },
        };
        let message = format!("{taken}, so `{address}` is taken; choose another port");
        problems.error(source.line_of("bindAddress"), &source.path_of("bindAddress"), message);
    }
}
