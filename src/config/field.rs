//! Types for tables of keys. Each format has a table, which lists its keys with their types,
//! defaults and meanings.
//!
//! Validation, the JSON schema and `docs/configuration.md` are all based on the table, so they
//! cannot contradict each other.

use super::scalar;

/// The fields of one map.
#[derive(Debug)]
pub(super) struct Block {
    /// Its heading in the documentation and its definition in the schema, such as `tls`.
    pub name: &'static str,
    pub doc: &'static str,
    pub fields: &'static [Field],
    /// Additional fields by the value of `type`; empty if the block has no `type`.
    pub variants: &'static [Variant],
    pub rules: &'static [FieldRule],
}

/// The additions of a `type` to a block.
#[derive(Debug)]
pub(super) struct Variant {
    pub word: &'static str,
    pub doc: &'static str,
    /// A field here replaces the block's field with the same key.
    pub fields: &'static [Field],
    pub rules: &'static [FieldRule],
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    pub key: &'static str,
    pub kind: FieldType,
    /// As written in a file; `None` if there is no default.
    pub default: Option<&'static str>,
    pub required: bool,
    /// Its meaning in one or two sentences, with units.
    pub doc: &'static str,
    /// Names that people write by mistake for this field.
    pub also: &'static [&'static str],
}

