//! Names that break programs: each goes through a whole life.
//!
//! A name that a store cannot hold must be refused when the file is made; stored under another name it
//! would be a lie.

use super::*;
use crate::fs::{Follow, Replace};

/// Makes, lists, reads, renames and removes a file and a directory of this name.
async fn live(b: &Bench, name: &[u8]) -> Outcome {
    let content = noise(name.len() as u64, 100);
    let path = b.file(name, &content).await?;
    same!(b.names(&b.root).await?, [name]);
    same!(b.fs.stat(&path, Follow::No).await?.size, 100);
    same!(b.content(&path).await?, content);
    if b.capabilities.rename {
        let plain = b.at("plain")?;
        b.fs.rename(&path, &plain, Replace::No).await?;
        same!(b.names(&b.root).await?, ["plain"]);
        b.fs.rename(&plain, &path, Replace::No).await?;
        same!(b.names(&b.root).await?, [name]);
    }
    let dir = if b.capabilities.remove {
        b.fs.remove_file(&path).await?;
        same!(b.names(&b.root).await?.len(), 0);
        b.dir(name).await?
    } else {
        b.dir("beside").await?;
        b.dir([b"beside/", name].concat()).await?
    };
    let inner = dir.join(name)?;
    b.fs.write_all(&inner, Bytes::from_static(b"inner")).await?;
    same!(b.names(&dir.parent().unwrap_or_else(VPath::root)).await?, [name]);
    same!(b.names(&dir).await?, [name]);
    same!(b.content(&inner).await?, b"inner");
    if !b.capabilities.remove {
        return Ok(());
    }
    b.fs.remove_file(&inner).await?;
    b.fs.remove_dir(&dir).await?;
    same!(b.names(&b.root).await?.len(), 0);
    Ok(())
}

macro_rules! lives {
    ($($name:ident $kind:ident $bytes:expr;)*) => {
        /// One life for each name.
        pub(super) const LIVES: &[Case] = &[$(Case {
            name: concat!("names::", stringify!($name)),
            doc: concat!("A file and a directory may have this name: ", stringify!($bytes), "."),
            needs: needs::$kind,
            run: |b| Box::pin(live(b, $bytes)),
        }),*];
    };
}

/// Who can hold which names.
mod needs {
    use super::{Capabilities, Profile};

    pub(super) fn any(_: &Capabilities, _: &Profile) -> bool {
        true
    }
    pub(super) fn awkward(_: &Capabilities, p: &Profile) -> bool {
        p.awkward_names
    }
    pub(super) fn bytes(_: &Capabilities, p: &Profile) -> bool {
        p.awkward_names && p.byte_names
    }
    pub(super) fn lines(_: &Capabilities, p: &Profile) -> bool {
        p.awkward_names && p.line_ends
    }
    pub(super) fn long(c: &Capabilities, _: &Profile) -> bool {
        c.max_name >= 255
    }
}

lives! {
    one_letter any b"a";
    space_inside any b"a b";
    space_in_front awkward b" a";
    space_at_the_end awkward b"a ";
    only_a_space awkward b" ";
    many_spaces any b"a   b";
    dot_in_front any b".hidden";
    dot_at_the_end awkward b"a.";
    three_dots any b"...";
    two_dots_and_more any b"..a";
    tilde any b"~";
    tilde_user any b"~root";
    dash any b"-";
    dash_options any b"-rf";
    dash_dash any b"--help";
    star any b"*";
    question_mark any b"what?.txt";
    brackets any b"[a-z]{1,2}";
    hash any b"#1;type=i";
    percent any b"100%";
    percent_encoded any b"%2e%2e%2fx%00";
    plus any b"a+b";
    ampersand any b"a&b<c>d";
    equals any b"a=b";
    single_quote any b"it's";
    double_quote any b"say \"hi\"";
    backtick any b"`id`";
    dollar any b"$HOME $(id)";
    backslash any b"a\\b";
    backslash_at_the_end any b"a\\";
    backslash_dots any b"..\\..\\x";
    colon any b"C:";
    pipe any b"a|b";
    exclamation any b"hi!";
    comma_and_at any b"a,b@c";
    looks_like_a_listing any b"-rw-r--r-- 1 root root 0 Jan 1 00:00 x";
    looks_like_an_arrow any b"a -> b";
    device_of_windows any b"CON";
    long_short_name any b"LONGNA~1.TXT";
    umlaut any "ä".as_bytes();
    cyrillic any "файл".as_bytes();
    chinese any "文件".as_bytes();
    right_to_left any "قائمة".as_bytes();
    direction_override any "a\u{202e}txt.exe".as_bytes();
    emoji any "🦀".as_bytes();
    emoji_joined any "👩‍👩‍👧".as_bytes();
    composed any "\u{e9}".as_bytes();
    wide_slash any "a\u{ff0f}b".as_bytes();
    no_break_space any "a\u{a0}b".as_bytes();
    byte_order_mark any "\u{feff}a".as_bytes();
    last_code_point any "\u{10ffff}".as_bytes();
    newline lines b"a\nb";
    carriage_return lines b"a\r\nb";
    tab awkward b"a\tb";
    bell_and_escape awkward b"\x07\x1b[31m";
    delete awkward b"a\x7f";
    control_one awkward b"\x01";
    not_utf8 bytes b"\xff\xfe";
    latin1 bytes b"caf\xe9";
    half_a_character bytes b"a\xc3";
    surrogate bytes b"\xed\xa0\x80";
    telnet_iac bytes b"a\xff\xffb\xff";
    longest long &[b'n'; 255];
}

