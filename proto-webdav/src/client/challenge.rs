//! What a server asks for (RFC 9110, section 11.6.1): the challenges of `WWW-Authenticate`, taken apart.
//!
//! One field may hold several challenges set apart by the same comma that sets their parameters apart, and a
//! server may send several fields.

/// One challenge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Challenge {
    /// The scheme, in lower case.
    pub(super) scheme: String,
    /// The whole challenge, as sent.
    pub(super) text: String,
}

impl Challenge {
    /// Whether a parameter stands in it with this value.
    pub(super) fn says(&self, name: &str, value: &str) -> bool {
        let parameters = self.text.split_once(' ').map_or("", |(_, rest)| rest);
        split(parameters).iter().any(|part| {
            part.split_once('=').is_some_and(|(n, v)| {
                n.trim().eq_ignore_ascii_case(name) && v.trim().trim_matches('"').eq_ignore_ascii_case(value)
            })
        })
    }
}

/// The challenges of one field.
pub(super) fn parse(field: &str) -> Vec<Challenge> {
    let mut out: Vec<Challenge> = Vec::new();
    for part in split(field) {
        let part = part.trim();
        let word = part.split([' ', '\t', '=']).next().unwrap_or_default();
        let rest = part.get(word.len()..).unwrap_or_default().trim_start();
        // `name = value` goes on; `scheme name=value`, `scheme token68` and `scheme` begin.
        let begins = !word.is_empty() && !rest.starts_with('=');
        match out.last_mut() {
            _ if begins => {
                out.push(Challenge { scheme: word.to_ascii_lowercase(), text: part.to_owned() });
            }
            Some(last) if !part.is_empty() => {
                last.text.push_str(", ");
                last.text.push_str(part);
            }
            _ => {}
        }
    }
    out
}

/// What stands between commas that are not quoted.
fn split(text: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let (mut from, mut quoted, mut escaped) = (0, false, false);
    for (at, b) in text.bytes().enumerate() {
        match b {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' if !quoted => {
                out.push(text.get(from..at).unwrap_or_default());
                from = at + 1;
            }
            _ => {}
        }
    }
    out.push(text.get(from..).unwrap_or_default());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_told_from_parameters() {
        let all = parse(
            r#"Digest realm="a, \"b\" c", nonce = "n", qop="auth", stale=TRUE, basic realm="x", Negotiate, NTLM abc=="#,
        );
        let schemes: Vec<_> = all.iter().map(|c| c.scheme.as_str()).collect();
        assert_eq!(schemes, ["digest", "basic", "negotiate", "ntlm"]);
        assert_eq!(all[0].text, r#"Digest realm="a, \"b\" c", nonce = "n", qop="auth", stale=TRUE"#);
        assert!(
            all[0].says("stale", "true") && !all[0].says("stale", "false") && !all[1].says("stale", "true")
        );
        assert_eq!(all[3].text, "NTLM abc==");
        assert_eq!(parse(""), []);
        assert_eq!(parse(",x=1"), []);
    }
}
