//! What each verb does to the dialogue: the arms behind the rows of `table.rs`.
//!
//! `step` turns a command into a reply or a call, `answered` turns the call's answer into the reply.
//! Arguments are read here and nowhere deeper (RFC 959; 1123; 2228; 2389; 2428; 3659; 4217; 7151; the drafts
//! on HASH and RANG; what servers agree on for SITE, X… sums and AVBL).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use bytes::Bytes;
use session_core::auth::Secret;
use session_core::error::Error;
use session_core::fs::Algorithm;
use session_core::metadata::Attributes;
use session_core::path::VPath;

use super::arguments::{mode, number, refused, sha256, text, two, unquote, utime, word};
use super::machine::{Call, Done, Foreign, Form, Machine, Show, Step, Transfer, What, is_anonymous};
use super::options::DataPolicy;
use super::table::{Row, TABLE, Takes, Verb};
use crate::listing::facts::Facts;
use crate::listing::stamp;
use crate::status;
use crate::wire::reply::{Reply, quoted};

/// Digests by the names of the HASH draft, the preferred one first.
pub(super) const HASHES: &[(&str, Algorithm)] = &[
    ("SHA-256", Algorithm::Sha256),
    ("SHA-512", Algorithm::Sha512),
    ("SHA-384", Algorithm::Sha384),
    ("SHA-1", Algorithm::Sha1),
    ("MD5", Algorithm::Md5),
    ("CRC32", Algorithm::Crc32),
    ("BLAKE3", Algorithm::Blake3),
];

const SITE_HELP: &[(&str, &str)] = &[
    ("CHMOD", "mode path"),
    ("CPFR", "path"),
    ("CPTO", "path"),
    ("HELP", ""),
    ("SYMLINK", "target path"),
    ("UTIME", "YYYYMMDDHHMM[SS] path"),
];

type Stepped = Result<Step, Reply>;

fn reply(code: u16, words: impl Into<Bytes>) -> Stepped {
    Ok(Step::Reply(Reply::new(code, words)))
}

fn wrong(e: &Error) -> Reply {
    status::reply(e)
}

impl Machine {
    fn path(&self, raw: &[u8]) -> Result<VPath, Reply> {
        VPath::parse(&self.state.cwd, raw).map_err(|e| wrong(&e))
    }

