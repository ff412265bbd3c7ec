#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::run("pid1_line", data, 1));
