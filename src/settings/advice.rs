//! Advice about the secrets in a file, which only `check` gives: a file that other users can read,
//! and secrets that are too short to be redacted.

use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path};

use crate::config::problem::{FoundSecret, Problem};
use crate::limits::SECRET_CHARS_MIN;
use crate::redact::is_redactable;

/// Read permission of users outside of the file's group.
const OTHERS_READ: u32 = 0o004;

/// Advice about `secrets` of the configuration `file`.
pub(super) fn advice(file: &Path, secrets: &[FoundSecret]) -> Vec<Problem> {
    let mut advice: Vec<Problem> = secrets.iter().filter_map(short).collect();
    // One line for the whole file; its first secret stands for all of them.
    let inline = secrets.iter().filter(|found| found.is_inline).min_by_key(|found| found.line);
    if let Some(found) = inline.filter(|_| others_can_read(file)) {
        let message = "every user of this machine can read the file with this secret in it; run `chmod o-r` on it, or use a secret file or `${VARIABLE}`";
        advice.push(Problem { line: found.line, path: found.path.clone(), message: message.into() });
    }
    advice.sort();
    advice.dedup();
    advice
}

/// Advice about a secret that is too short to be redacted where a server repeats it.
fn short(found: &FoundSecret) -> Option<Problem> {
    // An unreadable file is reported where it is used.
    let text = found.secret.read().ok().filter(|text| !text.is_empty() && !is_redactable(text))?;
    drop(text);
    let message = format!(
        "has fewer than {SECRET_CHARS_MIN} characters, too few to be redacted where a server repeats it; use a longer one"
    );
    Some(Problem { line: found.line, path: found.path.clone(), message })
}

/// Returns true if users outside of the file's group can read it. Not for files that Kubernetes
/// mounts: they are readable by everybody in a pod, which has one user.
fn others_can_read(file: &Path) -> bool {
    let Ok(whole) = file.canonicalize() else { return false };
    let is_mounted = whole.components().any(|part| match part {
        // `..data` leads to `..2026_11_30_06_00_00.1`.
        Component::Normal(name) => name.as_encoded_bytes().starts_with(b"..2"),
        _ => false,
    });
    !is_mounted && whole.metadata().is_ok_and(|found| found.mode() & OTHERS_READ != 0)
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::config::Secret;

    #[test]
    fn a_secret_in_a_file_that_others_read_is_reported_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.yaml");
        std::fs::write(&file, "").unwrap();
        let found = |line, is_inline| FoundSecret {
            line,
            path: format!("sources[{line}].password"),
            secret: Secret::inline("long enough"),
            is_inline,
        };
        let check = |mode: u32, secrets: &[FoundSecret], expected: &[usize]| {
            set_permissions(&file, Permissions::from_mode(mode)).unwrap();
            let lines: Vec<_> = advice(&file, secrets).iter().map(|problem| problem.line).collect();
            assert_eq!(lines, expected, "{mode:o}");
        };
        check(0o644, &[found(7, true), found(3, false), found(5, true)], &[5]);
        check(0o640, &[found(7, true)], &[]);
        check(0o644, &[found(3, false)], &[]);
        let mounted = dir.path().join("..2026_11_30_06_00_00.1");
        std::fs::create_dir(&mounted).unwrap();
        std::fs::rename(&file, mounted.join("config.yaml")).unwrap();
        std::os::unix::fs::symlink(mounted.join("config.yaml"), &file).unwrap();
        check(0o644, &[found(7, true)], &[]);
    }
}
