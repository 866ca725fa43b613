#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dhow_net::fuzzing::reply(bytes));
