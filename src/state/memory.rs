//! The store of the simulation, with maps instead of tables. It is also the model that tests hold
//! [`Store`](super::Store) equal to.
//!
//! A [`MemoryDisk`] survives a crash; a [`MemoryStore`] is one process that uses it. To simulate a
//! crash, drop the store and open another one on the same disk: writes that `apply` has answered
//! are there, others are not.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::dead_letters::size;
use super::room::Usage;
use super::write::{RefusedWrites, relies_on_later};
use super::{
    Bounds, Checkpoint, DeadLetterFilter, DeadLetterPayload, DeadLetterUsage, DeadLetterWrite, InboxWrite,
    ListedDeadLetter, SpoolAppend, SpoolMove, SpoolSize, SpooledBatch, Storage, StoreError, StoredDeadLetter,
    Write, WriteOutcome, codec, inbox,
};
use uuid::Uuid;

use crate::event::Selection;
use crate::limits::INBOX_ROWS_REMOVED_MAX;

/// The moment at which an `apply` fails. Either way the process gets an error and must stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failing {
    /// Nothing reached the disk.
    Before,
    /// Everything reached the disk; only the answer was lost.
    After,
}

/// The part that survives a crash. Clones share one disk.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk {
    contents: Arc<Mutex<DiskContents>>,
    plan: Arc<Mutex<Plan>>,
}

/// The store of one process on a [`MemoryDisk`].
#[derive(Debug)]
pub struct MemoryStore {
    disk: MemoryDisk,
    bounds: Bounds,
    usage: Usage,
    poisoned: bool,
}

/// The behaviour that a test or the simulation has ordered.
#[derive(Debug)]
struct Plan {
    /// The outcome of each of the next calls of `apply`: `None` succeeds.
    failing: VecDeque<Option<Failing>>,
    /// Free bytes of the disk.
    free: u64,
}

impl Default for Plan {
    fn default() -> Self {
        Plan { failing: VecDeque::new(), free: u64::MAX }
    }
}

#[derive(Clone, Debug, Default)]
struct DiskContents {
    checkpoints: BTreeMap<String, Checkpoint>,
    imported: BTreeMap<String, String>,
    spools: BTreeMap<String, VecDeque<SpooledBatch>>,
    /// By source: the ids of each row.
    inbox_ids: BTreeMap<String, Vec<(i64, Vec<Uuid>)>>,
    letters: BTreeMap<i64, StoredDeadLetter>,
    last_spool_row: i64,
    last_letter: i64,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MemoryDisk {
    /// Makes a later `apply` fail, after `after` more calls; 0 for the next call.
    pub fn fail(&self, after: usize, how: Failing) {
        let failing = &mut locked(&self.plan).failing;
        if failing.len() <= after {
            failing.resize(after + 1, None);
        }
        failing[after] = Some(how);
    }

    /// Cancels the planned failures.
    pub fn mend(&self) {
        locked(&self.plan).failing.clear();
    }

    /// Sets the free bytes of the disk; without it they are unlimited.
    pub fn set_free(&self, bytes: u64) {
        locked(&self.plan).free = bytes;
    }
}

impl MemoryStore {
    pub fn open(disk: &MemoryDisk) -> Self {
        Self::open_with(disk, Bounds::default())
    }

    pub fn open_with(disk: &MemoryDisk, bounds: Bounds) -> Self {
        let mut usage = Usage::default();
        let contents = locked(&disk.contents);
        for (destination, rows) in &contents.spools {
            rows.iter().for_each(|row| usage.add_row(destination, row.events as u64, row.blob.len() as u64));
        }
        contents
            .letters
            .values()
            .for_each(|at| usage.dead_letters.put(&at.facts.destination, size(at), None));
        drop(contents);
        MemoryStore { disk: disk.clone(), bounds, usage, poisoned: false }
    }

