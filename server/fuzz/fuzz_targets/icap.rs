//! What an ICAP server says, read by the parser itself: the server is not built for it.
#![no_main]

#[path = "../../src/scan/icap/head.rs"]
mod head;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Some(size) = head::chunk_size(data) {
        assert!(size < 1 << 60);
    }
    for protocol in ["ICAP", "HTTP"] {
        let Some(head) = head::Head::parse(data, protocol) else { continue };
        assert!((100..=999).contains(&head.status));
        assert!(head.threat().is_none_or(|name| !name.is_empty()));
        let _ = (head.number("Preview"), head.lists("Methods", "REQMOD"));
        if let Some(parts) = head.parts() {
            // The heads lie one behind the other, without gaps, up to the body.
            let end = parts.heads.iter().fold(0, |end, (_, range)| {
                assert_eq!(range.start, end);
                range.end
            });
            assert_eq!(end, parts.heads_end);
        }
    }
});
