//! The methods of the vSphere API: the effect of each call on the world, and its answer.
//!
//! ```text
//! Call (SOAP or VI/JSON) ─► call ──────────────► World ─► CallResult ─► http: SOAP or VI/JSON
//!                       └─► wait_for_updates ──►   │
//!                               ▲─── changed ──────┘
//! ```
//!
//! Calls are carried out under the lock of the world. Pages and large retrievals are rendered
//! outside of it, so that events can be served meanwhile.

use std::time::Duration;

use super::clock::format_micros;
use super::description;
use super::filter::Filter;
use super::post;
use super::property::{self, ObjectReference, write_reference};
use super::protocol::{Call, Fault};
use super::search_index;
use super::selection::{SelectedObject, SelectionSpec, write_object};
use super::updates;
use super::views;
use super::world::{Page, Retrieval, Shared, World, new_id, user_session_of};
use super::xml::Node;
use crate::limits::PAGE_EVENTS_MAX;

/// The result of a call, not yet in the form of SOAP or VI/JSON.
pub(crate) struct CallResult {
    pub answer: AnswerContent,
    /// The key of a new session.
    pub login: Option<String>,
}

/// The content of an answer.
pub(crate) enum AnswerContent {
    /// The elements inside the SOAP response element. They are small, so VI/JSON is made from them.
    Elements(Vec<u8>),
    /// Events; the protocol that sends them renders them.
    Page(Page),
}

impl CallResult {
    fn elements(write: impl FnOnce(&mut Vec<u8>)) -> CallResult {
        let mut out = Vec::new();
        write(&mut out);
        CallResult { answer: AnswerContent::Elements(out), login: None }
    }

    fn empty() -> CallResult {
        CallResult::elements(|_| {})
    }

    fn page(page: Page) -> CallResult {
        CallResult { answer: AnswerContent::Page(page), login: None }
    }

    fn returns(inner: &[u8]) -> CallResult {
        CallResult::elements(|out| {
            out.extend_from_slice(b"<returnval>");
            out.extend_from_slice(inner);
            out.extend_from_slice(b"</returnval>");
        })
    }

    fn reference(kind: &str, id: &str) -> CallResult {
        let target = ObjectReference { kind: kind.into(), id: id.into() };
        CallResult::elements(|out| write_reference(out, "returnval", &target))
    }
}

/// True for the methods that do not need a session.
fn needs_no_session(method: &str) -> bool {
    matches!(
        method,
        "RetrieveServiceContent" | "Login" | "Fetch" | "RetrieveProperties" | "RetrievePropertiesEx"
    )
}

