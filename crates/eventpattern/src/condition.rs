//! Conditions: the elements of a pattern's arrays, and the values that meet them.

use std::cmp::Ordering;
use std::net::IpAddr;

use crate::number::Number;
use crate::text::{Folded, Glob};

/// A leaf of an event: anything but an object or an array.
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

/// A block of IP addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    network: IpAddr,
    bits: u32,
}

impl Cidr {
    /// Parses `10.0.0.0/24`. As in EventBridge, a block has at least two addresses.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let (address, bits) = text.split_once('/').ok_or("expected ADDRESS/BITS")?;
        let network: IpAddr = address.parse().map_err(|_| "the part before `/` is not an IP address")?;
        let bits: u32 = bits.parse().map_err(|_| "the part after `/` is not a number of bits")?;
        match network {
            IpAddr::V4(_) if bits > 31 => {
                Err("an IPv4 block has 0 to 31 bits; write a single address as a plain string")
            }
            IpAddr::V6(_) if bits > 127 => {
                Err("an IPv6 block has 0 to 127 bits; write a single address as a plain string")
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

/// A condition on one value.
#[derive(Clone, Debug)]
pub enum Condition {
    Text(Box<str>),
    /// An IPv6 address, equal in every spelling. Event Ruler treats exact strings that way.
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
    /// `exists: false`: no leaf. No value meets it; the evaluator checks that there is none.
    Missing,
    /// `anything-but`: a leaf, of any type, that meets none of these.
    NoneOf(Box<[Condition]>),
}

impl Condition {
    /// The text of an exact-text condition.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Condition::Text(text) => Some(text),
            _ => None,
        }
    }

    pub fn is_met_by(&self, value: Value<'_>) -> bool {
        match (self, value) {
            (Condition::Present, _) => true,
            (Condition::Missing, _) => false,
            (Condition::NoneOf(conditions), value) => {
                !conditions.iter().any(|condition| condition.is_met_by(value))
            }
            (Condition::Literal(expected), Value::Literal(found)) => *expected == found,
            (Condition::Number(expected), Value::Number(found)) => expected.equals(found),
            (Condition::Range { low, high }, Value::Number(number)) => in_range(number, *low, *high),
            (condition, Value::Text(text)) => condition.is_met_by_text(text),
            _ => false,
        }
    }

    fn is_met_by_text(&self, text: &str) -> bool {
        match self {
            Condition::Text(expected) => **expected == *text,
            Condition::Address(expected) => text.parse::<IpAddr>().is_ok_and(|address| address == *expected),
            Condition::Prefix(prefix) => text.starts_with(&**prefix),
            Condition::PrefixFolded(prefix) => prefix.is_prefix_of(text),
            Condition::Suffix(suffix) => text.ends_with(&**suffix),
            Condition::SuffixFolded(suffix) => suffix.is_suffix_of(text),
            Condition::EqualsFolded(expected) => expected.equals(text),
            Condition::Glob(glob) => glob.matches(text),
            Condition::Cidr(cidr) => text.parse::<IpAddr>().is_ok_and(|address| cidr.contains(address)),
            Condition::Number(_) | Condition::Literal(_) | Condition::Range { .. } => false,
            Condition::Present | Condition::Missing | Condition::NoneOf(_) => {
                self.is_met_by(Value::Text(text))
            }
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

/// The conditions of one array, of which a value must meet at least one.
pub type Conditions = std::sync::Arc<[Condition]>;

/// Returns true if a path with this one value, or with no value, meets one of `conditions`.
pub fn are_met_by(conditions: &[Condition], value: Option<Value<'_>>) -> bool {
    match value {
        Some(value) => conditions.iter().any(|condition| condition.is_met_by(value)),
        None => conditions.iter().any(|condition| matches!(condition, Condition::Missing)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cidr_blocks() {
        let check = |block: &str, address: &str, expected: bool| {
            let test = Condition::Cidr(Cidr::parse(block).unwrap());
            assert_eq!(test.is_met_by(Value::Text(address)), expected, "{address} in {block}");
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
