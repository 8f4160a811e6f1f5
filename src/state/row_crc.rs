//! A checksum over all columns of a row, since SQLite has none for its pages: a flipped byte must be loud.
//!
//! CRC-32 finds every burst of up to 32 bits, and misses one in 2^32 of all else. Columns are hashed with their lengths, so that a byte moved from one
//! column to the next is found too.

/// The checksum of one row, column by column, begun with the table's name.
pub(super) struct RowCrc(crc32fast::Hasher);

impl RowCrc {
    pub fn of(table: &str) -> Self {
        RowCrc(crc32fast::Hasher::new()).bytes(table.as_bytes())
    }

    pub fn bytes(mut self, column: &[u8]) -> Self {
        self.0.update(&(column.len() as u64).to_le_bytes());
        self.0.update(column);
        self
    }

    pub fn int(mut self, column: i64) -> Self {
        self.0.update(&column.to_le_bytes());
        self
    }

    pub fn done(self) -> i64 {
        i64::from(self.0.finalize())
    }
}
