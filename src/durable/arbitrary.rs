//! Inputs for the tests of this module: few names and small numbers, so that cases collide.

use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use roaring::RoaringBitmap;
use uuid::Uuid;

use super::CheckpointWrite;
use crate::event::Identity;

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
    let position = (source(), any::<u128>(), any::<i64>(), any::<Option<i32>>(), 0..8u32);
    let dirty = proptest::collection::btree_map(prop_oneof![0..8u32, Just(u32::MAX)], keys, 0..4);
    let unsettled = proptest::collection::btree_map(destination(), vec(identity(), 0..5), 0..3);
    let destinations = proptest::option::of(vec(destination(), 0..4));
    (position, dirty, unsettled, destinations).prop_map(
        |((source, instance, resume_us, high_key, prune_before_minute), dirty, unsettled, destinations)| {
            CheckpointWrite {
                source,
                instance_uuid: Uuid::from_u128(instance),
                resume_us,
                high_key,
                dirty: dirty.into_iter().collect(),
                prune_before_minute,
                unsettled: unsettled.into_iter().collect(),
                destinations,
            }
        },
    )
}
