//! Scanning, comparing and copying 16 and 32 bytes at a time. This is the only module of the
//! decoder with `unsafe`.
//!
//! Every function here is sound on its own: no argument lets a safe caller read past the page or
//! write past the output. Offsets are checked without an addition that could wrap ([`has`]), and
//! every read goes through the pointer of the whole page. Each primitive has a plain twin. Other
//! architectures always run the twin, and so do the last bytes of every page; tests and fuzzing
//! hold the two equal.
//!
//! ```text
//! page  …<userName>VSPHERE.LOCAL\Administrator</userName>…
//!                  └── copied while scanned ─┘ up to the first special byte
//! ```

#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

use crate::decode::json::Sink;
use crate::decode::quota::Quota;

/// Readable bytes behind a fragment and writable bytes behind the output: two of the widest copies.
const SLACK: usize = 64;

/// The bytes that end a plain copy of text, because something must be decided there.
///
/// These are markup, characters that JSON escapes, and the lead bytes of U+2028 and U+2029 (0xE2)
/// and of U+FFFE and U+FFFF (0xEF).
pub(super) const fn is_special(byte: u8) -> bool {
    byte < 0x20 || matches!(byte, b'"' | b'\\' | b'<' | b'>' | b'&' | 0xE2 | 0xEF)
}

/// Returns true if `page` has at least `count` bytes from `at` on. Every `at` is a valid argument.
#[inline(always)]
fn has(page: &[u8], at: usize, count: usize) -> bool {
    page.len().saturating_sub(at) >= count
}

/// JSON that is written often, such as `,"UserName":"`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fragment {
    /// INVARIANT: at least `bytes.len() + SLACK` bytes that are never freed are behind the start.
    bytes: &'static [u8],
    start: *const u8,
}

// SAFETY: `start` points to the same immutable, never freed bytes as `bytes`.
unsafe impl Send for Fragment {}
// SAFETY: as above.
unsafe impl Sync for Fragment {}

impl Fragment {
    /// Copies `bytes` and leaks the copy. Meant for the schema, which exists once in a program.
    pub fn new(bytes: &[u8]) -> Self {
        let mut padded = Vec::with_capacity(bytes.len() + SLACK);
        padded.extend_from_slice(bytes);
        padded.resize(bytes.len() + SLACK, 0);
        let padded: &'static [u8] = padded.leak();
        Fragment { bytes: &padded[..bytes.len()], start: padded.as_ptr() }
    }

    /// A part of this fragment. The bytes behind the whole are also behind the part.
    ///
    /// # Panics If `from..to` is not a range of this fragment.
    #[inline(always)]
    pub fn part(self, from: usize, to: usize) -> Self {
        let bytes = &self.bytes[from..to];
        // SAFETY: the slice was in bounds, so `from` is inside the allocation.
        Fragment { bytes, start: unsafe { self.start.add(from) } }
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }
}

/// Bytes that the page is expected to contain, such as `</userName>`.
#[derive(Clone, Debug)]
pub(super) struct Tag {
    /// The first 32 bytes, padded with zeros.
    head: [u8; 32],
    /// One bit for each byte of `head`; 0 for a tag longer than `head`.
    mask: u32,
    whole: Box<[u8]>,
}

impl Tag {
    pub fn new(bytes: &[u8]) -> Self {
        let mut head = [0; 32];
        let short = bytes.len().min(32);
        head[..short].copy_from_slice(&bytes[..short]);
        let mask = match bytes.len() {
            1..=31 => (1 << bytes.len()) - 1,
            32 => u32::MAX,
            _ => 0,
        };
        Tag { head, mask, whole: bytes.into() }
    }

    pub fn len(&self) -> usize {
        self.whole.len()
    }