/// A rule for fields that depend on each other.
#[derive(Clone, Copy, Debug)]
pub(super) enum FieldRule {
    /// Exactly one of these must be given.
    ExactlyOne(&'static [&'static str]),
    /// At most one of these may be given.
    AtMostOne(&'static [&'static str]),
    /// The first requires one of the others.
    Needs(&'static str, &'static [&'static str]),
}

/// The type of a field.
#[derive(Clone, Copy, Debug)]
pub(super) enum FieldType {
    Text(TextFormat),
    Flag,
    /// A whole number between these bounds, inclusive.
    Whole(u64, u64),
    /// A number between these bounds, inclusive. A lower bound of 0 excludes 0.
    Decimal(f64, f64),
    /// A duration between these bounds in milliseconds, inclusive.
    Duration(u64, u64),
    /// A size between these bounds in bytes, inclusive.
    Size(u64, u64),
    /// One of these words, each with its meaning.
    OneOf(&'static [(&'static str, &'static str)]),
    Secret,
    /// The path of a file with a secret.
    SecretFile,
    List(&'static FieldType),
    /// A list with at least one element.
    NonEmpty(&'static FieldType),
    /// A list, or a single element without brackets.
    OneOrMore(&'static FieldType),
    /// A map of names to text.
    Map(MapFormat),
    /// An EventBridge pattern.
    Pattern,
    /// A map with defaults: the file may leave it out.
    Block(&'static Block),
    /// An optional map without defaults.
    Maybe(&'static Block),
    /// A list of at least one map.
    Blocks(&'static Block),
    /// Any value; it is checked later.
    Raw,
}

/// The format of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TextFormat {
    /// Any text that is not empty.
    Any,
    /// Any text.
    MayBeEmpty,
    Name,
    /// A Kubernetes name, which becomes part of a URL path.
    ObjectName,
    HttpUrl,
    /// An HTTP URL that may carry credentials.
    ProxyUrl,
    SdkUrl,
    BindAddress,
    StartAt,
    Thumbprint,
    Status,
    /// A PEM file with certificates.
    CertFile,
    /// A PEM file with a private key.
    KeyFile,
    Path,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MapFormat {
    Headers,
    Extensions,
    /// HTTP statuses, or classes of them, to who is to blame.
    Blame,
    Any,
}

/// The longest name in bytes, which is also Kubernetes' limit. Names are labels of metrics.
const NAME_BYTES_MAX: usize = 253;

impl Field {
    pub const fn new(key: &'static str, kind: FieldType, doc: &'static str) -> Self {
        Field { key, kind, default: None, required: false, doc, also: &[] }
    }

    pub const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    pub const fn or(mut self, default: &'static str) -> Self {
        self.default = Some(default);
        self
    }

    pub const fn also(mut self, names: &'static [&'static str]) -> Self {
        self.also = names;
        self
    }
}

impl Block {
    /// The fields that a map of this variant may have, those of the variant first.
    pub fn fields_of(&self, variant: Option<&'static Variant>) -> Vec<&'static Field>
    where
        Self: 'static,
    {
        let own = variant.map_or(&[][..], |variant| variant.fields);
        let common = self.fields.iter().filter(|field| own.iter().all(|other| other.key != field.key));
        // `name` and `type` come first in any case.
        let (head, rest): (Vec<_>, Vec<_>) = common.partition(|field| matches!(field.key, "name" | "type"));
        head.into_iter().chain(own).chain(rest).collect()
    }
}

impl FieldType {
    /// The table of the map in this field.
    pub fn block(self) -> Option<&'static Block> {
        match self {
            FieldType::Block(block) | FieldType::Maybe(block) | FieldType::Blocks(block) => Some(block),
            _ => None,
        }
    }

    /// The allowed values, for messages and documentation. Completes "must be …".
    pub fn allowed(self) -> String {
        match self {
            FieldType::Text(shape) => shape.allowed().into(),
            FieldType::Flag => "`true` or `false`".into(),
            FieldType::Whole(min, u64::MAX) => format!("a whole number, {min} or more"),
            FieldType::Whole(min, max) => format!("a whole number from {min} to {max}"),
            FieldType::Decimal(0.0, max) => format!("a number greater than 0, and at most {max}"),
            FieldType::Decimal(min, max) => format!("a number from {min} to {max}"),
            FieldType::Duration(min, max) => {
                let [min, max] =
                    [min, max].map(|ms| scalar::show_duration(std::time::Duration::from_millis(ms)));
                format!("a duration such as `10s`, `5m` or `1h30m`, from {min} to {max}")
            }
            FieldType::Size(min, max) => {
                let (min, max) = (scalar::show_size(min), scalar::show_size(max));
                format!("a size such as `64MiB`, from {min} to {max}")
            }
            FieldType::OneOf(words) => {
                let words: Vec<_> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
                match &words[..] {
                    [word] => word.clone(),
                    [first @ .., last] => format!("{} or {last}", first.join(", ")),
                    [] => String::new(),
                }
            }
            FieldType::Secret => "text".into(),
            FieldType::SecretFile => "the path of a file that contains the secret".into(),
            FieldType::List(each) => format!("a list (`[…]`), each element {}", each.allowed()),
            FieldType::NonEmpty(each) => {
                format!("a list (`[…]`) of one or more, each element {}", each.allowed())
            }
            FieldType::OneOrMore(each) => format!("{}, or a list of them", each.allowed()),
            FieldType::Map(MapFormat::Headers) => "a map of header names to values".into(),
            FieldType::Map(MapFormat::Extensions) => {
                "a map of attribute names (at most 20 lower-case letters and digits) to values".into()
            }
            FieldType::Map(MapFormat::Blame) => {
                "a map of HTTP statuses (`401`) or classes (`5xx`), 300 to 599, to `target`, `evidence` or `event`"
                    .into()
            }
            FieldType::Map(MapFormat::Any) => "a map of names to text".into(),
            FieldType::Pattern => "an EventBridge pattern (a map)".into(),
            FieldType::Block(_) | FieldType::Maybe(_) => "a map".into(),
            FieldType::Blocks(_) => "a list of maps".into(),
            FieldType::Raw => "a map".into(),
        }
    }
}

impl TextFormat {
    /// Completes "must be …".
    pub fn allowed(self) -> &'static str {
        match self {
            TextFormat::Any => "text that is not empty",
            TextFormat::MayBeEmpty => "text",
            TextFormat::Name => {
                "a name of 1 to 253 characters, without `/`, `#`, line breaks or spaces around it"
            }
            TextFormat::ObjectName => "a Kubernetes name of letters, digits, `-`, `.` and `/`",
            TextFormat::HttpUrl => {
                "a URL that begins with `http://` or `https://`, without credentials in it"
            }
            TextFormat::ProxyUrl => {
                "`environment`, `none`, or a URL such as `http://user:password@proxy.example:3128`"
            }
            TextFormat::SdkUrl => "the address of a vCenter, `https://HOST/sdk`",
            TextFormat::BindAddress => "`HOST:PORT`, or `none`",
            TextFormat::StartAt => {
                "`now`, `beginning`, a time such as `2025-11-22T02:00:00Z`, or an age such as `2h`"
            }
            TextFormat::Thumbprint => "a SHA-256 of 64 hex digits, with or without colons",
            TextFormat::Status => "an HTTP status from 400 to 599",
            TextFormat::CertFile => "the path of a PEM file with certificates",
            TextFormat::KeyFile => "the path of a PEM file with a private key",
            TextFormat::Path => "a path",
        }
    }

    /// Returns the text in its normal form, or an error message about it.
    pub fn check(self, text: &str) -> Result<String, String> {
        let must = || format!("must be {}", self.allowed());
        match self {
            TextFormat::MayBeEmpty => Ok(text.into()),
            TextFormat::Any | TextFormat::Path if text.is_empty() => Err(must()),
            TextFormat::Any | TextFormat::Path => Ok(text.into()),
            TextFormat::Name => {
                let fits = (1..=NAME_BYTES_MAX).contains(&text.len())
                    && text.trim() == text
                    && !text.contains(char::is_control)
                    // `/` separates a processor from its function or bus, `#` a spool from its
                    // lanes.
                    && !text.contains(['/', '#']);
                if fits { Ok(text.into()) } else { Err(must()) }
            }
            TextFormat::ObjectName => {
                let part = |part: &str| {
                    part.starts_with(|c: char| c.is_ascii_alphanumeric())
                        && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte))
                };
                if text.split('/').all(part) { Ok(text.into()) } else { Err(must()) }
            }
            TextFormat::HttpUrl => scalar::http_url(text).map_err(Into::into),
            TextFormat::ProxyUrl => scalar::proxy(text).map(|_| text.into()).ok_or_else(must),
            TextFormat::SdkUrl => match scalar::sdk_url(text) {
                Ok(sdk) if sdk.credentials_dropped => {
                    Err("must not carry credentials; put them into `username` and `password`".into())
                }
                Ok(sdk) => Ok(sdk.url),
                Err(message) => Err(message.into()),
            },
            TextFormat::BindAddress if text == "none" => Ok(text.into()),
            TextFormat::BindAddress => scalar::bind_address(text).ok_or_else(must),
            TextFormat::StartAt => scalar::start_at(text).map(|_| text.into()).ok_or_else(must),
            TextFormat::Thumbprint => scalar::thumbprint(text).map(|_| text.into()).ok_or_else(must),
            TextFormat::Status => {
                text.parse::<u16>().ok().filter(|status| (400..600).contains(status)).ok_or_else(must)?;
                Ok(text.into())
            }
            TextFormat::CertFile => pem::<rustls::pki_types::CertificateDer<'_>>(text, "certificate"),
            TextFormat::KeyFile => pem::<rustls::pki_types::PrivateKeyDer<'_>>(text, "private key"),
        }
    }
}

/// Checks that a PEM file has an item of type `T`, so that a mistake shows before the first
/// connection.
fn pem<T: rustls::pki_types::pem::PemObject>(path: &str, what: &str) -> Result<String, String> {
    use rustls::pki_types::pem::Error;
    match T::pem_file_iter(path).and_then(|mut items| items.next().unwrap_or(Err(Error::NoItemsFound))) {
        Ok(_) => Ok(path.into()),
        Err(Error::Io(error)) => Err(format!("cannot be read: {error}")),
        Err(_) => Err(format!("is not a PEM file with a {what}")),
    }
}
