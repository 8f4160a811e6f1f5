//! Secrets: values that can be used but not printed.
//!
//! INVARIANT: no `Debug`, `Display` or serialisation of a [`Secret`] contains its value. Only
//! [`Secret::read`] returns it. Values are [registered](crate::redact::register) for redaction when
//! they come into being, those of files when they are read.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::OFlags;

use crate::redact::{self, Former};

/// The largest secret file. The largest service-account tokens have about 2 KiB, so a larger file
/// is not a secret but for example a log.
pub const SECRET_FILE_BYTES_MAX: u64 = 64 << 10;

/// A password, token or key: given in the configuration, or in a file that is read again at each
/// use.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(SecretOrigin);

#[derive(Clone)]
enum SecretOrigin {
    Inline(Arc<str>),
    /// The file, and the values that were read from it.
    File(PathBuf, Former),
}

/// Secrets are equal if they have the same origin. Two files with the same content are not.
impl PartialEq for SecretOrigin {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (SecretOrigin::Inline(one), SecretOrigin::Inline(other)) => one == other,
            (SecretOrigin::File(one, _), SecretOrigin::File(other, _)) => one == other,
            _ => false,
        }
    }
}

impl Eq for SecretOrigin {}

/// A secret cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("cannot read the secret file `{path}`: {error}")]
    Unreadable { path: PathBuf, error: std::io::Error },
    #[error("the secret file `{path}` has more than {SECRET_FILE_BYTES_MAX} bytes; check its name")]
    TooLarge { path: PathBuf },
    #[error("the secret file `{path}` is empty; write the secret into it")]
    Empty { path: PathBuf },
    #[error("the secret file `{path}` is not UTF-8 text; convert it")]
    NotText { path: PathBuf },
}

impl SecretError {
    /// The message for a configuration. Without the path, unless it is known to be one: it may be
    /// the secret itself, written into the wrong field.
    pub(crate) fn without_path(&self, is_path: bool) -> String {
        match self {
            error if is_path => error.to_string(),
            SecretError::Unreadable { error, .. } => {
                format!(
                    "must be the path of a file that contains the secret; no such file can be read: {}",
                    error.kind()
                )
            }
            SecretError::TooLarge { .. } => {
                format!(
                    "names a file of more than {SECRET_FILE_BYTES_MAX} bytes, which is no secret; check its name"
                )
            }
            SecretError::Empty { .. } => "names an empty file; write the secret into it".to_owned(),
            SecretError::NotText { .. } => "names a file that is not UTF-8 text; convert it".to_owned(),
        }
    }
}

impl Secret {
    pub fn inline(value: impl Into<Arc<str>>) -> Self {
        let value = value.into();
        redact::register(&value);
        Secret(SecretOrigin::Inline(value))
    }

    pub fn file(path: impl Into<PathBuf>) -> Self {
        Secret(SecretOrigin::File(path.into(), Former::default()))
    }

    /// Returns the current value. A file is read at each call, so that a rotated password is found.
    /// One line break at the end of the file is not part of the value.
    pub fn read(&self) -> Result<Arc<str>, SecretError> {
        let (path, former) = match &self.0 {
            SecretOrigin::Inline(value) => return Ok(Arc::clone(value)),
            SecretOrigin::File(path, former) => (path, former),
        };
        let mut bytes = Vec::new();
        open_regular(path)
            .and_then(|file| file.take(SECRET_FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
            .map_err(|error| SecretError::Unreadable { path: path.clone(), error })?;
        if bytes.len() as u64 > SECRET_FILE_BYTES_MAX {
            return Err(SecretError::TooLarge { path: path.clone() });
        }
        let text = String::from_utf8(bytes).map_err(|_| SecretError::NotText { path: path.clone() })?;
        let text = text.strip_suffix('\n').map_or(&*text, |line| line.strip_suffix('\r').unwrap_or(line));
        if text.is_empty() {
            return Err(SecretError::Empty { path: path.clone() });
        }
        Ok(former.keep(text))
    }

    /// The file with the value, if it is in a file.
    pub fn path(&self) -> Option<&Path> {
        match &self.0 {
            SecretOrigin::Inline(_) => None,
            SecretOrigin::File(path, _) => Some(path),
        }
    }
}

/// Opens a regular file, perhaps through links as Kubernetes mounts secrets. A pipe is refused: to
/// open or to read one waits for its writer, and whoever needs the secret would wait as well.
fn open_regular(path: &Path) -> std::io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(std::io::Error::other("it is not a regular file")),
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            SecretOrigin::Inline(_) => f.write_str("Secret(…)"),
            SecretOrigin::File(path, _) => write!(f, "Secret({})", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_shown() {
        let secret = Secret::inline("p$#\"w");
        assert_eq!(format!("{secret:?} {:#?}", Some(&secret)).matches("p$").count(), 0);
        assert_eq!(&*secret.read().unwrap(), "p$#\"w");
    }

    #[test]
    fn a_secret_file_is_read_again_at_each_use() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        let secret = Secret::file(&path);
        let check = |content: &[u8], expected: Result<&str, &str>| {
            std::fs::write(&path, content).unwrap();
            match (secret.read(), expected) {
                (Ok(value), Ok(expected)) => assert_eq!(&*value, expected),
                (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
                (got, expected) => panic!("{got:?} instead of {expected:?}"),
            }
        };
        assert!(matches!(secret.read(), Err(SecretError::Unreadable { .. })));
        check(b"one\n", Ok("one"));
        check(b"two\r\n", Ok("two"));
        check(b" three \n\n", Ok(" three \n"));
        check(b"\n", Err("is empty"));
        check(b"\xff", Err("not UTF-8"));
        check(&vec![b'x'; 65_537], Err("more than 65536 bytes"));
    }

    #[test]
    fn a_pipe_in_the_place_of_a_secret_file_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.is_ok_and(|status| status.success()), "mkfifo belongs to every Unix");
        let said = Secret::file(&path).read().unwrap_err().to_string();
        assert!(said.contains("not a regular file"), "{said}");
        let said = Secret::file(dir.path()).read().unwrap_err().to_string();
        assert!(said.contains("not a regular file"), "{said}");
    }
}
