//! One line: keyword and words, quotes and comments.

use std::time::Duration;

/// A line that says something.
#[derive(Debug)]
pub(super) struct Line {
    /// In lower case.
    pub(super) keyword: String,
    pub(super) args: Vec<String>,
    rest: String,
}

impl Line {
    /// `None` for blank lines and comments. Errors: quotes that do not end, in words.
    pub(super) fn parse(text: &str) -> Result<Option<Line>, String> {
        let blank = |c: char| matches!(c, ' ' | '\t' | '\r' | '\u{c}');
        let text = text.trim_matches(blank);
        if text.is_empty() || text.starts_with('#') {
            return Ok(None);
        }
        let (keyword, rest) = match text.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').ok_or("a quote does not end")?,
            None => text.split_at(text.find(|c| blank(c) || c == '=').unwrap_or(text.len())),
        };
        let rest = rest.trim_start_matches(blank);
        let rest = rest.strip_prefix('=').unwrap_or(rest).trim_start_matches(blank);
        let args = split(rest)?;
        Ok(Some(Line { keyword: keyword.to_ascii_lowercase(), args, rest: rest.to_owned() }))
    }

    /// The one word.
    pub(super) fn one(&self) -> Result<&str, String> {
        match self.args.as_slice() {
            [one] if !one.is_empty() => Ok(one),
            [] | [_] => Err(format!("'{}' has no value", self.keyword)),
            _ => Err(format!("'{}' has more than one value", self.keyword)),
        }
    }

    /// All words.
    pub(super) fn several(&self) -> Result<Vec<String>, String> {
        if self.args.is_empty() || self.args.iter().any(String::is_empty) {
            return Err(format!("'{}' has no value", self.keyword));
        }
        if self.args.len() > 1 && self.args.iter().any(|a| a.eq_ignore_ascii_case("none")) {
            return Err(format!("'none' stands alone in '{}'", self.keyword));
        }
        Ok(self.args.clone())
    }

    /// The rest of the line as it stands.
    pub(super) fn rest(&self) -> Result<&str, String> {
        if self.rest.is_empty() { Err(format!("'{}' has no value", self.keyword)) } else { Ok(&self.rest) }
    }

    pub(super) fn yes(&self) -> Result<bool, String> {
        match self.one()?.to_ascii_lowercase().as_str() {
            "yes" | "true" => Ok(true),
            "no" | "false" => Ok(false),
            other => Err(format!("'{other}' is neither yes nor no")),
        }
    }
}

/// Words as OpenSSH takes them apart: single and double quotes, a backslash before a quote, a backslash or
/// (outside of quotes) a blank; a word that begins with `#` begins a comment.
pub(super) fn split(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut chars = text.chars().peekable();
    loop {
        while chars.next_if(|c| matches!(c, ' ' | '\t')).is_some() {}
        match chars.peek() {
            None | Some('#') => return Ok(words),
            Some(_) => {}
        }
        let mut word = String::new();
        let mut quote = None;
        while let Some(c) = chars.next_if(|c| quote.is_some() || !matches!(c, ' ' | '\t')) {
            match (c, quote) {
                ('\\', _) => {
                    let escaped =
                        chars.next_if(|n| matches!(n, '\'' | '"' | '\\') || (quote.is_none() && *n == ' '));
                    word.push(escaped.unwrap_or('\\'));
                }
                ('"' | '\'', None) => quote = Some(c),
                (c, Some(q)) if c == q => quote = None,
                (c, _) => word.push(c),
            }
        }
        if quote.is_some() {
            return Err("a quote does not end".into());
        }
        words.push(word);
    }
}

/// A time: seconds, or numbers with `s`, `m`, `h`, `d`, `w` (sshd_config(5), TIME FORMATS).
pub(super) fn time(text: &str) -> Result<Duration, String> {
    let bad = || format!("'{text}' is not a time");
    let (mut total, mut number) = (0u64, None::<u64>);
    for c in text.chars() {
        if let Some(digit) = c.to_digit(10) {
            let so_far = number.unwrap_or(0).checked_mul(10).and_then(|n| n.checked_add(u64::from(digit)));
            number = Some(so_far.ok_or_else(bad)?);
            continue;
        }
        let unit = match c.to_ascii_lowercase() {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86400,
            'w' => 604_800,
            _ => return Err(bad()),
        };
        let part = number.take().and_then(|n| n.checked_mul(unit));
        total = part.and_then(|p| total.checked_add(p)).ok_or_else(bad)?;
    }
    if text.is_empty() {
        return Err(bad());
    }
    total = total
        .checked_add(number.unwrap_or(0))
        .filter(|t| *t <= u64::from(i32::MAX.unsigned_abs()))
        .ok_or_else(bad)?;
    Ok(Duration::from_secs(total))
}