    /// As [`Store::forget`](super::Store::forget).
    pub fn forget(&mut self, source: &str) -> bool {
        locked(&self.disk.contents).checkpoints.remove(source).is_some()
    }
}

impl DiskContents {
    fn apply_one(&mut self, usage: &mut Usage, bounds: &Bounds, free: u64, write: &Write) -> WriteOutcome {
        match write {
            Write::Checkpoint(write) => {
                let prior = self.checkpoints.remove(&write.source);
                self.checkpoints.insert(write.source.clone(), Checkpoint::update(prior, write));
                let inbox = self.spools.get(&inbox::spool_of(&write.source));
                let settled =
                    inbox.into_iter().flatten().map(|at| at.row).take_while(|row| *row < write.inbox_kept);
                let rows: Vec<i64> = settled.take(INBOX_ROWS_REMOVED_MAX as usize).collect();
                self.remove(usage, &rows);
            }
            Write::SpoolAppend(append) => {
                if let Some(full) = usage.refuse_spool(bounds, free, append) {
                    return WriteOutcome::Full(full);
                }
                self.append(usage, append);
                return WriteOutcome::Row(self.last_spool_row);
            }
            Write::InboxAppend(InboxWrite { append, ids, forget_before }) => {
                if let Some(full) = usage.refuse_spool(bounds, free, append) {
                    return WriteOutcome::Full(full);
                }
                self.append(usage, append);
                let known = self.inbox_ids.entry(append.source.clone()).or_default();
                known.push((self.last_spool_row, ids.clone()));
                known.retain(|(row, _)| row >= forget_before);
                return WriteOutcome::Row(self.last_spool_row);
            }
            Write::SpoolRemove { rows } => self.remove(usage, rows),
            Write::SpoolSettled { row, events } => self.settle(*row, events),
            Write::SpoolMove(SpoolMove { row, settled, appends }) => {
                let found = self.spools.values().flatten().find(|at| at.row == *row);
                let freed = found.filter(|_| settled.is_none()).map_or(0, |at| at.blob.len() as u64);
                if let Some(full) = usage.refuse_move(bounds, free, appends, freed) {
                    return WriteOutcome::Full(full);
                }
                match settled {
                    Some(events) => self.settle(*row, events),
                    None => self.remove(usage, &[*row]),
                }
                appends.iter().for_each(|append| self.append(usage, append));
            }
            Write::SpoolClear { destination } => {
                for at in self.spools.remove(destination).into_iter().flatten() {
                    usage.remove_row(destination, at.events as u64, at.blob.len() as u64);
                }
            }
            Write::DeadLetter(write) => return self.add_letter(usage, bounds, free, write),
            Write::DeadLetterAgain { row, reason, status, attempts, last_us } => {
                if let Some(letter) = self.letters.get_mut(row) {
                    let before = size(letter);
                    letter.facts.reason.clone_from(reason);
                    (letter.facts.status, letter.facts.attempts, letter.facts.last_us) =
                        (*status, *attempts, *last_us);
                    usage.dead_letters.put(&letter.facts.destination, size(letter), Some(before));
                }
            }
            Write::DeadLetterRemove { rows } => {
                for letter in rows.iter().filter_map(|row| self.letters.remove(row)) {
                    usage.dead_letters.remove(&letter.facts.destination, size(&letter));
                }
            }
            Write::Imported { source, path, .. } => {
                self.imported.insert(source.clone(), path.clone());
            }
        }
        WriteOutcome::Done
    }

    fn append(&mut self, usage: &mut Usage, append: &SpoolAppend) {
        self.last_spool_row += 1;
        let (events, blob) = (append.batch.identities().len(), append.batch.blob().to_vec());
        usage.add_row(&append.destination, events as u64, blob.len() as u64);
        self.spools.entry(append.destination.clone()).or_default().push_back(SpooledBatch {
            row: self.last_spool_row,
            source: append.source.clone(),
            oldest: append.batch.oldest().unwrap_or_default(),
            events,
            settled: Selection::EMPTY,
            blob,
        });
    }

    fn remove(&mut self, usage: &mut Usage, rows: &[i64]) {
        for (destination, spool) in &mut self.spools {
            spool.retain(|at| {
                let gone = rows.contains(&at.row);
                if gone {
                    usage.remove_row(destination, at.events as u64, at.blob.len() as u64);
                }
                !gone
            });
        }
    }

    fn settle(&mut self, row: i64, events: &Selection) {
        let rows = self.spools.values_mut().flatten();
        rows.filter(|at| at.row == row).for_each(|at| at.settled = *events);
    }

