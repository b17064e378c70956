//! Is there a file that makes a reader panic, or that comes back changed when it is written again?
#![no_main]

#[path = "../../tests/reading/mod.rs"]
mod reading;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(checkpoint) = reading::read(bytes) {
        reading::hold(&checkpoint);
    }
});
