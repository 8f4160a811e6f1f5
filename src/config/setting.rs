//! The values of settings: how each type is read from a checked map, and written for a file.
//!
//! ```text
//! Group         a struct of settings, declared by `settings!`: the fields of one map
//!   Setting     one member of it, with one key or several
//!     FieldValue    the value of a single key
//! ```

use std::path::PathBuf;
use std::time::Duration;

use super::check;
use super::field::{Block, Field, FieldType};
use super::found::{CheckedMap, Value};
use super::scalar::{show_duration, show_size};
use super::yaml::{Fields, Out};
use super::{Secret, SecretError};

/// A struct of settings.
pub(crate) trait Group: Sized {
    const BLOCK: &'static Block;

    /// The settings in a map that was checked by [`BLOCK`](Self::BLOCK) or by a part of it.
    fn read(found: &CheckedMap) -> Self;

    /// Adds all fields to those of a map.
    fn write(&self, fields: &mut Fields) -> Result<(), SecretError>;

    /// The value of a list of such maps that a file leaves out.
    fn unless_given() -> Vec<Self> {
        Vec::new()
    }
}

/// The settings of an empty map. Required ones are placeholders.
pub(crate) fn defaults<G: Group>() -> G {
    G::read(&check::defaults(G::BLOCK, "", 0))
}

/// A member of a struct of settings.
pub(crate) trait Setting: Sized {
    /// Returns true if a checked map may have no value for it.
    const MAY_BE_ABSENT: bool;

    fn read(found: &CheckedMap, fields: &[Field]) -> Self;

    fn write(&self, fields: &[Field], out: &mut Fields) -> Result<(), SecretError>;
}

/// The value of one key.
pub(crate) trait FieldValue: Sized {
    const MAY_BE_ABSENT: bool = false;

    /// Returns `None` for a value of another type.
    fn of(value: &Value) -> Option<Self>;

    fn out(&self, kind: FieldType) -> Result<Out, SecretError>;

    /// The value of a key without a default that is not in the file.
    fn absent() -> Option<Self> {
        None
    }

    /// The value of a list that is not in the file.
    fn absent_list() -> Vec<Self> {
        Vec::new()
    }

    /// Returns true for a block that its switch turns off.
    fn is_off(_: &Value) -> bool {
        false
    }

    /// The block that [`is_off`](Self::is_off).
    fn off() -> Out {
        Out::Nothing
    }
}

/// The message of a defect that every configuration would trigger, so that no test misses it.
fn mismatch(field: &Field) -> String {
    format!("`{}` is declared with another type", field.key)
}

impl<T: FieldValue> Setting for T {
    const MAY_BE_ABSENT: bool = <T as FieldValue>::MAY_BE_ABSENT;

    fn read(found: &CheckedMap, fields: &[Field]) -> Self {
        let field = &fields[0];
        let value = match found.value(field.key) {
            Some(value) => T::of(value),
            // A part of the block has checked the map.
            None => check::default_of(field, "", 0).as_ref().map_or_else(T::absent, T::of),
        };
        value.unwrap_or_else(|| unreachable!("{}", mismatch(field)))
    }

    fn write(&self, fields: &[Field], out: &mut Fields) -> Result<(), SecretError> {
        let field = &fields[0];
        let value = match self.out(field.kind)? {
            Out::Text(text) if text.is_empty() && field.or_empty => Out::Nothing,
            value => value,
        };
        out.push((field.key, value));
        Ok(())
    }
}

impl<T: FieldValue> Setting for Option<T> {
    const MAY_BE_ABSENT: bool = true;

    fn read(found: &CheckedMap, fields: &[Field]) -> Self {
        let field = &fields[0];
        let stands_for_none =
            |value: &Value| matches!(value, Value::Text(text) if field.none == Some(&**text));
        let value = found.value(field.key)?;
        if stands_for_none(value) || T::is_off(value) {
            return None;
        }
        Some(T::of(value).unwrap_or_else(|| unreachable!("{}", mismatch(field))))
    }

    fn write(&self, fields: &[Field], out: &mut Fields) -> Result<(), SecretError> {
        let field = &fields[0];
        let value = match (self, field.none) {
            (Some(value), _) => value.out(field.kind)?,
            (None, Some(none)) => Out::Text(none.into()),
            (None, None) => T::off(),
        };
        out.push((field.key, value));
        Ok(())
    }
}

impl<G: Group> FieldValue for G {
    fn of(value: &Value) -> Option<Self> {
        match value {
            Value::Block(found) => Some(G::read(found)),
            _ => None,
        }
    }

    fn out(&self, _: FieldType) -> Result<Out, SecretError> {
        let mut fields = Fields::new();
        self.write(&mut fields)?;
        Ok(Out::Map(fields))
    }

    fn absent_list() -> Vec<Self> {
        G::unless_given()
    }

    fn is_off(value: &Value) -> bool {
        match (G::BLOCK.switch, value) {
            (Some(switch), Value::Block(found)) => !found.flag(switch.key),
            _ => false,
        }
    }

    fn off() -> Out {
        match G::BLOCK.switch {
            Some(switch) => Out::Map(vec![(switch.key, Out::Text("false".into()))]),
            None => Out::Nothing,
        }
    }
}

/// A list of values. It is left out of a file if it is what a missing list means.
impl<T: FieldValue + PartialEq> FieldValue for Vec<T> {
    const MAY_BE_ABSENT: bool = true;

    fn of(value: &Value) -> Option<Self> {
        match value {
            Value::List(items) => items.iter().map(T::of).collect(),
            _ => None,
        }
    }

