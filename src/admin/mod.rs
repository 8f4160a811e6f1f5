//! The admin listener: health, readiness, metrics and the old router's `/stats` over HTTP.
//!
//! It is read-only, and listens on loopback unless the configuration says otherwise. Commands that
//! change the router use the [control socket](control).
//!
//! ```text
//! /healthz  open      200 while no part of the router has failed or is stalled
//! /readyz   open      200 once every source made its first attempt; JSON with each source's state,
//!                     and the processors that could not read their functions or rules yet
//! /metrics  guarded   Prometheus text
//! /stats    guarded   the old router's JSON page
//! ```

pub mod control;
mod stats;
mod view;

use std::ops::ControlFlow;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router as Routes, middleware};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;

use self::stats::{Began, Stats};
pub use self::view::View;
use crate::limits::{ADMIN_CONNECTIONS_MAX, REASON_BYTES_MAX};
use crate::net::listener::{
    self, AuthError, Guard, ListenerTls, ListenerTlsError, Serving, listener_tls, serve,
};
use crate::outside;
use crate::pipeline::undecided::RegistryState;
use crate::settings::Admin;
use crate::source::{Counter, SourceReport, SourceState};
use crate::supervise::{Part, PartKind, ProcessHealth, Supervisor};
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

/// The reason why a processor is undecided.
const UNKNOWN: &str = "it could not read its functions or rules yet; its events wait";

/// Its clients are a scraper, the checks of a load balancer, and a few people.
const SERVING: Serving = Serving { name: "admin", connections_max: ADMIN_CONNECTIONS_MAX, streams_max: 8 };

/// The data that the pages are made of.
struct AdminState {
    view: watch::Receiver<View>,
    began: Began,
    prometheus: PrometheusHandle,
    supervisor: Supervisor,
}

/// A bound listener. It is bound before the sources start, so that a port in use stops the start.
pub struct Listener {
    listener: TcpListener,
    tls: Option<Arc<ListenerTls>>,
    guard: Guard,
}

impl Listener {
    /// Binds the configured address; `None` if the listener is turned off.
    pub async fn bind(admin: &Admin) -> Result<Option<Self>, AdminError> {
        let Some(address) = &admin.bind_address else { return Ok(None) };
        let listener = TcpListener::bind(address)
            .await
            .map_err(|cause| AdminError::Listen { address: address.clone(), cause })?;
        let (tls, guard) = Self::secured(admin)?;
        Ok(Some(Listener { listener, tls, guard }))
    }

    /// Checks everything about the listener except its port, which a running router has.
    pub fn check(admin: &Admin) -> Result<(), AdminError> {
        Self::secured(admin).map(drop)
    }

    fn secured(admin: &Admin) -> Result<(Option<Arc<ListenerTls>>, Guard), AdminError> {
        let tls = admin.tls.as_ref().map(|tls| listener_tls("admin.tls", tls)).transpose()?.map(Arc::new);
        Ok((tls, Guard::new("admin.auth", &admin.auth)?))
    }

    /// Serves until the process ends.
    pub async fn serve(
        self,
        view: watch::Receiver<View>,
        prometheus: PrometheusHandle,
        supervisor: Supervisor,
    ) {
        let watched = supervisor.clone();
        let shared = Arc::new(AdminState { began: Began::now(), view, prometheus, supervisor: watched });
        let open = Routes::new().route("/healthz", get(healthz)).route("/readyz", get(readyz));
        let guarded = Routes::new()
            .route("/metrics", get(metrics))
            .route("/stats", get(old_stats))
            .route_layer(middleware::from_fn_with_state(Arc::new(self.guard), listener::check));
        let routes = open.merge(guarded).with_state(shared);
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
    let trouble = match shared.supervisor.health() {
        ProcessHealth::Healthy => return (StatusCode::OK, "ok\n").into_response(),
        ProcessHealth::Stalled(parts) => format!("no progress: {}\n", parts.join(", ")),
        ProcessHealth::Failed(reason) => format!("{}\n", outside::text(&reason, REASON_BYTES_MAX)),
    };
    (StatusCode::SERVICE_UNAVAILABLE, trouble).into_response()
}

/// Ready means that every source made its first attempt. A failed attempt counts, so that one dead
/// vCenter of many does not take the appliance out of service.
async fn readyz(State(shared): State<Arc<AdminState>>) -> Response {
    let view = shared.view.borrow().clone();
    let reports = view.sources.iter().map(|(name, source)| (name, source.report()));
    let mut ready = true;
    let sources: Vec<_> = reports
        .map(|(name, report)| {
            ready &= report.first_attempt_done;
            json!({"name": name, "state": report.state.as_str(), "reason": reason(&report)})
        })
        .collect();
    // A gateway that is away does not count either, since its events wait on disk.
    let config = &view.config;
    let undecided = config.processors.iter().enumerate().filter_map(|(at, processor)| {
        let reason = match view.registries.get(view.registry_slots[at]) {
            RegistryState::Live => return None,
            RegistryState::Unknown => UNKNOWN,
            RegistryState::Moving => "events that waited for its functions or rules are being moved",
        };
        Some(json!({"name": processor.name, "state": "undecided", "reason": reason}))
    });
    let processors: Vec<_> = undecided.collect();
    let code = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({"ready": ready, "sources": sources, "processors": processors}).to_string();
    (code, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// The reason why a source does not read.
fn reason(report: &SourceReport) -> Option<String> {
    match &report.state {
        SourceState::Failed(reason) => Some(outside::text(reason, REASON_BYTES_MAX)),
        _ if report.is_held_up => Some("undelivered events fill the memory budget".to_owned()),
        _ => None,
    }
}

async fn metrics(State(shared): State<Arc<AdminState>>) -> Response {
    let is_healthy = shared.supervisor.health() == ProcessHealth::Healthy;
    metrics::gauge!(names::HEALTHY).set(f64::from(u8::from(is_healthy)));
    collect(&shared.view.borrow().clone());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], names::page(&shared.prometheus)).into_response()
}

async fn old_stats(State(shared): State<Arc<AdminState>>) -> Response {
    (
        [(header::CONTENT_TYPE, "application/json; charset=utf-8")],
        Stats::new(shared.view.borrow().clone(), shared.began).page(),
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
