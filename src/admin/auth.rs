//! Access to the admin pages other than health: basic authentication or a bearer token, compared in
//! constant time.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, Request, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use sha2::{Digest, Sha256};

use crate::config::{Auth, SecretError};

/// The configured credentials cannot be read.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct AuthError(#[from] SecretError);

/// The check that every guarded request must pass.
#[derive(Clone)]
pub struct Guard {
    /// SHA-256 of the expected `Authorization` header; the hash hides its length as well. `None`
    /// admits everybody.
    expected: Option<[u8; 32]>,
}

impl Guard {
    pub fn new(auth: &Auth) -> Result<Self, AuthError> {
        let expected = match auth {
            Auth::None => None,
            Auth::Basic { username, password } => {
                let plain = format!("{username}:{}", &*password.read()?);
                Some(format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(plain)))
            }
            Auth::Bearer { token } => Some(format!("Bearer {}", &*token.read()?)),
        };
        Ok(Guard { expected: expected.map(|header| Sha256::digest(header).into()) })
    }

    fn admits(&self, given: Option<&HeaderValue>) -> bool {
        let Some(expected) = &self.expected else { return true };
        let given: [u8; 32] = Sha256::digest(given.map_or(&b""[..], HeaderValue::as_bytes)).into();
        // Compare every byte, wherever the first difference is.
        expected.iter().zip(&given).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
    }
}

/// Middleware that answers 401 unless the request carries the configured credentials.
pub async fn check(State(guard): State<Arc<Guard>>, request: Request<Body>, next: Next) -> Response {
    if guard.admits(request.headers().get(header::AUTHORIZATION)) {
        return next.run(request).await;
    }
    let challenge = [(header::WWW_AUTHENTICATE, "Basic realm=\"event-router\"")];
    (StatusCode::UNAUTHORIZED, challenge, "invalid credentials\n").into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    #[test]
    fn only_the_right_credentials_are_admitted() {
        let guard =
            Guard::new(&Auth::Basic { username: "u".into(), password: Secret::inline("p:ä") }).unwrap();
        let header = |text: &str| HeaderValue::from_str(text).unwrap();
        let right = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode("u:p:ä"));
        assert!(guard.admits(Some(&header(&right))));
        assert!(!guard.admits(Some(&header("Basic dTpw"))));
        assert!(!guard.admits(None));
        assert!(Guard::new(&Auth::None).unwrap().admits(None));
    }
}
