//! Collects the errors and warnings of a configuration file, each with its line.

use std::fmt;
use std::path::{Path, PathBuf};

use super::Secret;

/// The most errors to show. Nobody corrects more of them at once, and every line may have one.
const ERRORS_MAX: usize = 100;

/// An error or a warning.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Counted from 1; 0 if the file as a whole cannot be read.
    pub line: usize,
    /// The field's path, `sources[0].tls.caFile`; empty for the file as a whole.
    pub path: String,
    /// The problem and what is allowed: lower case, no full stop, no secret.
    pub message: String,
}

/// A setting that works but deserves attention. Printed at every start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    pub file: PathBuf,
    pub problem: Problem,
}

/// All errors of one file; never empty.
#[derive(Debug, thiserror::Error)]
pub struct ConfigErrors {
    pub file: PathBuf,
    pub problems: Vec<Problem>,
}

/// A secret of a file, with its place.
#[derive(Debug)]
pub(crate) struct FoundSecret {
    pub line: usize,
    pub path: String,
    pub secret: Secret,
    /// True if the file itself contains the value, not an environment variable or another file.
    pub is_inline: bool,
}

/// Collects problems while a file is checked, and the secrets in it.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    pub errors: Vec<Problem>,
    pub warnings: Vec<Problem>,
    pub secrets: Vec<FoundSecret>,
    /// Set on a machine without the secrets of the configuration: their files and environment
    /// variables are not read, and neither are certificates.
    pub without_secrets: bool,
}

impl Problems {
    pub fn error(&mut self, line: usize, path: &str, message: impl Into<String>) {
        self.errors.push(Problem { line, path: path.into(), message: message.into() });
    }

    pub fn warn(&mut self, line: usize, path: &str, message: impl Into<String>) {
        self.warnings.push(Problem { line, path: path.into(), message: message.into() });
    }

    /// Notes a secret that the file itself contains.
    pub fn inline_secret(&mut self, line: usize, path: &str, secret: &Secret) {
        let (path, secret) = (path.to_owned(), secret.clone());
        self.secrets.push(FoundSecret { line, path, secret, is_inline: true });
    }

    /// Warns of TLS that accepts any certificate. This is the only warning about it.
    pub fn warn_insecure(&mut self, line: usize, path: &str, instead: &str) {
        let danger = "accepts any certificate: an attacker on the network can read and change everything, credentials included";
        self.warn(line, path, format!("{danger}; {instead}"));
    }

    /// Returns `value` with the warnings, or all errors. Both are in the order of the file.
    pub fn finish<T>(mut self, file: &Path, value: T) -> Result<(T, Vec<Warning>), ConfigErrors> {
        if self.errors.is_empty() {
            self.warnings.sort();
            let warnings = self.warnings.into_iter();
            Ok((value, warnings.map(|problem| Warning { file: file.into(), problem }).collect()))
        } else {
            self.errors.sort();
            self.errors.dedup();
            if self.errors.len() > ERRORS_MAX {
                let line = self.errors[ERRORS_MAX].line;
                let message = format!("and {} more errors from here on", self.errors.len() - ERRORS_MAX);
                self.errors.truncate(ERRORS_MAX);
                self.errors.push(Problem { line, path: String::new(), message });
            }
            Err(ConfigErrors { file: file.into(), problems: self.errors })
        }
    }
}

impl Problem {
    /// `FILE:LINE: PATH: MESSAGE`, with `kind` before the path.
    fn write(&self, file: &Path, kind: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: ", file.display())?,
            line => write!(f, "{}:{line}: ", file.display())?,
        }
        f.write_str(kind)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

/// The alternate form (`{:#}`) says that it is a warning, for output that also has errors.
impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.problem.write(&self.file, if f.alternate() { "warning: " } else { "" }, f)
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.problems.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            problem.write(&self.file, "", f)?;
        }
        Ok(())
    }
}
