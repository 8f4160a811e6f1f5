//! Generators for the property tests of this module. Names are few and numbers small, so that
//! generated writes often hit the same rows.

use std::sync::Arc;

use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use proptest::sample::Index;
use roaring::RoaringBitmap;
use uuid::Uuid;

use super::CheckpointWrite;
use crate::event::{Batch, Category, Failed, Identity, Record, SourceInfo, Span, event_id};
use crate::memory::Permit;

pub fn identity() -> impl Strategy<Value = Identity> {
    (prop_oneof![0..8u32, Just(u32::MAX)], prop_oneof![0..16u32, any::<u32>()])
        .prop_map(|(minute, key)| Identity { minute, key })
}

pub fn source() -> impl Strategy<Value = String> {
    prop_oneof![Just("vc-01".to_owned()), Just("вц".to_owned())]
}

pub fn destination() -> impl Strategy<Value = String> {
    prop_oneof![Just("faas/a".to_owned()), Just("faas/b".to_owned()), Just("bus".to_owned())]
}

pub fn checkpoint_write() -> impl Strategy<Value = CheckpointWrite> {
    let keys = prop_oneof![
        btree_set(any::<u32>(), 0..20).prop_map(|keys| keys.into_iter().collect::<RoaringBitmap>()),
        (0..100_000u32, 0..2_000u32).prop_map(|(from, n)| (from..from + n).collect()),
    ];
    let position =
        (source(), any::<u128>(), any::<i64>(), any::<Option<i64>>(), any::<Option<i32>>(), 0..8u32);
    let dirty = proptest::collection::btree_map(prop_oneof![0..8u32, Just(u32::MAX)], keys, 0..4);
    let unsettled = proptest::collection::btree_map(destination(), vec(identity(), 0..5), 0..3);
    let destinations = proptest::option::of(vec(destination(), 0..4));
    (position, dirty, unsettled, destinations).prop_map(
        |(
            (source, instance, resume_us, first_us, high_key, prune_before_minute),
            dirty,
            unsettled,
            destinations,
        )| {
            CheckpointWrite {
                source,
                instance_uuid: Uuid::from_u128(instance),
                resume_us,
                first_us,
                high_key,
                dirty: dirty.into_iter().collect(),
                prune_before_minute,
                inbox_kept: i64::from(prune_before_minute),
                unsettled: unsettled.into_iter().collect(),
                destinations,
            }
        },
    )
}

/// A batch of up to 20 events whose spans overlap in every way. Half of the events have an id that
/// follows from key and time.
pub fn batch() -> impl Strategy<Value = Batch> {
    let arena = vec(any::<u8>(), 0..300);
    let raw_page = prop_oneof![Just(Vec::new()), vec(any::<u8>(), 1..200)];
    let source = (any::<u128>(), "[a-z0-9-]{0,9}", "https?://[a-zé.]{0,9}/sdk", "[0-9.]{0,8}", any::<u8>());
    let spans = proptest::array::uniform8((any::<Index>(), any::<Index>()));
    let facts = (any::<Option<i32>>(), any::<i32>(), any::<Option<i64>>(), 0..3u8, any::<bool>());
    let rest = (identity(), any::<u128>(), any::<u64>(), any::<u64>());
    let failed = proptest::option::of(("[a-zé:/]{0,9}", any::<u16>(), "[A-Z=]{0,9}"));
    let head = (any::<u64>(), any::<i64>(), failed);
    (arena, raw_page, source, vec((spans, facts, rest), 0..20), head).prop_map(
        |(arena, raw_page, source, events, (page, produced_us, failed))| {
            let (instance, name, url, api_version, index) = source;
            let instance_uuid = Uuid::from_u128(instance);
            let cut = |(a, b): (Index, Index), len: usize| {
                let (a, b) = (a.index(len + 1), b.index(len + 1));
                Span::new(a.min(b), a.max(b))
            };
            let records = events.into_iter().map(|(spans, facts, rest)| {
                let (key, chain_id, created_us, category, derived) = facts;
                let (mut identity, id, lane, seq) = rest;
                let mut id = Uuid::from_u128(id);
                if let (true, Some(key)) = (derived, key) {
                    (identity, id) = event_id(&instance_uuid, Some(key), created_us, || unreachable!());
                }
                let at = |i: usize| cut(spans[i], arena.len());
                Record {
                    key,
                    chain_id,
                    created_us,
                    category: [Category::Event, Category::EventEx, Category::ExtendedEvent]
                        [usize::from(category)],
                    class: at(0),
                    subject: at(1),
                    entity: at(2),
                    user: at(3),
                    created_text: at(4),
                    data: at(5),
                    raw: if raw_page.is_empty() { Span::EMPTY } else { cut(spans[6], raw_page.len()) },
                    identity,
                    id,
                    attributes: at(7),
                    lane,
                    seq,
                }
            });
            Batch {
                source: Arc::new(SourceInfo { index: index.into(), name, url, instance_uuid, api_version }),
                page,
                produced_us,
                records: records.collect(),
                arena,
                raw_page: raw_page.into(),
                permit: Permit::default(),
                failed: failed.map(|(dest, code, data)| Arc::new(Failed { dest, code, data })),
            }
        },
    )
}

/// A batch of minimal events, one for each pair of minute and key.
pub fn events(identities: &[(u32, u32)]) -> Batch {
    let records = identities
        .iter()
        .map(|&(minute, key)| Record { identity: Identity { minute, key }, ..Record::default() });
    let source = SourceInfo {
        index: 0,
        name: "vc-01".into(),
        url: "https://vc-01/sdk".into(),
        instance_uuid: Uuid::from_u128(1),
        api_version: "8.0.3.0".into(),
    };
    let records = records.map(|r| Record { data: Span::new(0, 2), ..r }).collect();
    Batch::new(Arc::new(source), 0, b"{}".to_vec(), records)
}
