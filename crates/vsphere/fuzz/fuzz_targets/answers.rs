//! Any bytes as the answer to a control call: reading it ends, within its bounds, and never panics.
#![no_main]

use vsphere::api::read_as_anything;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| read_as_anything(body));
