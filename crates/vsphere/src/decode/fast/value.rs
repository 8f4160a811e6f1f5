//! Objects, lists and values of the fast decoder.
//!
//! A function that reads from the page takes the offset where its input begins and returns the
//! offset behind it. An [`Odd`] leaves a partial event in the arena; `events` removes it.

use super::bytes::Tag;
use super::plan::{self, MemberRole, Plan, Step};
use super::tag::{StartTag, XsiType};
use super::{Decoder, Odd, Range, TextPlace};
use crate::schema::Kind;

/// Maximum nesting of objects. The reference decoder counts elements and has a higher bound.
const OBJECTS_DEPTH_MAX: usize = 32;

/// The part of a start tag that has been compared with a step.
#[derive(Clone, Copy)]
pub(super) enum OpenedTag {
    /// The step's usual start tag. The offset is that of the content, or of the text of a
    /// reference's type.
    Whole(usize),
    /// Only the name. The offset is behind it, where attributes may follow.
    Name(usize),
}

impl<'a> Decoder<'a, '_, '_> {
    /// Decodes an object; `at` is behind its start tag. Returns the offset of the end tag, which
    /// the caller checks.
    pub(super) fn object(&mut self, plan: &'static Plan, mut at: usize, depth: usize) -> Result<usize, Odd> {
        // Each object may be much larger than its element: all members may be absent.
        if depth > OBJECTS_DEPTH_MAX || self.out.is_over() {
            return Err(Odd);
        }
        let start = self.out.len();
        let mut next = 0;
        loop {
            let Some((found, opened)) = self.find(plan, next, at) else {
                match self.page.get(at..at + 2).ok_or(Odd)? {
                    b"</" => break,
                    [b' ' | b'\n' | b'\t' | b'\r', _] => at = self.skip_space(at),
                    _ => return Err(Odd),
                }
                continue;
            };
            // The members between the previous one and this one are absent.
            if found > next {
                self.out.put(plan.absent(next, found));
            }
            let step = &plan.steps[found];
            self.out.put(step.key);
            at = match step.many {
                true => self.list(step, opened, depth)?,
                false if depth == 0 => self.event_member(step, opened)?,
                false => self.value::<true>(
                    step.kind,
                    opened,
                    &step.close,
                    depth,
                    step.names_object && depth == 1,
                )?,
            };
            next = found + 1;
        }
        self.out.put(plan.absent(next, plan.steps.len()));
        // Every member has a leading comma. The comma of the first member makes place for the
        // brace.
        match self.out.len() == start {
            true => self.out.push(b'{'),
            false => self.out.set(start, b'{'),
        }
        self.out.push(b'}');
        Ok(at)
    }

    /// Finds the step whose tag is at `at`. It is nearly always step `next` itself, or follows a
    /// few absent members.
    #[inline(always)]
    fn find(&self, plan: &Plan, next: usize, at: usize) -> Option<(usize, OpenedTag)> {
        let is_open = |step: &Step| step.open.is_at(self.page, at);
        let opened = |step: &Step| OpenedTag::Whole(at + step.open.len());
        if let Some(step) = plan.steps.get(next)
            && is_open(step)
        {
            return Some((next, opened(step)));
        }
        if self.page.get(at + 1) == Some(&b'/') {
            return None;
        }
        match plan.steps.iter().enumerate().skip(next + 1).find(|(_, step)| is_open(step)) {
            Some((found, step)) => Some((found, opened(step))),
            None => self.find_name(plan, next, at),
        }
    }

    /// As `find`, for a tag with attributes.
    #[inline(never)]
    fn find_name(&self, plan: &Plan, next: usize, at: usize) -> Option<(usize, OpenedTag)> {
        let mut steps = plan.steps.iter().enumerate().skip(next);
        steps.find_map(|(found, step)| Some((found, self.opened(step, at)?)))
    }

    /// The extent to which the tag at `at` is the start tag of `step`.
    #[inline(always)]
    fn opened(&self, step: &Step, at: usize) -> Option<OpenedTag> {
        if step.open.is_at(self.page, at) {
            return Some(OpenedTag::Whole(at + step.open.len()));
        }
        let behind = at + step.name.len();
        (step.name.is_at(self.page, at) && self.ends_name(behind)).then_some(OpenedTag::Name(behind))
    }