/// Carries out every method but those of [`wait_for_updates`].
///
/// # Errors
/// The fault to answer with.
pub(crate) fn call(
    shared: &Shared,
    session: Option<&str>,
    call: &Call,
    user_agent: &str,
) -> Result<CallResult, Fault> {
    let method = call.method.as_str();
    // A session lives on by being used; a call with a dead one is as good as a call without.
    let session =
        shared.with(|world, _| session.filter(|key| world.session(key, shared.session_idle).is_some()));
    if session.is_none() && !needs_no_session(method) {
        return Err(Fault::not_authenticated(call));
    }
    let key = session.unwrap_or_default();
    let arguments = &call.arguments;
    match (method, call.this_type.as_str()) {
        // Sessions and the service itself.
        ("RetrieveServiceContent", _) => Ok(CallResult::returns(&description::service_content(shared))),
        ("CurrentTime", _) => {
            let now = shared.with(|_, now_us| format_micros(now_us));
            Ok(CallResult::returns(now.as_bytes()))
        }
        ("Login", _) => login(shared, arguments, user_agent),
        ("Logout", _) => {
            shared.change(|world, _| world.sessions.remove(key));
            Ok(CallResult::empty())
        }
        ("SessionIsActive", _) => {
            let id = arguments.text_of("sessionID").unwrap_or_default().trim();
            let active = shared.with(|world, _| world.sessions.contains_key(id));
            Ok(CallResult::returns(active.to_string().as_bytes()))
        }
        // Event collectors and the event manager.
        ("CreateCollectorForEvents", _) => {
            let filter = Filter::parse(arguments.child("filter"), &shared.model)?;
            let id = shared.with(|world, now_us| world.create_collector(key, filter, now_us))?;
            Ok(CallResult::reference("EventHistoryCollector", &id))
        }
        // Views of a query exist only since release 9.0.
        ("QueryEvents", _) if arguments.child("eventViewSpec").is_some() => {
            Err(Fault::unexpected_element("eventViewSpec", "QueryEvents"))
        }
        ("QueryEvents", _) => {
            let filter = Filter::parse(arguments.child("filter"), &shared.model)?;
            let page = shared.with(|world, now_us| world.query(shared, &filter, now_us));
            Ok(CallResult::page(page))
        }
        ("PostEvent", _) => post::post_event(shared, key, arguments).map(|()| CallResult::empty()),
        ("LogUserEvent", _) => post::log_user_event(shared, key, arguments).map(|()| CallResult::empty()),
        ("ReadNextEvents", _) => {
            let max = page_size(arguments)?;
            let page = shared.with(|world, now_us| world.read_next(shared, key, &call.this, max, now_us))?;
            Ok(CallResult::page(page))
        }
        ("ReadPreviousEvents", _) => {
            let max = page_size(arguments)?;
            let page =
                shared.with(|world, now_us| world.read_previous(shared, key, &call.this, max, now_us))?;
            Ok(CallResult::page(page))
        }
        ("RewindCollector", _) => {
            shared.with(|world, now_us| world.rewind(shared, key, &call.this, now_us))?;
            Ok(CallResult::empty())
        }
        ("ResetCollector", _) => {
            shared.with(|world, now_us| world.reset(shared, key, &call.this, now_us))?;
            Ok(CallResult::empty())
        }
        ("SetCollectorPageSize", _) => {
            let size = page_size(arguments)? as usize;
            shared.with(|world, _| {
                super::collector::collector(&mut world.sessions, key, &call.this)
                    .map(|collector| collector.set_page_size(size))
            })?;
            Ok(CallResult::empty())
        }
        ("DestroyCollector", _) => {
            let removed = shared.change(|world, _| {
                world.sessions.get_mut(key).and_then(|session| session.collectors.remove(&call.this))
            });
            removed.ok_or_else(|| Fault::not_found(&call.this_type, &call.this))?;
            Ok(CallResult::empty())
        }
        // Properties: single ones, retrievals, and filters that report changes.
        ("Fetch", _) => fetch(shared, session, call),
        ("RetrieveProperties" | "RetrievePropertiesEx", "PropertyCollector") => {
            retrieve(shared, session, call)
        }
        ("CreatePropertyCollector", "PropertyCollector") => {
            let id = new_id(key);
            shared.with(|world, _| {
                if let Some(session) = world.sessions.get_mut(key) {
                    session.property_collectors.insert(id.clone(), updates::PropertyCollector::default());
                }
            });
            Ok(CallResult::reference("PropertyCollector", &id))
        }
        ("CreateFilter", "PropertyCollector") => create_filter(shared, key, call),
        ("DestroyPropertyFilter", _) => {
            let found = shared.with(|world, _| {
                let session = world.sessions.get_mut(key)?;
                let collector = session
                    .property_collectors
                    .values_mut()
                    .find(|collector| collector.filters.iter().any(|filter| filter.id == call.this))?;
                collector.filters.retain(|filter| filter.id != call.this);
                Some(())
            });
            found.ok_or_else(|| Fault::not_found(&call.this_type, &call.this))?;
            Ok(CallResult::empty())
        }
        ("DestroyPropertyCollector", _) => {
            let removed = shared.change(|world, _| {
                world.sessions.get_mut(key).and_then(|session| session.property_collectors.remove(&call.this))
            });
            removed.ok_or_else(|| Fault::not_found(&call.this_type, &call.this))?;
            Ok(CallResult::empty())
        }
        ("CancelWaitForUpdates", _) => {
            shared.change(|world, _| {
                let session = world.sessions.get_mut(key);
                if let Some(collector) =
                    session.and_then(|session| session.property_collectors.get_mut(&call.this))
                {
                    collector.cancelled += 1;
                }
            });
            Ok(CallResult::empty())
        }
        ("ContinueRetrievePropertiesEx", "PropertyCollector") => {
            let token = arguments.text_of("token").unwrap_or_default().trim().to_owned();
            let rest = shared.with(|world, _| world.sessions.get_mut(key)?.take_retrieval(&token));
            let rest = rest.ok_or_else(|| Fault::invalid_argument("token"))?;
            write_page(shared, session, rest)
        }
        ("CancelRetrievePropertiesEx", "PropertyCollector") => {
            let token = arguments.text_of("token").unwrap_or_default().trim().to_owned();
            let rest = shared.with(|world, _| world.sessions.get_mut(key)?.take_retrieval(&token));
            rest.ok_or_else(|| Fault::invalid_argument("token"))?;
            Ok(CallResult::empty())
        }
        // Views and the search index.
        ("CreateContainerView", "ViewManager") => {
            Ok(CallResult::reference("ContainerView", &views::create_container(shared, key, arguments)?))
        }
        ("CreateListView", "ViewManager") => {
            Ok(CallResult::reference("ListView", &views::create_list(shared, key, arguments)?))
        }
        ("ModifyListView" | "ResetListView", "ListView") => {
            views::change_list(shared, key, call).map(|()| CallResult::empty())
        }
        ("DestroyView", _) => views::destroy(shared, key, call).map(|()| CallResult::empty()),
        (_, "SearchIndex") => {
            let found = search_index::find(&shared.model, call);
            let objects = found.ok_or_else(|| Fault::method_not_found(call))??;
            Ok(CallResult::elements(|out| {
                for object in objects {
                    write_reference(out, "returnval", &ObjectReference::object(object));
                }
            }))
        }
        _ => Err(Fault::method_not_found(call)),
    }
}

