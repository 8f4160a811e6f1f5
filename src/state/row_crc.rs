//! A checksum over all columns of a row. SQLite has no checksums of its pages, and a flipped byte
//! must not go unnoticed.
//!
//! CRC-32 detects every burst error of up to 32 bits, and misses one in 2^32 of all other errors.
//!
//! ```text
//! input:  text(table name), then the columns in the order of their writer
//! text or blob column = u64 length, then the bytes      integer column = i64     little-endian
//! ```
//!
//! The lengths are part of the input, so a byte that moves from one column to the next is detected.

/// The checksum of one row, built column by column.
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
