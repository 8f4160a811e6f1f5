//! The data directory as another user of the machine, systemd and a crash may leave it.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use crate::common::router::Router;
use crate::common::stack::Stack;
use crate::common::wait_until;
use testbed::vcenter::Options;

const LIMIT: Duration = Duration::from_secs(60);
const EVENTS: u64 = 50;

fn entries(dir: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    entries
}

fn directory(path: &Path, mode: u32) {
    fs::create_dir(path).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn command(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_event-router")).args(arguments).output().unwrap()
}

/// As with `DynamicUser` and `StateDirectory`: `/var/lib/event-router` leads to
/// `/var/lib/private/event-router`.
#[test]
fn the_link_that_systemd_makes_is_followed() {
    let stack = Stack::new(Options::default(), ["batched"]);
    let lib = stack.folder.path().join("lib");
    directory(&lib, 0o755);
    directory(&lib.join("private"), 0o700);
    directory(&lib.join("private/event-router"), 0o700);
    let link = lib.join("event-router");
    symlink("private/event-router", &link).unwrap();
    let mut router = stack.start(&stack.config().data(&link));
    stack.vcenter.append(EVENTS);
    stack.targets[0].wait_for(EVENTS, LIMIT);
    assert_eq!(router.terminate(LIMIT).code(), Some(0), "{}", router.stderr().text());
    assert!(lib.join("private/event-router/state.db").exists());
    let shown = command(&["checkpoint", "show", "--data-dir", link.to_str().unwrap()]);
    assert!(shown.status.success(), "{shown:?}");
}

#[test]
fn a_directory_that_others_could_change_stops_the_start() {
    let stack = Stack::new(Options::default(), ["batched"]);
    let folder = stack.folder.path();
    let shared = folder.join("shared");
    directory(&shared, 0o777);
    directory(&folder.join("own"), 0o700);
    symlink("../own", shared.join("link")).unwrap();
    directory(&folder.join("planted"), 0o700);
    symlink("/etc/hostname", folder.join("planted/lock")).unwrap();
    let cases =
        [(shared.clone(), "chmod go-w"), (shared.join("link"), "the link"), (folder.join("planted"), "link")];
    for (dir, message) in cases {
        let before = entries(&dir);
        let mut router = stack.spawn(&stack.config().data(&dir));
        assert!(wait_until(LIMIT, || !router.running()), "it starts on {}", dir.display());
        let text = router.stderr().text();
        assert!(text.contains(message) && text.contains(dir.to_str().unwrap()), "{text}");
        assert_eq!(entries(&dir), before);
    }
}

#[test]
fn ephemeral_state_of_a_killed_router_is_removed_at_the_next_start() {
    let stack = Stack::new(Options::default(), ["batched"]);
    let temporary = stack.folder.path().join("tmp");
    directory(&temporary, 0o1777);
    let config = stack.config().set("ephemeral", true).set("checkpointInterval", "100ms").text();
    let lines: Vec<&str> = config.lines().filter(|line| !line.starts_with("dataDir")).collect();
    let config = lines.join("\n");
    let env = vec![("TMPDIR".to_owned(), temporary.to_str().unwrap().to_owned())];
    let mut router = Router::spawn_with(stack.folder.path(), stack.admin, &config, env);
    router.wait_ready();
    let first = entries(&temporary);
    assert_eq!(first.len(), 1, "{first:?}");
    assert!(first[0].join("state.db").exists());
    fs::write(temporary.join("event-router-notes"), "not ours").unwrap();

    router.kill();
    assert!(first[0].exists(), "kill -9 leaves it");
    router.restart();
    assert!(!first[0].exists(), "{:?}", entries(&temporary));
    assert_eq!(entries(&temporary).len(), 2, "{:?}", entries(&temporary));
    assert_eq!(router.terminate(LIMIT).code(), Some(0), "{}", router.stderr().text());
    assert_eq!(entries(&temporary), [temporary.join("event-router-notes")]);
}