    /// What a command comes to.
    pub(super) fn step(&mut self, row: &'static Row, argument: &Bytes) -> Stepped {
        match row.verb {
            Verb::Abor => {
                self.state.data = false;
                reply(226, "No transfer runs")
            }
            Verb::Acct => {
                if !std::mem::take(&mut self.state.asked) {
                    return Err(refused(503, "nothing was asked"));
                }
                Ok(Step::Call(Call::Answer(Secret::new(String::from_utf8_lossy(argument)))))
            }
            Verb::Allo => self.allo(argument),
            Verb::Appe => self.store(self.path(argument)?, true, false),
            Verb::Auth => self.auth(argument),
            Verb::Avbl => Ok(Step::Call(Call::Space(self.path(argument)?))),
            Verb::Ccc => reply(534, "the control connection stays protected"),
            Verb::Cdup => self.change_dir(b".."),
            Verb::Clnt => Ok(Step::CallThen(Call::Client(argument.clone()), Reply::new(200, "Noted"))),
            Verb::Cpsv => {
                self.foreign_allowed()?;
                if self.state.epsv_all {
                    return Err(refused(503, "EPSV only, as you said"));
                }
                if !self.state.private {
                    return Err(refused(503, "PROT P comes first"));
                }
                Ok(Step::Call(Call::Passive { extended: false, family: None }))
            }
            Verb::Cwd => self.change_dir(argument),
            Verb::Dele => {
                let done = Reply::new(250, "Removed");
                Ok(Step::CallThen(Call::RemoveFile(self.path(argument)?), done))
            }
            Verb::Eprt => self.eprt(argument),
            Verb::Epsv => self.epsv(argument),
            Verb::Feat => Ok(Step::Reply(self.features())),
            Verb::Hash => self.hash(argument),
            Verb::Help => self.help(argument),
            Verb::Host => {
                if self.state.user || self.state.logged_in {
                    return Err(refused(503, "HOST comes before USER"));
                }
                // A literal address may stand in brackets (RFC 7151, section 3.1).
                Ok(Step::Call(Call::Host(text(argument)?.to_owned())))
            }
            Verb::List => self.show(argument, Form::Long),
            Verb::Mdtm => self.mdtm(argument),
            Verb::Mff => self.mff(argument),
            Verb::Mfmt => {
                let (time, path) = word(argument);
                let modified = stamp::parse(time).ok_or_else(|| refused(501, "this is no time"))?;
                if path.is_empty() {
                    return Err(refused(501, "MFMT YYYYMMDDHHMMSS path"));
                }
                let words = [b"Modify=", time, b"; ", &path[..]].concat();
                self.set(&path, Attributes::times(None, Some(modified)), Reply::new(213, words))
            }
            Verb::Mkd => {
                let path = self.path(argument)?;
                let words = [&quoted(path.as_bytes())[..], b" created"].concat();
                Ok(Step::CallThen(Call::CreateDir(path), Reply::new(257, words)))
            }
            Verb::Mlsd => self.show_of(argument, Form::Facts(self.state.facts), false),
            Verb::Mlst => {
                let path = self.path(argument)?;
                Ok(Step::Call(Call::Facts { path, facts: self.state.facts }))
            }
            Verb::Mode => self.mode(argument),
            Verb::Nlst => self.show(argument, Form::Names),
            Verb::Noop => reply(200, "Here"),
            Verb::Opts => self.opts(argument),
            Verb::Pass => {
                if self.state.logged_in || !std::mem::take(&mut self.state.user) {
                    return Err(refused(503, "USER comes first"));
                }
                Ok(Step::Call(Call::Password(Secret::new(String::from_utf8_lossy(argument)))))
            }
            Verb::Pasv => {
                if self.state.epsv_all {
                    return Err(refused(503, "EPSV only, as you said"));
                }
                Ok(Step::Call(Call::Passive { extended: false, family: None }))
            }
            Verb::Pbsz => {
                if !self.state.secure {
                    return Err(refused(503, "AUTH TLS comes first"));
                }
                if number(argument).is_none() {
                    return Err(refused(501, "PBSZ 0"));
                }
                self.state.pbsz = true;
                reply(200, "PBSZ=0")
            }
            Verb::Port => self.port(argument),
            Verb::Prot => self.prot(argument),
            Verb::Pwd => {
                let path = quoted(self.state.cwd.as_bytes());
                reply(257, [&path[..], b" is the current directory"].concat())
            }
            Verb::Quit => Ok(Step::Call(Call::Leave)),
            Verb::Rang => self.rang(argument),
            Verb::Rein => Ok(Step::Call(Call::LogOut)),
            Verb::Rest => {
                let offset = number(argument).ok_or_else(|| refused(501, "REST takes a number of bytes"))?;
                if self.state.ascii && self.settings.ascii && offset != 0 {
                    return Err(refused(501, "no restart in ASCII mode: TYPE I"));
                }
                self.state.rest = offset;
                reply(350, format!("Restarting at {offset}"))
            }
            Verb::Retr => {
                let path = self.path(argument)?;
                let range = match self.state.rang.take() {
                    Some((first, last)) => first..last.saturating_add(1),
                    None => self.state.rest..u64::MAX,
                };
                self.open(What::Retrieve { path, range })
            }
            Verb::Rmd => {
                let done = Reply::new(250, "Removed");
                Ok(Step::CallThen(Call::RemoveDir(self.path(argument)?), done))
            }
            Verb::Rnfr => {
                let path = self.path(argument)?;
                self.state.rename_from = Some(path.clone());
                Ok(Step::CallThen(Call::Exists(path), Reply::new(350, "RNTO comes next")))
            }
            Verb::Rnto => {
                let to = self.path(argument)?;
                let from = self.state.rename_from.take().ok_or_else(|| refused(503, "RNFR comes first"))?;
                Ok(Step::CallThen(Call::Rename { from, to }, Reply::new(250, "Renamed")))
            }
            Verb::Site => self.site(argument),
            Verb::Size => {
                if self.state.ascii && self.settings.ascii {
                    return Err(refused(550, "no size in ASCII mode: TYPE I"));
                }
                Ok(Step::Call(Call::Size(self.path(argument)?)))
            }
            Verb::Smnt => reply(502, "nothing is mounted by clients"),
            Verb::Sscn => {
                self.foreign_allowed()?;
                match argument.to_ascii_uppercase().as_slice() {
                    b"ON" => self.state.foreign.begins = true,
                    b"OFF" => self.state.foreign.begins = false,
                    b"" => {}
                    _ => return Err(refused(501, "SSCN [ON|OFF]")),
                }
                let client = self.state.foreign.begins;
                reply(200, if client { "SSCN:CLIENT METHOD" } else { "SSCN:SERVER METHOD" })
            }
            Verb::Stat => {
                if argument.is_empty() {
                    return Ok(Step::Status);
                }
                if !self.state.logged_in {
                    return Err(refused(530, "log in with USER and PASS"));
                }
                let show = self.shown(argument, Form::Long)?;
                Ok(Step::Call(Call::Show(show)))
            }
            Verb::Stor => self.store(self.path(argument)?, false, false),
            Verb::Stou => {
                let name = if argument.is_empty() { &b"file"[..] } else { &argument[..] };
                self.store(self.path(name)?, false, true)
            }
            Verb::Stru if argument.eq_ignore_ascii_case(b"F") => reply(200, "Structure is file"),
            Verb::Stru => reply(504, "only files: STRU F"),
            Verb::Syst => reply(215, "UNIX Type: L8"),
            Verb::Type => self.type_(argument),
            Verb::User => {
                if self.state.logged_in {
                    return Err(refused(503, "somebody is logged in: REIN first"));
                }
                self.state.user = true;
                self.state.asked = false;
                self.state.anonymous = is_anonymous(argument);
                Ok(Step::Call(Call::User(String::from_utf8_lossy(argument).into_owned())))
            }
            Verb::Xcrc => self.sum(argument, Algorithm::Crc32),
            Verb::Xmd5 => self.sum(argument, Algorithm::Md5),
            Verb::Xsha1 => self.sum(argument, Algorithm::Sha1),
            Verb::Xsha256 => self.sum(argument, Algorithm::Sha256),
        }
    }