/// The page size of a call.
fn page_size(arguments: &Node) -> Result<u64, Fault> {
    match arguments.text_of("maxCount").map(|text| text.trim().parse::<i64>()) {
        Some(Ok(count)) if count > 0 && count <= PAGE_EVENTS_MAX as i64 => Ok(count as u64),
        _ => Err(Fault::invalid_argument("maxCount")),
    }
}

fn login(shared: &Shared, arguments: &Node, user_agent: &str) -> Result<CallResult, Fault> {
    let user = arguments.text_of("userName").unwrap_or_default();
    let password = arguments.text_of("password").unwrap_or_default();
    let (key, session) = shared.with(|world, now_us| {
        let key = world.login(user, password, user_agent, now_us)?;
        let session = user_session_of(world, &key, now_us);
        Ok((key, session))
    })?;
    let mut done = CallResult::returns(&session);
    done.login = Some(key);
    Ok(done)
}

/// `Fetch`: one property of one object.
fn fetch(shared: &Shared, session: Option<&str>, call: &Call) -> Result<CallResult, Fault> {
    let target = ObjectReference { kind: call.this_type.clone(), id: call.this.clone() };
    let path = call.arguments.text_of("prop").unwrap_or_default().trim().to_owned();
    let value =
        shared.with(|world, now_us| property::read(shared, world, session, &target, &path, now_us))?;
    Ok(CallResult::elements(|out| {
        if let Some(value) = value {
            value.write(shared, out, "returnval");
        }
    }))
}

/// `RetrieveProperties` and `RetrievePropertiesEx`.
fn retrieve(shared: &Shared, session: Option<&str>, call: &Call) -> Result<CallResult, Fault> {
    let objects = shared.with(|world, now_us| -> Result<Vec<SelectedObject>, Fault> {
        let mut wanted = Vec::new();
        for spec in call.arguments.all("specSet") {
            wanted.extend(SelectionSpec(spec.clone()).select(shared, world, session, now_us)?);
        }
        Ok(wanted)
    })?;
    // Only `RetrievePropertiesEx` has pages.
    if call.method == "RetrievePropertiesEx" {
        let max = call.arguments.child("options").and_then(|options| options.text_of("maxObjects"));
        let page = match max.map(|text| text.trim().parse::<usize>()) {
            None => objects.len(),
            Some(Ok(max)) if max > 0 => max,
            Some(_) => return Err(Fault::invalid_argument("options.maxObjects")),
        };
        return write_page(shared, session, Retrieval { objects, page });
    }
    let mut out = Vec::new();
    for wanted in &objects {
        write_content(shared, session, wanted, "returnval", &mut out)?;
    }
    Ok(CallResult::elements(|elements| elements.extend_from_slice(&out)))
}

/// Writes the properties of one object. The lock is taken once for each object, because an
/// inventory may have a million and events must be served meanwhile.
fn write_content(
    shared: &Shared,
    session: Option<&str>,
    wanted: &SelectedObject,
    element: &str,
    out: &mut Vec<u8>,
) -> Result<(), Fault> {
    out.extend_from_slice(format!("<{element}>").as_bytes());
    shared.with(|world, now_us| write_object(shared, world, session, wanted, now_us, out))?;
    out.extend_from_slice(format!("</{element}>").as_bytes());
    Ok(())
}

