//! Declares settings: each key once, with its type, bounds, default, documentation and the names
//! that people write by mistake.
//!
//! ```text
//! settings! {
//!     /// Periodic second read that finds late events.          documentation of the map
//!     #[derive(Clone, Debug)]
//!     pub struct Sweep in "sweep", with defaults {
//!         /// Time between two sweeps.                           documentation of the key
//!         pub interval: Duration = key("interval", duration(SECOND, HOUR)).or("1m");
//!     }
//!     rules [FieldRule::Needs("a", &["b"])];
//!     check a_function;
//! }
//! ```
//!
//! From this come the struct, its `Default`, its table ([`Block`](super::Block)), the reader and
//! the writer. A member may have several keys; then each has its own `.doc("…")`. A member without
//! keys is another struct of settings, whose fields are in the same map.

use super::format::{
    ANY_TEXT, CERT_FILE_TEXT, HTTP_URL_TEXT, KEY_FILE_TEXT, MAY_BE_EMPTY, NAME_TEXT, PATH_TEXT,
};
use super::setting::Group;

pub(crate) use super::field::{Field, FieldRule, FieldType, Variant};
pub(crate) use super::format::{MapFormat, TextFormat};
pub(crate) use super::found::{CheckedMap, Value};
pub(crate) use super::problem::Problems;
pub(crate) use super::setting::{FieldValue, Setting, defaults};
pub(crate) use super::yaml::{Fields, Out};

pub(crate) const SECOND: u64 = 1_000;
pub(crate) const MINUTE: u64 = 60 * SECOND;
pub(crate) const HOUR: u64 = 60 * MINUTE;
pub(crate) const DAY: u64 = 24 * HOUR;
pub(crate) const KIB: u64 = 1 << 10;
pub(crate) const MIB: u64 = 1 << 20;
pub(crate) const GIB: u64 = 1 << 30;
pub(crate) const TIB: u64 = 1 << 40;

pub(crate) const TEXT: FieldType = FieldType::Text(&ANY_TEXT);
pub(crate) const TEXT_OR_EMPTY: FieldType = FieldType::Text(&MAY_BE_EMPTY);
pub(crate) const NAME: FieldType = FieldType::Text(&NAME_TEXT);
pub(crate) const HTTP_URL: FieldType = FieldType::Text(&HTTP_URL_TEXT);
pub(crate) const PATH: FieldType = FieldType::Text(&PATH_TEXT);
pub(crate) const CERT_FILE: FieldType = FieldType::Text(&CERT_FILE_TEXT);
pub(crate) const KEY_FILE: FieldType = FieldType::Text(&KEY_FILE_TEXT);
pub(crate) const FLAG: FieldType = FieldType::Flag;
pub(crate) const SECRET: FieldType = FieldType::Secret;
pub(crate) const SECRET_FILE: FieldType = FieldType::SecretFile;

/// The switch of a block that is on by default.
pub(crate) const ENABLED: Field = key("enabled", FLAG).or("true").doc("Turns it on or off.");

pub(crate) const fn key(key: &'static str, kind: FieldType) -> Field {
    Field::new(key, kind)
}

/// A text of a format that a part declares.
pub(crate) const fn text(format: &'static TextFormat) -> FieldType {
    FieldType::Text(format)
}

/// A duration between bounds in milliseconds.
pub(crate) const fn duration(min: u64, max: u64) -> FieldType {
    FieldType::Duration(min, max)
}

/// A size between bounds in bytes.
pub(crate) const fn size(min: u64, max: u64) -> FieldType {
    FieldType::Size(min, max)
}

/// A whole number between bounds.
pub(crate) const fn whole(min: u64, max: u64) -> FieldType {
    FieldType::Whole(min, max)
}

/// A number between bounds.
pub(crate) const fn decimal(min: f64, max: f64) -> FieldType {
    FieldType::Decimal(min, max)
}

/// One of the words of an enumeration.
pub(crate) const fn one_of<W: Words>() -> FieldType {
    FieldType::OneOf(W::WORDS)
}

/// A map with defaults.
pub(crate) const fn block<G: Group>() -> FieldType {
    FieldType::Block(G::BLOCK)
}

/// An optional map without defaults.
pub(crate) const fn maybe<G: Group>() -> FieldType {
    FieldType::Maybe(G::BLOCK)
}

