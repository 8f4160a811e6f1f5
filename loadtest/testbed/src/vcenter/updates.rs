//! PropertyCollectors, their filters, and what `WaitForUpdatesEx` has to say.
//!
//! INVARIANT: a version names what its client has seen; asking again from the version before gives
//! the same update again, so that a lost answer loses no change.

use super::property::{Target, read, write_reference};
use super::selection::Spec;
use super::soap::Fault;
use super::world::{Shared, World};
use super::xml::escaped;

/// A PropertyCollector: filters, and the version its client has seen.
#[derive(Default)]
pub(crate) struct PropertyCollector {
    pub filters: Vec<PropertyFilter>,
    version: u64,
    /// The last update, repeated when the client asks again from before it (its answer was lost).
    last: Option<Vec<u8>>,
    /// Raised by `CancelWaitForUpdates`.
    pub cancelled: u64,
}

pub(crate) struct PropertyFilter {
    pub id: String,
    pub spec: Spec,
    /// The indexes of the events that were reported, by object.
    reported: Option<Vec<Vec<u64>>>,
}

impl PropertyFilter {
    pub fn new(id: String, spec: Spec) -> PropertyFilter {
        PropertyFilter { id, spec, reported: None }
    }
}

/// The answer that `WaitForUpdatesEx` gives now: an update set's XML, or nothing yet.
///
/// # Errors
/// A version that was never given out, an object that is gone.
pub(crate) fn updates(
    shared: &Shared,
    world: &mut World,
    session: &str,
    id: &str,
    version: &str,
    now_us: i64,
) -> Result<Option<Vec<u8>>, Fault> {
    let mut collector = take_collector(world, session, id)?;
    let result = updates_of(shared, world, session, &mut collector, version, now_us);
    if let Some(owner) = world.sessions.get_mut(session) {
        owner.property_collectors.insert(id.to_owned(), collector);
    }
    result
}

fn take_collector(world: &mut World, session: &str, id: &str) -> Result<PropertyCollector, Fault> {
    world
        .sessions
        .get_mut(session)
        .and_then(|session| match session.property_collectors.remove(id) {
            Some(collector) => Some(collector),
            // The session's default collector exists from the start.
            None if id == "propertyCollector" => Some(PropertyCollector::default()),
            None => None,
        })
        .ok_or_else(|| Fault::not_found("PropertyCollector", id))
}

fn updates_of(
    shared: &Shared,
    world: &mut World,
    session: &str,
    collector: &mut PropertyCollector,
    version: &str,
    now_us: i64,
) -> Result<Option<Vec<u8>>, Fault> {
    if version.is_empty() {
        for filter in &mut collector.filters {
            filter.reported = None;
        }
    } else {
        let seen: Option<u64> = version.parse().ok();
        if seen != Some(collector.version) {
            return match (&collector.last, seen) {
                (Some(last), Some(seen)) if seen + 1 == collector.version => Ok(Some(last.clone())),
                _ => Err(Fault::new("InvalidCollectorVersion", "The version is not known.")),
            };
        }
    }
    let mut sets = Vec::new();
    for filter in &mut collector.filters {
        let wanted = filter.spec.select(shared, world, Some(session), now_us)?;
        let mut state = Vec::new();
        for (target, paths) in &wanted {
            state.push(live_state(shared, world, session, target, paths, now_us)?);
        }
        let kind = if filter.reported.is_none() { "enter" } else { "modify" };
        let mut objects = Vec::new();
        for (number, (target, paths)) in wanted.iter().enumerate() {
            let before = filter.reported.as_ref().and_then(|reported| reported.get(number));
            if before == Some(&state[number]) {
                continue;
            }
            objects.extend_from_slice(format!("<objectSet><kind>{kind}</kind>").as_bytes());
            write_reference(&mut objects, "obj", target);
            for path in paths.iter().filter(|path| kind == "enter" || is_live(target, path)) {
                if let Some(value) = read(shared, world, Some(session), target, path, now_us)? {
                    let head = format!("<changeSet><name>{}</name><op>assign</op>", escaped(path));
                    objects.extend_from_slice(head.as_bytes());
                    value.write(shared, &mut objects, "val");
                    objects.extend_from_slice(b"</changeSet>");
                }
            }
            objects.extend_from_slice(b"</objectSet>");
        }
        filter.reported = Some(state);
        if !objects.is_empty() {
            sets.extend_from_slice(
                format!("<filterSet><filter type=\"PropertyFilter\">{}</filter>", filter.id).as_bytes(),
            );
            sets.extend_from_slice(&objects);
            sets.extend_from_slice(b"</filterSet>");
        }
    }
    if sets.is_empty() {
        return Ok(None);
    }
    collector.version += 1;
    let mut update = format!("<version>{}</version>", collector.version).into_bytes();
    update.extend_from_slice(&sets);
    collector.last = Some(update.clone());
    Ok(Some(update))
}

fn is_live(target: &Target, path: &str) -> bool {
    matches!(
        (target.kind.as_str(), path),
        ("EventHistoryCollector", "latestPage") | ("EventManager", "latestEvent")
    )
}

/// The values, as event indexes, of those properties that change by themselves.
fn live_state(
    shared: &Shared,
    world: &mut World,
    session: &str,
    target: &Target,
    paths: &[String],
    now_us: i64,
) -> Result<Vec<u64>, Fault> {
    match paths.iter().find(|path| is_live(target, path)).map(String::as_str) {
        None => Ok(Vec::new()),
        Some("latestPage") => world.latest_page(shared, session, &target.id, now_us),
        Some(_) => {
            let produced = world.history.produced(now_us);
            Ok(world.history.read_backward(produced, 0, 1, now_us, |_| true).0)
        }
    }
}
