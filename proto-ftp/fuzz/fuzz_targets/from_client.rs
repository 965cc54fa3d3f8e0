#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| proto_ftp::wire::fuzz::from_client(data));