    /// A command failed: what it had prepared is forgotten.
    pub(super) fn forget(&mut self, verb: Verb) {
        match verb {
            Verb::Rnfr => self.state.rename_from = None,
            Verb::Site => self.state.copy_from = None,
            Verb::User => self.state.user = false,
            Verb::Cwd | Verb::Cdup => self.state.next_dir = None,
            Verb::Port | Verb::Eprt => self.state.data = false,
            _ => {}
        }
    }

    /// The reply to an answer that is not the same for every verb.
    pub(super) fn answered(&mut self, row: &Row, argument: &[u8], done: Done) -> Reply {
        match (row.verb, done) {
            (verb, Done::LoggedIn { home, words }) => {
                self.state.logged_in = true;
                self.state.user = false;
                self.state.cwd = home;
                // RFC 4217, section 4: by what TLS has shown, without a password.
                Reply::lines(if verb == Verb::User { 232 } else { 230 }, words)
            }
            (_, Done::NeedsAnswer(question)) => {
                self.state.asked = true;
                Reply::new(332, format!("ACCT with the answer: {question}"))
            }
            (Verb::Pass | Verb::Acct, _) => Reply::new(530, "Login incorrect"),
            (Verb::User, _) => {
                Reply::new(331, if self.state.anonymous { "Any password" } else { "Password" })
            }
            (Verb::Host, Done::Words(words)) => Reply::lines(220, words),
            (Verb::Rein, Done::Words(words)) => {
                self.reset();
                Reply::lines(220, words)
            }
            (verb @ (Verb::Pasv | Verb::Cpsv), Done::Address(SocketAddr::V4(at))) => {
                self.state.data = true;
                self.state.cpsv = verb == Verb::Cpsv;
                let [a, b, c, d] = at.ip().octets();
                let [high, low] = at.port().to_be_bytes();
                Reply::new(227, format!("Entering Passive Mode ({a},{b},{c},{d},{high},{low})"))
            }
            (Verb::Epsv, Done::Address(at)) => {
                self.state.data = true;
                self.state.cpsv = false;
                Reply::new(229, format!("Entering Extended Passive Mode (|||{}|)", at.port()))
            }
            (Verb::Size | Verb::Avbl, Done::Number(n)) => Reply::new(213, n.to_string()),
            (Verb::Mdtm, Done::Time(time)) => {
                let mut words = Vec::new();
                stamp::write(&mut words, time, false);
                Reply::new(213, words)
            }
            (Verb::Mlst, Done::Lines(lines)) => {
                let all = std::iter::once(Bytes::from_static(b"Listing")).chain(lines);
                Reply::lines(250, all.chain(std::iter::once(Bytes::from_static(b"End"))))
            }
            (Verb::Stat, Done::Lines(lines)) => {
                let all = std::iter::once(Bytes::from_static(b"Status")).chain(lines);
                Reply::lines(213, all.chain(std::iter::once(Bytes::from_static(b"End"))))
            }
            (verb, Done::Digest { digest, range }) => {
                let hex: String = digest.iter().map(|b| format!("{b:02x}")).collect();
                if verb != Verb::Hash {
                    return Reply::new(250, hex.to_uppercase());
                }
                let algorithm = self.state.algorithm;
                let name = HASHES.iter().find(|h| h.1 == algorithm).map_or("", |h| h.0);
                let last = range.end.saturating_sub(1).max(range.start);
                let head = format!("{name} {}-{last} {hex} ", range.start);
                Reply::new(213, [head.as_bytes(), argument].concat())
            }
            _ => Reply::new(451, "internal error"),
        }
    }

