//! Dead letters: events that failed for good, one a row, until an operator replays or drops them.
//!
//! A replay reads the letter and leaves it in place. When the target acknowledges the event, the
//! letter is removed; when the event fails again, its facts are updated. So a crash in the middle
//! of a replay loses nothing.
//!
//! A row has two checksums: `payload_crc` covers the payload, `crc` all other columns. A search
//! verifies `crc` alone and reads no payload. The columns are listed in `schema`.

use std::fmt;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::dead_letter_usage::HeldLetters;
use super::room::{Bounds, Usage};
use super::row_crc::RowCrc;
use super::{
    DeadLetterFacts, DeadLetterPayload, DeadLetterWrite, StoreError, StoredDeadLetter, WriteOutcome,
};
use crate::event::Identity;
use crate::limits::DEAD_LETTERS_LISTED_MAX;

/// Selects dead letters; the default selects all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeadLetterFilter {
    /// A glob, as `source` and `subject`: `*` stands for any characters, `?` for one.
    pub destination: Option<String>,
    pub source: Option<String>,
    pub subject: Option<String>,
    /// A part of the reason; case is ignored.
    pub reason: Option<String>,
    /// The HTTP status.
    pub status: Option<u16>,
    /// The CloudEvents id.
    #[serde(with = "id_text")]
    pub id: Option<Uuid>,
    /// The number of one dead letter.
    pub row: Option<i64>,
    /// Last tried at or after this time, microseconds since 1970 UTC.
    pub since_us: Option<i64>,
    /// Last tried before this time.
    pub until_us: Option<i64>,
    /// Only letters with a higher number: the last number of the page before.
    pub after_row: i64,
    /// Number of letters at most. A page of a search has at most
    /// `limits::DEAD_LETTERS_LISTED_MAX`, whatever the limit is.
    pub limit: Option<usize>,
}

/// The hyphenated text form of an id, for serde.
mod id_text {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
    use uuid::Uuid;

    pub fn serialize<S: Serializer>(id: &Option<Uuid>, serializer: S) -> Result<S::Ok, S::Error> {
        id.map(|id| id.to_string()).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Uuid>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| Uuid::parse_str(&text).map_err(D::Error::custom)).transpose()
    }
}

/// A dead letter without its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedDeadLetter {
    pub row: i64,
    pub facts: DeadLetterFacts,
    /// True if the payload is bytes that could not be decoded.
    pub is_raw: bool,
    /// Bytes that it takes of the bound.
    pub bytes: u64,
}

/// The form for logs: the fields that are set, as JSON. Example: `{"destination":"fn/*"}`.
impl fmt::Display for DeadLetterFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = serde_json::to_value(self).map_err(|_| fmt::Error)?;
        let unset = serde_json::to_value(Self::default()).map_err(|_| fmt::Error)?;
        let set = all.as_object().into_iter().flatten().filter(|(key, value)| unset.get(key) != Some(value));
        let set: serde_json::Map<_, _> = set.map(|(key, value)| (key.clone(), value.clone())).collect();
        match set.is_empty() {
            true => f.write_str("all"),
            false => write!(f, "{}", serde_json::Value::Object(set)),
        }
    }
}

impl DeadLetterFilter {
    /// Moves on to the next page, after a page of `found` letters that ended with the number
    /// `last`.
    pub fn advance(&mut self, last: i64, found: usize) {
        self.after_row = last;
        self.limit = self.limit.map(|limit| limit.saturating_sub(found));
    }

    /// Letters of one page at most.
    pub(super) fn limit(&self) -> usize {
        self.limit.unwrap_or(DEAD_LETTERS_LISTED_MAX).min(DEAD_LETTERS_LISTED_MAX)
    }

