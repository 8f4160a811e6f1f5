//! One element of a pattern's array, and whether a value passes it.

use std::cmp::Ordering;
use std::net::IpAddr;

use crate::number::Number;
use crate::text::{Folded, Glob};

/// A leaf of an event.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    /// A string, unescaped.
    Text(&'a str),
    Number(Number),
    Literal(Literal),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Literal {
    True,
    False,
    Null,
}

impl Literal {
    pub fn as_str(self) -> &'static str {
        match self {
            Literal::True => "true",
            Literal::False => "false",
            Literal::Null => "null",
        }
    }
}

/// A limit of a `numeric` range.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    pub number: Number,
    pub inclusive: bool,
}

/// A block of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    network: IpAddr,
    bits: u32,
}

impl Cidr {
    /// The block of `text`, `10.0.0.0/24`. As in EventBridge the mask leaves at least one bit free.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let (address, bits) = text.split_once('/').ok_or("one `/` is needed")?;
        let network: IpAddr = address.parse().map_err(|_| "what is before the `/` is not an IP address")?;
        let bits: u32 = bits.parse().map_err(|_| "what is behind the `/` is not a number of bits")?;
        match network {
            IpAddr::V4(_) if bits > 31 => {
                Err("an IPv4 mask has 0 to 31 bits; give a single address as a plain string")
            }
            IpAddr::V6(_) if bits > 127 => {
                Err("an IPv6 mask has 0 to 127 bits; give a single address as a plain string")
            }
            _ => Ok(Cidr { network, bits }),
        }
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.network, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                (network.to_bits() ^ address.to_bits()).checked_shr(32 - self.bits).unwrap_or(0) == 0
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                (network.to_bits() ^ address.to_bits()).checked_shr(128 - self.bits).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

/// What a value must be.
#[derive(Clone, Debug)]
pub enum Test {
    Text(Box<str>),
    /// A string that is an IPv6 address: equal in any spelling, as Event Ruler has it.
    Address(IpAddr),
    Number(Number),
    Literal(Literal),
    Prefix(Box<str>),
    PrefixFolded(Folded),
    Suffix(Box<str>),
    SuffixFolded(Folded),
    EqualsFolded(Folded),
    Glob(Glob),
    Range {
        low: Option<Limit>,
        high: Option<Limit>,
    },
    Cidr(Cidr),
    /// `exists: true`: any leaf.
    Present,
    /// `exists: false`: no leaf. No value passes it; who evaluates looks for the absence of values.
    Missing,
    /// `anything-but`: a leaf, of any type, that passes none of these.
    NoneOf(Box<[Test]>),
}

impl Test {
    pub fn passes(&self, value: Value<'_>) -> bool {
        match (self, value) {
            (Test::Present, _) => true,
            (Test::Missing, _) => false,
            (Test::NoneOf(tests), value) => !tests.iter().any(|test| test.passes(value)),
            (Test::Literal(expected), Value::Literal(found)) => *expected == found,
            (Test::Number(expected), Value::Number(found)) => expected.equals(found),
            (Test::Range { low, high }, Value::Number(number)) => in_range(number, *low, *high),
            (test, Value::Text(text)) => test.passes_text(text),
            _ => false,
        }
    }

    fn passes_text(&self, text: &str) -> bool {
        match self {
            Test::Text(expected) => **expected == *text,
            Test::Address(expected) => text.parse::<IpAddr>().is_ok_and(|address| address == *expected),
            Test::Prefix(prefix) => text.starts_with(&**prefix),
            Test::PrefixFolded(prefix) => prefix.is_prefix_of(text),
            Test::Suffix(suffix) => text.ends_with(&**suffix),
            Test::SuffixFolded(suffix) => suffix.is_suffix_of(text),
            Test::EqualsFolded(expected) => expected.equals(text),
            Test::Glob(glob) => glob.matches(text),
            Test::Cidr(cidr) => text.parse::<IpAddr>().is_ok_and(|address| cidr.contains(address)),
            Test::Number(_) | Test::Literal(_) | Test::Range { .. } => false,
            Test::Present | Test::Missing | Test::NoneOf(_) => self.passes(Value::Text(text)),
        }
    }
}

fn in_range(number: Number, low: Option<Limit>, high: Option<Limit>) -> bool {
    let inside = |limit: Option<Limit>, outside: Ordering| {
        limit.is_none_or(|limit| match number.compare(limit.number) {
            Ordering::Equal => limit.inclusive,
            order => order != outside,
        })
    };
    inside(low, Ordering::Less) && inside(high, Ordering::Greater)
}

/// The tests of one array: one of them must pass.
pub type AnyOf = std::sync::Arc<[Test]>;

/// Whether a path with the one value `value` (or none) satisfies `tests`.
pub fn satisfies(tests: &[Test], value: Option<Value<'_>>) -> bool {
    match value {
        Some(value) => tests.iter().any(|test| test.passes(value)),
        None => tests.iter().any(|test| matches!(test, Test::Missing)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cidr_blocks() {
        let check = |block: &str, address: &str, expected: bool| {
            let test = Test::Cidr(Cidr::parse(block).unwrap());
            assert_eq!(test.passes(Value::Text(address)), expected, "{address} in {block}");
        };
        check("10.0.0.0/24", "10.0.0.255", true);
        check("10.0.0.0/24", "10.0.1.0", false);
        check("10.0.0.77/24", "10.0.0.1", true);
        check("0.0.0.0/0", "255.1.2.3", true);
        check("0.0.0.0/0", "::1", false);
        check("2001:db8::/32", "2001:db8:ffff::1", true);
        check("2001:db8::/32", "2001:0DB8:0:0:0:0:0:1", true);
        check("2001:db8::/32", "2001:db9::", false);
        check("::/0", "2001:db9::", true);
        check("10.0.0.0/24", "10.0.0.x", false);
        for bad in ["10.0.0.0", "10.0.0.0/32", "::/128", "10.0.0/8", "10.0.0.0/-1", "10.0.0.0/8/8", "host/8"]
        {
            assert!(Cidr::parse(bad).is_err(), "{bad}");
        }
    }
}
