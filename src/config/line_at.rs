//! Finds the line of a value inside a tree, for messages about a part of a pattern.

use super::tree::{MapEntry, Node, NodeData};

/// The line of the value at a JSON path such as `$.data.Vm.Name[0]`, or else of the innermost value
/// around it.
pub(super) fn line_at(node: &Node, path: &str) -> usize {
    let mut at = node;
    let mut line = node.line;
    let mut rest = path.trim_start_matches('$');
    while !rest.is_empty() {
        let (step, after) = match rest.strip_prefix('.') {
            // A name may contain dots, so take the longest one that matches.
            Some(name) => {
                let NodeData::Map(entries) = &at.data else { break };
                let here = |entry: &&MapEntry| {
                    let after = name.strip_prefix(&*entry.key);
                    after.is_some_and(|after| after.is_empty() || after.starts_with(['.', '[']))
                };
                let Some(entry) = entries.iter().filter(here).max_by_key(|entry| entry.key.len()) else {
                    break;
                };
                line = entry.line;
                (&entry.value, &name[entry.key.len()..])
            }
            None => {
                let Some((index, after)) = rest[1..].split_once(']') else { break };
                let NodeData::List(items) = &at.data else { break };
                let Some(item) = index.parse().ok().and_then(|index: usize| items.get(index)) else { break };
                line = item.line;
                (item, after)
            }
        };
        (at, rest) = (step, after);
    }
    line
}
