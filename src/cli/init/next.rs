//! The commands that follow `init`.

use std::fmt::Write;
use std::path::Path;

use super::answers::{Answers, SecretPlace};
use crate::cli::UNIT_CONFIG;

/// Folder of the secrets that systemd hands over to the service.
const CREDENTIALS: &str = "/etc/event-router/credentials";

/// The next commands. `is_good`: the check found no error.
pub(super) fn steps(answers: &Answers, output: &Path, is_good: bool) -> String {
    let file = shell(output);
    let mut text = String::new();
    if !is_good {
        let _ =
            writeln!(text, "The files are written, but the check failed. Correct them, then check again.\n");
    }
    let _ = write!(
        text,
        "Next:\n  event-router check --connect --config {file}\n  event-router run --config {file}\n\n"
    );
    text += &service(answers, output);
    text
}

/// The commands that install the configuration for the systemd unit. The unit's user can read
/// neither the file, which has mode 0600, nor a secret that systemd does not hand over.
fn service(answers: &Answers, output: &Path) -> String {
    let mut text = "As a service of systemd (docs/install.md), as root:\n".to_owned();
    let secrets = answers.secret_files();
    let mut edits = String::new();
    for (name, path) in &secrets {
        let _ = writeln!(text, "  install -D -m 600 {} {CREDENTIALS}/{name}", shell(path));
        let from = path.display().to_string().replace('#', "\\#");
        let _ = write!(edits, " -e 's#{from}#${{CREDENTIALS_DIRECTORY}}/{name}#'");
    }
    let file = shell(output);
    let is_in_place = std::path::absolute(output).is_ok_and(|whole| whole == Path::new(UNIT_CONFIG));
    let _ = match (is_in_place, edits.is_empty()) {
        (true, true) => writeln!(text, "  chmod 644 {file}"),
        (true, false) => writeln!(text, "  sed -i{edits} {file} && chmod 644 {file}"),
        (false, true) => writeln!(text, "  install -D -m 644 {file} {UNIT_CONFIG}"),
        (false, false) => {
            writeln!(text, "  sed{edits} {file} | install -D -m 644 /dev/stdin {UNIT_CONFIG}")
        }
    };
    let credentials: Vec<String> =
        secrets.iter().map(|(name, _)| format!("LoadCredential={name}:{CREDENTIALS}/{name}")).collect();
    if !credentials.is_empty() {
        text += "  systemctl edit event-router          # add these lines:\n      [Service]\n";
        credentials.iter().for_each(|line| text += &format!("      {line}\n"));
    }
    if let SecretPlace::Variable(name) = &answers.password {
        text +=
            "  systemctl edit event-router          # add these lines, with a file that only root reads:\n";
        let _ = writeln!(text, "      [Service]\n      EnvironmentFile=FILE          # with a line {name}=…");
    }
    text += "  systemctl enable --now event-router\n";
    text
}

/// A path as a word of a shell command.
fn shell(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-+@".contains(&byte));
    if is_plain { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}