suite! { "names";
    /// The longest name may consist of characters of many bytes.
    longest_of_wide_characters(b) needs |c, _| c.max_name >= 255 => {
        live(b, "文".repeat(85).as_bytes()).await?;
    }
    /// A name that is too long is refused and nothing is made.
    too_long_is_refused(b) needs |c, _| c.max_name <= 255 => {
        let path = b.at("n".repeat(b.capabilities.max_name + 1))?;
        fails!(b, b.fs.write_all(&path, Bytes::from_static(b"x")).await, InvalidPath);
        fails!(b, b.fs.create_dir(&path, &Attributes::none()).await, InvalidPath);
        same!(b.names(&b.root).await?.len(), 0);
    }
    /// Names that differ only by case are two files.
    case_makes_a_difference(b) needs |_, p| p.case_sensitive => {
        b.file("Name", b"upper").await?;
        b.file("name", b"lower").await?;
        same!(b.names(&b.root).await?, ["Name", "name"]);
        same!(b.content(&b.at("Name")?).await?, b"upper");
    }
    /// Where case makes no difference, the second name is the first file.
    case_makes_none(b) needs |_, p| !p.case_sensitive => {
        b.file("Name", b"first").await?;
        same!(b.content(&b.at("nAME")?).await?, b"first");
    }
    /// Composed and decomposed letters are different names, and neither becomes the other.
    normal_forms_stay_apart(b) needs |_, p| p.normal_forms => {
        b.file("\u{e9}", b"composed").await?;
        b.file("e\u{301}", b"decomposed").await?;
        same!(b.names(&b.root).await?, ["e\u{301}", "\u{e9}"]);
        same!(b.content(&b.at("\u{e9}")?).await?, b"composed");
    }
    /// Many awkward names together in one directory are all listed, each once.
    all_together(b) needs |_, p| p.awkward_names => {
        let fits = |x: &u8| *x != b'/' && (b.profile.line_ends || !matches!(x, b'\r' | b'\n'));
        let mut names: Vec<Vec<u8>> = (1..=127u8).filter(fits).map(|x| vec![b'n', x]).collect();
        for name in &names {
            b.file(name, name).await?;
        }
        names.sort();
        same!(b.names(&b.root).await?, names);
        for name in &names {
            same!(b.content(&b.root.join(name)?).await?, *name);
        }
    }
    /// A deep path works to its end.
    a_deep_path_works(b) needs |_, _| true => {
        let mut path = b.root.clone();
        for i in 0..40 {
            path = path.join(format!("level-{i}"))?;
            b.fs.create_dir(&path, &Attributes::none()).await?;
        }
        let path = path.join("f")?;
        b.fs.write_all(&path, Bytes::from_static(b"deep")).await?;
        same!(b.content(&path).await?, b"deep");
    }
    /// A name is a prefix of another without being mixed up with it.
    prefixes_are_not_mixed_up(b) needs |c, _| c.remove => {
        b.dir("a").await?;
        b.file("ab", b"file").await?;
        b.file("a/b", b"inner").await?;
        same!(b.names(&b.at("a")?).await?, ["b"]);
        same!(b.names(&b.root).await?, ["a", "ab"]);
        b.fs.remove_file(&b.at("a/b")?).await?;
        same!(b.content(&b.at("ab")?).await?, b"file");
    }
}
