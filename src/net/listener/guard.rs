//! Access to the pages of a listener: basic authentication or a bearer token, compared in constant
//! time. A secret in a file is read again when the file changes.

use axum::http::HeaderValue;
use base64::Engine;
use sha2::{Digest, Sha256};

use super::files::FromFiles;
use crate::config::SecretError;
use crate::net::settings::Auth;

/// The configured credentials cannot be read.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct AuthError(#[from] SecretError);

/// SHA-256 of the `Authorization` header that is admitted, with its scheme in lower case; the hash
/// hides its length as well. `None` admits everybody.
type Expected = Option<[u8; 32]>;

/// The check that every guarded request must pass.
pub struct Guard {
    expected: FromFiles<Expected, SecretError>,
    /// The value of `WWW-Authenticate`.
    challenge: &'static str,
}

impl Guard {
    /// `setting` is the path of the setting, for messages.
    pub fn new(setting: &str, auth: &Auth) -> Result<Self, AuthError> {
        let (challenge, secret) = match auth {
            Auth::None => ("", None),
            Auth::Basic { password, .. } => {
                ("Basic realm=\"event-router\", charset=\"UTF-8\"", Some(password))
            }
            Auth::Bearer { token } => ("Bearer realm=\"event-router\"", Some(token)),
        };
        let files = secret.and_then(|secret| secret.path()).map(ToOwned::to_owned).into_iter().collect();
        let auth = auth.clone();
        let expected = FromFiles::new(setting, files, move || expected(&auth))?;
        Ok(Guard { expected, challenge })
    }

    /// The value of `WWW-Authenticate` in an answer to a request that is not admitted.
    pub fn challenge(&self) -> &'static str {
        self.challenge
    }

    /// Returns true if a request with this `Authorization` header may pass.
    pub fn admits(&self, given: Option<&HeaderValue>) -> bool {
        let Some(expected) = self.expected.current() else { return true };
        let given: [u8; 32] = Sha256::digest(lower_scheme(given.map_or(b"", HeaderValue::as_bytes))).into();
        // Compare every byte, wherever the first difference is.
        expected.iter().zip(&given).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
    }
}

/// A header with its scheme in lower case: `Bearer` and `bearer` are the same scheme.
fn lower_scheme(header: &[u8]) -> Vec<u8> {
    let mut header = header.to_owned();
    let scheme = header.iter().position(|byte| *byte == b' ').unwrap_or(0);
    header[..scheme].make_ascii_lowercase();
    header
}

fn expected(auth: &Auth) -> Result<Expected, SecretError> {
    let header = match auth {
        Auth::None => return Ok(None),
        Auth::Basic { username, password } => {
            let plain = format!("{username}:{}", &*password.read()?);
            format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(plain))
        }
        Auth::Bearer { token } => format!("Bearer {}", &*token.read()?),
    };
    Ok(Some(Sha256::digest(lower_scheme(header.as_bytes())).into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    #[test]
    fn only_the_right_credentials_are_admitted() {
        let guard =
            Guard::new("auth", &Auth::Basic { username: "u".into(), password: Secret::inline("p:ä") })
                .unwrap();
        let header = |text: &str| HeaderValue::from_str(text).unwrap();
        let right = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode("u:p:ä"));
        assert!(guard.admits(Some(&header(&right))));
        assert!(guard.admits(Some(&header(&right.replacen("Basic", "bASIC", 1)))), "schemes have no case");
        assert!(!guard.admits(Some(&header(&right.to_lowercase()))), "credentials do");
        assert!(!guard.admits(Some(&header("Basic dTpw"))));
        assert!(!guard.admits(None));
        assert!(Guard::new("auth", &Auth::None).unwrap().admits(None));
    }

    #[test]
    fn a_rotated_token_replaces_the_old_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, "old\n").unwrap();
        let guard = Guard::new("auth", &Auth::Bearer { token: Secret::file(&path) }).unwrap();
        let admitted = || {
            ["old", "renewed"]
                .map(|token| guard.admits(Some(&HeaderValue::from_str(&format!("Bearer {token}")).unwrap())))
        };
        assert_eq!(admitted(), [true, false]);
        std::fs::write(&path, "renewed\n").unwrap();
        assert_eq!(admitted(), [false, true]);
        assert!(guard.challenge.starts_with("Bearer "), "{}", guard.challenge);
    }
}
