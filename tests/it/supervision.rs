//! The process is never dead and healthy. A part that panics is started again or ends the process;
//! a part that stalls makes `/healthz` fail; and in each case every event is delivered in the end.
//!
//! The faults come from the feature `faults` of the router.

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use event_router::supervise::limits::PROCESS_END_MAX;
use event_router::supervise::{self, ServiceManager, Supervisor};
use serde_json::json;
use testbed::openfaas::{Function, Gateway, GatewayOptions};
use testbed::vcenter::Options;
use testbed::verify::Verifier;

use crate::common::child::{self, Process};
use crate::common::config::{RouterConfig, Section};
use crate::common::router::Router;
use crate::common::stack::Stack;
use crate::common::{http_get, wait_until};

const LIMIT: Duration = Duration::from_secs(60);
/// Time to end on a busy machine, in addition to the bound.
const SLACK: Duration = Duration::from_secs(20);
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);
/// The metric that counts restarts, by the kind of the part.
const RESTARTS: &str = "event_router_part_restarts_total";

/// A router whose parts fail on request.
struct Scene {
    stack: Stack,
    router: Router,
    faults: PathBuf,
}

impl Scene {
    fn new() -> Self {
        Self::with(|config| config, &[])
    }

    /// Two targets, so that one can be unaffected.
    fn with(change: impl FnOnce(RouterConfig) -> RouterConfig, env: &[(&str, &str)]) -> Self {
        let stack = Stack::new(Options { backlog: 10, ..Options::default() }, ["batched", "batched"]);
        let faults = stack.folder.path().join("faults");
        let timeout = format!("{}s", SHUTDOWN_TIMEOUT.as_secs());
        let config = change(stack.config().set("shutdownTimeout", timeout));
        let fault_file = ("EVENT_ROUTER_FAULT_FILE", faults.to_str().unwrap());
        let env = env.iter().chain([&fault_file]);
        let env = env.map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let mut router = Router::spawn_with(stack.folder.path(), stack.admin, &config.text(), env);
        router.wait_ready();
        let scene = Scene { stack, router, faults };
        scene.wait_for_all();
        scene
    }

    /// Asks for faults, in place of those before.
    fn ask_for(&self, faults: &str) {
        // The router never sees a half of it.
        let whole = self.faults.with_extension("new");
        std::fs::write(&whole, faults).unwrap();
        std::fs::rename(&whole, &self.faults).unwrap();
    }

    fn clear(&self) {
        self.ask_for("");
    }

    /// Creates events until `condition` holds, so that every part has work.
    fn create_until(&mut self, what: &str, mut condition: impl FnMut(&mut Router) -> bool) {
        let held = wait_until(LIMIT, || {
            self.stack.vcenter.append(5);
            condition(&mut self.router)
        });
        assert!(held, "{what}; stderr: {}", self.router.stderr().text());
    }

    /// Status and body of /healthz; `None` without an answer.
    fn health(&self) -> Option<(u16, String)> {
        http_get(self.stack.admin, "/healthz", Duration::from_secs(5)).ok()
    }

    fn wait_healthy(&self) {
        let healthy = wait_until(LIMIT, || self.health().is_some_and(|(status, _)| status == 200));
        assert!(healthy, "{:?}", self.health());
    }

    /// Creates events until /healthz fails and names `part`.
    fn create_until_stalled(&mut self, part: &str) {
        let admin = self.stack.admin;
        self.create_until(&format!("{part} is stalled"), |_| {
            let health = http_get(admin, "/healthz", Duration::from_secs(5));
            health.is_ok_and(|(status, body)| status == 503 && body.contains(part))
        });
    }

    fn restarts(&self, kind: &str) -> f64 {
        self.router.metric(RESTARTS, kind)
    }

    /// Waits until each target has every event that was created.
    fn wait_for_all(&self) {
        for target in &self.stack.targets {
            target.wait_for(self.stack.vcenter.produced(), LIMIT);
            let report = target.report();
            assert!(report.is_complete(), "{report:?}");
        }
    }

    /// The next start delivers whatever this one did not.
    fn judge_after_restart(&mut self) {
        self.clear();
        self.router.restart();
        self.wait_for_all();
        self.wait_healthy();
    }
}

#[test]
fn a_part_that_panics_ends_the_process_and_nothing_is_lost() {
    for part in ["parse-0", "core", "store", "delivery/target-0", "runtime"] {
        let mut scene = Scene::new();
        scene.ask_for(&format!("panic {part}"));
        scene.create_until(&format!("{part} ends the process"), |router| !router.running());
        let status = scene.router.wait(PROCESS_END_MAX + SLACK);
        let log = scene.router.stderr().all();
        assert_eq!(status.code(), Some(1), "{part}: {log:?}");
        let panics: Vec<_> =
            log.iter().filter(|line| line.contains("a part of the router panicked")).collect();
        assert_eq!(panics.len(), 1, "{part}: {log:?}");
        for word in [part, "a fault that a test asked for"] {
            assert!(panics[0].contains(word), "{word}: {panics:?}");
        }
        let reason = format!("the part `{part}` panicked: a fault that a test asked for");
        assert!(log.iter().any(|line| line.contains(&reason)), "{part}: {log:?}");
        assert!(!log.iter().any(|line| line.contains("settled=true")), "{part}: {log:?}");
        scene.judge_after_restart();
    }
}

