//! Reads the audiences of a service account token, to tell an operator of a wrong one. The target
//! verifies the token; nothing here does.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::Value;

/// The `aud` claim of a JSON Web Token: one text or several. `None` if the text is no such token.
pub(super) fn audiences(token: &str) -> Option<Vec<String>> {
    let claims = token.split('.').nth(1)?;
    let claims: Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
    match &claims["aud"] {
        Value::String(one) => Some(vec![one.clone()]),
        Value::Array(all) => Some(all.iter().filter_map(Value::as_str).map(ToOwned::to_owned).collect()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn audiences_of_tokens() {
        let check = |claims: &str, expected: Option<&[&str]>| {
            let token = format!("e30.{}.c2ln", BASE64_URL_SAFE_NO_PAD.encode(claims));
            let expected: Option<Vec<String>> =
                expected.map(|all| all.iter().map(|one| (*one).to_owned()).collect());
            assert_eq!(audiences(&token), expected, "{claims}");
        };
        check(r#"{"aud":["a","b"]}"#, Some(&["a", "b"]));
        check(r#"{"aud":"a"}"#, Some(&["a"]));
        check(r#"{"sub":"a"}"#, None);
        check("no JSON", None);
        assert_eq!(audiences("an opaque token"), None);
        assert_eq!(audiences("a.%.c"), None);
    }
}
