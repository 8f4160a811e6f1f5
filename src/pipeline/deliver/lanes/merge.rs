//! Merging: restores the order of events that waited apart, and joins those of one batch again.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::LaneKey;
use crate::event::Selection;
use crate::pipeline::deliver::item::{CompactSelection, LaneItem};

/// Joins neighbours of the same batch within each lane. The order within a lane stays.
pub(in crate::pipeline::deliver) fn merge_by_lane(
    items: Vec<(LaneKey, LaneItem)>,
) -> Vec<(LaneKey, LaneItem)> {
    let mut lanes: FxHashMap<LaneKey, Vec<LaneItem>> = FxHashMap::default();
    for (key, item) in items {
        let lane = lanes.entry(key).or_default();
        match lane.last_mut() {
            Some(last) if Arc::ptr_eq(&last.batch, &item.batch) && last.origin == item.origin => {
                let mut selection = last.selection.to_selection();
                selection.add(&item.selection.to_selection());
                last.selection = CompactSelection::of(&selection);
            }
            _ => lane.push(item),
        }
    }
    let each =
        lanes.into_iter().flat_map(|(key, items)| items.into_iter().map(move |item| (key, item.compact())));
    each.collect()
}

/// Orders events by `age` and reading order, then joins neighbours of the same batch again.
pub(in crate::pipeline::deliver) fn merge(
    items: Vec<LaneItem>,
    age: impl Fn(&LaneItem) -> u8,
) -> Vec<LaneItem> {
    let mut events: Vec<_> = items
        .iter()
        .enumerate()
        .flat_map(|(at, item)| {
            let key = (age(item), item.origin, item.batch.source.index);
            let selection = item.selection.to_selection();
            selection.iter().map(|i| (key, item.batch.records[i].seq, at, i)).collect::<Vec<_>>()
        })
        .collect();
    events.sort_unstable();
    let same = |a: usize, b: usize| {
        Arc::ptr_eq(&items[a].batch, &items[b].batch) && items[a].origin == items[b].origin
    };
    events
        .chunk_by(|(.., a, _), (.., b, _)| same(*a, *b))
        .map(|run| {
            let selection: Selection = run.iter().map(|(.., i)| *i).collect();
            LaneItem { selection: CompactSelection::of(&selection), ..items[run[0].2].clone() }
        })
        .collect()
}
