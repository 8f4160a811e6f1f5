//! The fast decoder: one pass over the bytes of an event, in step with the schema.
//!
//! vCenter serializes in schema order, so the next element is nearly always the next member that is
//! present. The decoder compares its tag instead of parsing it, writes its key from a precomputed
//! fragment, and copies its text while scanning it. Anything unusual is [`Odd`]: a comment, a CDATA
//! section, an element out of order, an unknown class, a value that does not fit. An odd event is
//! left to the reference decoder.
//!
//! INVARIANT: this decoder writes the same bytes as the reference decoder, or nothing.
//!
//! ```text
//! page   <returnval xsi:type="VmPoweredOnEvent"><key>4</key><chainId>…  plan of the class
//!        └─ as in the event before ──┘          └┬──┘                   step 0 <key    ,"Key":
//!                                  is it the next step's tag? ───────► step 1 <chainId,"ChainId":
//! arena  {"Key":4,"ChainId":…                                           …
//! ```

pub(super) mod bytes;
mod plan;
mod scalar;
mod tag;
mod value;

use bytes::{Fragment, Out, Tag};
use plan::Plan;
use tag::{StartTag, XsiType};

use super::prefixes::Prefixes;
use super::quota::Quota;
use super::{Decoded, push_record};
use crate::schema;
use crate::{Category, EventRecord, Span};

/// Input that only the reference decoder handles.
#[derive(Debug)]
struct Odd;

/// The start tag of the latest event. vCenter writes the same attributes for every event of a page,
/// so the next start tag is compared instead of parsed.
#[derive(Debug, Default)]
pub(super) struct Learned {
    /// The start tag of the previous event, up to the name of its class.
    event: Vec<u8>,
    /// The prefix that this tag bound to XML Schema's instance namespace: a range of `event`.
    binds: Option<(usize, usize)>,
    /// ` xsi:type="` with the prefix of this tag.
    typed: Option<Tag>,
}

