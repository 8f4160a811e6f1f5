//! SHA-1 of eight short messages at once, for the ids of events.
//!
//! An id is the hash of one 64-byte block. Hashed one by one, ids would cost a fifth as much as
//! decoding the events. Here one AVX2 register holds the same word of all eight blocks, and one
//! instruction works on all of them. A machine without AVX2 hashes one message after the other.
#![allow(unsafe_code, reason = "calls functions compiled for AVX2 after checking that the machine has it")]

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

use sha1::{Digest, Sha1};

/// Number of messages that are hashed at once: 32-bit words in a 256-bit register.
pub(super) const LANES: usize = 8;

/// Longest message: the block of 64 bytes also holds the end mark (1 byte) and the length (8
/// bytes).
const MESSAGE_BYTES_MAX: usize = 55;

/// A message of at most [`MESSAGE_BYTES_MAX`] bytes, padded to one block (FIPS 180-4, 5.1.1).
#[derive(Clone, Copy)]
pub(super) struct Message {
    block: [u8; 64],
    len: usize,
}

impl Default for Message {
    fn default() -> Self {
        Message::new([b"", b""])
    }
}

impl Message {
    /// Concatenates `parts`.
    ///
    /// # Panics
    /// If the parts are longer than [`MESSAGE_BYTES_MAX`] together.
    pub fn new(parts: [&[u8]; 2]) -> Self {
        let len = parts[0].len() + parts[1].len();
        assert!(len <= MESSAGE_BYTES_MAX, "a message of {len} bytes is more than one block");
        let mut block = [0; 64];
        block[..parts[0].len()].copy_from_slice(parts[0]);
        block[parts[0].len()..len].copy_from_slice(parts[1]);
        block[len] = 0x80;
        block[56..].copy_from_slice(&(len as u64 * 8).to_be_bytes());
        Message { block, len }
    }
}

/// The first 16 bytes of each hash: a UUID takes no more.
pub(super) fn digests(messages: &[Message; LANES]) -> [[u8; 16]; LANES] {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the machine has AVX2.
        return unsafe { digests_avx2(messages) };
    }
    messages.each_ref().map(digest)
}

/// The safe twin of one lane of [`digests`].
pub(super) fn digest(message: &Message) -> [u8; 16] {
    let mut head = [0; 16];
    head.copy_from_slice(&Sha1::digest(&message.block[..message.len])[..16]);
    head
}

/// The hash computation of FIPS 180-4, 6.1.2, for one block in each lane.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn digests_avx2(messages: &[Message; LANES]) -> [[u8; 16]; LANES] {
    const INITIAL: [u32; 5] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];
    // Message schedule: the first 16 words are the blocks, transposed so that word t of all
    // messages shares a register. The others follow from them.
    let mut schedule = [_mm256_setzero_si256(); 80];
    for (t, words) in schedule.iter_mut().enumerate().take(16) {
        let word = |lane: usize| {
            let block = &messages[lane].block;
            i32::from_be_bytes([block[t * 4], block[t * 4 + 1], block[t * 4 + 2], block[t * 4 + 3]])
        };
        *words = _mm256_setr_epi32(word(0), word(1), word(2), word(3), word(4), word(5), word(6), word(7));
    }
    for t in 16..80 {
        let far = _mm256_xor_si256(schedule[t - 16], schedule[t - 14]);
        let near = _mm256_xor_si256(schedule[t - 8], schedule[t - 3]);
        schedule[t] = rotate::<1, 31>(_mm256_xor_si256(far, near));
    }
    // The 80 rounds, in four quarters.
    let initial = INITIAL.map(|word| _mm256_set1_epi32(word as i32));
    let state = rounds::<0>(initial, &schedule);
    let state = rounds::<1>(state, &schedule);
    let state = rounds::<2>(state, &schedule);
    let state = rounds::<3>(state, &schedule);
    // Transpose the first four words back into one digest a message.
    let mut digests = [[0; 16]; LANES];
    for (i, (word, initial)) in state.into_iter().zip(initial).take(4).enumerate() {
        let mut words = [0u32; LANES];
        // SAFETY: `words` has the 32 bytes that are written.
        unsafe { _mm256_storeu_si256(words.as_mut_ptr().cast(), _mm256_add_epi32(word, initial)) };
        for (digest, word) in digests.iter_mut().zip(words) {
            digest[i * 4..i * 4 + 4].copy_from_slice(&word.to_be_bytes());
        }
    }
    digests
}

/// The twenty rounds of one quarter, which share a mixing function and a constant.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline]
fn rounds<const QUARTER: usize>(state: [__m256i; 5], schedule: &[__m256i; 80]) -> [__m256i; 5] {
    const K: [u32; 4] = [0x5a82_7999, 0x6ed9_eba1, 0x8f1b_bcdc, 0xca62_c1d6];
    let [mut a, mut b, mut c, mut d, mut e] = state;
    let constant = _mm256_set1_epi32(K[QUARTER] as i32);
    for words in &schedule[QUARTER * 20..][..20] {
        let mixed = match QUARTER {
            0 => _mm256_xor_si256(d, _mm256_and_si256(b, _mm256_xor_si256(c, d))),
            2 => _mm256_or_si256(_mm256_and_si256(b, c), _mm256_and_si256(d, _mm256_or_si256(b, c))),
            _ => _mm256_xor_si256(b, _mm256_xor_si256(c, d)),
        };
        let added = _mm256_add_epi32(_mm256_add_epi32(constant, *words), _mm256_add_epi32(e, mixed));
        (a, b, c, d, e) = (_mm256_add_epi32(rotate::<5, 27>(a), added), a, rotate::<30, 2>(b), c, d);
    }
    [a, b, c, d, e]
}

/// Rotates each word left by `LEFT` bits. `RIGHT` must be 32 - `LEFT`.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline]
fn rotate<const LEFT: i32, const RIGHT: i32>(words: __m256i) -> __m256i {
    _mm256_or_si256(_mm256_slli_epi32::<LEFT>(words), _mm256_srli_epi32::<RIGHT>(words))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_lane_is_the_hash_of_its_message(
            parts in prop::array::uniform8((prop::collection::vec(any::<u8>(), 0..28), prop::collection::vec(any::<u8>(), 0..28))),
        ) {
            let messages = parts.each_ref().map(|(head, tail)| Message::new([head, tail]));
            prop_assert_eq!(digests(&messages), messages.each_ref().map(digest));
            for ((head, tail), message) in parts.iter().zip(&messages) {
                prop_assert_eq!(&digest(message)[..], &Sha1::digest([&head[..], &tail[..]].concat())[..16]);
            }
        }
    }
}
