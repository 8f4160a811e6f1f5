//! The upgrade from the old router: the new router starts with the configuration and the checkpoint
//! file of the old one, and no event is lost in between.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::common::router::{Launch, Router};
use crate::common::{free_address, wait_until};
use tempfile::TempDir;
use testbed::sink::{Sink, SinkOptions};
use testbed::vcenter::{Options, VCenter};
use testbed::verify::Verifier;
use tokio::runtime::Runtime;

const LIMIT: Duration = Duration::from_secs(60);
const TEN_MINUTES_US: i64 = 600_000_000;

/// The legacy of the old router: a vCenter, a function behind Knative, a folder with configuration
/// and checkpoints.
struct Site {
    vcenter: VCenter,
    sink: Sink,
    verifier: Arc<Verifier>,
    folder: TempDir,
    admin: std::net::SocketAddr,
    _runtime: Runtime,
}

impl Site {
    /// The vCenter's clock is an hour behind, so that a test can let time pass.
    fn new() -> Self {
        let runtime = Runtime::new().unwrap();
        let verifier = Arc::new(Verifier::strict());
        let (vcenter, sink) = runtime.block_on(async {
            let options = Options { clock_offset_us: -6 * TEN_MINUTES_US, ..Options::default() };
            let vcenter = VCenter::start(options).await.unwrap();
            let sink = Sink::start(SinkOptions::default(), Arc::clone(&verifier)).await.unwrap();
            (vcenter, sink)
        });
        verifier.watch(&vcenter);
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("checkpoints")).unwrap();
        Site { vcenter, sink, verifier, folder, admin: free_address(), _runtime: runtime }
    }

    fn checkpoint_file(&self) -> PathBuf {
        self.folder.path().join("checkpoints/cp-127.0.0.1.json")
    }

    /// Writes the file as the old router did, after it had delivered event `index`.
    fn leave_checkpoint(&self, index: u64) -> String {
        let fact = self.vcenter.fact(index).unwrap();
        let at = jiff::Timestamp::from_microsecond(fact.created_us).unwrap();
        let text = format!(
            r#"{{"vCenter":"127.0.0.1","lastEventUUID":"0c1c5e9a-4e3f-4a35-8d1a-3b8f3c1f3c55","lastEventKey":{},"lastEventType":"{}","lastEventKeyTimestamp":"{at}","createdTimestamp":"{at}"}}"#,
            fact.key, fact.class
        );
        std::fs::write(self.checkpoint_file(), &text).unwrap();
        text
    }

    fn config(&self, checkpoint: bool) -> PathBuf {
        let options = Options::default();
        let dir = self.folder.path().join("checkpoints");
        let text = format!(
            "apiVersion: event-router.vmware.com/v1alpha1\nkind: RouterConfig\nmetadata: {{name: demo}}\n\
             eventProvider:\n  type: vcenter\n  name: vc1\n  vcenter:\n    address: {}\n    insecureSSL: false\n    checkpoint: {checkpoint}\n    \
             checkpointDir: {}\n    auth: {{type: basic_auth, basicAuth: {{username: {}, password: {}}}}}\n\
             eventProcessor:\n  type: knative\n  name: kn\n  knative: {{encoding: structured, insecureSSL: false, destination: {{uri: {:?}}}}}\n\
             metricsProvider: {{type: default, name: m, default: {{bindAddress: \"{}\"}}}}\n",
            self.vcenter.url(),
            dir.display(),
            options.user,
            options.password,
            self.sink.url(),
            self.admin,
        );
        let file = self.folder.path().join("config");
        std::fs::write(&file, text).unwrap();
        file
    }

    /// Only the image changes: the old command line starts the new router.
    fn upgrade(&self, checkpoint: bool) -> Router {
        let config = self.config(checkpoint);
        let launch = Launch::new(["-config".into(), config.into_os_string(), "-log-json".into()]);
        let mut router = Router::launch(self.admin, launch.folder(self.folder.path()));
        router.wait_ready();
        router
    }

    fn has(&self, index: u64) -> bool {
        self.verifier.has(&self.vcenter.url(), index)
    }

    fn wait_for(&self, unique: u64) {
        let came = wait_until(LIMIT, || self.verifier.progress().unique >= unique);
        assert!(came, "{:?}", self.verifier.report());
    }

    fn unique(&self) -> u64 {
        self.verifier.progress().unique
    }
}

/// Ends a router, which must exit with 0.
fn end(mut router: Router) {
    let status = router.terminate(LIMIT);
    assert_eq!(status.code(), Some(0), "{}", router.stderr().text());
}

fn wait_for_line(router: &Router, part: &str) {
    assert!(
        wait_until(LIMIT, || router.stderr().contains(part)),
        "no {part:?} in: {}",
        router.stderr().text()
    );
}

