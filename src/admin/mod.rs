//! The admin listener: health, readiness, metrics and the old router's `/stats` over HTTP.
//!
//! It listens on loopback unless the configuration says otherwise. Its pages change nothing unless
//! `admin.write` says so; commands use the [control socket](control).
//!
//! ```text
//! /healthz  open      200 while no part of the router has failed or is stalled
//! /readyz   open      200 once every source made its first attempt; JSON with each source's state,
//!                     and the processors that could not read their functions or rules yet;
//!                     with `?strict=1` 503 while any source is down
//! /metrics  guarded   Prometheus text
//! /stats    guarded   the old router's JSON page
//! /, …      guarded   the operator's page, see [`page`]
//! ```

mod access;
pub mod control;
pub mod model;
mod page;
pub mod replays;
mod stats;
mod tap;
mod view;

use std::ops::ControlFlow;
use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router as Routes, middleware};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

use self::access::Access;
use self::control::Orders;
use self::model::{Model, Overview, SourceStatus};
use self::stats::Stats;
pub use self::view::View;
use crate::limits::{ADMIN_CONNECTIONS_MAX, REASON_BYTES_MAX};
use crate::net::listener::{AuthError, ListenerTls, ListenerTlsError, Serving, listener_tls, serve};
use crate::outside;
use crate::settings::Admin;
use crate::source::Counter;
use crate::supervise::{Part, PartKind, ProcessHealth};
use crate::telemetry::metrics as names;

/// The admin listener cannot start.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    #[error("admin: cannot listen on {address}: {cause}; choose another `admin.bindAddress`, or `none`")]
    Listen { address: String, cause: std::io::Error },
    #[error("admin: {0}")]
    Auth(#[from] AuthError),
    #[error(transparent)]
    Tls(#[from] ListenerTlsError),
}

/// Its clients are a scraper, the checks of a load balancer, and a few people.
const SERVING: Serving = Serving { name: "admin", connections_max: ADMIN_CONNECTIONS_MAX, streams_max: 8 };

/// The data that the pages are made of.
struct AdminState {
    model: Model,
    prometheus: PrometheusHandle,
}

/// A bound listener. It is bound before the sources start, so that a port in use stops the start.
pub struct Listener {
    listener: TcpListener,
    tls: Option<Arc<ListenerTls>>,
    access: Access,
}

impl Listener {
    /// Binds the configured address; `None` if the listener is turned off.
    pub async fn bind(admin: &Admin) -> Result<Option<Self>, AdminError> {
        let Some(address) = &admin.bind_address else { return Ok(None) };
        let listener = TcpListener::bind(address)
            .await
            .map_err(|cause| AdminError::Listen { address: address.clone(), cause })?;
        let (tls, access) = Self::secured(admin)?;
        Ok(Some(Listener { listener, tls, access }))
    }

    /// Checks everything about the listener except its port, which a running router has.
    pub fn check(admin: &Admin) -> Result<(), AdminError> {
        Self::secured(admin).map(drop)
    }

    fn secured(admin: &Admin) -> Result<(Option<Arc<ListenerTls>>, Access), AdminError> {
        let tls = admin.tls.as_ref().map(|tls| listener_tls("admin.tls", tls)).transpose()?.map(Arc::new);
        Ok((tls, Access::new(admin)?))
    }

    /// Serves until the process ends.
    ///
    /// `orders` turns to `None` when the router stops, since whoever holds them holds up its end.
    pub async fn serve(
        self,
        model: Model,
        orders: watch::Receiver<Option<Orders>>,
        prometheus: PrometheusHandle,
    ) {
        let supervisor = model.supervisor().clone();
        let access = Arc::new(self.access);
        let page = page::routes(model.clone(), orders, Arc::clone(&access));
        let shared = Arc::new(AdminState { model, prometheus });
        let open = Routes::new().route("/healthz", get(healthz)).route("/readyz", get(readyz));
        let guarded = Routes::new()
            .route("/metrics", get(metrics))
            .route("/stats", get(old_stats))
            .with_state(Arc::clone(&shared))
            .merge(page)
            .route_layer(middleware::from_fn_with_state(access, access::check));
        let routes = open.with_state(shared).merge(guarded);
        let (listener, tls) = (Arc::new(self.listener), self.tls);
        let life = || {
            let (listener, tls, routes) = (Arc::clone(&listener), tls.clone(), routes.clone());
            async move {
                // It serves until the process ends, so nothing tells it to stop.
                let (_stop, stopped) = watch::channel(false);
                serve(listener, tls, routes, SERVING, stopped).await;
                ControlFlow::Continue(())
            }
        };
        supervisor.restarted(Part::new(PartKind::Admin, "admin"), life, |_| ()).await;
    }
}

/// Healthy means that no part of the router has failed or is stalled. A vCenter or target that is
/// down does not count: a restart would not bring it back.
async fn healthz(State(shared): State<Arc<AdminState>>) -> Response {
    let trouble = match shared.model.supervisor().health() {
        ProcessHealth::Healthy => return (StatusCode::OK, "ok\n").into_response(),
        ProcessHealth::Stalled(parts) => format!("no progress: {}\n", parts.join(", ")),
        ProcessHealth::Failed(reason) => format!("{}\n", outside::text(&reason, REASON_BYTES_MAX)),
    };
    (StatusCode::SERVICE_UNAVAILABLE, trouble).into_response()
}

/// Ready means that every source made its first attempt. A failed attempt counts, so that one dead
/// vCenter of many does not take the appliance out of service. With `?strict=1`, every source must
/// also be up.
async fn readyz(State(shared): State<Arc<AdminState>>, RawQuery(query): RawQuery) -> Response {
    let (is_ready, body) = readiness(&shared.model.recent_overview(), is_strict(query.as_deref()));
    let code = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

/// Returns true if the query asks for the strict form.
fn is_strict(query: Option<&str>) -> bool {
    query.unwrap_or_default().split('&').any(|pair| matches!(pair, "strict" | "strict=1" | "strict=true"))
}

/// The answer of `/readyz`.
fn readiness(overview: &Overview, strict: bool) -> (bool, Value) {
    let is_ready = overview.ready && (!strict || overview.sources.iter().all(|source| source.up));
    let source = |source: &SourceStatus| {
        // A state that needs no attention has no reason, except that another node reads.
        let is_told = source.urgency.needs_attention() || source.state == "standby";
        let reason = source.why.as_ref().filter(|_| is_told);
        json!({"name": source.name, "state": source.state, "reason": reason})
    };
    let sources: Vec<_> = overview.sources.iter().map(source).collect();
    // A gateway that is away does not count, since its events wait on disk.
    let undecided = overview.processors.iter().filter(|processor| processor.undecided);
    let processors: Vec<_> = undecided
        .map(|processor| json!({"name": processor.name, "state": "undecided", "reason": processor.why}))
        .collect();
    (is_ready, json!({"ready": is_ready, "sources": sources, "processors": processors}))
}

async fn metrics(State(shared): State<Arc<AdminState>>) -> Response {
    let is_healthy = shared.model.supervisor().health() == ProcessHealth::Healthy;
    metrics::gauge!(names::HEALTHY).set(f64::from(u8::from(is_healthy)));
    collect(&shared.model.view());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], names::page(&shared.prometheus)).into_response()
}

