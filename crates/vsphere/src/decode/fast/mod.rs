//! The decoder that is fast: one pass over the bytes of an event, the schema walked beside it.
//!
//! vCenter serializes in schema order, so the next element is nearly always the next member that is not absent: its tag is compared, not parsed,
//! its key is written from a precomputed fragment, and its text is copied while it is scanned. What is odd in any way (a comment, a CDATA section,
//! an element out of order, an unknown class, a value that does not fit) is [`Odd`]: the event is given to the reference decoder. So this one says
//! nothing about what is right; it gives byte for byte what the reference gives, or nothing.
//!
//! ```text
//! page   <returnval xsi:type="VmPoweredOnEvent"><key>4</key><chainId>…       plan of the class
//!        └─ as in the event before ──┘          └┬──┘                        step 0  <key      ,"Key":
//!                                    the next step's tag? ─────────────────► step 1  <chainId  ,"ChainId":
//! arena  {"Key":4,"ChainId":…                                                …
//! ```

mod bytes;
mod plan;
mod tag;
mod value;

use bytes::{Fragment, Out, Tag};
use plan::Plan;
use tag::{Declared, StartTag};

use super::Decoded;
use super::markup::Prefixes;
use crate::schema;
use crate::{Category, EventRecord, Span};

/// Something that the reference decoder must look at.
#[derive(Debug)]
struct Odd;

/// What is remembered from one event of a page for the next.
#[derive(Debug, Default)]
pub(super) struct Learned {
    /// The start tag of the event before, up to the name of its class.
    event: Vec<u8>,
    /// The prefix that it bound to XML Schema's instance namespace: a range of `event`.
    binds: Option<(usize, usize)>,
    /// ` xsi:type="` with the prefix that it used.
    typed: Option<Tag>,
}

/// Decodes events from `at` on, as many as are not odd, and says where the first odd thing is. `at` is inside of the response, between events.
pub(super) fn events(
    page: &[u8],
    mut at: usize,
    prefixes: Prefixes<'_>,
    learned: &mut Learned,
    out: &mut Decoded,
) -> usize {
    let fixed = Fixed::get();
    // JSON takes about as many bytes as the XML that it is made of, and hardly an event is shorter than 400.
    out.arena.reserve_exact(page.len() - at);
    out.records.reserve((page.len() - at) / 400);
    let mut decoder = Decoder {
        page,
        out: Out::new(std::mem::take(&mut out.arena)),
        fixed,
        prefixes,
        learned,
        event_prefix: None,
        noted: Noted::default(),
        named: None,
        escaped: false,
        referred: false,
    };
    loop {
        let start = decoder.skip_space(at);
        if !(fixed.event_open.is_at(page, start) && decoder.ends_name(start + fixed.event_open.len())) {
            break;
        }
        let mark = decoder.out.len();
        match decoder.event(start) {
            Ok((record, end)) => {
                out.records.push(record);
                at = end;
            }
            Err(Odd) => {
                decoder.out.truncate(mark);
                break;
            }
        }
    }
    out.arena = decoder.out.into_inner();
    at
}

/// What does not depend on a class.
struct Fixed {
    event_open: Tag,
    event_close: Tag,
    value: Fragment,
    reference: Fragment,
    quote_brace: Fragment,
    r#true: Fragment,
    r#false: Fragment,
    event: &'static Plan,
}

impl Fixed {
    fn get() -> &'static Self {
        static FIXED: std::sync::OnceLock<Fixed> = std::sync::OnceLock::new();
        FIXED.get_or_init(|| Fixed {
            event_open: Tag::new(b"<returnval"),
            event_close: Tag::new(b"</returnval>"),
            value: Fragment::new(b"\",\"Value\":\""),
            reference: Fragment::new(b"{\"Type\":\""),
            quote_brace: Fragment::new(b"\"}"),
            r#true: Fragment::new(b"true"),
            r#false: Fragment::new(b"false"),
            event: plan::of(schema::event().id),
        })
    }
}

/// A range of the page.
type Range = (usize, usize);

/// One call of [`events`].
struct Decoder<'a, 'l> {
    page: &'a [u8],
    out: Out,
    fixed: &'static Fixed,
    /// The prefixes that are bound around the events.
    prefixes: Prefixes<'a>,
    learned: &'l mut Learned,
    /// The prefix that this event's start tag bound to XML Schema's instance namespace.
    event_prefix: Option<&'a [u8]>,
    noted: Noted,
    /// Type and id of the reference that was met last of those that name what an argument stands for.
    named: Option<(Range, Range)>,
    /// Text since this was reset had something that JSON escapes.
    escaped: bool,
    /// Text since this was reset had a character reference.
    referred: bool,
}

/// What an event's members said that later stages need.
#[derive(Default)]
struct Noted {
    key: Option<i32>,
    chain_id: i32,
    /// Microseconds, and where the text is in the arena.
    created: Option<(i64, usize, usize)>,
    user: Text,
    event_type: Text,
    object_id: Range,
    object_type: Range,
    entity_rank: u8,
    entity_type: Range,
    entity_id: Range,
}

/// Where the unescaped text of a member is.
#[derive(Clone, Copy, Default)]
enum Text {
    #[default]
    Absent,
    /// In the data as it is written.
    Arena(usize, usize),
    /// In the page: JSON has something to escape in it, XML had not.
    Page(usize, usize),
}