    /// Returns true if the page has this tag at `at`.
    #[inline(always)]
    pub fn is_at(&self, page: &[u8], at: usize) -> bool {
        #[cfg(target_arch = "x86_64")]
        if self.mask != 0 && has(page, at, 32) {
            // SAFETY: the condition leaves 32 readable bytes at `at`, `head` has 32, and SSE2 is
            // part of x86-64.
            let equal = unsafe {
                let page = page.as_ptr().add(at).cast();
                let head = self.head.as_ptr().cast();
                let low = _mm_movemask_epi8(_mm_cmpeq_epi8(_mm_loadu_si128(page), _mm_loadu_si128(head)));
                let high = _mm_movemask_epi8(_mm_cmpeq_epi8(
                    _mm_loadu_si128(page.add(1)),
                    _mm_loadu_si128(head.add(1)),
                ));
                (high as u32) << 16 | low as u32
            };
            return equal & self.mask == self.mask;
        }
        self.is_at_plain(page, at)
    }

    /// The plain twin of [`Tag::is_at`].
    fn is_at_plain(&self, page: &[u8], at: usize) -> bool {
        page.get(at..).is_some_and(|rest| rest.starts_with(&self.whole))
    }
}

/// The arena while events are written to it.
#[derive(Debug)]
pub(in crate::decode) struct Out<'q, 'c> {
    bytes: Vec<u8>,
    /// Told of the arena before it grows.
    quota: &'q mut Quota<'c>,
    /// Length from which on the event that is being written does not fit the quota.
    limit: usize,
}

impl<'q, 'c> Out<'q, 'c> {
    pub fn new(bytes: Vec<u8>, quota: &'q mut Quota<'c>) -> Self {
        quota.hold_arena(bytes.capacity());
        Out { bytes, quota, limit: usize::MAX }
    }

    /// Begins an event: [`Out::is_over`] tells when it takes more than the quota has left.
    #[inline(always)]
    pub fn begin_event(&mut self) {
        self.limit = self.bytes.len().saturating_add(self.quota.event_bytes_max());
    }

    /// True if the event does not fit the quota. What is written to it will be thrown away.
    #[inline(always)]
    pub fn is_over(&self) -> bool {
        self.bytes.len() > self.limit
    }

