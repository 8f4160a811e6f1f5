//! JSON as bytes: members without parsing their values, and text without white space.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::limits::WEBHOOK_MEMBERS_MAX;

/// The members of a JSON object, at most [`WEBHOOK_MEMBERS_MAX`], with their values as they came.
#[derive(Debug)]
pub(super) struct RawMembers<'a>(pub Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for RawMembers<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;

        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = RawMembers<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(MemberName(name)) = map.next_key()? {
                    if members.len() == WEBHOOK_MEMBERS_MAX {
                        let message = format!("an event has more than {WEBHOOK_MEMBERS_MAX} members");
                        return Err(de::Error::custom(message));
                    }
                    members.push((name, map.next_value()?));
                }
                Ok(RawMembers(members))
            }
        }

        deserializer.deserialize_map(MembersVisitor)
    }
}

/// The name of a member, borrowed unless it has escapes.
#[derive(serde::Deserialize)]
struct MemberName<'a>(#[serde(borrow)] Cow<'a, str>);

/// Removes white space between the tokens of valid JSON, so that it fits in one line. Numbers and
/// strings stay as they are.
pub(super) fn compact(json: &[u8]) -> Cow<'_, [u8]> {
    if !json.iter().any(u8::is_ascii_whitespace) {
        return Cow::Borrowed(json);
    }
    let mut out = Vec::with_capacity(json.len());
    let (mut in_string, mut is_escaped) = (false, false);
    for byte in json {
        if in_string {
            match byte {
                _ if is_escaped => is_escaped = false,
                b'\\' => is_escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
        } else if *byte == b'"' {
            in_string = true;
        } else if byte.is_ascii_whitespace() {
            continue;
        }
        out.push(*byte);
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn only_white_space_between_tokens_goes() {
        let check = |json: &str, expected: &str| {
            assert_eq!(compact(json.as_bytes()).as_ref(), expected.as_bytes(), "{json}");
        };
        check(" {\n\t\"a b\" : [ 1 , -2.50e+3 ] }\r\n", r#"{"a b":[1,-2.50e+3]}"#);
        check(r#"{"a":"\" b \\"}"#, r#"{"a":"\" b \\"}"#);
        check(r#""\\" "#, r#""\\""#);
        check("1", "1");
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(|n| json!(n)),
            ".{0,8}".prop_map(|s| json!(s))
        ];
        leaf.prop_recursive(3, 20, 4, |inner| {
            let members = prop::collection::btree_map(".{0,5}", inner.clone(), 0..4);
            prop_oneof![
                prop::collection::vec(inner, 0..4).prop_map(Value::from),
                members.prop_map(|m| json!(m))
            ]
        })
    }

    proptest! {
        #[test]
        fn compact_json_is_what_serde_json_writes(value in value()) {
            let pretty = serde_json::to_vec_pretty(&value).unwrap();
            let plain = serde_json::to_vec(&value).unwrap();
            let compacted = compact(&pretty);
            prop_assert_eq!(&compacted[..], &plain[..]);
        }
    }
}
