//! Any bytes as the answer to a control call. Reading them must end, stay within the bounds, and
//! not panic.
#![no_main]

use vsphere::api::read_as_anything;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| read_as_anything(body));
