//! Which lines are for which host: `Host`, `Match`, patterns; and the names of included files.

use std::path::{Component, Path, PathBuf};

use session_core::error::{Error, ErrorKind, Result};

use super::super::known_hosts::wildcard;
use super::Source;

/// What `Match` compares with.
pub(super) struct Facts<'a> {
    pub(super) host: &'a str,
    pub(super) original: &'a str,
    pub(super) user: &'a str,
    pub(super) local_user: &'a str,
    pub(super) is_final: bool,
}

#[derive(Default)]
pub(super) struct Answer {
    pub(super) matches: bool,
    pub(super) wants_final: bool,
    pub(super) unknown: Vec<String>,
}

/// Whether a `Host` line is for a host: any pattern, and none that excludes it.
pub(super) fn host_line(patterns: &[String], host: &str) -> Result<bool, String> {
    if patterns.is_empty() {
        return Err("Host names no pattern".into());
    }
    let mut found = false;
    for pattern in patterns {
        let (excludes, bare) = match pattern.strip_prefix('!') {
            Some(bare) => (true, bare),
            None => (false, pattern.as_str()),
        };
        if wildcard(bare.as_bytes(), host.as_bytes()) {
            if excludes {
                return Ok(false);
            }
            found = true;
        }
    }
    Ok(found)
}

/// Whether one of the patterns, set apart by commas, covers a text, and none excludes it.
fn list_covers(list: &str, text: &str, lower: bool) -> bool {
    let text = if lower { text.to_ascii_lowercase() } else { text.to_owned() };
    let mut found = false;
    for pattern in list.split(',') {
        let (excludes, bare) = match pattern.strip_prefix('!') {
            Some(bare) => (true, bare),
            None => (false, pattern),
        };
        let bare = if lower { bare.to_ascii_lowercase() } else { bare.to_owned() };
        if wildcard(bare.as_bytes(), text.as_bytes()) {
            if excludes {
                return false;
            }
            found = true;
        }
    }
    found
}

/// What a `Match` line says: all of its criteria must hold.
pub(super) fn match_line(args: &[String], facts: &Facts<'_>) -> Result<Answer, String> {
    let mut answer = Answer { matches: true, ..Answer::default() };
    // `host=a` is as good as `host a`.
    let mut words = args.iter().flat_map(|arg| match arg.split_once('=') {
        Some((name, value)) if name.chars().all(|c| c.is_ascii_alphabetic() || c == '!') => vec![name, value],
        _ => vec![arg.as_str()],
    });
    let mut any = false;
    while let Some(word) = words.next() {
        let (negated, name) = match word.strip_prefix('!') {
            Some(name) => (true, name),
            None => (false, word),
        };
        let name = name.to_ascii_lowercase();
        let holds = match name.as_str() {
            "all" => {
                if negated || words.next().is_some() || args.len() > 2 {
                    return Err("'all' stands alone, or after 'final' or 'canonical'".into());
                }
                true
            }
            "canonical" => facts.is_final,
            "final" => {
                answer.wants_final = true;
                facts.is_final
            }
            _ => {
                let value = words.next().filter(|v| !v.is_empty());
                let value = value.ok_or_else(|| format!("'Match {name}' has no value"))?;
                match name.as_str() {
                    "host" => list_covers(value, facts.host, true),
                    "originalhost" => list_covers(value, facts.original, true),
                    "user" => list_covers(value, facts.user, false),
                    "localuser" => list_covers(value, facts.local_user, false),
                    _ => {
                        answer.unknown.push(name.clone());
                        any = true;
                        answer.matches = false;
                        continue;
                    }
                }
            }
        };
        any = true;
        answer.matches &= holds != negated;
    }
    if !any {
        return Err("Match names no criterion".into());
    }
    Ok(answer)
}

/// HostName with its tokens, `%h` and `%%`.
pub(super) fn expand_host(name: &str, host: &str) -> Result<String> {
    let mut out = String::new();
    let mut chars = name.chars();
    while let Some(c) = chars.next() {
        match c {
            '%' => match chars.next() {
                Some('%') => out.push('%'),
                Some('h') => out.push_str(host),
                other => {
                    let token = other.map(String::from).unwrap_or_default();
                    return Err(Error::new(ErrorKind::InvalidArgument)
                        .with_detail(format!("HostName has no token '%{token}'")));
                }
            },
            c => out.push(c),
        }
    }
    Ok(out)
}

/// A name with its leading `~` and its `${VARIABLES}`.
pub(super) fn tilde(text: &str, home: &Path, source: &dyn Source) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (name, after) = after.split_once('}').ok_or("a brace does not end")?;
        out.push_str(before);
        out.push_str(&source.variable(name).ok_or_else(|| format!("the variable '{name}' is not set"))?);
        rest = after;
    }
    out.push_str(rest);
    match out.strip_prefix('~') {
        Some("") => Ok(home.display().to_string()),
        Some(below) if below.starts_with('/') => Ok(format!("{}{below}", home.display())),
        Some(_) => Err("the folders of other users are not looked up: write them out".into()),
        None => Ok(out),
    }
}

/// The files that a pattern names, sorted; itself where it has no wildcard.
pub(super) fn glob(pattern: &Path, source: &dyn Source) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::new()];
    for component in pattern.components() {
        let part = component.as_os_str().to_string_lossy();
        if !matches!(component, Component::Normal(_)) || !part.contains(['*', '?']) {
            for path in &mut found {
                path.push(component);
            }
            continue;
        }
        let mut next = Vec::new();
        for dir in found {
            for name in source.names(&dir) {
                // Hidden names must be asked for.
                if wildcard(part.as_bytes(), name.as_bytes())
                    && (part.starts_with('.') || !name.starts_with('.'))
                {
                    next.push(dir.join(name));
                }
            }
        }
        found = next;
    }
    found
}