#[test]
fn events_created_during_the_upgrade_arrive_and_the_old_position_counts_once() {
    let site = Site::new();
    let long_ago = site.vcenter.append(100);
    site.vcenter.step_clock(TEN_MINUTES_US);
    let delivered = site.vcenter.append(10);
    let old = site.leave_checkpoint(delivered.end - 1);
    site.vcenter.step_clock(TEN_MINUTES_US);
    let during = site.vcenter.append(50);

    let mut router = site.upgrade(true);
    wait_for_line(&router, "going on where the old router was");
    // Delivered events within the overlap come again; older ones do not.
    site.wait_for(60);
    assert!(during.clone().all(|index| site.has(index)));
    assert!(long_ago.clone().all(|index| !site.has(index)));
    assert_eq!(
        std::fs::read_to_string(site.checkpoint_file()).unwrap(),
        old,
        "the old router can still be started"
    );

    // From now on the router uses its own position and ignores the old file.
    site.leave_checkpoint(long_ago.start);
    router.kill();
    site.vcenter.step_clock(TEN_MINUTES_US);
    let after = site.vcenter.append(20);
    router.restart();
    site.wait_for(80);
    assert!(after.clone().all(|index| site.has(index)));
    assert!(long_ago.clone().all(|index| !site.has(index)));
    assert!(!router.stderr().contains("where the old router was"));
    end(router);
    assert_eq!(site.unique(), 80);
}

/// A crash of the old router leaves the file empty or torn. The old router then refused to start.
/// It had delivered everything up to its last write of the file.
#[test]
fn a_torn_file_is_reported_and_loses_nothing() {
    for torn in [
        "",
        "{\"vCenter\":\"127.0.0.1\",\"lastEventKeyTi",
        r#"{"lastEventKeyTimestamp":"0001-01-01T00:00:00Z"}"#,
    ] {
        let site = Site::new();
        // Up to the present: a file's time is this machine's.
        let long_ago = site.vcenter.append(30);
        site.vcenter.step_clock(6 * TEN_MINUTES_US);
        std::fs::write(site.checkpoint_file(), torn).unwrap();
        let during = site.vcenter.append(40);
        let router = site.upgrade(true);
        wait_for_line(
            &router,
            "the checkpoint of the old router cannot be used; going on at the time the file was last written",
        );
        site.wait_for(40);
        assert!(during.clone().all(|index| site.has(index)), "{torn:?}");
        assert!(long_ago.clone().all(|index| !site.has(index)), "{torn:?}");
        end(router);
    }
}

#[test]
fn a_time_in_the_future_skips_no_event() {
    let site = Site::new();
    site.vcenter.step_clock(6 * TEN_MINUTES_US);
    let text = r#"{"lastEventKey":1,"lastEventKeyTimestamp":"2999-01-01T00:00:00Z"}"#;
    std::fs::write(site.checkpoint_file(), text).unwrap();
    let during = site.vcenter.append(40);
    let router = site.upgrade(true);
    wait_for_line(&router, "lies in the future");
    site.wait_for(40);
    assert!(during.clone().all(|index| site.has(index)));
    end(router);
}

#[test]
fn without_an_old_file_it_starts_now_and_says_so() {
    let site = Site::new();
    let before = site.vcenter.append(30);
    let router = site.upgrade(true);
    wait_for_line(&router, "no checkpoint of the old router here");
    let after = site.vcenter.append(10);
    site.wait_for(10);
    assert!(after.clone().all(|index| site.has(index)));
    end(router);
    assert!(before.clone().all(|index| !site.has(index)));
}

#[test]
fn with_checkpoint_false_no_state_is_kept() {
    let site = Site::new();
    let _before = site.vcenter.append(30);
    site.leave_checkpoint(5);
    let router = site.upgrade(false);
    let first = site.vcenter.append(10);
    site.wait_for(10);
    end(router);
    let while_down = site.vcenter.append(10);
    let router = site.upgrade(false);
    let second = site.vcenter.append(10);
    site.wait_for(20);
    end(router);
    assert!(first.chain(second).all(|index| site.has(index)));
    assert!(while_down.clone().all(|index| !site.has(index)), "{:?}", site.verifier.report());
    let left: Vec<_> = files(site.folder.path());
    assert_eq!(left, ["checkpoints/cp-127.0.0.1.json", "config"]);
}

fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).unwrap().map(Result::unwrap) {
            match entry.file_type().unwrap().is_dir() {
                true => folders.push(entry.path()),
                false => found.push(entry.path().strip_prefix(folder).unwrap().display().to_string()),
            }
        }
    }
    found.sort();
    found
}

/// An unreadable file loses no events either.
#[test]
fn reading_resumes_at_the_time_of_an_old_file() {
    let site = Site::new();
    site.vcenter.step_clock(2 * TEN_MINUTES_US);
    let during = site.vcenter.append(15);
    site.vcenter.step_clock(4 * TEN_MINUTES_US);
    std::fs::write(site.checkpoint_file(), "{").unwrap();
    let file = std::fs::File::options().append(true).open(site.checkpoint_file()).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(45 * 60)).unwrap();
    let router = site.upgrade(true);
    site.wait_for(15);
    assert!(during.clone().all(|index| site.has(index)));
    end(router);
}
