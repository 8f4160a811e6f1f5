//! The operator's page: the model as HTML, rendered here.
//!
//! ```text
//! GET /                    overview                     live
//! GET /source?name=N       one source                   live
//! GET /destination?name=N  one destination              live
//! GET /events              event types, try a pattern
//! GET /tap                 live events                  live
//! GET /replay              positions; a range for one destination again   live
//! POST /replay/…           count, start or stop, see `access`
//! GET /dead-letters        groups, letters, one event
//! POST /dead-letters/…     replay or drop, see `access`
//! GET /page.css /page.js /favicon.svg
//! ```
//!
//! A live screen answers a request that accepts `text/event-stream` with events instead: every
//! [`PAGE_UPDATE_INTERVAL`] the same HTML again, if it has changed. `page.js` puts the differences
//! into the open screen. Without it, every screen works and is as old as its request.
//!
//! INVARIANT: a page loads nothing from elsewhere and has no inline script or style; its
//! `Content-Security-Policy` says so.

mod chart;
mod flow;
mod letters;
mod pattern;
mod replay;
mod screens;
mod shown;
mod tapped;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Extension, Router as Routes};
use minijinja::{Environment, context};
use tokio::sync::{Semaphore, watch};

use self::letters::{Chosen, LetterChange};
use self::replay::ReplayAction;
use self::screens::{Screen, ScreenContent};
use self::tapped::{LiveEvents, TapForm};
use super::access::{Access, Rights};
use super::control::Orders;
use super::model::Model;
use crate::limits::{PAGE_FORM_BYTES_MAX, PAGE_QUERY_BYTES_MAX, PAGE_UPDATE_INTERVAL, PAGE_UPDATES_MAX};

/// The templates and files, built into the program.
const TEMPLATES: [(&str, &str); 8] = [
    ("layout.html", include_str!("assets/layout.html")),
    ("overview.html", include_str!("assets/overview.html")),
    ("source.html", include_str!("assets/source.html")),
    ("destination.html", include_str!("assets/destination.html")),
    ("events.html", include_str!("assets/events.html")),
    ("tap.html", include_str!("assets/tap.html")),
    ("replay.html", include_str!("assets/replay.html")),
    ("letters.html", include_str!("assets/letters.html")),
];
const STYLE: &str = include_str!("assets/page.css");
const SCRIPT: &str = include_str!("assets/page.js");
const ICON: &str = include_str!("assets/favicon.svg");

/// `Referrer-Policy` must let the browser send `Origin` with a form.
const HEADERS: [(HeaderName, &str); 5] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "same-origin"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::CACHE_CONTROL, "no-store"),
];

/// The state of the page.
pub(super) struct OperatorPage {
    model: Model,
    /// `None` once the router stops, so that no dead letter holds up its end.
    orders: watch::Receiver<Option<Orders>>,
    access: Arc<Access>,
    templates: Environment<'static>,
    /// The reason why the last action on a replay was refused.
    replay_refusal: Mutex<Option<String>>,
    /// Bounds the screens that are updated.
    updates: Arc<Semaphore>,
}

/// The routes of the page. The caller guards them.
pub(super) fn routes(model: Model, orders: watch::Receiver<Option<Orders>>, access: Arc<Access>) -> Routes {
    let updates = Arc::new(Semaphore::new(PAGE_UPDATES_MAX));
    let (templates, replay_refusal) = (templates(), Mutex::default());
    let page = Arc::new(OperatorPage { model, orders, access, templates, replay_refusal, updates });
    Routes::new()
        .route("/", get(overview))
        .route("/source", get(source))
        .route("/destination", get(destination))
        .route("/events", get(events))
        .route("/tap", get(tap))
        .route("/replay", get(replay))
        .route("/replay/{action}", post(act_on_replay))
        .route("/dead-letters", get(dead_letters))
        .route("/dead-letters/{change}", post(change))
        .route("/page.css", get(|| async { file("text/css; charset=utf-8", STYLE) }))
        .route("/page.js", get(|| async { file("text/javascript; charset=utf-8", SCRIPT) }))
        .route("/favicon.svg", get(|| async { file("image/svg+xml", ICON) }))
        .with_state(page)
}

fn templates() -> Environment<'static> {
    let mut templates = Environment::new();
    templates.set_undefined_behavior(minijinja::UndefinedBehavior::Strict);
    templates.set_debug(true);
    templates.add_filter("rate", shown::rate);
    templates.add_filter("count", shown::count);
    templates.add_filter("bytes", shown::bytes);
    templates.add_filter("seconds", shown::seconds);
    templates.add_filter("age", super::model::age);
    for (name, text) in TEMPLATES {
        templates.add_template(name, text).expect("a test renders each of them");
    }
    templates
}

type Shared = State<Arc<OperatorPage>>;

async fn overview(State(page): Shared, Extension(rights): Extension<Rights>, headers: HeaderMap) -> Response {
    respond(page, rights, &headers, Screen::Overview).await
}

