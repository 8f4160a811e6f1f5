//! PropertyCollectors, their filters, and the answers to `WaitForUpdatesEx`.
//!
//! ```text
//! client                     server
//! version ""      ─────────► all objects ("enter"), version 1
//! version 1       ─────────► changed objects ("modify"), version 2
//! version 1 again ─────────► the same update again, version 2 (its answer was lost)
//! ```
//!
//! INVARIANT: a version names the updates that its client has received. A request with the version
//! before gives the same update again, so that a lost answer loses no change.

use super::property::{ObjectReference, read, write_reference};
use super::protocol::Fault;
use super::selection::SelectionSpec;
use super::world::{Shared, World};
use super::xml::escaped;

/// A PropertyCollector: its filters, and the version that its client has received.
#[derive(Default)]
pub(crate) struct PropertyCollector {
    pub filters: Vec<PropertyFilter>,
    version: u64,
    /// The last update. It is repeated if the client asks again from the version before, because
    /// the answer was lost.
    last: Option<Vec<u8>>,
    /// Number of calls to `CancelWaitForUpdates`.
    pub cancelled: u64,
}

pub(crate) struct PropertyFilter {
    pub id: String,
    pub spec: SelectionSpec,
    /// The indexes of the reported events, by object.
    reported: Option<Vec<Vec<u64>>>,
}

impl PropertyFilter {
    pub fn new(id: String, spec: SelectionSpec) -> PropertyFilter {
        PropertyFilter { id, spec, reported: None }
    }
}

/// The answer of `WaitForUpdatesEx` at this moment: the XML of an update set, or nothing yet.
///
/// # Errors
/// The version was never given out, or an object is gone.
pub(crate) fn updates(
    shared: &Shared,
    world: &mut World,
    session: &str,
    id: &str,
    version: &str,
    now_us: i64,
) -> Result<Option<Vec<u8>>, Fault> {
    // The collector leaves the world for a moment, because the selection needs the world as well.
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

/// Works out the update of one collector, and advances its version if there is one.
fn updates_of(
    shared: &Shared,
    world: &mut World,
    session: &str,
    collector: &mut PropertyCollector,
    version: &str,
    now_us: i64,
) -> Result<Option<Vec<u8>>, Fault> {
    // An empty version starts over.
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
    // Each filter reports the objects whose live properties differ from the last report.
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
            // A first report has all properties, a later one only those that change by themselves.
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
    // Nothing changed: the version stays, and the caller waits.
    if sets.is_empty() {
        return Ok(None);
    }
    collector.version += 1;
    let mut update = format!("<version>{}</version>", collector.version).into_bytes();
    update.extend_from_slice(&sets);
    collector.last = Some(update.clone());
    Ok(Some(update))
}

/// True for a property that changes by itself.
fn is_live(target: &ObjectReference, path: &str) -> bool {
    matches!(
        (target.kind.as_str(), path),
        ("EventHistoryCollector", "latestPage") | ("EventManager", "latestEvent")
    )
}

/// The values of the properties that change by themselves, as event indexes.
fn live_state(
    shared: &Shared,
    world: &mut World,
    session: &str,
    target: &ObjectReference,
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