    fn allo(&mut self, argument: &Bytes) -> Stepped {
        // `ALLO size R record` is what some send; records mean nothing here.
        let size = number(word(argument).0).ok_or_else(|| refused(501, "ALLO takes a number of bytes"))?;
        self.state.allo = Some(size);
        reply(200, "Noted")
    }

    fn auth(&mut self, argument: &Bytes) -> Stepped {
        if self.state.secure {
            return Err(refused(503, "TLS is on"));
        }
        if !self.settings.tls {
            return Err(refused(502, "TLS is not offered"));
        }
        let name = argument.to_ascii_uppercase();
        match &name[..] {
            b"TLS" | b"TLS-C" | b"SSL" | b"TLS-P" => {
                Ok(Step::ReplyThen(Reply::new(234, "Begin TLS"), Call::StartTls))
            }
            _ => reply(504, "only AUTH TLS"),
        }
    }

    fn prot(&mut self, argument: &Bytes) -> Stepped {
        if !self.state.secure || !self.state.pbsz {
            return Err(refused(503, "AUTH TLS and PBSZ come first"));
        }
        let private = match argument.to_ascii_uppercase().as_slice() {
            b"P" => true,
            b"C" => false,
            b"S" | b"E" => return Err(refused(536, "only C and P")),
            _ => return Err(refused(504, "only C and P")),
        };
        match self.settings.data {
            DataPolicy::Require if !private => return Err(refused(534, "data must be protected")),
            DataPolicy::Deny if private => return Err(refused(534, "data is not protected here")),
            _ => {}
        }
        self.state.private = private;
        reply(200, if private { "Data is private" } else { "Data is in the clear" })
    }

    fn change_dir(&mut self, raw: &[u8]) -> Stepped {
        let path = self.path(raw)?;
        let words = [&quoted(path.as_bytes())[..], b" is the current directory"].concat();
        self.state.next_dir = Some(path.clone());
        Ok(Step::CallThen(Call::ChangeDir(path), Reply::new(250, words)))
    }

    fn set(&self, path: &[u8], attributes: Attributes, done: Reply) -> Stepped {
        let path = self.path(path)?;
        Ok(Step::CallThen(Call::SetAttributes { path, attributes: Box::new(attributes) }, done))
    }

