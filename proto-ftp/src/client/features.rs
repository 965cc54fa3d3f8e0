//! What a server can do: FEAT (RFC 2389), SITE HELP, and who it is by its own words.
//!
//! A server is recognised only where its way of working makes a difference that it does not tell. Ours says
//! FERRY in FEAT, and is believed by that alone: a banner is anybody's prose.

use std::collections::{BTreeMap, BTreeSet};

use session_core::path::{VPath, display_bytes};

use crate::wire::reply::Reply;

/// Servers with habits of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerKind {
    /// Our own (FERRY in FEAT): what is broken off publishes nothing; pipelined commands are answered in
    /// order at any time; SITE SYMLINK takes quotes.
    Ferry,
    /// Microsoft's: replaces nothing by renaming.
    Iis,
    /// Anything else.
    Other,
    /// ProFTPD.
    ProFtpd,
    /// Pure-FTPd: a command that arrives during a transfer ends the transfer, and a byte 255 stands for itself.
    PureFtpd,
    /// vsftpd: sets times by MDTM with two arguments, works strictly one command after the other, and a byte 255
    /// stands for itself.
    Vsftpd,
}

/// What was learned at login. The same for every connection of a remote.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The greeting, cleaned.
    pub greeting: String,
    /// SYST's answer, cleaned; empty where there was none.
    pub system: String,
    /// Who it seems to be.
    pub kind: ServerKind,
    /// FEAT: names in capitals, and what follows each.
    pub features: BTreeMap<String, String>,
    /// Words of SITE HELP, in capitals.
    pub site: BTreeSet<String>,
    /// Where the login begins.
    pub home: VPath,
    /// Paths of this server begin with a slash.
    pub absolute: bool,
}

impl Facts {
    /// From the answers of a login.
    pub(super) fn learn(greeting: &Reply, feat: &Reply, syst: &Reply, site: &Reply, pwd: &Reply) -> Facts {
        let greeting = words(greeting);
        let system = if syst.code == 215 { words(syst) } else { String::new() };
        let features = if feat.code == 211 { features(feat) } else { BTreeMap::new() };
        let site = if (200..300).contains(&site.code) { words_of_site(site) } else { BTreeSet::new() };
        let kind = kind(&greeting, &system, &features, &site);
        let path = quoted(pwd);
        let absolute = path.as_ref().is_none_or(|p| p.first() == Some(&b'/'));
        let home =
            path.filter(|_| absolute).and_then(|p| VPath::absolute(p).ok()).unwrap_or_else(VPath::root);
        Facts { greeting, system, kind, features, site, home, absolute }
    }

    /// Whether FEAT names it.
    pub fn has(&self, feature: &str) -> bool {
        self.features.contains_key(feature)
    }

    /// What follows it in FEAT.
    pub fn value(&self, feature: &str) -> &str {
        self.features.get(feature).map_or("", String::as_str)
    }

    /// Whether SITE knows it.
    pub fn has_site(&self, word: &str) -> bool {
        self.site.contains(word) || self.features.get("SITE").is_some_and(|v| has_word(v, word))
    }

    /// MLST and MLSD.
    pub fn lists_facts(&self) -> bool {
        self.has("MLST") || self.has("MLSD")
    }

    /// The facts that MLST can tell and does not tell by itself, as the argument of OPTS; `None` where
    /// nothing is to be asked for.
    pub(super) fn facts_to_ask(&self) -> Option<String> {
        const WANTED: [&str; 10] = [
            "type",
            "size",
            "modify",
            "create",
            "unix.mode",
            "unix.uid",
            "unix.gid",
            "unix.owner",
            "unix.group",
            "unique",
        ];
        let mut missing = false;
        let mut all = String::from("MLST ");
        for fact in self.value("MLST").split(';').map(str::trim).filter(|f| !f.is_empty()) {
            let (name, on) = match fact.strip_suffix('*') {
                Some(name) => (name, true),
                None => (fact, false),
            };
            let wanted = WANTED.contains(&name.to_ascii_lowercase().as_str());
            missing |= wanted && !on && !name.eq_ignore_ascii_case("unique");
            if wanted && all.len() < 512 {
                all.push_str(name);
                all.push(';');
            }
        }
        missing.then_some(all)
    }

    /// Whether an upload that is broken off publishes nothing: what was there before is not ours to remove.
    pub fn stages(&self) -> bool {
        self.kind == ServerKind::Ferry
    }

    /// Whether commands may be sent while a transfer runs: they wait for its end.
    pub fn queues(&self) -> bool {
        matches!(self.kind, ServerKind::Ferry | ServerKind::Vsftpd)
    }

    /// Whether a byte 255 is doubled, as Telnet asks, since the server undoes that.
    pub fn speaks_telnet(&self) -> bool {
        !matches!(self.kind, ServerKind::PureFtpd | ServerKind::Vsftpd)
    }
}

fn has_word(text: &str, word: &str) -> bool {
    text.split(|c: char| !c.is_ascii_alphanumeric()).any(|w| w.eq_ignore_ascii_case(word))
}

fn words(reply: &Reply) -> String {
    let lines: Vec<String> = reply.lines.iter().take(16).map(|l| line(l)).collect();
    lines.join("\n").trim().to_owned()
}

