//! The scans, comparisons and copies, each equal to its plain twin, for every offset.

use proptest::prelude::*;

use super::*;

/// Random bytes, many of them special.
fn page() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![20 => 0x20u8..0x7F, 1 => any::<u8>(), 1 => Just(b'<'), 1 => Just(b'"')];
    prop::collection::vec(byte, 0..200)
}

#[test]
fn all_scans_classify_every_byte_alike() {
    for byte in 0..=u8::MAX {
        let mut page = [b'x'; 100];
        page[70] = byte;
        let scan = |text: &dyn Fn(&mut Out, &[u8], usize) -> usize| {
            let mut quota = Quota::of(page.len());
            let mut out = Out::new(Vec::new(), &mut quota);
            (text(&mut out, &page, 0), out.into_inner())
        };
        let plain = scan(&|out, page, at| out.text_plain(page, at));
        assert_eq!(plain.0, if is_special(byte) { 70 } else { 100 }, "{byte:#x}");
        assert_eq!(scan(&|out, page, at| out.text(page, at)), plain, "{byte:#x}");
        #[cfg(target_arch = "x86_64")]
        assert_eq!(scan(&|out, page, at| out.text_sse2(page, at)), plain, "{byte:#x}");
    }
}

#[test]
fn offsets_behind_the_page_read_nothing() {
    let page = [b'x'; 100];
    for at in [90, 100, 101, 1_000, usize::MAX - 31, usize::MAX - 15, usize::MAX - 1, usize::MAX] {
        assert!(!Tag::new(b"<returnval").is_at(&page, at), "{at}");
        assert!(!Tag::new(&[0; 32]).is_at(&page, at), "{at}");
        let rest = 100usize.saturating_sub(at);
        let scan = |text: &dyn Fn(&mut Out, &[u8], usize) -> usize| {
            let mut quota = Quota::of(page.len());
            let mut out = Out::new(Vec::new(), &mut quota);
            (text(&mut out, &page, at), out.into_inner())
        };
        let expected = (at + rest, vec![b'x'; rest]);
        assert_eq!(scan(&|out, page, at| out.text(page, at)), expected, "{at}");
        #[cfg(target_arch = "x86_64")]
        {
            assert_eq!(scan(&|out, page, at| out.text_sse2(page, at)), expected, "{at}");
            if is_x86_feature_detected!("avx2") {
                // SAFETY: this processor has AVX2.
                let wide = scan(&|out, page, at| unsafe { out.text_avx2(page, at) });
                assert_eq!(wide, expected, "{at}");
            }
        }
    }
}

#[test]
fn short_copies_read_through_the_page() {
    let page: Vec<u8> = (0..64).collect();
    for (from, to) in [(0, 0), (0, 5), (3, 35), (32, 33), (32, 64), (33, 64), (64, 64)] {
        let mut quota = Quota::of(page.len());
        let mut out = Out::new(Vec::new(), &mut quota);
        out.copy(&page, from, to);
        assert_eq!(out.into_inner(), page[from..to], "{from}..{to}");
    }
}

proptest! {
    #[test]
    fn the_scans_agree(page in page(), from in 0usize..200) {
        let from = from.min(page.len());
        let mut quotas = [Quota::of(page.len()), Quota::of(page.len())];
        let [mut fast, mut plain] = quotas.each_mut().map(|quota| Out::new(Vec::new(), quota));
        prop_assert_eq!(fast.text(&page, from), plain.text_plain(&page, from));
        prop_assert_eq!(fast.into_inner(), plain.into_inner());
    }

    #[test]
    fn the_comparisons_agree(page in page(), at in 0usize..210, len in 1usize..40, equal in any::<bool>()) {
        let at = at.min(page.len());
        let mut tag: Vec<u8> = page[at..].iter().copied().chain(std::iter::repeat(b'a')).take(len).collect();
        if !equal {
            tag[len / 2] ^= 1;
        }
        let tag = Tag::new(&tag);
        prop_assert_eq!(tag.is_at(&page, at), tag.is_at_plain(&page, at));
    }

    #[test]
    fn all_writes_arrive_in_order(page in page(), fragment in prop::collection::vec(any::<u8>(), 0..150), cut in 0usize..200) {
        let cut = cut.min(page.len());
        let mut quota = Quota::of(page.len());
        let mut out = Out::new(Vec::new(), &mut quota);
        out.put(Fragment::new(&fragment));
        out.copy(&page, 0, cut);
        out.push(b'!');
        out.copy(&page, cut, page.len());
        prop_assert_eq!(out.into_inner(), [&fragment[..], &page[..cut], b"!", &page[cut..]].concat());
    }
}
