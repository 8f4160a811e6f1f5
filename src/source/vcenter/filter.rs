//! The filter of the settings as vCenter understands it.

use super::settings::{EventFilter, Recursion};
use vsphere::api::{EventFilterSpec, MoRef};

/// A filter of the settings, restricted to this window of time.
pub fn filter_spec(filter: &EventFilter, begin_us: Option<i64>, end_us: Option<i64>) -> EventFilterSpec {
    let EventFilter { event_types, users, entity } = filter;
    EventFilterSpec {
        entity: entity.as_ref().map(|entity| {
            let recursion = match entity.recursion {
                Recursion::SelfOnly => vsphere::api::Recursion::SelfOnly,
                Recursion::Children => vsphere::api::Recursion::Children,
                Recursion::All => vsphere::api::Recursion::All,
            };
            (MoRef::new(&entity.kind, &entity.id), recursion)
        }),
        begin_us: begin_us.filter(|us| *us > 0),
        end_us,
        users: users.clone(),
        event_types: event_types.clone(),
        max_count: None,
        delayed_init: false,
    }
}
