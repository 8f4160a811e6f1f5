//! Round trips, and blobs that are damaged or forged.

use proptest::prelude::*;

use super::super::arbitrary;
use super::*;

/// Everything that a rendering can see of the picked events, with spans replaced by their bytes.
fn visible(batch: &Batch, picks: &Selection) -> Vec<(Record, [Vec<u8>; 7], Vec<u8>)> {
    let of = |i: usize| {
        let r = batch.records[i];
        let texts = r.spans().map(|span| batch.bytes(span).to_vec());
        let raw = if batch.raw_page.is_empty() { vec![] } else { batch.raw_page[r.raw.range()].to_vec() };
        let mut bare = r;
        bare.spans_mut().into_iter().for_each(|span| *span = Span::EMPTY);
        (Record { raw: Span::EMPTY, ..bare }, texts, raw)
    };
    picks.iter().map(of).collect()
}

proptest! {
    #[test]
    fn encoded_events_decode_to_the_same(batch in arbitrary::batch(), chosen in proptest::collection::vec(any::<bool>(), 20)) {
        let picks: Selection = (0..batch.records.len()).filter(|&i| chosen[i]).collect();
        let encoded = encode(&batch, &picks).unwrap();
        let back = decode(encoded.blob(), |name| (name == batch.source.name).then_some(batch.source.index)).unwrap();
        prop_assert_eq!(visible(&back, &Selection::first(picks.len())), visible(&batch, &picks));
        prop_assert_eq!((&back.source, back.page, back.produced_us), (&batch.source, batch.page, batch.produced_us));
        prop_assert_eq!(&back.failed, &batch.failed);
        prop_assert_eq!(back.records.len(), picks.len());
        prop_assert_eq!(encoded.identities(), back.records.iter().map(|r| r.identity).collect::<Vec<_>>());
        // Encoding the decoded batch again gives the same bytes.
        let again = encode(&back, &Selection::first(picks.len())).unwrap();
        prop_assert_eq!(again.blob(), encoded.blob());
    }

    #[test]
    fn any_bytes_are_a_batch_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..400), events in 0..6u32) {
        let _ = decode_blob(&bytes);
        if let Ok(batch) = decode_blob(&seal(&bytes, events)) {
            visible(&batch, &Selection::first(batch.records.len()));
        }
    }

    #[test]
    fn a_changed_body_is_a_batch_or_an_error(batch in arbitrary::batch(), at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let encoded = encode(&batch, &Selection::first(20)).unwrap();
        let (head, compressed) = encoded.blob().split_at(HEADER_BYTES);
        let plain = u32::from_le_bytes([head[12], head[13], head[14], head[15]]) as usize;
        let mut body = lz4_flex::block::decompress(compressed, plain).unwrap();
        let at = at.index(body.len());
        body[at] = to;
        if let Ok(batch) = decode_blob(&seal(&body, batch.records.len() as u32)) {
            visible(&batch, &Selection::first(batch.records.len()));
        }
    }

    #[test]
    fn a_flipped_bit_is_found(batch in arbitrary::batch(), at in any::<prop::sample::Index>(), bit in 0..8u32) {
        let mut blob = encode(&batch, &Selection::first(20)).unwrap().into_blob();
        let at = at.index(blob.len());
        blob[at] ^= 1 << bit;
        prop_assert!(decode_blob(&blob).is_err());
    }
}

#[test]
fn the_oldest_event_is_known() {
    let batch = arbitrary::events(&[(5, 9), (4, 11), (4, 10)]);
    assert_eq!(encode(&batch, &Selection::first(3)).unwrap().oldest(), Some(Identity { minute: 4, key: 10 }));
    assert_eq!(encode(&batch, &Selection::one(0)).unwrap().oldest(), Some(Identity { minute: 5, key: 9 }));
    assert_eq!(encode(&batch, &Selection::EMPTY).unwrap().oldest(), None);
}

#[test]
fn a_blob_that_claims_too_much_takes_no_memory() {
    let mut blob = seal(b"", 0);
    blob[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
    let crc = crc32fast::hash(&blob[8..]);
    blob[4..8].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(decode_blob(&blob).unwrap_err(), CodecError::Malformed("its length is impossible"));
    let mut newer = seal(b"", 0);
    newer[2] = VERSION + 1;
    assert_eq!(decode_blob(&newer).unwrap_err(), CodecError::Newer(VERSION + 1));
    assert_eq!(decode_blob(b"EB").unwrap_err(), CodecError::Foreign);
}