    fn mdtm(&mut self, argument: &Bytes) -> Stepped {
        // An old way to set it, which many clients still use: a stamp, then the path.
        let (first, rest) = word(argument);
        if let Some(time) = stamp::parse(first)
            && !rest.is_empty()
        {
            let words = [b"Modify=", first, b"; ", &rest[..]].concat();
            return self.set(&rest, Attributes::times(None, Some(time)), Reply::new(213, words));
        }
        Ok(Step::Call(Call::Modified(self.path(argument)?)))
    }

    fn mff(&mut self, argument: &Bytes) -> Stepped {
        let (facts, path) = word(argument);
        if path.is_empty() {
            return Err(refused(501, "MFF fact=value;… path"));
        }
        let mut attributes = Attributes::none();
        for fact in facts.split(|b| *b == b';').filter(|f| !f.is_empty()) {
            let mut halves = fact.splitn(2, |b| *b == b'=');
            let name = halves.next().unwrap_or_default().to_ascii_lowercase();
            let value = halves.next().unwrap_or_default();
            match &name[..] {
                b"modify" => {
                    let time = stamp::parse(value).ok_or_else(|| refused(501, "this is no time"))?;
                    attributes.modified = Some(time);
                }
                b"unix.mode" => attributes.mode = Some(mode(value)?),
                _ => return Err(refused(504, "only Modify and UNIX.mode can be set")),
            }
        }
        self.set(&path, attributes, Reply::new(213, argument.clone()))
    }

    fn mode(&mut self, argument: &Bytes) -> Stepped {
        match argument.to_ascii_uppercase().as_slice() {
            b"S" => self.state.compressed = false,
            b"Z" if self.settings.mode_z => self.state.compressed = true,
            _ => return Err(refused(504, "this mode is not served")),
        }
        reply(200, if self.state.compressed { "Mode is deflate" } else { "Mode is stream" })
    }

    fn type_(&mut self, argument: &Bytes) -> Stepped {
        let ascii = match argument.to_ascii_uppercase().as_slice() {
            b"A" | b"A N" => true,
            b"I" | b"L 8" | b"L8" => false,
            _ => return Err(refused(504, "only A, I and L 8")),
        };
        self.state.ascii = ascii;
        reply(200, if ascii { "Type is ASCII" } else { "Type is image" })
    }

    fn open(&mut self, what: What) -> Stepped {
        let s = &mut self.state;
        s.data = false;
        s.rest = 0;
        s.rang = None;
        s.allo = None;
        let listing = matches!(what, What::Show(_));
        let foreign = Foreign { begins: s.foreign.begins || std::mem::take(&mut s.cpsv), ..s.foreign };
        Ok(Step::Call(Call::Open(Transfer {
            what,
            ascii: !listing && s.ascii && self.settings.ascii,
            level: s.compressed.then_some(s.level),
            private: s.private,
            foreign: (s.private && foreign != Foreign::default()).then_some(foreign),
        })))
    }

    fn store(&mut self, path: VPath, append: bool, unique: bool) -> Stepped {
        let ascii = self.state.ascii && self.settings.ascii;
        // What ALLO says is content; with line ends changed nobody knows what comes.
        let expected = self.state.allo.filter(|_| !ascii);
        let offset = if append || unique { 0 } else { self.state.rest };
        self.open(What::Store { path, offset, append, unique, expected })
    }

    /// LIST and NLST as clients send them: options as `ls` has them may come first.
    fn shown(&self, argument: &Bytes, form: Form) -> Result<Show, Reply> {
        let mut rest = argument.clone();
        let mut itself = false;
        while rest.first() == Some(&b'-') {
            let (options, more) = word(&rest);
            let letters = options.get(1..).unwrap_or_default();
            if letters.is_empty() || !letters.iter().all(u8::is_ascii_alphanumeric) {
                break;
            }
            if letters.contains(&b'R') {
                return Err(refused(504, "no listings of whole trees"));
            }
            itself |= letters.contains(&b'd');
            rest = more;
        }
        self.shown_path(&rest, form, itself)
    }

    fn shown_path(&self, raw: &Bytes, form: Form, itself: bool) -> Result<Show, Reply> {
        let cut = raw.iter().rposition(|b| *b == b'/').map_or(0, |at| at + 1);
        let last = raw.slice(cut..);
        let (dir, pattern) = match form {
            // A pattern in the last name only: it costs one listing.
            Form::Long | Form::Names if last.iter().any(|b| matches!(b, b'*' | b'?' | b'[')) => {
                (raw.slice(..cut), Some(last))
            }
            _ => (raw.clone(), None),
        };
        let prefix = if pattern.is_some() { dir.clone() } else { Bytes::new() };
        Ok(Show { form, path: self.path(&dir)?, itself, pattern, prefix })
    }

