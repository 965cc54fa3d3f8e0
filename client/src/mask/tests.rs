//! The table of cases, and the laws of masks.

use std::time::{Duration, SystemTime};

use jiff::{Zoned, civil, tz::TimeZone};
use proptest::prelude::*;
use session_core::path::VPath;

use super::pattern::{Pattern, tokens};
use super::*;

/// Wednesday, 2024-05-15 14:30:45 in a zone two hours east.
fn now() -> Zoned {
    civil::datetime(2024, 5, 15, 14, 30, 45, 0).to_zoned(TimeZone::fixed(jiff::tz::offset(2))).unwrap()
}

fn mask(text: &str) -> FileMask {
    FileMask::parse_at(text, &now()).unwrap_or_else(|e| panic!("{e}"))
}

/// A path; with a slash at its end a directory. The root of the operation is `/r`.
fn takes(text: &str, path: &str) -> bool {
    takes_with(text, path, None, None)
}

fn takes_with(text: &str, path: &str, size: Option<u64>, modified: Option<SystemTime>) -> bool {
    let root = VPath::absolute("/r").unwrap();
    let at = VPath::absolute(path).unwrap();
    let (parent, name) = split_last(at.as_bytes());
    let directory = path.ends_with('/');
    mask(text).matches(&Subject { parent, name, root: &root, directory, size, modified })
}

/// Seconds since 1970 of a local civil time of `now`'s zone.
fn local(text: &str) -> SystemTime {
    let at: civil::DateTime = text.parse().unwrap();
    SystemTime::from(at.to_zoned(now().time_zone().clone()).unwrap().timestamp())
}

#[test]
fn names_as_in_the_documentation() {
    for (text, path, wanted) in [
        // Nothing, and the two exceptions.
        ("", "/r/a", true),
        ("", "/r/a/", true),
        ("*", "/r/a", true),
        ("*.*", "/r/no-dot", true),
        ("*.*", "/r/a.b", true),
        ("*.", "/r/no-dot", true),
        ("*.", "/r/a.b", false),
        ("*.", "/r/.b", false),
        ("*[.]", "/r/a.", true),
        ("*[.]", "/r/a", false),
        // Patterns.
        ("*.txt", "/r/a.txt", true),
        ("*.txt", "/r/a.txt.bak", false),
        ("?.txt", "/r/a.txt", true),
        ("?.txt", "/r/ab.txt", false),
        ("?.txt", "/r/ä.txt", true),
        ("photo????.png", "/r/photo0001.png", true),
        ("index_[abc].html", "/r/index_b.html", true),
        ("index_[abc].html", "/r/index_d.html", false),
        ("index_[a-z].html", "/r/index_m.html", true),
        ("index_[a-z].html", "/r/index_5.html", false),
        ("[!a-c]*", "/r/d", true),
        ("[!a-c]*", "/r/b", false),
        ("a[-x]b", "/r/a-b", true),
        ("a[x-]b", "/r/a-b", true),
        ("a[x!]b", "/r/a!b", true),
        ("ab", "/r/abc", false),
        ("ab", "/r/xab", false),
        // Without regard to case.
        ("*.TXT", "/r/a.txt", true),
        ("ÄRGER*", "/r/ärger.doc", true),
        ("[A-C]x", "/r/bx", true),
        ("[!A-C]x", "/r/bx", false),
        // Literal: brackets, and doubled separators.
        ("a[*]b", "/r/a*b", true),
        ("a[*]b", "/r/axb", false),
        ("a[?]b", "/r/axb", false),
        ("a[[]b", "/r/a[b", true),
        ("a]b", "/r/a]b", true),
        ("a;;b", "/r/a;b", true),
        ("a;;b", "/r/b", false),
        ("a,,b", "/r/a,b", true),
        ("a||b", "/r/a|b", true),
        ("a<<b>>c", "/r/a<b>c", true),
        ("[ ]a", "/r/ a", true),
        // Lists; blanks around parts are ignored.
        ("*.txt; *.html , *.c", "/r/x.html", true),
        ("*.txt; *.html , *.c", "/r/x.c", true),
        ("*.txt; *.html , *.c", "/r/x.h", false),
        (" *.txt ", "/r/x.txt", true),
        (";;;", "/r/;", true),
        ("; ;", "/r/anything", true),
        // Exclude beats include.
        ("*.txt; *.html | *.bak", "/r/a.bak", false),
        ("*.txt|a*", "/r/a.txt", false),
        ("*.txt|a*", "/r/b.txt", true),
        ("|*.bak", "/r/a.txt", true),
        ("|*.bak", "/r/a.bak", false),
        ("*.txt|", "/r/a.txt", true),
        ("|", "/r/a.txt", true),
    ] {
        assert_eq!(takes(text, path), wanted, "'{text}' on {path}");
    }
}

