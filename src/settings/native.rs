//! The native format: reads a [`Config`], and checks the rules that involve several blocks.

use super::*;
use crate::config::Group;
use crate::config::check::{Env, TableReader, Unknown, distinct_names};
use crate::config::found::CheckedMap;
use crate::config::problem::Problems;
use crate::config::tree::Node;
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
        let extensions = &mut processor.delivery.envelope.extensions;
        processor.kind.settings_mut().complete(extensions, found, env, problems);
    }
    distinct_names(&found.blocks("sources"), "source", problems);
    distinct_names(&blocks, "processor", problems);
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
        _ => {}
    }
}