    fn add_letter(
        &mut self,
        usage: &mut Usage,
        bounds: &Bounds,
        free: u64,
        write: &DeadLetterWrite,
    ) -> WriteOutcome {
        let letter = &write.letter;
        let key = |letter: &StoredDeadLetter| {
            (letter.facts.destination.clone(), letter.facts.source.clone(), letter.facts.id)
        };
        let older = self.letters.iter().find(|(_, older)| key(older) == key(letter)).map(|(row, _)| *row);
        let replacing = older.map(|row| size(&self.letters[&row]));
        let replaced = replacing.unwrap_or(0);
        if let Some(full) = usage.refuse_dead_letter(bounds, free, write, size(letter), replaced) {
            return WriteOutcome::Full(full);
        }
        usage.dead_letters.put(&letter.facts.destination, size(letter), replacing);
        let mut letter = letter.clone();
        let row = older.unwrap_or_else(|| {
            self.last_letter += 1;
            self.last_letter
        });
        if let Some(older) = self.letters.get(&row) {
            letter.facts.first_us = letter.facts.first_us.min(older.facts.first_us);
        }
        self.letters.insert(row, letter);
        WriteOutcome::Row(row)
    }
}

impl Storage for MemoryStore {
    fn apply(&mut self, writes: &[Write]) -> Result<Vec<WriteOutcome>, StoreError> {
        if self.poisoned {
            return Err(StoreError::Poisoned { path: PathBuf::from("memory") });
        }
        debug_assert_eq!(
            relies_on_later(writes, self)?,
            None,
            "a checkpoint before the write that it relies on"
        );
        let mut contents = locked(&self.disk.contents);
        let (failing, free) = {
            let mut plan = locked(&self.disk.plan);
            (plan.failing.pop_front().flatten(), plan.free)
        };
        self.poisoned = failing.is_some();
        if failing == Some(Failing::Before) {
            return Err(StoreError::Injected);
        }
        let mut refused = RefusedWrites::default();
        let mut outcomes = Vec::with_capacity(writes.len());
        for write in writes {
            let outcome = match refused.holds(write) {
                true => WriteOutcome::HeldBack,
                false => contents.apply_one(&mut self.usage, &self.bounds, free, write),
            };
            refused.note(write, &outcome);
            outcomes.push(outcome);
        }
        if failing == Some(Failing::After) { Err(StoreError::Injected) } else { Ok(outcomes) }
    }

    fn load(&self, source: &str) -> Result<Option<Checkpoint>, StoreError> {
        Ok(locked(&self.disk.contents).checkpoints.get(source).cloned())
    }

    fn spools(&self) -> &BTreeMap<String, SpoolSize> {
        &self.usage.spools
    }

    fn peek(
        &self,
        destination: &str,
        after_row: i64,
        bytes_max: u64,
    ) -> Result<Vec<SpooledBatch>, StoreError> {
        let contents = locked(&self.disk.contents);
        let (mut peeked, mut total) = (Vec::new(), 0);
        for row in contents.spools.get(destination).into_iter().flatten().filter(|row| row.row > after_row) {
            total += codec::memory_bytes(&row.blob);
            if total > bytes_max && !peeked.is_empty() {
                break;
            }
            peeked.push(row.clone());
        }
        Ok(peeked)
    }

    fn inbox_ids(&self, source: &str, events: usize) -> Result<Vec<(i64, Vec<Uuid>)>, StoreError> {
        let contents = locked(&self.disk.contents);
        let mut recent: Vec<(i64, Vec<Uuid>)> = Vec::new();
        let mut found = 0;
        for (row, ids) in contents.inbox_ids.get(source).into_iter().flatten().rev() {
            if found >= events {
                break;
            }
            found += ids.len();
            recent.push((*row, ids.clone()));
        }
        recent.reverse();
        Ok(recent)
    }

    fn dead_letters(&self, filter: &DeadLetterFilter) -> Result<Vec<ListedDeadLetter>, StoreError> {
        let contents = locked(&self.disk.contents);
        let matching = contents
            .letters
            .iter()
            .filter(|(row, letter)| filter.matches(**row, &letter.facts))
            .take(filter.limit());
        Ok(matching
            .map(|(row, letter)| ListedDeadLetter {
                row: *row,
                facts: letter.facts.clone(),
                is_raw: matches!(letter.payload, DeadLetterPayload::Raw(_)),
                bytes: size(letter),
            })
            .collect())
    }

    fn dead_letter(&self, row: i64) -> Result<Option<StoredDeadLetter>, StoreError> {
        Ok(locked(&self.disk.contents).letters.get(&row).cloned())
    }

    fn dead_letter_usage(&self) -> &DeadLetterUsage {
        &self.usage.dead_letters
    }

    fn imported(&self, source: &str) -> Result<Option<String>, StoreError> {
        Ok(locked(&self.disk.contents).imported.get(source).cloned())
    }
}
