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
//! INVARIANT: the memory of the values is charged while they are made.

use std::fmt;

use minijinja::Value;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::event::InvalidEvent;
use crate::limits::{
    WEBHOOK_CONTAINER_BYTES, WEBHOOK_MEMBER_BYTES, WEBHOOK_VALUE_BYTES, WEBHOOK_VALUES_STEP,
};

/// Parses one JSON value. An integer beyond 128 bits becomes a text.
///
/// `charge` is told the memory of the values in steps, before it is allocated. If it returns false,
/// there is no room for them.
pub(super) fn parse(json: &[u8], charge: &mut dyn FnMut(usize) -> bool) -> Result<Value, InvalidEvent> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let mut reading = ValueReading { numbers: NumberTexts { rest: json }, bytes: 0, charged: 0, charge };
    let parsed = ValueSeed(&mut reading).deserialize(&mut deserializer);
    let is_charged = reading.bytes <= reading.charged;
    match parsed.and_then(|value| deserializer.end().map(|()| value)) {
        Err(_) if !is_charged => Err(InvalidEvent::TooComplex),
        result => result.map_err(|error| InvalidEvent::json("the body", &error)),
    }
}

/// The state of the reading of one text.
struct ValueReading<'j, 'c> {
    numbers: NumberTexts<'j>,
    /// An upper bound of the memory of the values so far.
    bytes: usize,
    /// The part of it that is charged.
    charged: usize,
    charge: &'c mut dyn FnMut(usize) -> bool,
}

impl ValueReading<'_, '_> {
    /// Charges `bytes` more.
    fn take<E: de::Error>(&mut self, bytes: usize) -> Result<(), E> {
        self.bytes += bytes;
        if self.bytes > self.charged {
            let charged = self.bytes + WEBHOOK_VALUES_STEP;
            if !(self.charge)(charged) {
                return Err(de::Error::custom("no room for the values"));
            }
            self.charged = charged;
        }
        Ok(())
    }
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
struct ValueSeed<'r, 'j, 'c>(&'r mut ValueReading<'j, 'c>);

impl<'de> DeserializeSeed<'de> for ValueSeed<'_, '_, '_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueSeed<'_, '_, '_> {
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
        self.0.take(value.len())?;
        Ok(Value::from(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        self.0.numbers.next();
        Ok(Value::from(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        self.0.numbers.next();
        Ok(Value::from(value))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        let text = self.0.numbers.next().unwrap_or_default();
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

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        self.0.take(WEBHOOK_CONTAINER_BYTES)?;
        let mut values = Vec::new();
        while let Some(value) = list.next_element_seed(ValueSeed(self.0))? {
            self.0.take(WEBHOOK_VALUE_BYTES)?;
            values.push(value);
        }
        Ok(Value::from(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        self.0.take(WEBHOOK_CONTAINER_BYTES)?;
        let mut members = Vec::new();
        while let Some(name) = map.next_key_seed(ValueSeed(self.0))? {
            self.0.take(WEBHOOK_MEMBER_BYTES)?;
            members.push((name, map.next_value_seed(ValueSeed(self.0))?));
        }
        Ok(Value::from_pairs(members))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(json: &[u8]) -> Value {
        parse(json, &mut |_| true).unwrap()
    }

    /// The limits count with this size.
    #[test]
    fn a_value_takes_24_bytes() {
        assert_eq!(size_of::<Value>(), 24);
    }

    #[test]
    fn values_are_charged_before_they_are_made() {
        let check = |element: &str, bytes_each: usize| {
            let json = format!("[{}]", [element].repeat(10_000).join(","));
            let mut charged = 0;
            let mut charge = |bytes| {
                assert!(bytes > charged && bytes - charged <= 2 * WEBHOOK_VALUES_STEP);
                charged = bytes;
                bytes < 100 << 20
            };
            assert!(parse(json.as_bytes(), &mut charge).is_ok());
            assert!(charged >= 10_000 * bytes_each, "{element}: {charged}");
            let few = parse(json.as_bytes(), &mut |bytes| bytes < 200_000);
            assert_eq!(few, Err(InvalidEvent::TooComplex), "{element}");
        };
        check("0", 24);
        check("[]", 24 + 88);
        check("{}", 24 + 88);
        check(r#"{"":0}"#, 24 + 88 + 4 * 48);
        check(r#""some text that is longer than a value""#, 24 + 38);
    }

    #[test]
    fn integers_keep_all_digits() {
        let check = |json: &str, rendered: &str| {
            assert_eq!(read(json.as_bytes()).to_string(), rendered, "{json}");
        };
        let u128_max = u128::MAX.to_string();
        check("18446744073709551617", "18446744073709551617");
        check("-18446744073709551618", "-18446744073709551618");
        check(&u128_max, &u128_max);
        check(&format!("{u128_max}0"), &format!("{u128_max}0"));
        check("1e3", "1000.0");
        check("-0", "-0.0");
        let check = |json: &str, expected: &str| {
            let value = read(json.as_bytes());
            assert_eq!(serde_json::to_string(&value).unwrap(), expected, "{json}");
        };
        check(r#" ["\"1\\", -7, 1.5E0, 36893488147419103233] "#, r#"["\"1\\",-7,1.5,36893488147419103233]"#);
        check(
            r#"{"9": {"1": 99999999999999999999}, "2": null}"#,
            r#"{"9":{"1":99999999999999999999},"2":null}"#,
        );
        check(r#"{"a": 1, "b": 2, "a": 99999999999999999999}"#, r#"{"a":99999999999999999999,"b":2}"#);
        for wrong in ["", "{", "[1,]", "1 2", "01", "nul"] {
            assert!(parse(wrong.as_bytes(), &mut |_| true).is_err(), "{wrong}");
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
            let found = read(&json);
            prop_assert_eq!(serde_json::to_string(&found).unwrap(), serde_json::to_string(&expected).unwrap());
            prop_assert_eq!(found.to_string(), expected.to_string());
        }
    }
}