/// Decodes events from `at` up to the first odd one, and returns the offset of the latter. `at` is
/// inside the response, between two events.
pub(super) fn events(
    page: &[u8],
    mut at: usize,
    prefixes: &Prefixes<'_>,
    learned: &mut Learned,
    quota: &mut Quota<'_>,
    out: &mut Decoded,
) -> usize {
    let fixed = Fixed::get();
    let mut decoder = Decoder {
        page,
        out: Out::new(std::mem::take(&mut out.arena), quota),
        fixed,
        prefixes,
        learned,
        event_prefix: None,
        facts: RecordFacts::default(),
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
        match decoder.bounded_event(start) {
            Ok((record, end)) => {
                push_record(&mut out.records, record, decoder.out.quota());
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

/// Bytes of the shortest element: `<a/>`.
const ELEMENT_WIRE_BYTES_MIN: usize = 4;

/// The number of elements in an event that this decoder has read, so that there is no other markup
/// in it than tags.
#[cold]
fn start_tags(event: &[u8]) -> usize {
    memchr::memchr_iter(b'<', event).filter(|at| event.get(at + 1) != Some(&b'/')).count()
}

/// The tags and fragments that do not depend on a class.
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

/// A range of the page: start and end.
type Range = (usize, usize);

/// The state of one call of [`events`].
struct Decoder<'a, 'l, 'c> {
    page: &'a [u8],
    out: Out<'l, 'c>,
    fixed: &'static Fixed,
    /// The prefixes that are bound outside of the events.
    prefixes: &'l Prefixes<'a>,
    learned: &'l mut Learned,
    /// The prefix that this event's start tag bound to XML Schema's instance namespace.
    event_prefix: Option<&'a [u8]>,
    facts: RecordFacts,
    /// Type and id of the latest reference that names the object of an event argument.
    named: Option<(Range, Range)>,
    /// True if text since the last reset contained a character that JSON escapes.
    escaped: bool,
    /// True if text since the last reset contained a character reference.
    referred: bool,
}

/// The members of an event that its record needs.
#[derive(Default)]
struct RecordFacts {
    key: Option<i32>,
    chain_id: i32,
    /// Microseconds since 1970 UTC, and the range of the text in the arena.
    created: Option<(i64, usize, usize)>,
    user: TextPlace,
    event_type: TextPlace,
    object_id: Range,
    object_type: Range,
    entity_rank: u8,
    entity_type: Range,
    entity_id: Range,
}

/// The place of a member's unescaped text.
#[derive(Clone, Copy, Default)]
enum TextPlace {
    #[default]
    Absent,
    /// In the arena, as a part of `data`.
    Arena(usize, usize),
    /// In the page: JSON escapes something in it, XML does not.
    Page(usize, usize),
}

impl<'a> Decoder<'a, '_, '_> {
    /// Decodes an event within the quota, beginning at its start tag.
    #[inline(always)]
    fn bounded_event(&mut self, start: usize) -> Result<(EventRecord, usize), Odd> {
        self.out.begin_event();
        let (record, end) = self.event(start)?;
        let quota = self.out.quota();
        if (end - start) / ELEMENT_WIRE_BYTES_MIN > quota.elements_max()
            && start_tags(&self.page[start..end]) > quota.elements_max()
        {
            return Err(Odd);
        }
        quota.event(record.data.range().len()).map_err(|_| Odd)?;
        Ok((record, end))
    }

    /// Decodes an event, beginning at its start tag.
    fn event(&mut self, start: usize) -> Result<(EventRecord, usize), Odd> {
        let (class, content, empty) = self.event_tag(start)?;
        let plan = match class {
            Some(name) => plan::named(name).filter(|plan| plan.class.is_event).ok_or(Odd)?,
            None => self.fixed.event,
        };
        self.facts = RecordFacts { entity_rank: u8::MAX, ..RecordFacts::default() };
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

    /// Reads the start tag of an event: its class, the start of its content, and whether the tag is
    /// empty.
    #[inline(always)]
    fn event_tag(&mut self, start: usize) -> Result<(Option<&'a [u8]>, usize, bool), Odd> {
        let page = self.page;
        // The usual case: the same attributes as before, then the name of a class.
        let learned = self.learned.event.len();
        if learned > 0 && page[start..].starts_with(&self.learned.event) {
            let from = start + learned;
            let len = page[from..].iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
            if len > 0 && page.get(from + len..from + len + 2) == Some(b"\">") {
                self.event_prefix = self.learned.binds.map(|(from, to)| &page[start + from..start + to]);
                return Ok((Some(&page[from..from + len]), from + len + 2, false));
            }
        }
        // Any other start tag is parsed, and remembered for the next event.
        let tag = StartTag::read(page, start + self.fixed.event_open.len(), self.prefixes, None)?;
        self.event_prefix = tag.binds;
        let class = match tag.declared {
            Some(XsiType::Class(name)) => Some(name),
            Some(XsiType::Schema(_)) => return Err(Odd),
            None => None,
        };
        self.learn(start, class, &tag);
        Ok((class, tag.content, tag.empty))
    }

    /// Remembers a start tag if it ends with the name of the class.
    fn learn(&mut self, start: usize, class: Option<&[u8]>, tag: &StartTag<'_>) {
        self.learned.event.clear();
        self.learned.binds = None;
        self.learned.typed = None;
        let (Some(class), Some(prefix)) = (class, tag.prefix) else { return };
        // The parts of a parsed tag are slices of the page.
        let offset = |part: &[u8]| part.as_ptr() as usize - self.page.as_ptr() as usize;
        let (from, to) = (offset(class), offset(class) + class.len());
        if self.page.get(to..to + 2) == Some(b"\">") {
            self.learned.event.extend_from_slice(&self.page[start..from]);
            self.learned.binds =
                tag.binds.map(|prefix| (offset(prefix) - start, offset(prefix) - start + prefix.len()));
        }
        self.learned.typed = Some(Tag::new(&[b" ", prefix, b":type=\""].concat()));
    }

    /// The probable form of `xsi:type="` in this event.
    fn typed(&self) -> Option<&Tag> {
        self.learned.typed.as_ref()
    }

    /// Builds the record from the facts members. Texts that `data` has only in escaped form are
    /// appended to the arena.
    #[inline(always)]
    fn record(&mut self, plan: &Plan, class: Option<&[u8]>, data: Span, raw: Span) -> EventRecord {
        let category = plan.class.category;
        let class = self.append(class.unwrap_or(b"Event"));
        let subject = match category {
            Category::Event => class,
            Category::EventEx | Category::ExtendedEvent => self.span(self.facts.event_type),
        };
        let user = self.span(self.facts.user);
        let is_whole = |(from, to): Range| from < to;
        // EventEx's pair of strings has its own rank among the members that name an entity.
        if self.facts.entity_rank > plan::object_rank()
            && is_whole(self.facts.object_type)
            && is_whole(self.facts.object_id)
        {
            (self.facts.entity_type, self.facts.entity_id) = (self.facts.object_type, self.facts.object_id);
        }
        let entity = match is_whole(self.facts.entity_type) {
            true => {
                let start = self.out.len();
                self.out.copy(self.page, self.facts.entity_type.0, self.facts.entity_type.1);
                self.out.push(b':');
                self.out.copy(self.page, self.facts.entity_id.0, self.facts.entity_id.1);
                Span::new(start, self.out.len())
            }
            false => Span::EMPTY,
        };
        EventRecord {
            key: self.facts.key,
            chain_id: self.facts.chain_id,
            created_us: self.facts.created.map(|(micros, ..)| micros),
            category,
            class,
            subject,
            entity,
            user,
            created_text: self.facts.created.map_or(Span::EMPTY, |(_, from, to)| Span::new(from, to)),
            data,
            raw,
        }
    }

    fn append(&mut self, text: &[u8]) -> Span {
        let start = self.out.len();
        self.out.put_bytes(text);
        Span::new(start, self.out.len())
    }

    #[inline(always)]
    fn span(&mut self, text: TextPlace) -> Span {
        match text {
            TextPlace::Absent => Span::EMPTY,
            TextPlace::Arena(from, to) => Span::new(from, to),
            TextPlace::Page(from, to) => {
                let start = self.out.len();
                self.out.copy(self.page, from, to);
                Span::new(start, self.out.len())
            }
        }
    }

    /// Returns the offset of the first byte at or after `at` that is not white space.
    #[inline(always)]
    fn skip_space(&self, mut at: usize) -> usize {
        while matches!(self.page.get(at), Some(b' ' | b'\n' | b'\t' | b'\r')) {
            at += 1;
        }
        at
    }

    /// Returns true if a name ends just before `at`.
    #[inline(always)]
    fn ends_name(&self, at: usize) -> bool {
        matches!(self.page.get(at), Some(b'>' | b' ' | b'/' | b'\n' | b'\t' | b'\r'))
    }
}
