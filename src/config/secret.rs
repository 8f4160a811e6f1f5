//! Secrets: values that can be used but not printed.
//!
//! INVARIANT: no `Debug`, `Display` or serialisation of a [`Secret`] contains its value. Only
//! [`Secret::read`] returns it.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The largest secret file. The largest service-account tokens have about 2 KiB, so a larger file
/// is not a secret but for example a log.
pub const SECRET_FILE_BYTES_MAX: u64 = 64 << 10;

/// A password, token or key: given in the configuration, or in a file that is read again at each
/// use.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(SecretOrigin);

#[derive(Clone, PartialEq, Eq)]
enum SecretOrigin {
    Inline(Arc<str>),
    File(PathBuf),
}

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

impl Secret {
    pub fn inline(value: impl Into<Arc<str>>) -> Self {
        Secret(SecretOrigin::Inline(value.into()))
    }

    pub fn file(path: impl Into<PathBuf>) -> Self {
        Secret(SecretOrigin::File(path.into()))
    }

    /// Returns the current value. A file is read at each call, so that a rotated password is found.
    /// One line break at the end of the file is not part of the value.
    pub fn read(&self) -> Result<Arc<str>, SecretError> {
        let path = match &self.0 {
            SecretOrigin::Inline(value) => return Ok(Arc::clone(value)),
            SecretOrigin::File(path) => path,
        };
        let mut bytes = Vec::new();
        std::fs::File::open(path)
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
        Ok(text.into())
    }

    /// The file with the value, if it is in a file.
    pub fn path(&self) -> Option<&Path> {
        match &self.0 {
            SecretOrigin::Inline(_) => None,
            SecretOrigin::File(path) => Some(path),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            SecretOrigin::Inline(_) => f.write_str("Secret(…)"),
            SecretOrigin::File(path) => write!(f, "Secret({})", path.display()),
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
}