    fn show(&mut self, argument: &Bytes, form: Form) -> Stepped {
        let show = self.shown(argument, form)?;
        self.open(What::Show(show))
    }

    fn show_of(&mut self, argument: &Bytes, form: Form, itself: bool) -> Stepped {
        let show = self.shown_path(argument, form, itself)?;
        self.open(What::Show(show))
    }

    fn epsv(&mut self, argument: &Bytes) -> Stepped {
        let family = match argument.to_ascii_uppercase().as_slice() {
            b"" => None,
            b"1" => Some(1),
            b"2" => Some(2),
            b"ALL" => {
                self.state.epsv_all = true;
                return reply(200, "EPSV only from here on");
            }
            _ => return Err(refused(522, "only (1,2)")),
        };
        Ok(Step::Call(Call::Passive { extended: true, family }))
    }

    fn active(&mut self, address: SocketAddr) -> Stepped {
        // A port of a service is no port of a client (RFC 2577, section 3).
        if address.port() < 1024 {
            return Err(refused(501, "not to a port of a service"));
        }
        self.state.data = true;
        self.state.cpsv = false;
        Ok(Step::CallThen(Call::Active(address), Reply::new(200, "Noted")))
    }

    fn foreign_allowed(&self) -> Result<(), Reply> {
        if !self.settings.foreign {
            return Err(refused(502, "no transfers between servers"));
        }
        if !self.state.secure {
            return Err(refused(503, "AUTH TLS comes first"));
        }
        Ok(())
    }

    /// `OPTS SSCN sha256`: the certificate that the other server will show; without it, none in particular.
    fn name_peer(&mut self, digits: &[u8]) -> Stepped {
        self.foreign_allowed()?;
        let peer = match digits {
            b"" => None,
            _ => Some(sha256(digits).ok_or_else(|| refused(501, "OPTS SSCN SHA-256 of a certificate"))?),
        };
        self.state.foreign.peer = peer;
        reply(200, if peer.is_some() { "The other server is known" } else { "The other server is not known" })
    }

    fn active_allowed(&self) -> Result<(), Reply> {
        if self.state.epsv_all {
            return Err(refused(503, "EPSV only, as you said"));
        }
        if !self.settings.active {
            return Err(refused(501, "data connections are made by clients: EPSV or PASV"));
        }
        Ok(())
    }