    pub(super) fn matches(&self, row: i64, facts: &DeadLetterFacts) -> bool {
        let fits =
            |glob: &Option<String>, text: &str| glob.as_deref().is_none_or(|glob| glob_matches(glob, text));
        let holds = |part: &str| facts.reason.to_lowercase().contains(&part.to_lowercase());
        row > self.after_row
            && self.row.is_none_or(|want| want == row)
            && self.id.is_none_or(|want| want == facts.id)
            && self.status.is_none_or(|want| Some(want) == facts.status)
            && fits(&self.destination, &facts.destination)
            && fits(&self.source, &facts.source)
            && fits(&self.subject, &facts.subject)
            && self.reason.as_deref().is_none_or(holds)
            && self.since_us.is_none_or(|since| facts.last_us >= since)
            && self.until_us.is_none_or(|until| facts.last_us < until)
    }
}

/// Matches `text` against `glob`, in which `*` stands for any characters and `?` for one.
///
/// Backtracks to the last star only, which is enough, so it takes at most `text` * `glob` steps.
pub fn glob_matches(glob: &str, text: &str) -> bool {
    let (glob, text): (Vec<char>, Vec<char>) = (glob.chars().collect(), text.chars().collect());
    let (mut g, mut t) = (0, 0);
    // The position of the last star, and the end of the text that it stands for so far.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match glob.get(g) {
            Some('*') => {
                star = Some((g, t));
                g += 1;
            }
            Some(&c) if c == '?' || c == text[t] => (g, t) = (g + 1, t + 1),
            _ => {
                let Some((at, end)) = star else { return false };
                star = Some((at, end + 1));
                (g, t) = (at + 1, end + 1);
            }
        }
    }
    glob[g..].iter().all(|&c| c == '*')
}

/// Bytes of a row without its texts and payload: fixed columns, index entries, cell headers.
const ROW_BYTES: u64 = 200;

/// Bytes that a letter takes of the bound. Destination and source count twice: row and index.
pub(super) fn size(letter: &StoredDeadLetter) -> u64 {
    let DeadLetterFacts { destination, source, subject, reason, .. } = &letter.facts;
    let texts = 2 * (destination.len() + source.len()) + subject.len() + reason.len();
    ROW_BYTES + (texts + letter.payload.bytes().len()) as u64
}

fn payload_crc(payload: &[u8]) -> i64 {
    RowCrc::of("dead_letter payload").bytes(payload).done()
}

fn facts_crc(facts: &DeadLetterFacts, is_raw: bool, bytes: i64, payload_crc: i64) -> i64 {
    RowCrc::of("dead_letter")
        .bytes(facts.destination.as_bytes())
        .bytes(facts.source.as_bytes())
        .bytes(facts.id.as_bytes())
        .int(facts.identity.minute.into())
        .int(facts.identity.key.into())
        .bytes(facts.subject.as_bytes())
        .bytes(facts.reason.as_bytes())
        .int(facts.status.map_or(-1, i64::from))
        .int(facts.attempts.into())
        .int(facts.first_us)
        .int(facts.last_us)
        .int(is_raw.into())
        .int(bytes)
        .int(payload_crc)
        .done()
}

/// Stores a dead letter, unless a bound refuses it. A letter of the same event and destination is
/// replaced; it keeps its number and the time of its first try.
pub(super) fn insert(
    conn: &Connection,
    path: &Path,
    usage: &mut Usage,
    bounds: &Bounds,
    free: u64,
    write: &DeadLetterWrite,
) -> Result<WriteOutcome, StoreError> {
    let letter = &write.letter;
    let sql = |cause| StoreError::sql(path, "write a dead letter", cause);
    let mut facts = letter.facts.clone();
    let older = conn
        .prepare_cached("SELECT row, bytes, first_us FROM dead_letter WHERE destination = ?1 AND source = ?2 AND event = ?3")
        .and_then(|mut select| {
            let key = params![facts.destination, facts.source, facts.id.as_bytes()];
            select.query_row(key, |row| <(i64, i64, i64)>::try_from(row)).optional()
        })
        .map_err(sql)?;
    let bytes = size(letter);
    let replacing = older.map(|(_, bytes, _)| bytes as u64);
    if let Some(full) = usage.refuse_dead_letter(bounds, free, write, bytes, replacing.unwrap_or(0)) {
        return Ok(WriteOutcome::Full(full));
    }
    if let Some((_, _, first_us)) = older {
        facts.first_us = facts.first_us.min(first_us);
    }
    put(conn, older.map(|(row, ..)| row), &facts, &letter.payload, bytes as i64).map_err(sql)?;
    usage.dead_letters.put(&facts.destination, bytes, replacing);
    Ok(WriteOutcome::Row(older.map_or_else(|| conn.last_insert_rowid(), |(row, ..)| row)))
}

