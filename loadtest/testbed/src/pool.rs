//! Page buffers that are used again.
//!
//! A page has about 750 KB. Allocated anew, each page would be a fresh mapping, and its first touch
//! costs more than writing the events.

use std::sync::{Arc, Mutex};

use bytes::Bytes;

use crate::limits::PAGE_BUFFERS_MAX;
use crate::sync::lock;

#[derive(Clone, Default)]
pub(crate) struct Pool(Arc<Mutex<Vec<Vec<u8>>>>);

struct Pooled {
    bytes: Vec<u8>,
    pool: Pool,
}

impl AsRef<[u8]> for Pooled {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        let mut free = lock(&self.pool.0);
        if free.len() < PAGE_BUFFERS_MAX {
            free.push(bytes);
        }
    }
}

impl Pool {
    /// Lets `write` fill a buffer. The buffer returns to the pool when the answer has been sent.
    pub fn fill(&self, write: impl FnOnce(&mut Vec<u8>)) -> Bytes {
        let mut bytes = lock(&self.0).pop().unwrap_or_default();
        write(&mut bytes);
        Bytes::from_owner(Pooled { bytes, pool: self.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_when_the_answer_is_dropped() {
        let pool = Pool::default();
        let page = pool.fill(|out| out.extend_from_slice(&[7; 1000]));
        let part = page.slice(10..20);
        drop(page);
        assert_eq!(lock(&pool.0).len(), 0, "a part is still held");
        drop(part);
        assert_eq!(lock(&pool.0).len(), 1);
        assert_eq!(&pool.fill(|out| out.push(1))[..], [1]);
    }
}
