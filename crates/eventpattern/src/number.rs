//! Comparison of numbers.
//!
//! Numbers compare by value, as in Event Ruler: `300`, `300.0` and `3.0e2` are equal. (Older
//! EventBridge documentation compares exact numbers as text. Comparison by value matches a superset
//! of that.) Two 64-bit integers compare exactly, all other pairs as IEEE 754 binary64. In
//! binary64 alone, different large integers would be equal.

use std::cmp::Ordering;

/// A JSON number.
#[derive(Clone, Copy, Debug)]
pub enum Number {
    /// A number with an integer value that its text or its binary64 represents exactly.
    Int(i64),
    Float(f64),
}

/// 2^53: every smaller integer is exact in binary64.
const EXACT_MAX: i64 = 1 << 53;

impl Number {
    /// Parses a JSON number.
    pub fn parse(text: &str) -> Option<Self> {
        match text.parse::<i64>() {
            Ok(int) => Some(Number::Int(int)),
            Err(_) => text.parse::<f64>().ok().map(Number::from_float),
        }
    }

    pub fn from_float(float: f64) -> Self {
        if float.fract() == 0.0 && float.abs() < EXACT_MAX as f64 {
            Number::Int(float as i64)
        } else {
            Number::Float(float)
        }
    }

    /// The nearest binary64.
    pub fn to_float(self) -> f64 {
        match self {
            Number::Int(int) => int as f64,
            Number::Float(float) => float,
        }
    }

    /// Returns true if a comparison as binary64 always gives the same result as one with this
    /// number.
    pub fn is_exact_as_float(self) -> bool {
        match self {
            Number::Int(int) => int.unsigned_abs() < EXACT_MAX as u64,
            Number::Float(float) => float.abs() < EXACT_MAX as f64,
        }
    }

    /// A total order on all numbers that JSON can express.
    pub fn compare(self, other: Number) -> Ordering {
        match (self, other) {
            (Number::Int(a), Number::Int(b)) => a.cmp(&b),
            (a, b) => a.to_float().partial_cmp(&b.to_float()).unwrap_or(Ordering::Equal),
        }
    }

    pub fn equals(self, other: Number) -> bool {
        self.compare(other) == Ordering::Equal
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_compare_by_value() {
        let check = |a: &str, b: &str, expected: Ordering| {
            let (a_number, b_number) = (Number::parse(a).unwrap(), Number::parse(b).unwrap());
            assert_eq!(a_number.compare(b_number), expected, "{a} to {b}");
            assert_eq!(b_number.compare(a_number), expected.reverse(), "{b} to {a}");
        };
        check("300", "300.0", Ordering::Equal);
        check("300", "3.0e2", Ordering::Equal);
        check("-0", "0.0", Ordering::Equal);
        check("0.1", "1e-1", Ordering::Equal);
        check("9007199254740992", "9007199254740993", Ordering::Less);
        check("9223372036854775807", "9223372036854775806", Ordering::Greater);
        check("1e400", "9223372036854775807", Ordering::Greater);
        check("-1.5", "-1", Ordering::Less);
        assert!(Number::parse("x").is_none());
    }
}