fn put(
    conn: &Connection,
    row: Option<i64>,
    facts: &DeadLetterFacts,
    payload: &DeadLetterPayload,
    bytes: i64,
) -> rusqlite::Result<()> {
    let is_raw = matches!(payload, DeadLetterPayload::Raw(_));
    let payload_crc = payload_crc(payload.bytes());
    conn.prepare_cached(
        "INSERT OR REPLACE INTO dead_letter (row, destination, source, event, minute, key, subject, reason, status, attempts, first_us, last_us, raw, bytes, \
         payload_crc, crc, payload) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)",
    )?
    .execute(params![
        row,
        facts.destination,
        facts.source,
        facts.id.as_bytes(),
        facts.identity.minute,
        facts.identity.key,
        facts.subject,
        facts.reason,
        facts.status,
        facts.attempts,
        facts.first_us,
        facts.last_us,
        is_raw,
        bytes,
        payload_crc,
        facts_crc(facts, is_raw, bytes, payload_crc),
        payload.bytes(),
    ])?;
    Ok(())
}

/// Updates a letter whose replay failed. A letter that was dropped meanwhile is no error.
pub(super) fn again(
    conn: &Connection,
    path: &Path,
    usage: &mut Usage,
    row: i64,
    change: impl FnOnce(&mut DeadLetterFacts),
) -> Result<(), StoreError> {
    let Some((before, payload)) = read(conn, path, row)? else { return Ok(()) };
    let mut letter = StoredDeadLetter { facts: before.facts, payload };
    change(&mut letter.facts);
    let bytes = size(&letter);
    put(conn, Some(row), &letter.facts, &letter.payload, bytes as i64)
        .map_err(|cause| StoreError::sql(path, "write a dead letter", cause))?;
    usage.dead_letters.put(&letter.facts.destination, bytes, Some(before.bytes));
    Ok(())
}

pub(super) fn remove(conn: &Connection, usage: &mut Usage, rows: &[i64]) -> rusqlite::Result<()> {
    let mut delete =
        conn.prepare_cached("DELETE FROM dead_letter WHERE row = ?1 RETURNING destination, bytes")?;
    for row in rows {
        let gone = delete.query_row([row], |row| <(String, i64)>::try_from(row)).optional()?;
        if let Some((destination, bytes)) = gone {
            usage.dead_letters.remove(&destination, bytes as u64);
        }
    }
    Ok(())
}

const COLUMNS: &str = "row, destination, source, event, minute, key, subject, reason, status, attempts, first_us, last_us, raw, bytes, payload_crc, crc";

/// The letter in a row of [`COLUMNS`], and the checksum of its payload. `None` if the checksum over
/// the other columns is wrong.
fn listed(row: &Row) -> rusqlite::Result<Option<(ListedDeadLetter, i64)>> {
    let id: Vec<u8> = row.get(3)?;
    let facts = DeadLetterFacts {
        destination: row.get(1)?,
        source: row.get(2)?,
        id: Uuid::from_slice(&id).unwrap_or_default(),
        identity: Identity { minute: row.get(4)?, key: row.get(5)? },
        subject: row.get(6)?,
        reason: row.get(7)?,
        status: row.get(8)?,
        attempts: row.get(9)?,
        first_us: row.get(10)?,
        last_us: row.get(11)?,
    };
    let (is_raw, bytes, payload_crc, crc): (bool, i64, i64, i64) =
        (row.get(12)?, row.get(13)?, row.get(14)?, row.get(15)?);
    if facts_crc(&facts, is_raw, bytes, payload_crc) != crc {
        return Ok(None);
    }
    Ok(Some((ListedDeadLetter { row: row.get(0)?, facts, is_raw, bytes: bytes as u64 }, payload_crc)))
}