/// The stalled tasks block every thread of the runtime of a machine with two cores.
#[test]
fn a_part_that_panics_ends_the_process_although_others_hang() {
    let mut scene = Scene::new();
    scene.ask_for("stall delivery/target-0\nstall delivery/target-1\npanic core");
    scene.create_until("the process ends", |router| !router.running());
    assert_eq!(scene.router.wait(PROCESS_END_MAX + SLACK).code(), Some(1));
    scene.judge_after_restart();
}

#[test]
fn a_part_that_stalls_is_named_by_health_until_it_goes_on() {
    for part in ["parse-0", "core", "store", "delivery/target-0", "source/vc"] {
        let mut scene = Scene::new();
        scene.wait_healthy();
        scene.ask_for(&format!("stall {part}"));
        scene.create_until_stalled(part);
        assert_eq!(scene.router.metric("event_router_healthy", ""), 0.0);
        assert!(scene.router.stderr().contains("a part of the router has work and makes no progress"));
        scene.clear();
        scene.wait_healthy();
        assert_eq!(scene.router.metric("event_router_healthy", ""), 1.0);
        scene.wait_for_all();
        // Idle is not a stall.
        assert_eq!(scene.router.terminate(LIMIT).code(), Some(0), "{}", scene.router.stderr().text());
    }
}

#[test]
fn sigterm_ends_a_router_with_a_stalled_part_in_bounded_time() {
    for part in ["parse-0", "core", "store", "delivery/target-0", "source/vc"] {
        let mut scene = Scene::new();
        scene.ask_for(&format!("stall {part}"));
        scene.create_until_stalled(part);
        let status = scene.router.terminate(SHUTDOWN_TIMEOUT + PROCESS_END_MAX + SLACK);
        let log = scene.router.stderr().text();
        assert_eq!(status.code(), Some(1), "{part}: {log}");
        assert!(log.contains("did not stop in time") && log.contains(&format!("`{part}`")), "{part}: {log}");
        assert!(!log.contains("settled=true"), "{part}: {log}");
        scene.judge_after_restart();
    }
}

#[test]
fn a_source_that_panics_is_started_again_and_nothing_is_lost() {
    let mut scene = Scene::new();
    for times in 1..=2 {
        scene.ask_for(&format!("panic source/vc\n# {times}"));
        scene.create_until("it is started again", |router| {
            router.metric(RESTARTS, "source") >= f64::from(times)
        });
    }
    scene.wait_for_all();
    scene.wait_healthy();
    assert_eq!(scene.router.metric("event_router_source_up", "vc"), 1.0);
    let panics = scene.router.stderr().all();
    let panics = panics.iter().filter(|line| line.contains("a part of the router panicked")).count();
    assert_eq!(panics, 2, "{}", scene.router.stderr().text());
    assert_eq!(scene.router.terminate(LIMIT).code(), Some(0), "{}", scene.router.stderr().text());
    for target in &scene.stack.targets {
        assert_eq!(target.report().total.duplicates, 0);
    }
}

#[test]
fn sigterm_ends_a_router_whose_source_has_panicked() {
    let mut scene = Scene::new();
    scene.ask_for("panic source/vc");
    scene.create_until("it has panicked", |router| router.stderr().contains("will be started again"));
    let status = scene.router.terminate(SHUTDOWN_TIMEOUT + PROCESS_END_MAX + SLACK);
    assert!(matches!(status.code(), Some(0 | 3)), "{}", scene.router.stderr().text());
    scene.judge_after_restart();
}

#[test]
fn the_admin_listener_is_started_again() {
    let mut scene = Scene::new();
    scene.ask_for("panic admin");
    let again = wait_until(LIMIT, || scene.health().is_some() && scene.restarts("admin") >= 1.0);
    assert!(again, "{}", scene.router.stderr().text());
    scene.create_until("events go on", |router| router.running());
    scene.wait_for_all();
    scene.wait_healthy();
}

#[test]
fn the_control_socket_is_started_again() {
    let mut scene = Scene::new();
    scene.ask_for("panic control");
    let list = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_event-router"));
        command.args(["dlq", "drop", "--all", "--config"]).arg(scene.stack.config_file());
        command.output().unwrap()
    };
    let again = wait_until(LIMIT, || list().status.success() && scene.restarts("control") >= 1.0);
    assert!(again, "{:?} {}", list(), scene.router.stderr().text());
    scene.create_until("events go on", |router| router.running());
    scene.wait_for_all();
    scene.wait_healthy();
}