#[test]
fn files_and_directories_are_judged_apart() {
    for (text, path, wanted) in [
        ("*.txt", "/r/dir/", true),
        ("*.txt", "/r/dir.c/", true),
        ("|*/", "/r/dir/", false),
        ("|*\\", "/r/dir/", false),
        ("|*/", "/r/file", true),
        ("|.git/", "/r/a/.git/", false),
        ("|.git/", "/r/a/.git", true),
        ("|.git", "/r/a/.git/", true),
        ("docs/", "/r/docs/", true),
        ("docs/", "/r/other/", false),
        ("docs/", "/r/file", true),
        // What lies below an included directory is included.
        ("docs/", "/r/docs/a/b/", true),
        ("docs/|a/", "/r/docs/a/", false),
        // Excluding names one directory; what is below is never reached.
        ("|docs/", "/r/docs/a/", true),
        ("*.txt; docs/", "/r/docs/", true),
        ("*.txt; docs/", "/r/docs/a.c", false),
    ] {
        assert_eq!(takes(text, path), wanted, "'{text}' on {path}");
    }
}

#[test]
fn paths_are_matched_whole() {
    for (text, path, wanted) in [
        ("*/public_html/*.bak", "/base/m/public_html/a.bak", true),
        ("*\\public_html\\*.bak", "/base/m/public_html/a.bak", true),
        ("*/public_html/*.bak", "/base/m/public_html/deep/a.bak", false),
        ("*/public_html/*.bak", "/base/m/other/a.bak", false),
        ("public_html/*.bak", "/base/m/public_html/a.bak", false),
        ("/base/m/*.txt", "/base/m/a.txt", true),
        ("/base/m/*.txt", "/base/m/deep/a.txt", false),
        // A star spans slashes.
        ("/base/m/*/*.txt", "/base/m/deep/er/a.txt", true),
        ("/base/*", "/base/a.txt", true),
        ("/*", "/a.txt", true),
        ("/*", "/base/a.txt", false),
        ("/base/m/data/.csv/", "/base/m/data/.csv/", true),
        ("/base/m/data/.csv/", "/base/m/.csv/", false),
        ("//base//m//*.txt", "/base/m/a.txt", true),
        // Relative to the root of the operation.
        ("./a.txt", "/r/a.txt", true),
        ("./a.txt", "/r/deep/a.txt", false),
        ("./a.txt", "/a.txt", false),
        ("./deep/*.txt", "/r/deep/a.txt", true),
        ("./deep/*.txt", "/r/x/deep/a.txt", false),
        ("./*/a.txt", "/r/x/y/a.txt", true),
        ("./*/a.txt", "/r/a.txt", false),
        ("|./tmp/", "/r/tmp/", false),
        ("|./tmp/", "/r/x/tmp/", true),
        ("./a.txt", "/rest/a.txt", false),
    ] {
        assert_eq!(takes(text, path), wanted, "'{text}' on {path}");
    }
}

#[test]
fn sizes_are_powers_of_1024() {
    const K: u64 = 1024;
    for (text, size, wanted) in [
        (">1M", K * K + 1, true),
        (">1M", K * K, false),
        (">=1M", K * K, true),
        ("<1k", K - 1, true),
        ("<1K", K, false),
        ("<=1K", K, true),
        (">100", 101, true),
        ("<1G", K * K * K - 1, true),
        (">1K<2K", K + 1, true),
        (">1K<2K", 2 * K, false),
        (">=0", 0, true),
        ("* > 1K", K + 1, true),
        ("|>1K", K + 1, false),
        ("|>1K", K, true),
    ] {
        assert_eq!(takes_with(text, "/r/a", Some(size), None), wanted, "'{text}' on {size}");
    }
    assert!(takes_with("*.zip>1K", "/r/a.zip", Some(K + 1), None));
    assert!(!takes_with("*.zip>1K", "/r/a.txt", Some(K + 1), None));
    // What is not known lies within no bounds, on either side of the bar.
    assert!(!takes_with(">0", "/r/a", None, None));
    assert!(takes_with("|>0", "/r/a", None, None));
}