/// A list of at least one map.
pub(crate) const fn blocks<G: Group>() -> FieldType {
    FieldType::Blocks(G::BLOCK)
}

/// An enumeration that is written as words.
pub(crate) trait Words: Copy + 'static {
    /// Each word with its meaning.
    const WORDS: &'static [(&'static str, &'static str)];
    /// The values, in the order of the words.
    const ALL: &'static [Self];

    fn word(self) -> &'static str;

    fn parse(word: &str) -> Option<Self> {
        let at = Self::WORDS.iter().position(|(known, _)| *known == word)?;
        Some(Self::ALL[at])
    }

    /// The value of a checked word. The text is empty if the file had a wrong one, which was
    /// reported.
    fn of_checked(value: &Value) -> Option<Self> {
        match value {
            Value::Text(word) if word.is_empty() => Some(Self::ALL[0]),
            Value::Text(word) => Self::parse(word),
            _ => None,
        }
    }
}

/// A table of keys without settings, for a format that is only translated.
macro_rules! table {
    ($name:literal, [$($field:expr),* $(,)?]) => {{
        const MEMBERS: &[$crate::config::Member] = &[$crate::config::Member::Fields(&[$($field),*])];
        $crate::config::Block::new($name, MEMBERS)
    }};
}

/// Joins the lines of a doc comment.
macro_rules! joined {
    ([]) => {
        ""
    };
    ([$($line:literal)+]) => {
        concat!($($line),+).trim_ascii()
    };
}

/// The table of one member: its keys, or another struct of settings.
macro_rules! member {
    ($doc:tt $type:ty, [] [$($changed:expr),*]) => {
        $crate::config::Member::Inline(<$type as $crate::config::Group>::BLOCK, &[$($changed),*])
    };
    ($doc:tt $type:ty, [$($field:expr),+] []) => {{
        const FIELDS: &[$crate::config::Field] =
            &[$($field.documented($crate::config::declare::joined!($doc))),+];
        $crate::config::Member::assert_filled(
            FIELDS,
            <$type as $crate::config::declare::Setting>::MAY_BE_ABSENT,
        );
        $crate::config::Member::Fields(FIELDS)
    }};
}

/// Reads one member.
macro_rules! read_member {
    ($type:ty, $found:ident, $member:expr, []) => {
        <$type as $crate::config::Group>::read($found)
    };
    ($type:ty, $found:ident, $member:expr, [$($field:expr),+]) => {
        <$type as $crate::config::declare::Setting>::read($found, $member.fields())
    };
}

/// Writes one member.
macro_rules! write_member {
    ($type:ty, $value:expr, $out:ident, $member:expr, []) => {
        <$type as $crate::config::Group>::write($value, $out)
    };
    ($type:ty, $value:expr, $out:ident, $member:expr, [$($field:expr),+]) => {
        <$type as $crate::config::declare::Setting>::write($value, $member.fields(), $out)
    };
}

