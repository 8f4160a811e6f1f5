//! Who may read what is not health: basic authentication or a bearer token, compared in constant time.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, Request, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use sha2::{Digest, Sha256};

use crate::config::{Auth, SecretError};

/// Credentials that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct AuthError(#[from] SecretError);

/// What a request has to bring.
#[derive(Clone)]
pub struct Guard {
    /// SHA-256 of the expected header, so that lengths do not show either; none: everybody may read.
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
        // Every byte is compared, whatever the first difference is.
        expected.iter().zip(&given).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
    }
}

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
    fn admits_who_brings_the_right_credentials_and_nobody_else() {
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
