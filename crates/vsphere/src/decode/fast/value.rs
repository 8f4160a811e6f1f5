//! Objects, lists and values: the schema walked beside the bytes.

use super::bytes::{Fragment, Tag};
use super::plan::{self, Note, Plan, Step};
use super::tag::{Declared, StartTag};
use super::{Decoder, Odd, Range, Text};
use crate::decode::markup::resolve_reference;
use crate::decode::{json, time};
use crate::schema::Kind;

/// Objects within objects that are followed; the reference counts elements and has its own bound, which lies deeper.
const OBJECTS_DEPTH_MAX: usize = 32;

/// A start tag of which a part has been compared already.
#[derive(Clone, Copy)]
pub(super) enum Begun {
    /// All of it, as the step expects it: up to the content, or to the text of a reference's type.
    As(usize),
    /// Its name.
    Name(usize),
}

impl<'a> Decoder<'a, '_> {
    /// An object, from behind its start tag to its end tag, which is left to the caller.
    pub(super) fn object(&mut self, plan: &'static Plan, mut at: usize, depth: usize) -> Result<usize, Odd> {
        if depth > OBJECTS_DEPTH_MAX {
            return Err(Odd);
        }
        let start = self.out.len();
        let mut next = 0;
        loop {
            let Some((found, begun)) = self.find(plan, next, at) else {
                match self.page.get(at..at + 2).ok_or(Odd)? {
                    b"</" => break,
                    [b' ' | b'\n' | b'\t' | b'\r', _] => at = self.skip_space(at),
                    _ => return Err(Odd),
                }
                continue;
            };
            if found > next {
                self.out.put(plan.absent(next, found));
            }
            let step = &plan.steps[found];
            self.out.put(step.key);
            at = match step.many {
                true => self.list(step, begun, depth)?,
                false if depth == 0 => self.noted_member(step, begun)?,
                false => {
                    self.value::<true>(step.kind, begun, &step.close, depth, step.names_object && depth == 1)?
                }
            };
            next = found + 1;
        }
        self.out.put(plan.absent(next, plan.steps.len()));
        // Every member begins with a comma; the first one's is where the brace belongs.
        match self.out.len() == start {
            true => self.out.push(b'{'),
            false => self.out.set(start, b'{'),
        }
        self.out.push(b'}');
        Ok(at)
    }

    /// The step whose tag is at `at`, from `next` on: nearly always `next` itself, or what follows a few absent members.
    #[inline(always)]
    fn find(&self, plan: &Plan, next: usize, at: usize) -> Option<(usize, Begun)> {
        let is_open = |step: &Step| step.open.is_at(self.page, at);
        let begun = |step: &Step| Begun::As(at + step.open.len());
        if let Some(step) = plan.steps.get(next)
            && is_open(step)
        {
            return Some((next, begun(step)));
        }
        if self.page.get(at + 1) == Some(&b'/') {
            return None;
        }
        match plan.steps.iter().enumerate().skip(next + 1).find(|(_, step)| is_open(step)) {
            Some((found, step)) => Some((found, begun(step))),
            None => self.find_name(plan, next, at),
        }
    }

    /// As `find`, for a tag with attributes.
    #[inline(never)]
    fn find_name(&self, plan: &Plan, next: usize, at: usize) -> Option<(usize, Begun)> {
        let mut steps = plan.steps.iter().enumerate().skip(next);
        steps.find_map(|(found, step)| Some((found, self.begins(step, at)?)))
    }

    /// How `step` begins, if its start tag is at `at`.
    #[inline(always)]
    fn begins(&self, step: &Step, at: usize) -> Option<Begun> {
        if step.open.is_at(self.page, at) {
            return Some(Begun::As(at + step.open.len()));
        }
        let behind = at + step.name.len();
        (step.name.is_at(self.page, at) && self.ends_name(behind)).then_some(Begun::Name(behind))
    }

    /// A list, from its first item on, with all items that follow at once.
    fn list(&mut self, step: &Step, mut item: Begun, depth: usize) -> Result<usize, Odd> {
        let start = self.out.len();
        loop {
            self.out.push(b',');
            let end = self.value::<false>(step.kind, item, &step.close, depth, false)?;
            match self.begins(step, self.skip_space(end)) {
                Some(next) => item = next,
                None => {
                    self.out.set(start, b'[');
                    self.out.push(b']');
                    return Ok(end);
                }
            }
        }
    }

    /// A member of the event itself: as any other, and what later stages need is noted.
    #[inline(always)]
    fn noted_member(&mut self, step: &Step, at: Begun) -> Result<usize, Odd> {
        match step.note {
            Note::Nothing => self.value::<true>(step.kind, at, &step.close, 0, false),
            Note::Key | Note::ChainId => {
                let (number, end) = self.integer(Kind::Int, self.plain_tag(at)?)?;
                match step.note {
                    Note::Key => self.noted.key = Some(number as i32),
                    _ => self.noted.chain_id = number as i32,
                }
                self.end(&step.close, end)
            }
            Note::CreatedTime => {
                let start = self.out.len();
                let (micros, end) = self.time(self.plain_tag(at)?)?;
                self.noted.created = Some((micros, start, self.out.len()));
                self.out.push(b'"');
                self.end(&step.close, end)
            }
            Note::User | Note::EventTypeId | Note::ObjectId | Note::ObjectType => {
                let (from, start) = (self.plain_tag(at)?, self.out.len());
                (self.escaped, self.referred) = (false, false);
                let end = self.text(from)?;
                let text = match (self.escaped, self.referred) {
                    (_, true) => return Err(Odd),
                    (true, false) => Text::Page(from, end),
                    (false, false) => Text::Arena(start, self.out.len()),
                };
                match step.note {
                    Note::User => self.noted.user = text,
                    Note::EventTypeId => self.noted.event_type = text,
                    Note::ObjectId => self.noted.object_id = (from, end),
                    _ => self.noted.object_type = (from, end),
                }
                self.out.push(b'"');
                self.end(&step.close, end)
            }
            Note::Entity(rank) => {
                self.named = None;
                let end = match step.kind {
                    Kind::Reference => self.value::<true>(step.kind, at, &step.close, 0, true)?,
                    // The class that counts is the declared one.
                    _ => {
                        self.object_of(plan::of(step.class.ok_or(Odd)?), self.plain_tag(at)?, &step.close, 0)?
                    }
                };
                if let Some((kind, id)) = self.named
                    && rank < self.noted.entity_rank
                    && kind.0 < kind.1
                    && id.0 < id.1
                {
                    (self.noted.entity_rank, self.noted.entity_type, self.noted.entity_id) = (rank, kind, id);
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

    /// A value to behind its end tag. `OPENED`: the step's key has begun it. `names_object`: this reference
    /// is the one that an argument of the event is about.
    #[inline(always)]
    fn value<const OPENED: bool>(
        &mut self,
        kind: Kind,
        at: Begun,
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
                // A byte that does not repeat is unsigned in what functions read; the reference knows how.
                if OPENED && kind == Kind::Byte && self.page.get(from) == Some(&b'-') {
                    return Err(Odd);
                }
                let end = self.scalar(kind, from)?;
                self.end(close, end)
            }
            Kind::Object(class) => {
                let tag = self.start_tag(at)?;
                let plan = match tag.declared {
                    Some(Declared::Class(name)) => plan::named(name).unwrap_or_else(|| plan::of(class)),
                    _ => plan::of(class),
                };
                self.object_in(plan, tag, close, depth)
            }
            Kind::Any => self.any(at, close, depth),
        }
    }

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
        let start = self.out.len();
        self.out.put(plan.absent(0, plan.steps.len()));
        match self.out.len() == start {
            true => self.out.push(b'{'),
            false => self.out.set(start, b'{'),
        }
        self.out.push(b'}');
        Ok(tag.content)
    }

    /// A value whose kind its own tag declares.
    fn any(&mut self, at: Begun, close: &Tag, depth: usize) -> Result<usize, Odd> {
        let tag = self.start_tag(at)?;
        let kind = match tag.declared {
            Some(Declared::Schema(b"string" | b"base64Binary")) | None => Kind::String,
            Some(Declared::Schema(b"int")) => Kind::Int,
            Some(Declared::Schema(b"boolean")) => Kind::Boolean,
            Some(Declared::Schema(b"long")) => Kind::Long,
            Some(Declared::Schema(b"short")) => Kind::Short,
            Some(Declared::Schema(b"byte")) => Kind::Byte,
            Some(Declared::Schema(b"double")) => Kind::Double,
            Some(Declared::Schema(b"float")) => Kind::Float,
            Some(Declared::Schema(b"dateTime")) => Kind::DateTime,
            Some(Declared::Schema(_)) => return Err(Odd),
            Some(Declared::Class(b"ManagedObjectReference")) => {
                self.out.put(self.fixed.reference);
                return self.reference_in(tag, close, false);
            }
            Some(Declared::Class(name)) => match plan::named(name) {
                Some(plan) => return self.object_in(plan, tag, close, depth),
                None if name.starts_with(b"ArrayOf") => return Err(Odd),
                // An enumeration, or something else of which only the text is known.
                None => Kind::String,
            },
        };
        let is_reference = tag.reference_type.is_some() && !matches!(tag.declared, Some(Declared::Schema(_)));
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

    /// A reference; the JSON is written up to the text of its type.
    #[inline(always)]
    fn reference(&mut self, at: Begun, close: &Tag, names_object: bool) -> Result<usize, Odd> {
        let (kind, content) = if let Begun::As(from) = at {
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

    /// A reference whose start tag was parsed.
    fn reference_in(&mut self, tag: StartTag<'a>, close: &Tag, names_object: bool) -> Result<usize, Odd> {
        let kind = tag.reference_type.unwrap_or_default();
        // A quote or a backslash in the attribute would have to be escaped.
        if tag.empty || kind.iter().any(|byte| super::bytes::is_special(*byte)) {
            return Err(Odd);
        }
        self.out.as_vec().extend_from_slice(kind);
        // A part of the page, or empty.
        let from = if kind.is_empty() { 0 } else { kind.as_ptr() as usize - self.page.as_ptr() as usize };
        self.reference_id((from, from + kind.len()), tag.content, close, names_object)
    }

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
        // Anything but the end tag here is odd, escapes too.
        self.end(close, end)
    }

    #[inline(always)]
    fn scalar(&mut self, kind: Kind, from: usize) -> Result<usize, Odd> {
        match kind {
            Kind::Boolean => self.boolean(from),
            Kind::Float | Kind::Double => self.real(kind, from),
            _ => self.integer(kind, from).map(|(_, end)| end),
        }
    }

    #[inline(always)]
    fn boolean(&mut self, from: usize) -> Result<usize, Odd> {
        let rest = self.page.get(from..).ok_or(Odd)?;
        let (fragment, len): (Fragment, usize) = match rest {
            [b'f', b'a', b'l', b's', b'e', b'<', ..] => (self.fixed.r#false, 5),
            [b't', b'r', b'u', b'e', b'<', ..] => (self.fixed.r#true, 4),
            [b'0', b'<', ..] => (self.fixed.r#false, 1),
            [b'1', b'<', ..] => (self.fixed.r#true, 1),
            _ => return Err(Odd),
        };
        self.out.put(fragment);
        Ok(from + len)
    }

    /// An integer that is written as it stands: no sign but `-`, no leading zeros, in the range of its kind.
    #[inline(always)]
    fn integer(&mut self, kind: Kind, from: usize) -> Result<(i64, usize), Odd> {
        let (min, max) = match kind {
            Kind::Int => (i64::from(i32::MIN), i64::from(i32::MAX)),
            Kind::Long => (i64::MIN, i64::MAX),
            Kind::Short => (i64::from(i16::MIN), i64::from(i16::MAX)),
            _ => (i64::from(i8::MIN), i64::from(i8::MAX)),
        };
        let negative = self.page.get(from) == Some(&b'-');
        let first = from + usize::from(negative);
        let mut value = 0;
        let mut end = first;
        while let Some(digit) =
            self.page.get(end).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit < 10)
        {
            // 18 digits fit an i64 whatever they are; longer ones are the reference's.
            if end - first == 18 {
                return Err(Odd);
            }
            value = value * 10 + i64::from(digit);
            end += 1;
        }
        let leading_zero = self.page.get(first) == Some(&b'0') && (end - first > 1 || negative);
        let value = if negative { -value } else { value };
        if end == first || leading_zero || value < min || value > max {
            return Err(Odd);
        }
        self.out.copy(self.page, from, end);
        Ok((value, end))
    }

    fn real(&mut self, kind: Kind, from: usize) -> Result<usize, Odd> {
        let end = self.markup_from(from)?;
        let text = std::str::from_utf8(&self.page[from..end]).map_err(|_| Odd)?;
        match kind {
            Kind::Float => json::float(
                self.out.as_vec(),
                text.parse().ok().filter(|value: &f32| value.is_finite()).ok_or(Odd)?,
            ),
            _ => json::double(
                self.out.as_vec(),
                text.parse().ok().filter(|value: &f64| value.is_finite()).ok_or(Odd)?,
            ),
        }
        Ok(end)
    }

    /// A time without its quotes; microseconds since 1970 UTC.
    #[inline(always)]
    fn time(&mut self, from: usize) -> Result<(i64, usize), Odd> {
        let (time, len) = time::parse_prefix(self.page.get(from..).ok_or(Odd)?).ok_or(Odd)?;
        let end = from + len;
        self.out.copy(self.page, from, from + time.kept);
        match time.utc {
            true => self.out.push(b'Z'),
            false => self.out.copy(self.page, end - 6, end),
        }
        Ok((time.micros, end))
    }

    /// Where the next `<` is: a short way off, or the value is odd.
    #[inline(always)]
    fn markup_from(&self, from: usize) -> Result<usize, Odd> {
        let rest = &self.page[from..];
        let near = &rest[..rest.len().min(64)];
        near.iter().position(|byte| *byte == b'<').map(|len| from + len).ok_or(Odd)
    }

    /// Text up to the next `<`, escaped as it is copied.
    #[inline(always)]
    pub(super) fn text(&mut self, from: usize) -> Result<usize, Odd> {
        let at = self.out.text(self.page, from);
        if self.page.get(at) == Some(&b'<') { Ok(at) } else { self.escapes(at) }
    }

    /// The rest of a text, from a special byte on.
    #[inline(never)]
    fn escapes(&mut self, mut at: usize) -> Result<usize, Odd> {
        loop {
            let rest = self.page.get(at..).ok_or(Odd)?;
            match rest {
                [b'<', ..] => return Ok(at),
                [0xE2, 0x80, 0xA8 | 0xA9, ..] => {
                    self.escaped = true;
                    self.out.as_vec().extend_from_slice(if rest[2] == 0xA8 {
                        b"\\u2028"
                    } else {
                        b"\\u2029"
                    });
                    at += 3;
                }
                // U+FFFE and U+FFFF are no characters.
                [0xEF, 0xBF, 0xBE | 0xBF, ..] => return Err(Odd),
                [0xE2 | 0xEF, _, _, ..] => {
                    self.out.copy(self.page, at, at + 3);
                    at += 3;
                }
                [b'&', ..] => at = self.entity(at)?,
                // `]]>` is the end of a CDATA section, and an error outside of one.
                [b'>', ..] if self.page[..at].ends_with(b"]]") => return Err(Odd),
                [b'"' | b'\\' | b'\n' | b'\t' | b'>', ..] => {
                    self.escaped = true;
                    let escape: &[u8] = match rest[0] {
                        b'"' => b"\\\"",
                        b'\\' => b"\\\\",
                        b'\n' => b"\\n",
                        b'\t' => b"\\t",
                        _ => b"\\u003e",
                    };
                    self.out.as_vec().extend_from_slice(escape);
                    at += 1;
                }
                _ => return Err(Odd),
            }
            at = self.out.text(self.page, at);
        }
    }

    /// `&amp;` and its like.
    fn entity(&mut self, at: usize) -> Result<usize, Odd> {
        (self.escaped, self.referred) = (true, true);
        let near = &self.page[at + 1..self.page.len().min(at + 12)];
        let len = near.iter().position(|byte| *byte == b';').ok_or(Odd)?;
        let escape: &[u8] = match &near[..len] {
            b"lt" => b"\\u003c",
            b"gt" => b"\\u003e",
            b"amp" => b"\\u0026",
            b"quot" => b"\\\"",
            b"apos" => b"'",
            name => {
                let name = std::str::from_utf8(name).map_err(|_| Odd)?;
                let character = resolve_reference(name).ok_or(Odd)?;
                json::escaped(self.out.as_vec(), character.encode_utf8(&mut [0; 4]));
                return Ok(at + len + 2);
            }
        };
        self.out.as_vec().extend_from_slice(escape);
        Ok(at + len + 2)
    }

    /// The end tag that must come now.
    #[inline(always)]
    fn end(&self, close: &Tag, at: usize) -> Result<usize, Odd> {
        if close.is_at(self.page, at) { Ok(at + close.len()) } else { Err(Odd) }
    }

    /// The content of a start tag that has no attribute that matters.
    #[inline(always)]
    fn plain_tag(&self, at: Begun) -> Result<usize, Odd> {
        if let Begun::As(content) = at {
            return Ok(content);
        }
        let tag = self.start_tag(at)?;
        if tag.empty || tag.declared.is_some() { Err(Odd) } else { Ok(tag.content) }
    }

    /// The start tag of anything but a reference.
    #[inline(always)]
    fn start_tag(&self, at: Begun) -> Result<StartTag<'a>, Odd> {
        match at {
            Begun::As(content) => Ok(StartTag::plain(content)),
            Begun::Name(at) => self.attributes(at),
        }
    }

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
                let declared = Some(Declared::of(&self.page[from..from + len], &self.prefixes)?);
                return Ok(StartTag { declared, ..StartTag::plain(from + len + 2) });
            }
        }
        let tag = StartTag::read(self.page, at, &self.prefixes, self.event_prefix)?;
        match tag.binds {
            // A prefix that is bound in here and means something else out there would have to be tracked.
            Some(prefix) if self.event_prefix != Some(prefix) && !self.prefixes.binds_instance(prefix) => {
                Err(Odd)
            }
            _ => Ok(tag),
        }
    }
}