async fn source(
    State(page): Shared,
    Extension(rights): Extension<Rights>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let name = fields(query.as_deref().unwrap_or_default()).remove("name").unwrap_or_default();
    respond(page, rights, &headers, Screen::Source(name)).await
}

async fn destination(
    State(page): Shared,
    Extension(rights): Extension<Rights>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let name = fields(query.as_deref().unwrap_or_default()).remove("name").unwrap_or_default();
    respond(page, rights, &headers, Screen::Destination(name)).await
}

async fn events(
    State(page): Shared,
    Extension(rights): Extension<Rights>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let mut fields = fields(query.as_deref().unwrap_or_default());
    let mut field = |name: &str| fields.remove(name).unwrap_or_default();
    let screen = Screen::Events { source: field("source"), pattern: field("pattern") };
    respond(page, rights, &headers, screen).await
}

async fn tap(
    State(page): Shared,
    Extension(rights): Extension<Rights>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let form = TapForm::of(&mut fields(query.as_deref().unwrap_or_default()));
    respond(page, rights, &headers, Screen::Tap(form)).await
}

async fn replay(State(page): Shared, Extension(rights): Extension<Rights>, headers: HeaderMap) -> Response {
    respond(page, rights, &headers, Screen::Replay).await
}

async fn dead_letters(
    State(page): Shared,
    Extension(rights): Extension<Rights>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let chosen = Chosen::of(&fields(query.as_deref().unwrap_or_default()));
    respond(page, rights, &headers, Screen::Letters { chosen, message: None }).await
}

/// Replays or drops the chosen dead letters.
async fn change(
    State(page): Shared,
    Extension(rights): Extension<Rights>,
    Path(action): Path<String>,
    request: Request,
) -> Response {
    let change = match action.as_str() {
        "replay" => LetterChange::Replay,
        "drop" => LetterChange::Drop,
        _ => return refused(StatusCode::NOT_FOUND, "there is no such page\n"),
    };
    let (orders, fields) = match own_form(&page, rights, request).await {
        Ok(form) => form,
        Err(refusal) => return refusal,
    };
    let chosen = Chosen::of(&fields);
    let typed = fields.get("count").and_then(|count| count.trim().parse::<usize>().ok());
    let message = match letters::read(&orders, &chosen).await {
        Err(error) => (false, error.to_string()),
        Ok(_) if chosen.is_all() => (false, "Choose a group of dead letters first.".to_owned()),
        Ok(found) if typed != Some(letters::changed(&found)) => {
            let expected = letters::changed(&found);
            (false, format!("Nothing has changed: the number does not match. There are {expected} now."))
        }
        Ok(found) => {
            let count = letters::changed(&found);
            let which = chosen.filter().to_string();
            let peer = rights.peer.map(|peer| peer.to_string()).unwrap_or_default();
            tracing::warn!(%action, which, count, peer, "an operator changes dead letters on the page");
            letters::change(&orders, change, &chosen).await
        }
    };
    let screen = Screen::Letters { chosen, message: Some(message) };
    respond(page, rights, &HeaderMap::new(), screen).await
}

/// Counts, starts or stops a replay. Redirects to its screen, which is updated.
async fn act_on_replay(
    State(page): Shared,
    Extension(rights): Extension<Rights>,
    Path(action): Path<String>,
    request: Request,
) -> Response {
    let Some(action) = ReplayAction::of(&action) else {
        return refused(StatusCode::NOT_FOUND, "there is no such page\n");
    };
    let (orders, mut fields) = match own_form(&page, rights, request).await {
        Ok(form) => form,
        Err(refusal) => return refusal,
    };
    let told = replay::act(&orders.replays, action, &mut fields, rights.peer).err();
    *page.replay_refusal.lock().unwrap_or_else(PoisonError::into_inner) = told;
    secured(Redirect::to("/replay").into_response())
}

fn refused(status: StatusCode, text: &'static str) -> Response {
    secured((status, text).into_response())
}

/// The fields of a form of this page, sent by somebody who may change something.
///
/// # Errors
/// Returns the answer to any other form.
async fn own_form(
    page: &OperatorPage,
    rights: Rights,
    request: Request,
) -> Result<(Orders, BTreeMap<String, String>), Response> {
    if !rights.write {
        return Err(refused(StatusCode::FORBIDDEN, "these credentials may not change anything\n"));
    }
    let (head, body) = request.into_parts();
    let Ok(body) = to_bytes(body, PAGE_FORM_BYTES_MAX).await else {
        return Err(refused(StatusCode::PAYLOAD_TOO_LARGE, "the form is too large\n"));
    };
    let fields = fields(&String::from_utf8_lossy(&body));
    let token = fields.get("token").map_or("", String::as_str);
    let authority = head.uri.authority().map(|authority| authority.as_str());
    if !page.access.is_own_form(&head.headers, authority, token) {
        let text = "this form does not come from this page; load it again\n";
        return Err(refused(StatusCode::FORBIDDEN, text));
    }
    match page.orders() {
        Some(orders) => Ok((orders, fields)),
        None => Err(refused(StatusCode::SERVICE_UNAVAILABLE, "the router stops\n")),
    }
}