    fn out(&self, kind: FieldType) -> Result<Out, SecretError> {
        if *self == T::absent_list() {
            return Ok(Out::Nothing);
        }
        Ok(Out::List(self.iter().map(|item| item.out(kind)).collect::<Result<_, _>>()?))
    }

    fn absent() -> Option<Self> {
        Some(T::absent_list())
    }
}

impl FieldValue for String {
    fn of(value: &Value) -> Option<Self> {
        match value {
            Value::Text(text) => Some(text.clone()),
            _ => None,
        }
    }

    fn out(&self, _: FieldType) -> Result<Out, SecretError> {
        Ok(Out::Text(self.clone()))
    }

    fn absent() -> Option<Self> {
        Some(String::new())
    }
}

impl FieldValue for PathBuf {
    fn of(value: &Value) -> Option<Self> {
        String::of(value).map(PathBuf::from)
    }

    fn out(&self, _: FieldType) -> Result<Out, SecretError> {
        Ok(Out::Text(self.display().to_string()))
    }
}

impl FieldValue for bool {
    fn of(value: &Value) -> Option<Self> {
        match value {
            Value::Flag(flag) => Some(*flag),
            _ => None,
        }
    }

    fn out(&self, _: FieldType) -> Result<Out, SecretError> {
        Ok(Out::Text(self.to_string()))
    }
}

impl FieldValue for Duration {
    fn of(value: &Value) -> Option<Self> {
        match value {
            Value::Duration(duration) => Some(*duration),
            _ => None,
        }
    }

    fn out(&self, _: FieldType) -> Result<Out, SecretError> {
        Ok(Out::Text(show_duration(*self)))
    }
}

impl FieldValue for f64 {
    fn of(value: &Value) -> Option<Self> {
        match value {
            Value::Decimal(number) => Some(*number),
            _ => None,
        }
    }

    fn out(&self, _: FieldType) -> Result<Out, SecretError> {
        Ok(Out::Text(self.to_string()))
    }
}

/// Numbers, and sizes in bytes. The bounds of the field must fit the type.
macro_rules! integers {
    ($($type:ty),*) => {$(
        impl FieldValue for $type {
            fn of(value: &Value) -> Option<Self> {
                match value {
                    Value::Whole(number) | Value::Size(number) => (*number).try_into().ok(),
                    _ => None,
                }
            }

            fn out(&self, kind: FieldType) -> Result<Out, SecretError> {
                Ok(Out::Text(match kind {
                    FieldType::Size(..) => show_size(*self as u64),
                    _ => self.to_string(),
                }))
            }
        }
    )*};
}

integers!(u32, u64, usize);

/// A map of names to text.
impl FieldValue for Vec<(String, String)> {
    const MAY_BE_ABSENT: bool = true;

    fn of(value: &Value) -> Option<Self> {
        match value {
            Value::Map(pairs) => Some(pairs.clone()),
            _ => None,
        }
    }

    fn out(&self, _: FieldType) -> Result<Out, SecretError> {
        Ok(Out::Pairs(self.clone()))
    }

    fn absent() -> Option<Self> {
        Some(Vec::new())
    }
}

/// A map of names to secrets.
impl FieldValue for Vec<(String, Secret)> {
    const MAY_BE_ABSENT: bool = true;

    fn of(value: &Value) -> Option<Self> {
        match value {
            Value::Map(pairs) => {
                let secret = |(name, value): &(String, String)| (name.clone(), Secret::inline(&**value));
                Some(pairs.iter().map(secret).collect())
            }
            _ => None,
        }
    }

    fn out(&self, _: FieldType) -> Result<Out, SecretError> {
        let pair = |(name, value): &(String, Secret)| Ok((name.clone(), value.read()?.to_string()));
        Ok(Out::Pairs(self.iter().map(pair).collect::<Result<_, SecretError>>()?))
    }

    fn absent() -> Option<Self> {
        Some(Vec::new())
    }
}

/// An EventBridge pattern.
impl FieldValue for serde_json::Value {
    fn of(value: &Value) -> Option<Self> {
        match value {
            Value::Pattern(pattern) => Some(pattern.clone()),
            _ => None,
        }
    }

    fn out(&self, _: FieldType) -> Result<Out, SecretError> {
        Ok(Out::Json(self.clone()))
    }
}

/// A secret, in one key or in the file that another key names.
impl Setting for Option<Secret> {
    const MAY_BE_ABSENT: bool = true;

    fn read(found: &CheckedMap, fields: &[Field]) -> Self {
        fields.iter().find_map(|field| match found.value(field.key)? {
            Value::Secret(secret) => Some(secret.clone()),
            _ => unreachable!("{}", mismatch(field)),
        })
    }

    fn write(&self, fields: &[Field], out: &mut Fields) -> Result<(), SecretError> {
        let Some(secret) = self else { return Ok(()) };
        let (is_file, value) = match secret.path() {
            Some(path) => (true, path.display().to_string()),
            None => (false, secret.read()?.to_string()),
        };
        let field = fields.iter().find(|field| matches!(field.kind, FieldType::SecretFile) == is_file);
        out.extend(field.map(|field| (field.key, Out::Text(value))));
        Ok(())
    }
}

/// A required secret: a rule of the block reports a missing one.
impl Setting for Secret {
    const MAY_BE_ABSENT: bool = true;

    fn read(found: &CheckedMap, fields: &[Field]) -> Self {
        <Option<Secret> as Setting>::read(found, fields).unwrap_or_else(|| Secret::inline(""))
    }

    fn write(&self, fields: &[Field], out: &mut Fields) -> Result<(), SecretError> {
        Some(self.clone()).write(fields, out)
    }
}
