//! Listings: facts of RFC 3659 and the many forms of LIST.

pub mod facts;
#[cfg(feature = "client")]
pub mod facts_parser;
#[cfg(feature = "client")]
pub mod parse;
pub mod stamp;
#[cfg(feature = "server")]
pub mod unix;

/// A name in a listing: what would end its line, or is no text at all, becomes `?`.
fn name(out: &mut Vec<u8>, name: &[u8]) {
    if name.iter().any(|b| matches!(b, b'\r' | b'\n' | 0)) {
        out.extend(name.iter().map(|b| if matches!(b, b'\r' | b'\n' | 0) { b'?' } else { *b }));
    } else {
        out.extend_from_slice(name);
    }
}
