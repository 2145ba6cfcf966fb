//! One target under libFuzzer, whose options it takes; the variable `COCOON_FUZZ_TARGET` names it.
#![no_main]
#![allow(unsafe_code, reason = "the macro exports the C function that libFuzzer calls")]

use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = std::env::var("COCOON_FUZZ_TARGET").unwrap_or_default();
    let target = cocoon_fuzz::find(&name);
    target.unwrap_or_else(|| panic!("COCOON_FUZZ_TARGET={name} names no target")).run
});

fuzz_target!(|data: &[u8]| (TARGET)(data));