#[test]
fn times_are_local_and_greater_is_newer() {
    for (text, time, wanted) in [
        (">2012-01-01", "2012-01-01T00:00:01", true),
        (">2012-01-01", "2012-01-01T00:00:00", false),
        (">=2012-01-01", "2012-01-01T00:00:00", true),
        ("<2012-01-01", "2011-12-31T23:59:59", true),
        (">2012-01-01 08:47", "2012-01-01T08:47:01", true),
        (">2012-01-01 08:47", "2012-01-01T08:46:59", false),
        (">2012-01-01 08:47:30", "2012-01-01T08:47:29", false),
        (">2012-02-29<2012-03-02", "2012-03-01T12:00:00", true),
        (">2012-02-29<2012-03-02", "2012-03-02T12:00:00", false),
        (">5D", "2024-05-10T14:30:46", true),
        (">5D", "2024-05-10T14:30:44", false),
        ("<5d", "2024-05-10T14:30:44", true),
        (">1Y", "2023-05-15T14:30:46", true),
        (">1Y", "2023-05-15T14:30:44", false),
        (">2H", "2024-05-15T12:30:46", true),
        (">2H", "2024-05-15T12:30:44", false),
        (">10N", "2024-05-15T14:20:46", true),
        (">10N", "2024-05-15T14:20:44", false),
        (">20S", "2024-05-15T14:30:26", true),
        (">20S", "2024-05-15T14:30:24", false),
        (">=today", "2024-05-15T00:00:00", true),
        (">=0DS", "2024-05-15T00:00:00", true),
        (">=today", "2024-05-14T23:59:59", false),
        (">=Yesterday", "2024-05-14T00:00:00", true),
        (">=1DS", "2024-05-13T23:59:59", false),
        (">=0HS", "2024-05-15T14:00:00", true),
        (">=0HS", "2024-05-15T13:59:59", false),
        (">=0NS", "2024-05-15T14:30:00", true),
        (">=0SS", "2024-05-15T14:30:45", true),
        (">=0YS", "2024-01-01T00:00:00", true),
        (">=0YS", "2023-12-31T23:59:59", false),
    ] {
        assert_eq!(takes_with(text, "/r/a", Some(0), Some(local(time))), wanted, "'{text}' on {time}");
    }
    let both = "*.zip>1G<5G>1D";
    let new = local("2024-05-15T00:00:00");
    assert!(takes_with(both, "/r/a.zip", Some(2 << 30), Some(new)));
    assert!(!takes_with(both, "/r/a.zip", Some(6 << 30), Some(new)));
    assert!(!takes_with(both, "/r/a.zip", Some(2 << 30), Some(new - Duration::from_secs(86400))));
    assert!(!takes_with(both, "/r/a.zip", Some(2 << 30), None));
}

#[test]
fn what_is_no_mask_says_where() {
    for (text, at, why) in [
        ("a|b|c", 3..4, "second '|'"),
        ("ok; [ab", 4..7, "not closed"),
        ("[]", 0..2, "empty"),
        ("[!]x", 0..0, ""),
        ("x[z-a]", 1..6, "backwards"),
        ("*/>1M", 2..5, "for files"),
        ("/", 0..1, "needs a name"),
        ("*>1Q", 1..4, "neither"),
        ("*>", 1..2, "neither"),
        (">5", 0..0, ""),
        (">2012-13-01", 0..11, "neither"),
        (">2012-01-01 25:00", 0..17, "neither"),
        (">1M>2M", 3..6, "already"),
        (">1D>today", 3..9, "already"),
        (">99999999999G", 0..13, "too large"),
        (">99999999Y", 0..10, "outside"),
        (">1M<<2", 3..5, "no such character"),
        (">>1M", 0..0, ""),
    ] {
        match FileMask::parse_at(text, &now()) {
            Ok(_) => assert_eq!(why, "", "'{text}' was taken"),
            Err(e) => {
                assert_eq!(e.at, at, "{e}");
                assert!(!why.is_empty() && e.to_string().contains(why), "'{text}': {e}");
                assert_eq!(Error::from(e).kind(), ErrorKind::InvalidArgument);
            }
        }
    }
    let e = FileMask::parse("ä;[x").unwrap_err();
    assert!(e.to_string().ends_with("at character 3: '[x'"), "{e}");
    assert!(FileMask::parse(&"a".repeat(MAX_TEXT + 1)).is_err());
    assert!(Bounds::parse("5D").is_err());
    assert!(Bounds::parse(" >5D <1M").is_ok());
}

#[test]
fn escaped_names_match_themselves_alone() {
    for name in ["a", "a*b", "a?[x]", "<1>", "x[[]*?"] {
        let mask = FileMask::escape(&format!("/dir*/{name}"));
        assert!(mask.starts_with("/dir*/"), "{mask}");
        assert!(takes(&mask, &format!("/dirs/{name}")), "{mask}");
        assert!(!takes(&mask, &format!("/dirs/{name}x")), "{mask}");
    }
    assert_eq!(FileMask::escape("a[b*c?d<e>f"), "a[[]b[*]c[?]d<<e>>f");
    assert_eq!(OperationMask::escape("d*/a*b?c\\d.e"), "d*/a\\*b\\?c\\\\d.e");
}