async fn old_stats(State(shared): State<Arc<AdminState>>) -> Response {
    (
        [(header::CONTENT_TYPE, "application/json; charset=utf-8")],
        Stats::new(shared.model.view(), shared.model.began()).page(),
    )
        .into_response()
}

/// Copies the sources' own counters into the metrics, which happens only when somebody reads them.
fn collect(view: &View) {
    for (name, source) in &*view.sources {
        let report = source.report();
        let gauge = |metric: &'static str| metrics::gauge!(metric, "source" => name.clone());
        gauge(names::SOURCE_UP).set(f64::from(u8::from(report.state.is_up())));
        if let Some(lag) = report.lag {
            gauge(names::SOURCE_LAG).set(lag.as_secs_f64());
        }
        report.gauges.into_iter().for_each(|(metric, value)| gauge(metric).set(value));
        for Counter { metric, label, value } in report.counters {
            match label {
                Some((label, word)) => metrics::counter!(metric, "source" => name.clone(), label => word),
                None => metrics::counter!(metric, "source" => name.clone()),
            }
            .absolute(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_strict_form_minds_a_source_that_is_down() {
        let source = |up| SourceStatus { up, first_attempt_done: true, ..SourceStatus::default() };
        let check = |ready, up, query: Option<&str>, expected| {
            let overview = Overview { ready, sources: vec![source(true), source(up)], ..Overview::default() };
            let (is_ready, body) = readiness(&overview, is_strict(query));
            assert_eq!((is_ready, &body["ready"]), (expected, &json!(expected)), "{query:?}");
        };
        check(true, true, None, true);
        check(true, false, None, true);
        check(true, false, Some("strict=0"), true);
        check(true, false, Some("strict=1"), false);
        check(true, false, Some("a=b&strict"), false);
        check(true, true, Some("strict=1"), true);
        check(false, true, None, false);
    }
}
