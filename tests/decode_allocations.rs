//! What the decoder takes from the heap: a number of allocations that does not depend on how many events a page has.

#![allow(clippy::unwrap_used, unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;

use event_router::vim::Decoded;
use event_router::vim::decode::decode;

struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of one decode into fresh memory.
fn allocations(page: &str) -> usize {
    let mut decoded = Decoded::default();
    let before = COUNT.with(Cell::get);
    decode(page.as_bytes(), &mut decoded).unwrap();
    COUNT.with(Cell::get) - before
}

#[test]
fn a_page_of_a_thousand_events_allocates_as_often_as_one_of_a_hundred() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/golden/page1000.xml");
    let page = std::fs::read_to_string(path).unwrap();
    let cut = page.match_indices("</returnval>").nth(99).unwrap().0 + "</returnval>".len();
    let tail = page.rfind("</returnval>").unwrap() + "</returnval>".len();
    let hundred = format!("{}{}", &page[..cut], &page[tail..]);
    // The classes of the schema are worked out once for the life of the program.
    allocations(&page);
    let (few, many) = (allocations(&hundred), allocations(&page));
    assert!(many <= few + 4, "{few} allocations for 100 events, {many} for 1,000");
    assert!(many < 64, "{many} allocations");
    let mut decoded = Decoded::default();
    decode(page.as_bytes(), &mut decoded).unwrap();
    let before = COUNT.with(Cell::get);
    decode(page.as_bytes(), &mut decoded).unwrap();
    let again = COUNT.with(Cell::get) - before;
    assert!(again < many, "memory that is used again is not taken again: {again} of {many}");
}
