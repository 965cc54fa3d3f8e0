//! Words for the shell of another host.
//!
//! Promises: a word of any bytes but NUL reaches the command as it is, in the shells of POSIX and in fish and csh too
//! (these two look at backslashes or exclamation marks inside quotes, so that those stand outside). One thing is out
//! of reach: csh takes no line end in a word.
//!
//! Deliberately absent: reading command lines.

/// One word, quoted.
pub fn quoted(word: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(word.len() + 2);
    out.push(b'\'');
    for &b in word {
        if matches!(b, b'\'' | b'\\' | b'!') {
            out.extend_from_slice(&[b'\'', b'\\', b, b'\'']);
        } else {
            out.push(b);
        }
    }
    out.push(b'\'');
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_word_stays_one_word() {
        assert_eq!(quoted(b"a b"), b"'a b'");
        assert_eq!(quoted(b"it's; $(x)"), b"'it'\\''s; $(x)'");
        assert_eq!(quoted(b"a\\b!"), b"'a'\\\\'b'\\!''");
        assert_eq!(quoted(b""), b"''");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_shell_gives_back_what_was_quoted(word in proptest::collection::vec(1_u8..=255, 0..40)) {
            use std::os::unix::ffi::OsStringExt as _;
            let line = [&b"printf %s "[..], &quoted(&word), b"x"].concat();
            let line = std::ffi::OsString::from_vec(line);
            let said = std::process::Command::new("/bin/sh").arg("-c").arg(line).output().unwrap();
            prop_assert_eq!(said.stdout, [&word[..], b"x"].concat());
        }
    }
}