    /// Decodes a list: its first item, and all items that follow directly.
    fn list(&mut self, step: &Step, mut item: OpenedTag, depth: usize) -> Result<usize, Odd> {
        let start = self.out.len();
        loop {
            self.out.push(b',');
            let end = self.value::<false>(step.kind, item, &step.close, depth, false)?;
            match self.opened(step, self.skip_space(end)) {
                Some(next) => item = next,
                None => {
                    // As in `object`, the first comma makes place for the bracket.
                    self.out.set(start, b'[');
                    self.out.push(b']');
                    return Ok(end);
                }
            }
        }
    }

    /// Decodes a member of the event itself, and notes it for the record.
    #[inline(always)]
    fn event_member(&mut self, step: &Step, at: OpenedTag) -> Result<usize, Odd> {
        match step.role {
            MemberRole::Plain => self.value::<true>(step.kind, at, &step.close, 0, false),
            MemberRole::Key | MemberRole::ChainId => {
                let (number, end) = self.integer(Kind::Int, self.plain_tag(at)?)?;
                match step.role {
                    MemberRole::Key => self.facts.key = Some(number as i32),
                    _ => self.facts.chain_id = number as i32,
                }
                self.end(&step.close, end)
            }
            MemberRole::CreatedTime => {
                let start = self.out.len();
                let (micros, end) = self.time(self.plain_tag(at)?)?;
                self.facts.created = Some((micros, start, self.out.len()));
                self.out.push(b'"');
                self.end(&step.close, end)
            }
            MemberRole::User | MemberRole::EventTypeId | MemberRole::ObjectId | MemberRole::ObjectType => {
                let (from, start) = (self.plain_tag(at)?, self.out.len());
                (self.escaped, self.referred) = (false, false);
                let end = self.text(from)?;
                // The record holds unescaped text: of the arena if JSON escapes nothing in it, else
                // of the page. A character reference is escaped in both.
                let text = match (self.escaped, self.referred) {
                    (_, true) => return Err(Odd),
                    (true, false) => TextPlace::Page(from, end),
                    (false, false) => TextPlace::Arena(start, self.out.len()),
                };
                match step.role {
                    MemberRole::User => self.facts.user = text,
                    MemberRole::EventTypeId => self.facts.event_type = text,
                    MemberRole::ObjectId => self.facts.object_id = (from, end),
                    _ => self.facts.object_type = (from, end),
                }
                self.out.push(b'"');
                self.end(&step.close, end)
            }
            MemberRole::Entity(rank) => {
                self.named = None;
                let end = match step.kind {
                    Kind::Reference => self.value::<true>(step.kind, at, &step.close, 0, true)?,
                    // The schema's class of the member counts here; an `xsi:type` is odd.
                    _ => {
                        self.object_of(plan::of(step.class.ok_or(Odd)?), self.plain_tag(at)?, &step.close, 0)?
                    }
                };
                // Keep the reference of the lowest rank, if it has both a type and an id.
                if let Some((kind, id)) = self.named
                    && rank < self.facts.entity_rank
                    && kind.0 < kind.1
                    && id.0 < id.1
                {
                    (self.facts.entity_rank, self.facts.entity_type, self.facts.entity_id) = (rank, kind, id);
                }
                Ok(end)
            }
        }
    }

    #[inline(always)]
    fn object_of(&mut self, plan: &'static Plan, at: usize, close: &Tag, depth: usize) -> Result<usize, Odd> {
        let end = self.object(plan, at, depth + 1)?;
        self.end(close, end)
    }