#[test]
fn a_refresh_of_functions_is_started_again() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let gateway = runtime.block_on(Gateway::start(GatewayOptions::default())).unwrap();
    let verifier = Arc::new(Verifier::strict());
    let function = |name| Function { verifier: Some(Arc::clone(&verifier)), ..Function::new(name, "*") };
    gateway.deploy(function("first"));
    let scene = Scene::with(
        |config| {
            let processor = Section::openfaas("fn", &gateway.url(), "admin", "secret");
            config.processor(processor.set("refreshInterval", "1s"))
        },
        &[],
    );
    scene.ask_for("panic registry/fn");
    let again = wait_until(LIMIT, || scene.restarts("registry") >= 1.0);
    assert!(again, "{}", scene.router.stderr().text());
    // A function that is deployed now is found.
    gateway.deploy(function("second"));
    let found = wait_until(LIMIT, || {
        scene.stack.vcenter.append(1);
        gateway.invocations("second") > 0
    });
    assert!(found, "{}", scene.router.stderr().text());
    scene.wait_for_all();
    scene.wait_healthy();
}

/// Names the trouble of [`a_process_that_does_not_end`].
const TROUBLE: &str = "EVENT_ROUTER_TEST_TROUBLE";

#[test]
#[ignore = "started by the test that waits for its end"]
fn a_process_that_does_not_end() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let _within = runtime.enter();
    let supervisor = Supervisor::default();
    supervise::watch(&supervisor, ServiceManager::from_env()).unwrap();
    match &*std::env::var(TROUBLE).unwrap() {
        "failure" => supervisor.fail("as the test said".into()),
        _ => supervisor.stopping(tokio::time::Instant::now()),
    }
    loop {
        std::thread::park();
    }
}

#[test]
fn the_watchdog_ends_a_process_that_hangs_after_a_failure_or_in_its_stop() {
    let hanging = ["failure", "stop"].map(|trouble| {
        let mut command = child::ignored_test(module_path!(), "a_process_that_does_not_end");
        Process::spawn(command.env(TROUBLE, trouble))
    });
    for mut process in hanging {
        let status = process.wait(PROCESS_END_MAX + SLACK).expect("the watchdog ends it");
        assert_eq!(status.code(), Some(1), "{}", process.stdout.text());
    }
}

/// The service manager's end of the notifications.
struct Manager(UnixDatagram);

impl Manager {
    /// The next message; `None` if none comes within `limit`.
    fn message(&self, limit: Duration) -> Option<String> {
        let mut bytes = [0; 256];
        self.0.set_read_timeout(Some(limit)).unwrap();
        let length = self.0.recv(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes[..length]).trim().to_owned())
    }

    fn wait_for(&self, wanted: &str) {
        let mut messages = std::iter::from_fn(|| self.message(LIMIT));
        assert!(messages.any(|message| message == wanted), "no {wanted}");
    }
}

#[test]
fn the_service_manager_learns_of_the_start_of_health_and_of_the_stop() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let manager = Manager(UnixDatagram::bind(&path).unwrap());
    let watchdog = Duration::from_millis(900);
    let usec = watchdog.as_micros().to_string();
    let env = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", &usec)];
    let mut scene = Scene::with(|config| config, &env);
    assert_eq!(manager.message(LIMIT).as_deref(), Some("READY=1"));
    manager.wait_for("WATCHDOG=1");
    // A part that stalls ends the signs of life.
    scene.ask_for("stall core");
    scene.create_until_stalled("core");
    while manager.message(watchdog).is_some() {
        assert_eq!(scene.health().map(|(status, _)| status), Some(503));
    }
    assert_eq!(manager.message(2 * watchdog), None);
    scene.clear();
    manager.wait_for("WATCHDOG=1");
    scene.wait_for_all();
    scene.router.signal("TERM");
    manager.wait_for("STOPPING=1");
    assert_eq!(scene.router.wait(LIMIT).code(), Some(0));
}

#[test]
fn a_router_that_cannot_start_is_never_ready() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let manager = Manager(UnixDatagram::bind(&path).unwrap());
    let stack = Stack::new(Options::default(), ["batched"]);
    let config = stack.config().set_source("vc", "filter", json!({"noSuchKey": true}));
    let env = vec![("NOTIFY_SOCKET".to_owned(), path.to_str().unwrap().to_owned())];
    let mut router = Router::spawn_with(stack.folder.path(), stack.admin, &config.text(), env);
    // The exit code that the unit file does not restart after.
    assert_eq!(router.wait(LIMIT).code(), Some(2));
    manager.0.set_nonblocking(true).unwrap();
    assert!(manager.0.recv(&mut [0; 256]).is_err());
}