/// The fields of a query or form.
fn fields(text: &str) -> BTreeMap<String, String> {
    let end = text.len().min(PAGE_FORM_BYTES_MAX.max(PAGE_QUERY_BYTES_MAX));
    url::form_urlencoded::parse(&text.as_bytes()[..end]).into_owned().collect()
}

/// Answers with a screen, or with its updates.
async fn respond(page: Arc<OperatorPage>, rights: Rights, headers: &HeaderMap, screen: Screen) -> Response {
    let wants_updates = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("text/event-stream"));
    if wants_updates && screen.is_live() {
        return updates(page, rights, screen);
    }
    let Some(content) = page.content(&screen, rights, None).await else {
        return secured((StatusCode::NOT_FOUND, "there is no such page\n").into_response());
    };
    match page.whole(&screen, &content) {
        Ok(html) => {
            let html_type = [(header::CONTENT_TYPE, "text/html; charset=utf-8")];
            secured((html_type, html).into_response())
        }
        Err(error) => failed(&error),
    }
}

impl OperatorPage {
    /// The orders, until the router stops.
    fn orders(&self) -> Option<Orders> {
        self.orders.borrow().clone()
    }

    /// The whole page around the content of a screen.
    fn whole(&self, screen: &Screen, content: &ScreenContent) -> Result<String, minijinja::Error> {
        let links = [
            ("/", "Overview"),
            ("/events", "Event types"),
            ("/tap", "Live events"),
            ("/dead-letters", "Dead letters"),
            ("/replay", "Replay"),
        ];
        let links: Vec<_> = links.into_iter().map(|(href, name)| context! { href, name }).collect();
        let overview = self.model.recent_overview();
        self.templates.get_template("layout.html")?.render(context! {
            title => content.title.as_str(),
            content => content.html.as_str(),
            live => content.is_live,
            links,
            here => screen.path(),
            time => screens::clock(),
            footer => format!(
                "event-router {}, up {}. Counts are those since it started; rates those of the last 5 seconds.",
                overview.version,
                super::model::age(overview.uptime_s as f64)
            ),
        })
    }
}

/// Answers with the updates of a live screen.
fn updates(page: Arc<OperatorPage>, rights: Rights, screen: Screen) -> Response {
    let Ok(place) = Arc::clone(&page.updates).try_acquire_owned() else {
        let text = "too many screens are open; this one is not updated\n";
        return secured((StatusCode::SERVICE_UNAVAILABLE, text).into_response());
    };
    let live = match &screen {
        Screen::Tap(form) if rights.events => match LiveEvents::listen(form, &page.model) {
            Ok(live) => Some(live),
            Err(refusal) => return secured((StatusCode::SERVICE_UNAVAILABLE, refusal).into_response()),
        },
        _ => None,
    };
    let ticks = tokio::time::interval(PAGE_UPDATE_INTERVAL);
    let state = (ticks, String::new(), live, place);
    let events = futures_util::stream::unfold(state, move |(mut ticks, mut last, mut live, place)| {
        let (page, screen) = (Arc::clone(&page), screen.clone());
        async move {
            ticks.tick().await;
            live.iter_mut().for_each(LiveEvents::take);
            // A screen whose source or destination is gone ends.
            let content = page.content(&screen, rights, live.as_ref()).await?;
            let time = screens::clock();
            let mut event = String::new();
            if content.html != last {
                event.push_str("event: screen\n");
                content.html.lines().for_each(|line| {
                    event.push_str("data: ");
                    event.push_str(line);
                    event.push('\n');
                });
                event.push('\n');
                last = content.html;
            }
            event.push_str(&format!("event: time\ndata: {time}\n\n"));
            Some((Ok::<_, Infallible>(Bytes::from(event)), (ticks, last, live, place)))
        }
    });
    let stream_type = [(header::CONTENT_TYPE, "text/event-stream")];
    secured((stream_type, Body::from_stream(events)).into_response())
}

/// A file of the page. It changes with the program only.
fn file(content_type: &'static str, text: &'static str) -> Response {
    let mut response = secured(([(header::CONTENT_TYPE, content_type)], text).into_response());
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// Adds the headers that keep the page apart from other sites.
fn secured(mut response: Response) -> Response {
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// The answer if a template cannot be rendered.
fn failed(error: &minijinja::Error) -> Response {
    tracing::error!(%error, "a screen of the page cannot be rendered");
    secured((StatusCode::INTERNAL_SERVER_ERROR, "this screen cannot be shown; see the log\n").into_response())
}
