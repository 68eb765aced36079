//! Arbitrary bytes as a Parquet object: footer, pages, rows.
#![no_main]

#[path = "../../tests/support/fuzzing.rs"]
mod fuzzing;

use std::sync::Once;

static PANICS: Once = Once::new();

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    // The fuzzer's own hook aborts on any panic; those of the Parquet library are errors in a run, and are judged there.
    PANICS.call_once(|| {
        let _fuzzers_own = std::panic::take_hook();
        fuzzing::grind_object::note_panics();
    });
    fuzzing::footers(data);
});
