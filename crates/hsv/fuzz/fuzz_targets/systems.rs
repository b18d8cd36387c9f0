//! `tests/suite/driver` on the bytes of libFuzzer.
#![no_main]

#[path = "../../tests/suite/driver/mod.rs"]
mod driver;

libfuzzer_sys::fuzz_target!(|data: &[u8]| driver::run(data));