    pub fn quota(&mut self) -> &mut Quota<'c> {
        self.quota
    }

    pub fn into_inner(self) -> Vec<u8> {
        self.bytes
    }

    #[inline(always)]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    pub fn truncate(&mut self, len: usize) {
        self.bytes.truncate(len);
    }

    /// Writes `bytes`, without a claim to speed.
    pub fn put_bytes(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        self.bytes.extend_from_slice(bytes);
    }

    /// Overwrites one byte.
    #[inline(always)]
    pub fn set(&mut self, at: usize, byte: u8) {
        self.bytes[at] = byte;
    }

    #[inline(always)]
    pub fn push(&mut self, byte: u8) {
        self.reserve(1);
        // SAFETY: `reserve` left room for more than one byte.
        unsafe {
            self.end().write(byte);
            self.grow_to(self.len() + 1);
        }
    }

    #[inline(always)]
    pub(super) fn put(&mut self, fragment: Fragment) {
        let len = fragment.len();
        self.reserve(len);
        // SAFETY: the fragment has SLACK readable bytes behind it, and the output has SLACK
        // writable bytes behind `len`. The first 64 bytes may therefore be copied for any `len`.
        // They do not overlap, since a fragment is never part of an output.
        unsafe {
            copy_32(fragment.start, self.end());
            if len > 32 {
                copy_32(fragment.start.add(32), self.end().add(32));
                if len > 64 {
                    std::ptr::copy_nonoverlapping(fragment.start.add(64), self.end().add(64), len - 64);
                }
            }
            self.grow_to(self.len() + len);
        }
    }

    /// Writes `page[from..to]`.
    ///
    /// # Panics If that is not a range of the page.
    #[inline(always)]
    pub fn copy(&mut self, page: &[u8], from: usize, to: usize) {
        let slice = &page[from..to];
        self.reserve(slice.len());
        if slice.len() <= 32 && has(page, from, 32) {
            // SAFETY: the condition leaves 32 readable bytes at `from`, and `reserve` SLACK
            // writable bytes. The pointer is the page's, since that of `slice` may read `slice`
            // only.
            unsafe {
                copy_32(page.as_ptr().add(from), self.end());
                self.grow_to(self.len() + slice.len());
            }
        } else {
            self.bytes.extend_from_slice(slice);
        }
    }

    /// Copies text from `page[from..]` up to the first special byte and returns its offset. Without
    /// a special byte the text ends with the page.
    #[inline(always)]
    pub fn text(&mut self, page: &[u8], from: usize) -> usize {
        #[cfg(target_arch = "x86_64")]
        {
            let mut at = from;
            // Most strings end within the first 32 bytes. For longer ones the call to the wider
            // scan pays.
            for _ in 0..2 {
                if !has(page, at, 16) {
                    return self.text_plain(page, at);
                }
                self.reserve(16);
                // SAFETY: the condition leaves 16 readable bytes at `at`, and `reserve` SLACK
                // writable bytes; SSE2 is part of x86-64.
                let specials = unsafe {
                    let chunk = _mm_loadu_si128(page.as_ptr().add(at).cast());
                    _mm_storeu_si128(self.end().cast(), chunk);
                    let specials = specials_16(chunk);
                    let plain = if specials == 0 { 16 } else { specials.trailing_zeros() as usize };
                    self.grow_to(self.len() + plain);
                    at += plain;
                    specials
                };
                if specials != 0 {
                    return at;
                }
            }
            if is_x86_feature_detected!("avx2") {
                // SAFETY: this processor has AVX2.
                return unsafe { self.text_avx2(page, at) };
            }
            self.text_sse2(page, at)
        }
        #[cfg(not(target_arch = "x86_64"))]
        self.text_plain(page, from)
    }

    /// The scan of [`Out::text`], 32 bytes at a time.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn text_avx2(&mut self, page: &[u8], mut at: usize) -> usize {
        while has(page, at, 32) {
            self.reserve(32);
            // SAFETY: the loop's condition leaves 32 readable bytes at `at`, and `reserve` SLACK
            // writable bytes.
            let specials = unsafe {
                let chunk = _mm256_loadu_si256(page.as_ptr().add(at).cast());
                _mm256_storeu_si256(self.end().cast(), chunk);
                let specials = specials_32(chunk);
                let plain = if specials == 0 { 32 } else { specials.trailing_zeros() as usize };
                self.grow_to(self.len() + plain);
                at += plain;
                specials
            };
            if specials != 0 {
                return at;
            }
        }
        self.text_plain(page, at)
    }

    /// The scan of [`Out::text`], 16 bytes at a time.
    #[cfg(target_arch = "x86_64")]
    #[inline(never)]
    fn text_sse2(&mut self, page: &[u8], mut at: usize) -> usize {
        while has(page, at, 16) {
            self.reserve(16);
            // SAFETY: the loop's condition leaves 16 readable bytes at `at`, and `reserve` SLACK
            // writable bytes.
            let specials = unsafe {
                let chunk = _mm_loadu_si128(page.as_ptr().add(at).cast());
                _mm_storeu_si128(self.end().cast(), chunk);
                let specials = specials_16(chunk);
                let plain = if specials == 0 { 16 } else { specials.trailing_zeros() as usize };
                self.grow_to(self.len() + plain);
                at += plain;
                specials
            };
            if specials != 0 {
                return at;
            }
        }
        self.text_plain(page, at)
    }

    /// The plain twin of [`Out::text`].
    #[inline(never)]
    fn text_plain(&mut self, page: &[u8], from: usize) -> usize {
        let rest = &page[from.min(page.len())..];
        let plain = rest.iter().position(|byte| is_special(*byte)).unwrap_or(rest.len());
        self.put_bytes(&rest[..plain]);
        from + plain
    }

    /// Makes room for `more` bytes and SLACK.
    #[inline(always)]
    fn reserve(&mut self, more: usize) {
        if self.bytes.capacity() - self.bytes.len() < more + SLACK {
            self.grow(more + SLACK);
        }
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self, more: usize) {
        // A `Vec` would double. A batch waits in memory with its whole capacity, so this grows by
        // an eighth.
        let more = more.max(self.bytes.len() / 8);
        self.quota.hold_arena(self.bytes.len() + more);
        self.bytes.reserve_exact(more);
    }

    /// The first byte behind the output.
    #[inline(always)]
    fn end(&mut self) -> *mut u8 {
        // SAFETY: the length is at most the capacity, so the pointer is in the allocation or one
        // past its end.
        unsafe { self.bytes.as_mut_ptr().add(self.bytes.len()) }
    }

    /// # Safety The bytes up to `len` are initialized, and `len` is at most the capacity.
    #[inline(always)]
    unsafe fn grow_to(&mut self, len: usize) {
        debug_assert!(len <= self.bytes.capacity());
        // SAFETY: guaranteed by the caller.
        unsafe { self.bytes.set_len(len) }
    }
}