#[test]
fn operation_masks_make_names() {
    for (text, name, wanted) in [
        ("", "a.txt", "a.txt"),
        ("*", "a.txt", "a.txt"),
        ("*.*", "a.txt", "a.txt"),
        ("*.*", "a", "a"),
        ("*.bak", "a.txt", "a.bak"),
        ("*.bak", "a", "a.bak"),
        ("*.bak", "a.b.txt", "a.b.bak"),
        ("*.", "a.txt", "a"),
        ("*.html", ".profile", ".profile.html"),
        ("*.*", ".profile", ".profile"),
        ("x*.*", "abc.txt", "xbc.txt"),
        ("?x*.*", "abc.txt", "axc.txt"),
        ("*x.*", "abc.txt", "abcx.txt"),
        ("*.?z", "a.txt", "a.tz"),
        ("new.name", "a.txt", "new.name"),
        ("new", "a.txt", "new"),
        ("??", "abc", "ab"),
        ("??", "a", "a"),
        ("*-copy", "a.txt", "a.txt-copy"),
        ("\\*\\?\\\\x", "abcd", "*?\\x"),
        ("?.*", "äb.c", "ä.c"),
        (".x", "a.b", ".x"),
    ] {
        let mask = OperationMask::parse(text).unwrap();
        assert_eq!(String::from_utf8_lossy(&mask.apply(name.as_bytes())), wanted, "'{text}' on {name}");
    }
    assert_eq!(OperationMask::parse("?*.*").unwrap().apply(b"\xffa.b"), b"\xffa.b");
    assert_eq!(OperationMask::parse("a/b").unwrap_err().at, 1..2);
    assert_eq!(OperationMask::parse("a\\").unwrap_err().at, 1..2);
    assert!(OperationMask::parse("*\\.*").unwrap().is_unchanged());
}

#[test]
fn matching_takes_at_most_the_product_of_mask_and_name() {
    let text = "*a".repeat(200) + "*b";
    let pattern = Pattern(Pattern::elements(&tokens(&text)).unwrap());
    let name = vec![b'a'; 4000];
    let (matched, steps) = pattern.count(&name);
    assert!(!matched);
    assert!(steps <= (pattern.0.len() + 1) * (name.len() + 1), "{steps}");
}

/// The plainest reading of a pattern: a run takes any number of characters.
fn plain(pattern: &[u8], name: &[u8]) -> bool {
    match pattern {
        [] => name.is_empty(),
        [b'*', rest @ ..] => (0..=name.len()).any(|n| plain(rest, &name[n..])),
        [b'?', rest @ ..] => !name.is_empty() && plain(rest, &name[1..]),
        [c, rest @ ..] => name.first().is_some_and(|n| n.eq_ignore_ascii_case(c)) && plain(rest, &name[1..]),
    }
}

proptest! {
    #[test]
    fn what_a_mask_shows_parses_into_it(text in "[a.*?;,|<>=!\\[\\] /\\\\\\-1DMä]{0,14}") {
        if let Ok(mask) = FileMask::parse_at(&text, &now()) {
            let shown = mask.to_string();
            let again = FileMask::parse_at(&shown, &now());
            prop_assert_eq!(again.as_ref(), Ok(&mask), "'{}' shows '{}'", text, shown);
        }
    }

    #[test]
    fn no_text_and_no_name_panics(text in any::<String>(), name in proptest::collection::vec(any::<u8>(), 0..40)) {
        let root = VPath::root();
        if let Ok(mask) = FileMask::parse_at(&text, &now()) {
            for directory in [false, true] {
                mask.matches(&Subject { parent: b"/a/b", name: &name, root: &root, directory, size: Some(7), modified: None });
            }
        }
        if let Ok(mask) = OperationMask::parse(&text) {
            mask.apply(&name);
        }
    }

    #[test]
    fn patterns_mean_what_they_say(pattern in "[ab*?]{1,10}", name in "[abAB]{0,10}") {
        let parsed = Pattern(Pattern::elements(&tokens(&pattern)).unwrap());
        prop_assert_eq!(parsed.matches(name.as_bytes()), plain(pattern.as_bytes(), name.as_bytes()));
    }

    #[test]
    fn operation_masks_show_themselves(text in "[a.*?\\\\b]{0,10}", name in "[abc.]{1,10}") {
        if let Ok(mask) = OperationMask::parse(&text) {
            let again = OperationMask::parse(&mask.to_string()).unwrap();
            prop_assert_eq!(again.apply(name.as_bytes()), mask.apply(name.as_bytes()));
            prop_assert_eq!(again, mask);
        }
    }

    #[test]
    fn an_escaped_name_is_kept(name in "[a*?.\\\\b\\[]{1,10}", other in "[abc]{1,5}") {
        // An empty extension drops its dot: the one name that a mask cannot spell.
        prop_assume!(!name.ends_with('.'));
        let mask = OperationMask::parse(&OperationMask::escape(&name)).unwrap();
        prop_assert_eq!(mask.apply(other.as_bytes()), name.as_bytes());
    }
}