fn damaged(path: &Path, row: i64) -> StoreError {
    StoreError::Damaged { path: path.to_owned(), what: format!("dead letter {row}") }
}

/// The letters that `filter` selects, without their payloads, in the order of their numbers.
pub(super) fn list(
    conn: &Connection,
    path: &Path,
    filter: &DeadLetterFilter,
) -> Result<Vec<ListedDeadLetter>, StoreError> {
    let sql = |cause| StoreError::sql(path, "list the dead letters", cause);
    let mut select = conn
        .prepare_cached(&format!("SELECT {COLUMNS} FROM dead_letter WHERE row > ?1 ORDER BY row"))
        .map_err(sql)?;
    let mut rows = select.query([filter.after_row]).map_err(sql)?;
    let mut found = Vec::new();
    while found.len() < filter.limit()
        && let Some(row) = rows.next().map_err(sql)?
    {
        let number: i64 = row.get(0).map_err(sql)?;
        let (letter, _) = listed(row).map_err(sql)?.ok_or_else(|| damaged(path, number))?;
        if filter.matches(number, &letter.facts) {
            found.push(letter);
        }
    }
    Ok(found)
}

/// One dead letter with its payload.
pub(super) fn get(conn: &Connection, path: &Path, row: i64) -> Result<Option<StoredDeadLetter>, StoreError> {
    Ok(read(conn, path, row)?.map(|(letter, payload)| StoredDeadLetter { facts: letter.facts, payload }))
}

fn read(
    conn: &Connection,
    path: &Path,
    row: i64,
) -> Result<Option<(ListedDeadLetter, DeadLetterPayload)>, StoreError> {
    let sql = |cause| StoreError::sql(path, "read a dead letter", cause);
    let mut select = conn
        .prepare_cached(&format!("SELECT {COLUMNS}, payload FROM dead_letter WHERE row = ?1"))
        .map_err(sql)?;
    let found = select
        .query_row([row], |row| Ok((listed(row)?, row.get::<_, Vec<u8>>(16)?)))
        .optional()
        .map_err(sql)?;
    let Some((listed, payload)) = found else { return Ok(None) };
    let (letter, crc) = listed.ok_or_else(|| damaged(path, row))?;
    if payload_crc(&payload) != crc {
        return Err(damaged(path, row));
    }
    let payload =
        if letter.is_raw { DeadLetterPayload::Raw(payload) } else { DeadLetterPayload::Event(payload) };
    Ok(Some((letter, payload)))
}

/// The letters that were last tried before `before_us`, the oldest first, at most `limit`: their
/// numbers and destinations.
pub(super) fn expired(
    conn: &Connection,
    path: &Path,
    before_us: i64,
    limit: usize,
) -> Result<Vec<(i64, String)>, StoreError> {
    let sql = |cause| StoreError::sql(path, "look for old dead letters", cause);
    let mut select = conn
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM dead_letter WHERE last_us < ?1 ORDER BY last_us LIMIT ?2"
        ))
        .map_err(sql)?;
    let mut rows = select.query(params![before_us, limit as i64]).map_err(sql)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(sql)? {
        let number: i64 = row.get(0).map_err(sql)?;
        let (letter, _) = listed(row).map_err(sql)?.ok_or_else(|| damaged(path, number))?;
        found.push((number, letter.facts.destination));
    }
    Ok(found)
}

/// Adds up the letters by destination, from an index alone.
pub(super) fn measure(conn: &Connection, usage: &mut Usage) -> rusqlite::Result<()> {
    let mut select =
        conn.prepare("SELECT destination, count(*), sum(bytes) FROM dead_letter GROUP BY destination")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let (destination, letters, bytes) = <(String, i64, i64)>::try_from(row)?;
        usage.dead_letters.add(&destination, HeldLetters { letters: letters as u64, bytes: bytes as u64 });
    }
    Ok(())
}

#[cfg(test)]
#[path = "dead_letters_tests.rs"]
mod tests;