impl Sink for Out<'_, '_> {
    fn push(&mut self, byte: u8) {
        Out::push(self, byte);
    }

    fn put_bytes(&mut self, bytes: &[u8]) {
        Out::put_bytes(self, bytes);
    }

    fn is_over(&self) -> bool {
        Out::is_over(self)
    }
}

/// # Safety 32 bytes are readable at `from` and writable at `to`, and the two do not overlap.
#[inline(always)]
unsafe fn copy_32(from: *const u8, to: *mut u8) {
    // SAFETY: guaranteed by the caller. An array of constant size compiles to two vector moves.
    unsafe { to.cast::<[u8; 32]>().write_unaligned(from.cast::<[u8; 32]>().read_unaligned()) }
}

/// A bit mask of the special bytes.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn specials_16(chunk: __m128i) -> u32 {
    // SAFETY: SSE2 is part of x86-64.
    unsafe {
        let is = |chunk, byte: u8| _mm_cmpeq_epi8(chunk, _mm_set1_epi8(byte as i8));
        // `<` and `>` differ in one bit, as do `"` and `&`: one comparison serves each pair.
        let angles = is(_mm_or_si128(chunk, _mm_set1_epi8(2)), b'>');
        let quotes = is(_mm_or_si128(chunk, _mm_set1_epi8(4)), b'&');
        let controls = _mm_cmpeq_epi8(_mm_min_epu8(chunk, _mm_set1_epi8(0x1F)), chunk);
        let markup = _mm_or_si128(_mm_or_si128(angles, quotes), _mm_or_si128(controls, is(chunk, b'\\')));
        let leads = _mm_or_si128(is(chunk, 0xE2), is(chunk, 0xEF));
        _mm_movemask_epi8(_mm_or_si128(markup, leads)) as u32
    }
}

/// A bit mask of the special bytes.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline]
fn specials_32(chunk: __m256i) -> u32 {
    let is = |chunk, byte: u8| _mm256_cmpeq_epi8(chunk, _mm256_set1_epi8(byte as i8));
    let angles = is(_mm256_or_si256(chunk, _mm256_set1_epi8(2)), b'>');
    let quotes = is(_mm256_or_si256(chunk, _mm256_set1_epi8(4)), b'&');
    let controls = _mm256_cmpeq_epi8(_mm256_min_epu8(chunk, _mm256_set1_epi8(0x1F)), chunk);
    let markup =
        _mm256_or_si256(_mm256_or_si256(angles, quotes), _mm256_or_si256(controls, is(chunk, b'\\')));
    let leads = _mm256_or_si256(is(chunk, 0xE2), is(chunk, 0xEF));
    _mm256_movemask_epi8(_mm256_or_si256(markup, leads)) as u32
}

#[cfg(test)]
#[path = "bytes_tests.rs"]
mod tests;