    /// Decodes a value and its end tag. With `OPENED`, the step's key has already written the start
    /// of the JSON. `names_object` marks the reference to the object that an event argument
    /// describes.
    #[inline(always)]
    fn value<const OPENED: bool>(
        &mut self,
        kind: Kind,
        at: OpenedTag,
        close: &Tag,
        depth: usize,
        names_object: bool,
    ) -> Result<usize, Odd> {
        match kind {
            Kind::String | Kind::Base64 => {
                let tag = self.start_tag(at)?;
                if !OPENED {
                    self.out.push(b'"');
                }
                let end = if tag.empty { tag.content } else { self.text(tag.content)? };
                self.out.push(b'"');
                if tag.empty { Ok(end) } else { self.end(close, end) }
            }
            Kind::Reference => {
                if !OPENED {
                    self.out.put(self.fixed.reference);
                }
                self.reference(at, close, names_object)
            }
            Kind::DateTime => {
                let from = self.plain_tag(at)?;
                if !OPENED {
                    self.out.push(b'"');
                }
                let (_, end) = self.time(from)?;
                self.out.push(b'"');
                self.end(close, end)
            }
            Kind::Boolean
            | Kind::Byte
            | Kind::Short
            | Kind::Int
            | Kind::Long
            | Kind::Float
            | Kind::Double => {
                let from = self.plain_tag(at)?;
                // Go has a single byte as unsigned and a list of bytes as signed. The reference
                // decoder converts negative ones.
                if OPENED && kind == Kind::Byte && self.page.get(from) == Some(&b'-') {
                    return Err(Odd);
                }
                let end = self.scalar(kind, from)?;
                self.end(close, end)
            }
            Kind::Object(class) => {
                let tag = self.start_tag(at)?;
                let plan = match tag.declared {
                    Some(XsiType::Class(name)) => plan::named(name).unwrap_or_else(|| plan::of(class)),
                    _ => plan::of(class),
                };
                self.object_in(plan, tag, close, depth)
            }
            Kind::Any => self.any(at, close, depth),
        }
    }

    /// Decodes an object whose start tag was parsed. In an empty one all members are absent.
    fn object_in(
        &mut self,
        plan: &'static Plan,
        tag: StartTag<'a>,
        close: &Tag,
        depth: usize,
    ) -> Result<usize, Odd> {
        if !tag.empty {
            return self.object_of(plan, tag.content, close, depth);
        }
        if self.out.is_over() {
            return Err(Odd);
        }
        let start = self.out.len();
        self.out.put(plan.absent(0, plan.steps.len()));
        match self.out.len() == start {
            true => self.out.push(b'{'),
            false => self.out.set(start, b'{'),
        }
        self.out.push(b'}');
        Ok(tag.content)
    }

    /// Decodes a value whose type its own start tag declares.
    fn any(&mut self, at: OpenedTag, close: &Tag, depth: usize) -> Result<usize, Odd> {
        let tag = self.start_tag(at)?;
        let kind = match tag.declared {
            Some(XsiType::Schema(b"string" | b"base64Binary")) | None => Kind::String,
            Some(XsiType::Schema(b"int")) => Kind::Int,
            Some(XsiType::Schema(b"boolean")) => Kind::Boolean,
            Some(XsiType::Schema(b"long")) => Kind::Long,
            Some(XsiType::Schema(b"short")) => Kind::Short,
            Some(XsiType::Schema(b"byte")) => Kind::Byte,
            Some(XsiType::Schema(b"double")) => Kind::Double,
            Some(XsiType::Schema(b"float")) => Kind::Float,
            Some(XsiType::Schema(b"dateTime")) => Kind::DateTime,
            Some(XsiType::Schema(_)) => return Err(Odd),
            Some(XsiType::Class(b"ManagedObjectReference")) => {
                self.out.put(self.fixed.reference);
                return self.reference_in(tag, close, false);
            }
            Some(XsiType::Class(name)) => match plan::named(name) {
                Some(plan) => return self.object_in(plan, tag, close, depth),
                None if name.starts_with(b"ArrayOf") => return Err(Odd),
                // An enumeration, or an unknown class: only its text is known.
                None => Kind::String,
            },
        };
        // The reference decoder writes these as null or as a reference.
        let is_reference = tag.reference_type.is_some() && !matches!(tag.declared, Some(XsiType::Schema(_)));
        if tag.empty || is_reference {
            return Err(Odd);
        }
        let end = match kind {
            Kind::String => {
                self.out.push(b'"');
                let end = self.text(tag.content)?;
                self.out.push(b'"');
                end
            }
            Kind::DateTime => {
                self.out.push(b'"');
                let (_, end) = self.time(tag.content)?;
                self.out.push(b'"');
                end
            }
            kind => self.scalar(kind, tag.content)?,
        };
        self.end(close, end)
    }