impl<'a> Decoder<'a, '_> {
    /// An event from its start tag on.
    fn event(&mut self, start: usize) -> Result<(EventRecord, usize), Odd> {
        let (class, content, empty) = self.event_tag(start)?;
        let plan = match class {
            Some(name) => plan::named(name).filter(|plan| plan.class.is_event).ok_or(Odd)?,
            None => self.fixed.event,
        };
        self.noted = Noted { entity_rank: u8::MAX, ..Noted::default() };
        if empty {
            return Err(Odd);
        }
        let data = self.out.len();
        let close = self.object(plan, content, 0)?;
        if !self.fixed.event_close.is_at(self.page, close) {
            return Err(Odd);
        }
        let end = close + self.fixed.event_close.len();
        let data = Span::new(data, self.out.len());
        Ok((self.record(plan, class, data, Span::new(start, end)), end))
    }

    /// The start tag of an event: its class, where its content begins, whether it is its own end tag.
    #[inline(always)]
    fn event_tag(&mut self, start: usize) -> Result<(Option<&'a [u8]>, usize, bool), Odd> {
        let page = self.page;
        let learned = self.learned.event.len();
        if learned > 0 && page[start..].starts_with(&self.learned.event) {
            let from = start + learned;
            let len = page[from..].iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
            if len > 0 && page.get(from + len..from + len + 2) == Some(b"\">") {
                self.event_prefix = self.learned.binds.map(|(from, to)| &page[start + from..start + to]);
                return Ok((Some(&page[from..from + len]), from + len + 2, false));
            }
        }
        let tag = StartTag::read(page, start + self.fixed.event_open.len(), &self.prefixes, None)?;
        self.event_prefix = tag.binds;
        let class = match tag.declared {
            Some(Declared::Class(name)) => Some(name),
            Some(Declared::Schema(_)) => return Err(Odd),
            None => None,
        };
        self.learn(start, class, &tag);
        Ok((class, tag.content, tag.empty))
    }

    /// Remembers a start tag that ends with the name of the class.
    fn learn(&mut self, start: usize, class: Option<&[u8]>, tag: &StartTag<'_>) {
        self.learned.event.clear();
        self.learned.binds = None;
        self.learned.typed = None;
        let (Some(class), Some(prefix)) = (class, tag.prefix) else { return };
        let offset = |part: &[u8]| part.as_ptr() as usize - self.page.as_ptr() as usize;
        let (from, to) = (offset(class), offset(class) + class.len());
        if self.page.get(to..to + 2) == Some(b"\">") {
            self.learned.event.extend_from_slice(&self.page[start..from]);
            self.learned.binds =
                tag.binds.map(|prefix| (offset(prefix) - start, offset(prefix) - start + prefix.len()));
        }
        self.learned.typed = Some(Tag::new(&[b" ", prefix, b":type=\""].concat()));
    }

    /// What `xsi:type="` looks like in this event, most likely.
    fn typed(&self) -> Option<&Tag> {
        self.learned.typed.as_ref()
    }

    #[inline(always)]
    fn record(&mut self, plan: &Plan, class: Option<&[u8]>, data: Span, raw: Span) -> EventRecord {
        let category = plan.class.category;
        let class = self.append(class.unwrap_or(b"Event"));
        let subject = match category {
            Category::Event => class,
            Category::EventEx | Category::ExtendedEvent => self.span(self.noted.event_type),
        };
        let user = self.span(self.noted.user);
        let is_whole = |(from, to): Range| from < to;
        if self.noted.entity_rank > plan::object_rank()
            && is_whole(self.noted.object_type)
            && is_whole(self.noted.object_id)
        {
            (self.noted.entity_type, self.noted.entity_id) = (self.noted.object_type, self.noted.object_id);
        }
        let entity = match is_whole(self.noted.entity_type) {
            true => {
                let start = self.out.len();
                self.out.copy(self.page, self.noted.entity_type.0, self.noted.entity_type.1);
                self.out.push(b':');
                self.out.copy(self.page, self.noted.entity_id.0, self.noted.entity_id.1);
                Span::new(start, self.out.len())
            }
            false => Span::EMPTY,
        };
        EventRecord {
            key: self.noted.key,
            chain_id: self.noted.chain_id,
            created_us: self.noted.created.map(|(micros, ..)| micros),
            category,
            class,
            subject,
            entity,
            user,
            created_text: self.noted.created.map_or(Span::EMPTY, |(_, from, to)| Span::new(from, to)),
            data,
            raw,
        }
    }

    fn append(&mut self, text: &[u8]) -> Span {
        let start = self.out.len();
        self.out.as_vec().extend_from_slice(text);
        Span::new(start, self.out.len())
    }

    #[inline(always)]
    fn span(&mut self, text: Text) -> Span {
        match text {
            Text::Absent => Span::EMPTY,
            Text::Arena(from, to) => Span::new(from, to),
            Text::Page(from, to) => {
                let start = self.out.len();
                self.out.copy(self.page, from, to);
                Span::new(start, self.out.len())
            }
        }
    }

    /// Where the white space from `at` on ends.
    #[inline(always)]
    fn skip_space(&self, mut at: usize) -> usize {
        while matches!(self.page.get(at), Some(b' ' | b'\n' | b'\t' | b'\r')) {
            at += 1;
        }
        at
    }

    /// Whether a name ends before `at`.
    #[inline(always)]
    fn ends_name(&self, at: usize) -> bool {
        matches!(self.page.get(at), Some(b'>' | b' ' | b'/' | b'\n' | b'\t' | b'\r'))
    }
}
