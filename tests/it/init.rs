//! `init` against a vCenter and a target: the file that it writes passes `check --connect`.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::common::router::Launch;
use crate::common::stack::Stack;
use testbed::cert::Certificate;
use testbed::vcenter::Options;

/// Exit code and all output of a command in `folder`.
fn run(folder: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output = Launch::new(arguments.iter().copied()).folder(folder).command().output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

#[track_caller]
fn expect(folder: &Path, arguments: &[&str], code: i32, parts: &[&str]) -> String {
    let (found, told) = run(folder, arguments);
    assert_eq!(found, Some(code), "{arguments:?}: {told}");
    parts.iter().for_each(|part| assert!(told.contains(part), "no {part:?} in:\n{told}"));
    told
}

#[test]
fn a_new_configuration_connects_after_the_certificate_is_pinned() {
    let stack = Stack::new(Options { tls: Some(Certificate::Valid), ..Options::default() }, ["structured"]);
    let folder = stack.folder.path();
    let Options { user, password, .. } = Options::default();
    std::fs::write(folder.join("pw"), format!("{password}\n")).unwrap();
    let (vcenter, url) = (stack.vcenter.url(), stack.targets[0].sink.url());
    let flags = ["init", "--vcenter", &vcenter, "--user", &user, "--password-file", "pw"];
    let flags = [&flags[..], &["--target", "cloudevents", "--url", &url, "--output", "new.yaml"]].concat();

    // An untrusted certificate: nobody can be asked, so the error names the flag. Nothing is sent.
    let thumbprint = stack.vcenter.tls().unwrap().thumbprint().to_uppercase();
    let pin = format!("--thumbprint {thumbprint}");
    expect(folder, &flags, 2, &["a CA that is not trusted here", &pin]);
    assert!(!folder.join("new.yaml").exists());

    // Pinned, it logs in and contacts the target.
    let pinned = [&flags[..], &["--thumbprint", &thumbprint]].concat();
    let parts = [
        "wrote new.yaml",
        "source vc1",
        "processor target",
        "ok",
        "event-router run --config new.yaml",
        "LoadCredential",
    ];
    let told = expect(folder, &pinned, 0, &parts);
    assert!(!told.contains(&password), "{told}");
    let mode = std::fs::metadata(folder.join("new.yaml")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    expect(folder, &["check", "--connect", "new.yaml"], 0, &["source vc1"]);

    // A second run replaces it only by force.
    expect(folder, &pinned, 2, &["`new.yaml` exists already", "--force"]);
    expect(folder, &[&pinned[..], &["--force"]].concat(), 0, &["wrote new.yaml"]);

    // A wrong password is told by the check; the file stays, to be corrected.
    std::fs::write(folder.join("pw"), "wrong password\n").unwrap();
    let parts = ["failed", "The files are written, but the check failed"];
    expect(folder, &[&pinned[..], &["--force"]].concat(), 1, &parts);
    assert!(folder.join("new.yaml").exists());
}

#[test]
fn a_vcenter_that_cannot_be_reached_is_told_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("pw"), "long enough\n").unwrap();
    let address = crate::common::free_address().to_string();
    let flags =
        ["init", "--vcenter", &address, "--user", "u", "--password-file", "pw", "--target", "console"];
    expect(folder.path(), &flags, 1, &["no connection to", "`--no-connect`"]);
    assert!(!folder.path().join("config.yaml").exists());
    let offline = [&flags[..], &["--no-connect"]].concat();
    expect(folder.path(), &offline, 0, &["wrote config.yaml"]);
    expect(folder.path(), &["check", "config.yaml"], 0, &["1 source, 1 processor"]);
}

#[test]
fn without_a_configuration_the_places_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    if Path::new("/etc/event-router/config.yaml").exists()
        || Path::new("/etc/vmware-event-router/config").exists()
    {
        return eprintln!("skipped: this machine has a configuration in a default place");
    }
    let parts = [
        "EVENT_ROUTER_CONFIG",
        "/etc/event-router/config.yaml",
        "/etc/vmware-event-router/config",
        "event-router init",
    ];
    for command in ["run", "check", "health"] {
        expect(folder.path(), &[command], 2, &parts);
    }
}