    /// Decodes a reference. The JSON up to the text of its type is already written.
    #[inline(always)]
    fn reference(&mut self, at: OpenedTag, close: &Tag, names_object: bool) -> Result<usize, Odd> {
        let (kind, content) = if let OpenedTag::Whole(from) = at {
            let end = self.out.text(self.page, from);
            if self.page.get(end..end + 2) != Some(b"\">") {
                return Err(Odd);
            }
            ((from, end), end + 2)
        } else {
            let tag = self.start_tag(at)?;
            return self.reference_in(tag, close, names_object);
        };
        self.reference_id(kind, content, close, names_object)
    }

    /// Decodes a reference whose start tag was parsed.
    fn reference_in(&mut self, tag: StartTag<'a>, close: &Tag, names_object: bool) -> Result<usize, Odd> {
        let kind = tag.reference_type.unwrap_or_default();
        // The JSON would have to escape a quote or a backslash of the attribute.
        if tag.empty || kind.iter().any(|byte| super::bytes::is_special(*byte)) {
            return Err(Odd);
        }
        self.out.put_bytes(kind);
        // The type is a slice of the page, or empty.
        let from = if kind.is_empty() { 0 } else { kind.as_ptr() as usize - self.page.as_ptr() as usize };
        self.reference_id((from, from + kind.len()), tag.content, close, names_object)
    }

    /// Decodes the id of a reference, from its text on.
    #[inline(always)]
    fn reference_id(
        &mut self,
        kind: Range,
        content: usize,
        close: &Tag,
        names_object: bool,
    ) -> Result<usize, Odd> {
        self.out.put(self.fixed.value);
        let end = self.out.text(self.page, content);
        if names_object {
            self.named = Some((kind, (content, end)));
        }
        self.out.put(self.fixed.quote_brace);
        // Text that needs escapes is odd: only the end tag may follow here.
        self.end(close, end)
    }

    /// Checks that the end tag is at `at`.
    #[inline(always)]
    fn end(&self, close: &Tag, at: usize) -> Result<usize, Odd> {
        if close.is_at(self.page, at) { Ok(at + close.len()) } else { Err(Odd) }
    }

    /// The content of a start tag without significant attributes.
    #[inline(always)]
    fn plain_tag(&self, at: OpenedTag) -> Result<usize, Odd> {
        if let OpenedTag::Whole(content) = at {
            return Ok(content);
        }
        let tag = self.start_tag(at)?;
        if tag.empty || tag.declared.is_some() { Err(Odd) } else { Ok(tag.content) }
    }

    /// The start tag of anything but a reference.
    #[inline(always)]
    fn start_tag(&self, at: OpenedTag) -> Result<StartTag<'a>, Odd> {
        match at {
            OpenedTag::Whole(content) => Ok(StartTag::plain(content)),
            OpenedTag::Name(at) => self.attributes(at),
        }
    }

    /// The start tag of a value with attributes, which is mostly `xsi:type` alone.
    #[inline(never)]
    fn attributes(&self, at: usize) -> Result<StartTag<'a>, Odd> {
        if let Some(typed) = self.typed()
            && typed.is_at(self.page, at)
        {
            let from = at + typed.len();
            let len = self.page[from..]
                .iter()
                .take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b':')
                .count();
            if self.page.get(from + len..from + len + 2) == Some(b"\">") {
                let declared = Some(XsiType::of(&self.page[from..from + len], self.prefixes)?);
                return Ok(StartTag { declared, ..StartTag::plain(from + len + 2) });
            }
        }
        let tag = StartTag::read(self.page, at, self.prefixes, self.event_prefix)?;
        match tag.binds {
            // Declaring a prefix that means something else outside would have to be tracked.
            Some(prefix) if self.event_prefix != Some(prefix) && !self.prefixes.binds_instance(prefix) => {
                Err(Odd)
            }
            _ => Ok(tag),
        }
    }
}