fn line(bytes: &[u8]) -> String {
    display_bytes(bytes.get(..512).unwrap_or(bytes)).trim().to_owned()
}

fn features(reply: &Reply) -> BTreeMap<String, String> {
    let inner = reply.lines.get(1..reply.lines.len().saturating_sub(1)).unwrap_or_default();
    let mut out = BTreeMap::new();
    for feature in inner.iter().take(256) {
        let text = line(feature);
        let (name, value) = text.split_once(' ').unwrap_or((&text, ""));
        if name.is_empty() {
            continue;
        }
        // `AUTH TLS` and `AUTH SSL` may stand on lines of their own.
        let known: &mut String = out.entry(name.to_ascii_uppercase()).or_default();
        if !known.is_empty() {
            known.push(';');
        }
        known.push_str(value.trim());
    }
    out
}

fn words_of_site(reply: &Reply) -> BTreeSet<String> {
    let text = reply.lines.iter().take(128).map(|l| line(l)).collect::<Vec<_>>().join(" ");
    let words = text.split(|c: char| !c.is_ascii_alphanumeric());
    // Verbs are written in capitals; prose is not.
    words
        .filter(|w| w.len() >= 4 && w.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit()))
        .take(512)
        .map(str::to_owned)
        .collect()
}

fn kind(
    greeting: &str,
    system: &str,
    features: &BTreeMap<String, String>,
    site: &BTreeSet<String>,
) -> ServerKind {
    let both = format!("{greeting}\n{system}").to_ascii_lowercase();
    if features.contains_key("FERRY") {
        ServerKind::Ferry
    } else if both.contains("vsftpd")
        || *site == BTreeSet::from(["CHMOD", "HELP", "UMASK"].map(str::to_owned))
    {
        ServerKind::Vsftpd
    } else if both.contains("pure-ftpd") {
        ServerKind::PureFtpd
    } else if both.contains("proftpd") {
        ServerKind::ProFtpd
    } else if both.contains("windows_nt") || both.contains("microsoft ftp") {
        ServerKind::Iis
    } else {
        ServerKind::Other
    }
}

/// The path in quotes of a 257 reply, quotes within doubled (RFC 959, appendix II).
pub(super) fn quoted(reply: &Reply) -> Option<Vec<u8>> {
    if reply.code != 257 {
        return None;
    }
    let text = reply.lines.first()?;
    let mut rest = text.split(|b| *b == b'"');
    rest.next()?;
    let mut out = rest.next()?.to_vec();
    // An empty part between two quotes is a doubled one; what ends the path is followed by text.
    while let Some(part) = rest.next() {
        if !part.is_empty() {
            break;
        }
        let Some(more) = rest.next() else { break };
        out.push(b'"');
        out.extend_from_slice(more);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_in_quotes_is_found() {
        let of = |text: &'static str| quoted(&Reply::new(257, text)).map(|p| String::from_utf8(p).unwrap());
        assert_eq!(of("\"/\" is the current directory").as_deref(), Some("/"));
        assert_eq!(of("\"/a\"\"b\" here").as_deref(), Some("/a\"b"));
        assert_eq!(of("\"/a\"\"\" here").as_deref(), Some("/a\""));
        assert_eq!(of("\"/a b\"").as_deref(), Some("/a b"));
        assert_eq!(of("no quotes"), None);
    }

    fn facts(feat: &[&'static str], site: &'static str) -> Facts {
        let feat = Reply::lines(211, feat.iter().copied());
        let site = Reply::new(214, site);
        Facts::learn(
            &Reply::new(220, "hello"),
            &feat,
            &Reply::new(215, "UNIX Type: L8"),
            &site,
            &Reply::new(257, "\"/\""),
        )
    }

    #[test]
    fn features_are_learned() {
        let f = facts(
            &["Features:", " AUTH TLS", " AUTH SSL", " MLST type*;size;modify*;x.y;", " utf8", "End"],
            "",
        );
        assert!(f.has("UTF8") && f.lists_facts());
        assert_eq!(f.value("AUTH"), "TLS;SSL");
        assert_eq!(f.facts_to_ask().as_deref(), Some("MLST type;size;modify;"));
        assert_eq!(facts(&["no features"], "").features.len(), 0);
        let f = facts(&["F", " MLST Type*;Size*;Modify*;Unique;", "End"], "");
        assert_eq!(f.facts_to_ask(), None);
        assert_eq!(facts(&["F"], " CHMOD UMASK HELP").kind, ServerKind::Vsftpd);
        assert!(facts(&["F"], "the commands are CHMOD SYMLINK").has_site("SYMLINK"));
    }

    #[test]
    fn our_server_is_known_by_what_it_says_in_feat_alone() {
        assert_eq!(facts(&["F", " ferry", "End"], "").kind, ServerKind::Ferry);
        let none = Reply::new(502, "no");
        let greeting = Reply::new(220, "Ferry Lines, timetables and more");
        let syst = Reply::new(215, "UNIX Type: L8 Ferry");
        let other = Facts::learn(&greeting, &none, &syst, &none, &Reply::new(257, "\"/\""));
        assert_eq!(other.kind, ServerKind::Other);
    }
}
