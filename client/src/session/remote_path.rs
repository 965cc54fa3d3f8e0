//! Remote paths as text: WinSCP's `RemotePath`, rule for rule, and what masks and targets are made of.
//!
//! Paths are bytes here as everywhere; only slashes, and the signs of masks, mean anything. Local paths take
//! both separators when they are read and have this system's when they are written.
//!
//! Not here: file masks with sizes, times and lists, which are `mask`'s.

use session_core::error::{Error, ErrorKind, Result};

/// The two joined by one slash; an absolute second one wins.
pub fn combine(first: &str, second: &str) -> String {
    if second.starts_with('/') || first.is_empty() {
        return second.to_string();
    }
    if second.is_empty() {
        return first.to_string();
    }
    format!("{}/{second}", first.strip_suffix('/').unwrap_or(first))
}

/// The directory part: `/x` gives `/`, `x` gives nothing to name (an empty text), `/` has none.
pub fn directory_name(path: &str) -> Option<String> {
    if path.chars().all(|c| c == '/') && !path.is_empty() {
        return None;
    }
    let path = path.strip_suffix('/').unwrap_or(path);
    match path.rsplit_once('/') {
        Some(("", _)) => Some("/".into()),
        Some((directory, _)) => Some(directory.into()),
        None => Some(String::new()),
    }
}

/// What follows the last slash.
pub fn file_name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

/// The path with a slash at its end. Errors: `InvalidArgument` for an empty path.
pub fn add_directory_separator(path: &str) -> Result<String> {
    if path.is_empty() {
        return Err(Error::new(ErrorKind::InvalidArgument).with_detail("the path is empty"));
    }
    Ok(if path.ends_with('/') { path.to_string() } else { format!("{path}/") })
}

/// The path as a mask that means exactly it: the signs of masks in the last part are escaped.
pub fn escape_file_mask(path: &str) -> String {
    let cut = path.len() - file_name(path).len();
    let (directory, name) = path.split_at(cut);
    let mut out = directory.to_string();
    for c in name.chars() {
        match c {
            '[' => out.push_str("[[]"),
            '*' => out.push_str("[*]"),
            '?' => out.push_str("[?]"),
            '<' => out.push_str("<<"),
            '>' => out.push_str(">>"),
            c => out.push(c),
        }
    }
    out
}

/// The path as a target whose last part is exactly it: `\`, `*` and `?` there get a backslash.
pub fn escape_operation_mask(path: &str) -> String {
    let cut = path.len() - file_name(path).len();
    let (directory, name) = path.split_at(cut);
    let mut out = directory.to_string();
    for c in name.chars() {
        if matches!(c, '\\' | '*' | '?') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// Where a remote path lies locally, if `remote_root` lies at `local_root`. Errors: `InvalidArgument` for
/// a path outside the root.
pub fn translate_remote_to_local(remote: &str, remote_root: &str, local_root: &str) -> Result<String> {
    let rest = below(remote, remote_root, &['/'])?;
    let local_root = local_root.trim_end_matches(std::path::MAIN_SEPARATOR);
    let rest = rest.replace('/', std::path::MAIN_SEPARATOR_STR);
    Ok(match (local_root, rest.is_empty()) {
        ("", true) => std::path::MAIN_SEPARATOR_STR.into(),
        (root, true) => root.into(),
        (root, false) => format!("{root}{}{rest}", std::path::MAIN_SEPARATOR),
    })
}

/// Where a local path lies remotely, if `local_root` lies at `remote_root`. Errors: `InvalidArgument` for a
/// path outside the root.
pub fn translate_local_to_remote(local: &str, local_root: &str, remote_root: &str) -> Result<String> {
    let rest = below(local, local_root, &[std::path::MAIN_SEPARATOR])?;
    let rest = rest.replace(std::path::MAIN_SEPARATOR, "/");
    let remote_root = remote_root.trim_end_matches('/');
    Ok(match (remote_root, rest.is_empty()) {
        ("", true) => "/".into(),
        (root, true) => root.into(),
        (root, false) => format!("{root}/{rest}"),
    })
}

fn below<'a>(path: &'a str, root: &str, separators: &[char]) -> Result<&'a str> {
    let root = root.trim_end_matches(separators);
    match path.strip_prefix(root) {
        Some(rest) if rest.is_empty() => Ok(rest),
        Some(rest) if rest.starts_with(separators) => Ok(rest.trim_start_matches(separators)),
        _ => Err(Error::new(ErrorKind::InvalidArgument)
            .with_detail(format!("'{path}' does not lie below '{root}/'"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_combined() {
        for (a, b, both) in [
            ("/a", "b", "/a/b"),
            ("/a/", "b", "/a/b"),
            ("/", "b", "/b"),
            ("/a", "/b", "/b"),
            ("", "b", "b"),
            ("/a", "", "/a"),
            ("", "", ""),
            ("a", "b/c", "a/b/c"),
        ] {
            assert_eq!(combine(a, b), both, "{a} {b}");
        }
    }

    #[test]
    fn paths_are_taken_apart() {
        for (path, directory, name) in [
            ("/x", Some("/"), "x"),
            ("x", Some(""), "x"),
            ("/", None, ""),
            ("/a/b", Some("/a"), "b"),
            ("/a/b/", Some("/a"), ""),
            ("", Some(""), ""),
        ] {
            assert_eq!((directory_name(path).as_deref(), file_name(path)), (directory, name), "{path}");
        }
        assert_eq!(add_directory_separator("/a").unwrap(), "/a/");
        assert_eq!(add_directory_separator("/").unwrap(), "/");
        assert!(add_directory_separator("").is_err());
    }

    #[test]
    fn only_the_last_part_is_escaped() {
        assert_eq!(escape_file_mask("/a*/b[c]*?<>"), "/a*/b[[]c][*][?]<<>>");
        assert_eq!(escape_operation_mask("/a*/b\\*?[x"), "/a*/b\\\\\\*\\?[x");
        assert_eq!(escape_file_mask("plain"), "plain");
    }

    #[test]
    fn paths_are_moved_between_the_sides() {
        assert_eq!(translate_remote_to_local("/r/a/b", "/r", "/base/l").unwrap(), "/base/l/a/b");
        assert_eq!(translate_remote_to_local("/r", "/r/", "/base/l/").unwrap(), "/base/l");
        assert_eq!(translate_remote_to_local("/a", "/", "/l").unwrap(), "/l/a");
        assert_eq!(translate_local_to_remote("/l/a/b", "/l", "/").unwrap(), "/a/b");
        assert_eq!(translate_local_to_remote("/l", "/l", "/r/").unwrap(), "/r");
        assert_eq!(translate_local_to_remote("/", "/", "/").unwrap(), "/");
        for outside in ["/rx/a", "/R/a", "r"] {
            assert!(translate_remote_to_local(outside, "/r", "/l").is_err(), "{outside}");
        }
    }
}
