//! JSON as values of templates, with every digit of its integers.
//!
//! serde_json reads an integer beyond 64 bits as a float, and different ones become equal. The id
//! of an event may be such a number, and an event whose id is known is dropped. So the numbers are
//! read a second time, from the text:
//!
//! ```text
//! text       {"seq": 18446744073709551617, "part": 1.5}
//! serde_json         18446744073709552000.0        1.5     the numbers in their order
//! NumberTexts       "18446744073709551617"        "1.5"    the texts in the same order
//! value              18446744073709551617          1.5
//! ```
//!
//! INVARIANT: integers of different digits are different values.

use std::fmt;

use minijinja::Value;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

/// Parses one JSON value. An integer beyond 128 bits becomes a text.
pub(super) fn parse(json: &[u8]) -> Result<Value, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let mut numbers = NumberTexts { rest: json };
    let value = ValueSeed { numbers: &mut numbers }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

/// The texts of the numbers in a JSON text, in order.
struct NumberTexts<'j> {
    rest: &'j [u8],
}

impl<'j> Iterator for NumberTexts<'j> {
    type Item = &'j str;

    fn next(&mut self) -> Option<&'j str> {
        let (mut at, mut in_string) = (0, false);
        loop {
            let byte = *self.rest.get(at)?;
            match byte {
                b'\\' if in_string => at += 1,
                b'"' => in_string = !in_string,
                b'-' | b'0'..=b'9' if !in_string => break,
                _ => {}
            }
            at += 1;
        }
        let begun = &self.rest[at..];
        let is_number = |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
        let end = begun.iter().position(|byte| !is_number(byte)).unwrap_or(begun.len());
        self.rest = &begun[end..];
        std::str::from_utf8(&begun[..end]).ok()
    }
}

/// Makes a value of the next JSON value.
struct ValueSeed<'n, 'j> {
    numbers: &'n mut NumberTexts<'j>,
}

impl<'j> ValueSeed<'_, 'j> {
    /// The same seed for a value within this one.
    fn inner(&mut self) -> ValueSeed<'_, 'j> {
        ValueSeed { numbers: self.numbers }
    }
}

impl<'de> DeserializeSeed<'de> for ValueSeed<'_, '_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueSeed<'_, '_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::from(()))
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        self.numbers.next();
        Ok(Value::from(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        self.numbers.next();
        Ok(Value::from(value))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        let text = self.numbers.next().unwrap_or_default();
        let digits = text.strip_prefix('-').unwrap_or(text);
        // `-0` is a float, too.
        let is_integer = digits != "0" && digits.bytes().all(|byte| byte.is_ascii_digit());
        if !is_integer {
            return Ok(Value::from(value));
        }
        if let Ok(number) = text.parse::<i128>() {
            return Ok(Value::from(number));
        }
        Ok(text.parse::<u128>().map_or_else(|_| Value::from(text), Value::from))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element_seed(self.inner())? {
            values.push(value);
        }
        Ok(Value::from(values))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Vec::new();
        while let Some(name) = map.next_key::<Value>()? {
            members.push((name, map.next_value_seed(self.inner())?));
        }
        Ok(Value::from_pairs(members))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn integers_keep_all_digits() {
        let check = |json: &str, rendered: &str| {
            assert_eq!(parse(json.as_bytes()).unwrap().to_string(), rendered, "{json}");
        };
        let u128_max = u128::MAX.to_string();
        check("18446744073709551617", "18446744073709551617");
        check("-18446744073709551618", "-18446744073709551618");
        check(&u128_max, &u128_max);
        check(&format!("{u128_max}0"), &format!("{u128_max}0"));
        check("1e3", "1000.0");
        check("-0", "-0.0");
        let check = |json: &str, expected: &str| {
            let value = parse(json.as_bytes()).unwrap();
            assert_eq!(serde_json::to_string(&value).unwrap(), expected, "{json}");
        };
        check(r#" ["\"1\\", -7, 1.5E0, 36893488147419103233] "#, r#"["\"1\\",-7,1.5,36893488147419103233]"#);
        check(
            r#"{"9": {"1": 99999999999999999999}, "2": null}"#,
            r#"{"9":{"1":99999999999999999999},"2":null}"#,
        );
        check(r#"{"a": 1, "b": 2, "a": 99999999999999999999}"#, r#"{"a":99999999999999999999,"b":2}"#);
        for wrong in ["", "{", "[1,]", "1 2", "01", "nul"] {
            assert!(parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    fn value() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(serde_json::Value::from),
            any::<i64>().prop_map(serde_json::Value::from),
            any::<u64>().prop_map(serde_json::Value::from),
            (-1e9..1e9).prop_map(serde_json::Value::from),
            ".{0,8}".prop_map(serde_json::Value::from)
        ];
        leaf.prop_recursive(3, 20, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
                prop::collection::btree_map(".{0,5}", inner, 0..4).prop_map(serde_json::Value::from_iter)
            ]
        })
    }

    proptest! {
        #[test]
        fn other_values_are_what_minijinja_reads(value in value()) {
            let json = serde_json::to_vec(&value).unwrap();
            let expected: Value = serde_json::from_slice(&json).unwrap();
            let found = parse(&json).unwrap();
            prop_assert_eq!(serde_json::to_string(&found).unwrap(), serde_json::to_string(&expected).unwrap());
            prop_assert_eq!(found.to_string(), expected.to_string());
        }
    }
}
