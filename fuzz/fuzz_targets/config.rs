//! Any text as a configuration in any of the three formats. Loading must return errors or a
//! configuration, and not panic. A valid configuration must convert to a valid one.
#![no_main]

use std::path::Path;

use event_router::settings::{convert, load_str_with};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let name = Path::new("fuzz.yaml");
    let env = |_: &str| Some("value".to_owned());
    if load_str_with(text, name, &env).is_err() {
        return;
    }
    if let Ok(native) = convert(text, name).map(|(native, _)| native) {
        if let Err(errors) = load_str_with(&native, name, &env) {
            panic!("{errors}\n{native}");
        }
    }
});
