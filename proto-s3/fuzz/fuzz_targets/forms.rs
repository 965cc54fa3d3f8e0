#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| proto_s3::wire::fuzz::forms(data));