/// The next page of a `RetrievePropertiesEx`, with a token if there are more.
fn write_page(shared: &Shared, session: Option<&str>, mut retrieval: Retrieval) -> Result<CallResult, Fault> {
    let rest = retrieval.objects.split_off(retrieval.page.min(retrieval.objects.len()));
    if retrieval.objects.is_empty() {
        return Ok(CallResult::empty());
    }
    let mut out = Vec::new();
    if let Some(key) = session.filter(|_| !rest.is_empty()) {
        let rest = Retrieval { objects: rest, page: retrieval.page };
        let token =
            shared.with(|world, _| world.sessions.get_mut(key).map(|session| session.keep_retrieval(rest)));
        out.extend_from_slice(format!("<token>{}</token>", token.unwrap_or_default()).as_bytes());
    }
    for wanted in &retrieval.objects {
        write_content(shared, session, wanted, "objects", &mut out)?;
    }
    Ok(CallResult::returns(&out))
}

fn create_filter(shared: &Shared, key: &str, call: &Call) -> Result<CallResult, Fault> {
    let spec = SelectionSpec(call.arguments.child("spec").cloned().unwrap_or_default());
    let id = new_id(key);
    shared.change(|world, now_us| -> Result<(), Fault> {
        spec.select(shared, world, Some(key), now_us)?;
        let collectors = world.sessions.get_mut(key).map(|session| &mut session.property_collectors);
        // Only the session's default collector is created by its first use.
        let collector = collectors.and_then(|collectors| match call.this.as_str() {
            "propertyCollector" => Some(collectors.entry(call.this.clone()).or_default()),
            id => collectors.get_mut(id),
        });
        let collector = collector.ok_or_else(|| Fault::not_found(&call.this_type, &call.this))?;
        collector.filters.push(updates::PropertyFilter::new(id.clone(), spec));
        Ok(())
    })?;
    Ok(CallResult::reference("PropertyFilter", &id))
}

/// `WaitForUpdatesEx`, `WaitForUpdates` and `CheckForUpdates`: answers when something changed, or
/// with nothing when the time is up.
///
/// # Errors
/// The fault to answer with; `RequestCanceled` after `CancelWaitForUpdates`.
pub(crate) async fn wait_for_updates(
    shared: &Shared,
    session: Option<&str>,
    call: &Call,
) -> Result<CallResult, Fault> {
    let method = call.method.as_str();
    // Without `maxWaitSeconds` the call waits for ever; `CheckForUpdates` does not wait.
    let version = call.arguments.text_of("version").unwrap_or_default().trim();
    let seconds: Option<u64> = match method {
        "CheckForUpdates" => Some(0),
        _ => call
            .arguments
            .child("options")
            .and_then(|options| options.text_of("maxWaitSeconds"))
            .and_then(|text| text.trim().parse().ok()),
    };
    let deadline = seconds.map(|seconds| tokio::time::Instant::now() + Duration::from_secs(seconds));
    let mut cancelled_before = None;
    loop {
        let changed = shared.changed.notified();
        tokio::pin!(changed);
        // Registered before reading the state, so that a later change wakes this task.
        changed.as_mut().enable();
        let (update, next_us, cancelled) = shared.with(|world, now_us| {
            let Some(key) = session.filter(|key| world.session(key, shared.session_idle).is_some()) else {
                return Err(Fault::not_authenticated(call));
            };
            // With an endless pace, a waiter creates the event that it waits for.
            let produced = world.history.produced(now_us);
            world.history.feed(produced, 1, now_us);
            let update = updates::updates(shared, world, key, &call.this, version, now_us)?;
            let cancelled = cancelled(world, key, &call.this);
            Ok((update, world.history.next_event_us(now_us).map(|next| next - now_us), cancelled))
        })?;
        if let Some(update) = update {
            return Ok(CallResult::returns(&update));
        }
        // The count of cancellations at the start distinguishes an earlier cancellation from one of
        // this wait.
        if *cancelled_before.get_or_insert(cancelled) != cancelled {
            return Err(Fault::new("RequestCanceled", "The task was canceled by a user."));
        }
        let now = tokio::time::Instant::now();
        if deadline.is_some_and(|deadline| deadline <= now) {
            return Ok(CallResult::empty());
        }
        // An hour stands for "until something happens".
        let next = now + Duration::from_micros(next_us.unwrap_or(3_600_000_000).max(1) as u64);
        let until = deadline.map_or(next, |deadline| deadline.min(next));
        tokio::select! {
            () = &mut changed => {}
            () = tokio::time::sleep_until(until) => {}
        }
    }
}

/// Number of times that a property collector's waits were cancelled.
fn cancelled(world: &World, key: &str, id: &str) -> u64 {
    world
        .sessions
        .get(key)
        .and_then(|session| session.property_collectors.get(id))
        .map_or(0, |collector| collector.cancelled)
}