    fn port(&mut self, argument: &Bytes) -> Stepped {
        self.active_allowed()?;
        let bad = || refused(501, "PORT h1,h2,h3,h4,p1,p2");
        let mut numbers = [0u8; 6];
        let mut parts = text(argument)?.split(',');
        for n in &mut numbers {
            let part = parts.next().ok_or_else(bad)?.trim();
            *n = number(part.as_bytes()).and_then(|n| u8::try_from(n).ok()).ok_or_else(bad)?;
        }
        if parts.next().is_some() {
            return Err(bad());
        }
        let [a, b, c, d, high, low] = numbers;
        self.active((Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low])).into())
    }

    fn eprt(&mut self, argument: &Bytes) -> Stepped {
        self.active_allowed()?;
        let bad = || refused(501, "EPRT |1|address|port|");
        let line = text(argument)?;
        let mark = line.chars().next().filter(char::is_ascii_punctuation).ok_or_else(bad)?;
        let mut parts = line.split(mark).skip(1);
        let (family, address, port) = (parts.next(), parts.next(), parts.next());
        let (Some(family), Some(address), Some(port), Some(""), None) =
            (family, address, port, parts.next(), parts.next())
        else {
            return Err(bad());
        };
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        match (family, address) {
            ("1", IpAddr::V4(_)) | ("2", IpAddr::V6(_)) => {}
            ("1" | "2", _) => return Err(bad()),
            _ => return Err(refused(522, "only (1,2)")),
        }
        let port = number(port.as_bytes()).and_then(|n| u16::try_from(n).ok()).ok_or_else(bad)?;
        self.active(SocketAddr::new(address, port))
    }

    fn rang(&mut self, argument: &Bytes) -> Stepped {
        let (first, last) = word(argument);
        let bad = || refused(501, "RANG first last");
        let (first, last) = (number(first).ok_or_else(bad)?, number(&last).ok_or_else(bad)?);
        // `RANG 1 0` takes it back (draft-bryan-ftp-range, section 3).
        self.state.rang = (first <= last).then_some((first, last));
        match self.state.rang {
            Some(_) => reply(350, format!("Bytes {first} to {last}")),
            None if (first, last) == (1, 0) => reply(350, "All bytes"),
            None => reply(501, "the last byte comes before the first"),
        }
    }

    fn hash(&mut self, argument: &Bytes) -> Stepped {
        let path = self.path(argument)?;
        let range = self.state.rang.take().map_or(0..u64::MAX, |(a, b)| a..b.saturating_add(1));
        Ok(Step::Call(Call::Digest { path, algorithm: self.state.algorithm, range }))
    }

    /// `XMD5 path`, or `XMD5 "path" first end`.
    fn sum(&mut self, argument: &Bytes, algorithm: Algorithm) -> Stepped {
        let (path, rest) = match argument.strip_prefix(b"\"") {
            Some(quoted) => unquote(quoted).ok_or_else(|| refused(501, "a quote is missing"))?,
            None => (argument.to_vec(), &[][..]),
        };
        let bad = || refused(501, "\"path\" first end");
        let mut numbers = rest.split(|b| *b == b' ').filter(|w| !w.is_empty()).map(number);
        let range = match (numbers.next(), numbers.next(), numbers.next()) {
            (None, ..) => 0..u64::MAX,
            (Some(Some(first)), None, _) => first..u64::MAX,
            (Some(Some(first)), Some(Some(end)), None) if first <= end => first..end,
            _ => return Err(bad()),
        };
        Ok(Step::Call(Call::Digest { path: self.path(&path)?, algorithm, range }))
    }

    fn opts(&mut self, argument: &Bytes) -> Stepped {
        let (name, rest) = word(argument);
        let rest_up = rest.to_ascii_uppercase();
        match (name.to_ascii_uppercase().as_slice(), rest_up.as_slice()) {
            (b"UTF8" | b"UTF-8", b"ON" | b"" | b"NLST") => reply(200, "Always UTF-8"),
            (b"UTF8" | b"UTF-8", _) => reply(504, "always UTF-8"),
            (b"MLST", _) => {
                self.state.facts = Facts::parse(&rest);
                reply(200, format!("MLST OPTS {}", self.state.facts.names()))
            }
            (b"HASH", b"") => {
                let now = self.state.algorithm;
                reply(200, HASHES.iter().find(|h| h.1 == now).map_or("", |h| h.0))
            }
            (b"HASH", wanted) => match HASHES.iter().find(|h| h.0.as_bytes() == wanted) {
                Some((name, algorithm)) => {
                    self.state.algorithm = *algorithm;
                    reply(200, *name)
                }
                None => reply(504, "this digest is not known"),
            },
            (b"SSCN", digits) => self.name_peer(digits),
            (b"MODE", words) if self.settings.mode_z => {
                let level = words.strip_prefix(b"Z LEVEL ").and_then(number).filter(|n| (1..=9).contains(n));
                let level = level.ok_or_else(|| refused(501, "OPTS MODE Z LEVEL 1…9"))?;
                self.state.level = u32::try_from(level).unwrap_or(6);
                reply(200, format!("Level {level}"))
            }
            _ => reply(501, "this has no such options"),
        }
    }

    fn help(&self, argument: &Bytes) -> Stepped {
        if argument.is_empty() {
            let mut lines = vec![Bytes::from_static(b"Commands:")];
            for part in TABLE.chunks(8) {
                lines.push(part.iter().map(|r| r.name).collect::<Vec<_>>().join(" ").into());
            }
            lines.push(Bytes::from_static(b"End"));
            return Ok(Step::Reply(Reply::lines(214, lines)));
        }
        let wanted = argument.to_ascii_uppercase();
        if wanted == b"SITE" {
            return Ok(Step::Reply(site_help()));
        }
        match TABLE.iter().find(|r| r.name.as_bytes() == wanted) {
            Some(r) if r.takes == Takes::Nothing => reply(214, r.name),
            Some(r) => reply(214, format!("{} {}", r.name, r.help)),
            None => reply(502, "this command is not known"),
        }
    }

    fn features(&self) -> Reply {
        let mut lines = vec!["Features:".to_owned()];
        let mut feature = |words: &str| lines.push(words.to_owned());
        if self.settings.tls || self.settings.implicit {
            feature("AUTH TLS");
            feature("PBSZ");
            feature("PROT");
        }
        for words in ["AVBL", "CLNT", "EPSV"] {
            feature(words);
        }
        if self.settings.active {
            feature("EPRT");
        }
        // Who this is, whatever the banner says: see PROTOCOL.md for what it promises.
        feature("FERRY");
        let now = self.state.algorithm;
        let hashes = HASHES.iter().map(|h| format!("{}{}", h.0, if h.1 == now { "*" } else { "" }));
        feature(&format!("HASH {}", hashes.collect::<Vec<_>>().join(";")));
        for words in ["HOST", "MDTM", "MFF Modify;UNIX.mode;", "MFMT"] {
            feature(words);
        }
        feature(&format!("MLST {}", self.state.facts.feature()));
        if self.settings.mode_z {
            feature("MODE Z");
        }
        for words in
            ["RANG STREAM", "REST STREAM", "SITE CHMOD", "SITE COPY", "SITE SYMLINK", "SITE UTIME", "SIZE"]
        {
            feature(words);
        }
        if self.settings.foreign {
            feature("CPSV");
            feature("SSCN SHA-256");
        }
        for words in [
            "TVFS",
            "UTF8",
            "XCRC \"path\" first end",
            "XMD5 \"path\" first end",
            "XSHA1 \"path\" first end",
            "XSHA256 \"path\" first end",
        ] {
            feature(words);
        }
        feature("End");
        Reply::lines(211, lines)
    }

    fn site(&mut self, argument: &Bytes) -> Stepped {
        let (verb, rest) = word(argument);
        let verb = verb.to_ascii_uppercase();
        if rest.is_empty() && verb != b"HELP" {
            return Err(refused(501, "SITE HELP tells what is missing"));
        }
        match &verb[..] {
            b"HELP" => Ok(Step::Reply(site_help())),
            b"CHMOD" => {
                let (bits, path) = word(&rest);
                if path.is_empty() {
                    return Err(refused(501, "SITE CHMOD mode path"));
                }
                self.set(&path, Attributes::mode(mode(bits)?), Reply::new(200, "Mode is set"))
            }
            b"UTIME" => {
                let (path, modified) = utime(&rest)?;
                self.set(&path, Attributes::times(None, Some(modified)), Reply::new(200, "Time is set"))
            }
            b"SYMLINK" => {
                let (target, at) = two(&rest).ok_or_else(|| refused(501, "SITE SYMLINK target path"))?;
                let at = self.path(&at)?;
                Ok(Step::CallThen(Call::Symlink { target: target.into(), at }, Reply::new(200, "Linked")))
            }
            b"CPFR" => {
                let path = self.path(&rest)?;
                self.state.copy_from = Some(path.clone());
                Ok(Step::CallThen(Call::Exists(path), Reply::new(350, "SITE CPTO comes next")))
            }
            b"CPTO" => {
                let to = self.path(&rest)?;
                let from =
                    self.state.copy_from.take().ok_or_else(|| refused(503, "SITE CPFR comes first"))?;
                Ok(Step::CallThen(Call::Copy { from, to }, Reply::new(250, "Copied")))
            }
            _ => reply(504, "SITE HELP tells what there is"),
        }
    }
}

fn site_help() -> Reply {
    let rows = SITE_HELP.iter().map(|(name, help)| format!("{name} {help}"));
    let all = std::iter::once("SITE commands:".to_owned()).chain(rows);
    Reply::lines(214, all.chain(std::iter::once("End".to_owned())))
}