/// Declares a struct of settings, see the [module](self).
macro_rules! settings {
    (
        $(#[doc = $doc:literal])*
        #[derive($($derive:ident),+)]
        $vis:vis struct $name:ident in $block:literal $(, with $default:ident)? {
            $(
                $(#[doc = $member_doc:literal])*
                $member_vis:vis $member:ident: $type:ty
                    $(, changed [$($changed:expr),+])?
                    $(= $($field:expr),+)?;
            )*
        }
        $(switch $switch:expr;)?
        $(variants $kind:ty;)?
        $(rules [$($rule:expr),+ $(,)?];)?
        $(check $check:expr;)?
        $(unless given $list:expr;)?
    ) => {
        $(#[doc = $doc])*
        #[derive($($derive),+)]
        $vis struct $name {
            $($(#[doc = $member_doc])* $member_vis $member: $type,)*
        }

        impl $crate::config::Group for $name {
            const BLOCK: &'static $crate::config::Block = &{
                const MEMBERS: &[$crate::config::Member] = &[$(
                    $crate::config::declare::member!(
                        [$($member_doc)*] $type, [$($($field),+)?] [$($($changed),+)?]
                    )
                ),*];
                let mut block = $crate::config::Block::new($block, MEMBERS);
                block.doc = $crate::config::declare::joined!([$($doc)*]);
                $(block.switch = Some($switch);)?
                $(block.variants = <$kind>::VARIANTS;)?
                $(block.rules = &[$($rule),+];)?
                $(block.check = Some($check);)?
                block
            };

            fn read(found: &$crate::config::CheckedMap) -> Self {
                let mut members = <Self as $crate::config::Group>::BLOCK.members.iter();
                let mut next = || members.next().expect("the table has every member");
                // A block without keys has no use for them.
                let _ = (found, &mut next);
                Self {$(
                    $member: {
                        let _member = next();
                        $crate::config::declare::read_member!($type, found, _member, [$($($field),+)?])
                    },
                )*}
            }

            fn write(
                &self,
                out: &mut $crate::config::Fields,
            ) -> Result<(), $crate::config::SecretError> {
                let mut members = <Self as $crate::config::Group>::BLOCK.members.iter();
                let mut next = || members.next().expect("the table has every member");
                let _ = (&out, &mut next);
                $(
                    let _member = next();
                    $crate::config::declare::write_member!(
                        $type, &self.$member, out, _member, [$($($field),+)?]
                    )?;
                )*
                Ok(())
            }

            $(fn unless_given() -> Vec<Self> {
                $list
            })?
        }

        $(impl Default for $name {
            fn default() -> Self {
                $crate::config::declare::$default()
            }
        })?
    };
}

/// Declares an enumeration with its words. The documentation of a variant is the meaning of its
/// word.
macro_rules! words {
    (
        $(#[$attribute:meta])*
        $vis:vis enum $name:ident {
            $(
                $(#[doc = $doc:literal])*
                $variant:ident = $word:literal,
            )+
        }
    ) => {
        $(#[$attribute])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        $vis enum $name {
            $($(#[doc = $doc])* $variant,)+
        }

        impl $crate::config::declare::Words for $name {
            const WORDS: &'static [(&'static str, &'static str)] =
                &[$(($word, $crate::config::declare::joined!([$($doc)*]))),+];
            const ALL: &'static [Self] = &[$(Self::$variant),+];

            fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl $crate::config::declare::FieldValue for $name {
            fn of(value: &$crate::config::Value) -> Option<Self> {
                <Self as $crate::config::declare::Words>::of_checked(value)
            }

            fn out(
                &self,
                _: $crate::config::FieldType,
            ) -> Result<$crate::config::declare::Out, $crate::config::SecretError> {
                let word = <Self as $crate::config::declare::Words>::word(*self);
                Ok($crate::config::declare::Out::Text(word.into()))
            }
        }
    };
}

/// Declares an enumeration by the `type` of a map: each variant adds its settings to those of the
/// map. The documentation of a variant is the meaning of its word. `unknown` is the placeholder for
/// a wrong type, which was reported.
macro_rules! kinds {
    (
        $(#[$attribute:meta])*
        $vis:vis enum $name:ident, unknown $unknown:expr; {
            $(
                $(#[doc = $doc:literal])*
                $variant:ident($settings:ty) = $word:literal
                    $(, changed [$($changed:expr),+])?;
            )+
        }
    ) => {
        $(#[$attribute])*
        $vis enum $name {
            $($(#[doc = $doc])* $variant($settings),)+
        }

        impl $name {
            pub(crate) const WORDS: $crate::config::FieldType = $crate::config::FieldType::OneOf(
                &[$(($word, $crate::config::declare::joined!([$($doc)*]))),+]
            );
            pub(crate) const VARIANTS: &'static [$crate::config::declare::Variant] = &[$(
                $crate::config::declare::Variant {
                    word: $word,
                    block: <$settings as $crate::config::Group>::BLOCK,
                    changed: &[$($($changed),+)?],
                }
            ),+];
        }

        impl $crate::config::declare::Setting for $name {
            const MAY_BE_ABSENT: bool = false;

            fn read(found: &$crate::config::CheckedMap, _: &[$crate::config::Field]) -> Self {
                match found.variant {
                    $($word => Self::$variant(<$settings as $crate::config::Group>::read(found)),)+
                    _ => $unknown,
                }
            }

            fn write(
                &self,
                fields: &[$crate::config::Field],
                out: &mut $crate::config::Fields,
            ) -> Result<(), $crate::config::SecretError> {
                match self {$(
                    Self::$variant(settings) => {
                        out.push((fields[0].key, $crate::config::declare::Out::Text($word.into())));
                        <$settings as $crate::config::Group>::write(settings, out)
                    }
                )+}
            }
        }
    };
}

pub(crate) use {joined, kinds, member, read_member, settings, table, words, write_member};
