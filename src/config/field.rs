//! What a table of keys is made of. One table a format says which keys there are, what they take, what they default to and what they mean; validation,
//! the JSON schema and `docs/configuration.md` all come from it, so none of them can say what the others do not.

use super::scalar;

/// The fields of one map.
#[derive(Debug)]
pub(super) struct Block {
    /// Heading in the documentation, definition in the schema; `tls`.
    pub name: &'static str,
    pub doc: &'static str,
    pub fields: &'static [Field],
    /// More fields, by what the field `type` says; empty where there is no `type`.
    pub variants: &'static [Variant],
    pub rules: &'static [FieldRule],
}

/// What a `type` adds to a block.
#[derive(Debug)]
pub(super) struct Variant {
    pub word: &'static str,
    pub doc: &'static str,
    /// A field with the key of one of the block's replaces it.
    pub fields: &'static [Field],
    pub rules: &'static [FieldRule],
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    pub key: &'static str,
    pub kind: FieldType,
    /// As it would be written in the file; `None` for none.
    pub default: Option<&'static str>,
    pub required: bool,
    /// One or two sentences: what it means, with units.
    pub doc: &'static str,
    /// What people write when they mean this field.
    pub also: &'static [&'static str],
}

/// Fields that depend on each other.
#[derive(Clone, Copy, Debug)]
pub(super) enum FieldRule {
    /// One of these, and not two.
    ExactlyOne(&'static [&'static str]),
    /// Not two of these.
    AtMostOne(&'static [&'static str]),
    /// The first needs one of the others.
    Needs(&'static str, &'static [&'static str]),
}

/// What a field takes.
#[derive(Clone, Copy, Debug)]
pub(super) enum FieldType {
    Text(TextFormat),
    Flag,
    /// A whole number from … to ….
    Whole(u64, u64),
    /// A number from … (0: over 0) to ….
    Decimal(f64, f64),
    /// A duration from … to …, milliseconds.
    Duration(u64, u64),
    /// A size from … to …, bytes.
    Size(u64, u64),
    /// A word, with what it means.
    OneOf(&'static [(&'static str, &'static str)]),
    Secret,
    /// The file that a secret is in.
    SecretFile,
    List(&'static FieldType),
    /// A list with at least one element.
    NonEmpty(&'static FieldType),
    /// A list, or its one element.
    OneOrMore(&'static FieldType),
    /// Names to text.
    Map(MapFormat),
    /// An EventBridge pattern.
    Pattern,
    /// A map that is there, with its defaults, even where the file leaves it out.
    Block(&'static Block),
    /// A map that may be missing.
    Maybe(&'static Block),
    /// A list of maps, at least one.
    Blocks(&'static Block),
    /// Anything, looked at later.
    Raw,
}

/// What text must look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TextFormat {
    /// Anything but nothing.
    Any,
    /// Anything.
    MayBeEmpty,
    Name,
    /// A name of Kubernetes, which stands in a path.
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
    Any,
}

/// Bytes of a name: it is a label of metrics, and Kubernetes' longest name has as many.
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
    /// The fields that a map of this variant may have, the variant's own first.
    pub fn fields_of(&self, variant: Option<&'static Variant>) -> Vec<&'static Field>
    where
        Self: 'static,
    {
        let own = variant.map_or(&[][..], |variant| variant.fields);
        let common = self.fields.iter().filter(|field| own.iter().all(|other| other.key != field.key));
        // `name` and `type` first, wherever they come from.
        let (head, rest): (Vec<_>, Vec<_>) = common.partition(|field| matches!(field.key, "name" | "type"));
        head.into_iter().chain(own).chain(rest).collect()
    }
}

impl FieldType {
    /// The map under this field.
    pub fn block(self) -> Option<&'static Block> {
        match self {
            FieldType::Block(block) | FieldType::Maybe(block) | FieldType::Blocks(block) => Some(block),
            _ => None,
        }
    }

    /// What is allowed, for messages and the documentation: completes "must be …".
    pub fn allowed(self) -> String {
        match self {
            FieldType::Text(shape) => shape.allowed().into(),
            FieldType::Flag => "`true` or `false`".into(),
            FieldType::Whole(min, u64::MAX) => format!("a whole number, {min} or more"),
            FieldType::Whole(min, max) => format!("a whole number from {min} to {max}"),
            FieldType::Decimal(0.0, max) => format!("a number over 0, {max} at most"),
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
            FieldType::SecretFile => "the path of a file with the secret in it".into(),
            FieldType::List(each) => format!("a list (`[…]`), each element {}", each.allowed()),
            FieldType::NonEmpty(each) => {
                format!("a list (`[…]`) of one or more, each element {}", each.allowed())
            }
            FieldType::OneOrMore(each) => format!("{}, or a list of such", each.allowed()),
            FieldType::Map(MapFormat::Headers) => "a map of header names to values".into(),
            FieldType::Map(MapFormat::Extensions) => {
                "a map of attribute names (lower-case letters and digits, 20 at most) to values".into()
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
            TextFormat::ObjectName => "a name of Kubernetes, of letters, digits, `-`, `.` and `/`",
            TextFormat::HttpUrl => {
                "a URL that begins with `http://` or `https://`, without credentials in it"
            }
            TextFormat::ProxyUrl => {
                "`environment`, `none`, or a URL such as `http://user:password@proxy.example:3128`"
            }
            TextFormat::SdkUrl => "a vCenter's address, `https://HOST/sdk`",
            TextFormat::BindAddress => "`HOST:PORT`, or `none`",
            TextFormat::StartAt => {
                "`now`, `beginning`, a time such as `2025-11-22T02:00:00Z`, or a duration ago such as `2h`"
            }
            TextFormat::Thumbprint => "a SHA-256 in 64 hex digits, with or without colons",
            TextFormat::Status => "an HTTP status from 400 to 599",
            TextFormat::CertFile => "the path of a PEM file with certificates",
            TextFormat::KeyFile => "the path of a PEM file with a private key",
            TextFormat::Path => "a path",
        }
    }

    /// The text in its normal form, or what is wrong with it: completes "…".
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
                    // What separates a processor from its function or bus, and a spool from its parts.
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

/// Whether the file at `path` has what it should: found out now rather than at the first connection.
fn pem<T: rustls::pki_types::pem::PemObject>(path: &str, what: &str) -> Result<String, String> {
    use rustls::pki_types::pem::Error;
    match T::pem_file_iter(path).and_then(|mut items| items.next().unwrap_or(Err(Error::NoItemsFound))) {
        Ok(_) => Ok(path.into()),
        Err(Error::Io(error)) => Err(format!("cannot be read: {error}")),
        Err(_) => Err(format!("is not a PEM file with a {what}")),
    }
}
