//! Transcripts: what the server answers, request by request, in files under `tests/transcripts`.
//!
//! `C:` a line of a request, `C:` alone ends its fields, what follows is the body; fields that every request
//! has (Host, Authorization, Content-Length) are added, and `as USER` before a request changes who sends it.
//! `S:` what comes back: the status, the fields in alphabetical order (without Date, Server and those that
//! protect browsers), the body. `{T1}` stands for the first token of a lock that was given out, and so on.
//! `#` is a comment. `UPDATE=1` writes the answers anew.
#![cfg(feature = "server")]

use std::path::Path;

use crate::support::*;

/// Not in transcripts: they change, or are tested elsewhere.
const LEFT_OUT: &[&str] = &[
    "content-disposition",
    "content-length",
    "content-security-policy",
    "date",
    "server",
    "transfer-encoding",
    "x-content-type-options",
];

/// Tokens in the order in which they were given out.
#[derive(Default)]
struct Tokens(Vec<String>);

impl Tokens {
    fn hide(&mut self, text: &str) -> String {
        let mut out = text.to_owned();
        let mut from = 0;
        while let Some(at) = out[from..].find("urn:uuid:").map(|n| n + from) {
            let end = out[at..].find(['<', '>', '"', ' ']).map_or(out.len(), |n| n + at);
            let token = out[at..end].to_owned();
            let number = self.0.iter().position(|t| *t == token).unwrap_or_else(|| {
                self.0.push(token);
                self.0.len() - 1
            });
            let name = format!("{{T{}}}", number + 1);
            out.replace_range(at..end, &name);
            from = at + name.len();
        }
        out
    }

    fn show(&self, text: &str) -> String {
        let mut out = text.to_owned();
        for (n, token) in self.0.iter().enumerate() {
            out = out.replace(&format!("{{T{}}}", n + 1), token);
        }
        out
    }
}

/// Whether a request begins with this line.
fn begins(line: &str) -> bool {
    let words: Vec<_> = line.split(' ').collect();
    matches!(words[..], ["C:", method, target]
        if method.chars().all(char::is_alphabetic) && target.starts_with(['/', '*']))
}

async fn check(name: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/transcripts/{name}.txt"));
    let text = std::fs::read_to_string(&file).unwrap();
    let running = start(options()).await;
    let mut client = running.connect().await;
    let mut tokens = Tokens::default();
    let mut out = String::new();
    let mut request: Vec<String> = Vec::new();
    let mut lines = text.lines().chain([""]).peekable();
    while let Some(line) = lines.next() {
        if line.starts_with("S:") {
            continue;
        }
        if let Some(words) = line.strip_prefix("C:") {
            request.push(words.strip_prefix(' ').unwrap_or(words).to_owned());
            out += &format!("{line}\n");
            if lines.peek().is_some_and(|next| next.starts_with("C:") && !begins(next)) {
                continue;
            }
            let request: Vec<_> = std::mem::take(&mut request).iter().map(|l| tokens.show(l)).collect();
            let end = request.iter().position(String::is_empty).unwrap_or(request.len());
            let fields: Vec<_> = request[1..end].iter().map(String::as_str).collect();
            let body = request.get(end + 1..).unwrap_or_default().join("\n");
            let reply = client.ask(&request[0], &fields, body.as_bytes()).await;
            out += &format!("S: {}\n", reply.status);
            let mut shown: Vec<_> = reply
                .fields
                .iter()
                .filter(|(n, _)| !LEFT_OUT.contains(&n.to_ascii_lowercase().as_str()))
                .map(|(n, v)| format!("{}: {}", n.to_ascii_lowercase(), tokens.hide(v)))
                .collect();
            shown.sort();
            shown.iter().for_each(|l| out += &format!("S: {l}\n"));
            for line in tokens.hide(&reply.text()).lines() {
                out += &format!("S:   {line}\n");
            }
            continue;
        }
        if let Some(user) = line.strip_prefix("as ") {
            client.login = Some(basic(user, "demo"));
        }
        if lines.peek().is_some() {
            out += &format!("{line}\n");
        }
    }
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&file, &out).unwrap();
        return;
    }
    let (expected, got): (Vec<_>, Vec<_>) = (text.lines().collect(), out.lines().collect());
    for (n, (expected, got)) in expected.iter().zip(&got).enumerate() {
        assert_eq!(expected, got, "{name}.txt:{}", n + 1);
    }
    assert_eq!(expected.len(), got.len(), "{name}.txt");
}

#[tokio::test]
async fn files() {
    check("server_files").await;
}

#[tokio::test]
async fn conditions() {
    check("server_conditions").await;
}

#[tokio::test]
async fn trees() {
    check("server_trees").await;
}

#[tokio::test]
async fn properties() {
    check("server_properties").await;
}

#[tokio::test]
async fn locks() {
    check("server_locks").await;
}

#[tokio::test]
async fn nonsense() {
    check("server_nonsense").await;
}
