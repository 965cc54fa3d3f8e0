//! `open`, `close` and `session`: which sessions a script has, and what `open` makes of its switches.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use session_core::error::Result;
use session_core::path::VPath;

use super::{Runner, Slot, bad, missing, not_yet};
use crate::script::command::{Command, Verb};
use crate::script::text::quoted;
use crate::script::xml::text_of;
use crate::session::{FtpMode, FtpSecure, Session, SessionOptions, SshHostKeyPolicy, parse_script_url};
use crate::url::Location;

/// Seconds that stand for no end of waiting.
const FOREVER: u64 = 365 * 86_400;

/// Where a site begins, as the path of a URL.
fn begin(directory: Option<String>) -> Option<String> {
    directory
        .map(|dir| if dir.starts_with('/') { dir } else { format!("/~/{}", dir.trim_start_matches("~/")) })
}

impl Runner<'_> {
    pub(super) async fn open(&mut self, c: &Command) -> Result<()> {
        let Some(place) = c.arguments.first() else {
            return Err(bad("'open' needs a session URL: there is nobody to ask"));
        };
        let (options, path) = self.named(place).await?;
        let options = self.opened_with(options, c).await?;
        let name = options.shown_name();
        if let Some(log) = &mut self.log {
            log.begin(&name, SystemTime::now());
            log.group(&format!("open {}", options.to_url()), SystemTime::now());
        }
        let session = Session::new();
        session.set_interceptors(Arc::clone(&self.around));
        session.set_request_limit(self.requests.clone());
        session.set_log(self.talk.clone());
        if let Some(table) = &self.live {
            session.show_in(Arc::clone(table));
        }
        session.set_reconnect_time(Duration::from_secs(self.reconnect.unwrap_or(FOREVER)));
        session.open(options, Arc::clone(&self.settings.decider)).await?;
        let home = session.home_path()?;
        let mut cwd = home.clone();
        if let Some(path) = path.filter(|p| p != "/") {
            // As in curl and sftp, a tilde is the login folder.
            let path = path.strip_prefix("/~/").unwrap_or(&path);
            cwd = VPath::parse(&home, path.as_bytes())?;
            session.list_directory(cwd.as_bytes()).await?;
        }
        let number = self.next;
        self.next += 1;
        self.slots.push(Slot { number, session, cwd: text_of(cwd.as_bytes()), name: name.clone() });
        self.current = Some(number);
        self.console.line(&format!("Active session: [{number}] {name}"));
        Ok(())
    }

    /// What `open` is told: a URL, a stored site by its name or as `site://NAME/path`, or a host.
    async fn named(&self, place: &str) -> Result<(SessionOptions, Option<String>)> {
        let decider = &*self.settings.decider;
        if place.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("site://")) {
            let Location::Remote(url) = Location::parse(place)? else { return Err(bad("that is no site")) };
            let store = self.settings.sites.as_ref().ok_or_else(|| bad("there is no file of sites here"))?;
            let site = store.open(url.site().unwrap_or_default(), decider).await?;
            let path = if url.path.is_empty() { begin(site.directory) } else { Some(text_of(&url.path)) };
            return Ok((site.options, path));
        }
        if place.contains("://") {
            return parse_script_url(place);
        }
        let site = match &self.settings.sites {
            Some(store) => store.open_if_there(place, decider).await?,
            None => None,
        };
        match site {
            Some(site) => Ok((site.options, begin(site.directory))),
            None => parse_script_url(&format!("sftp://{place}")),
        }
    }

    async fn opened_with(&self, options: SessionOptions, c: &Command) -> Result<SessionOptions> {
        let mut o = options;
        if let Some(file) = &self.settings.known_hosts {
            o = o.known_hosts(file);
        }
        let from_files = c.has("passwordsfromfiles");
        for (name, value) in &c.switches {
            let text = value.clone().unwrap_or_default();
            let path = || self.settings.drives.from(&self.lcd, &text);
            o = match *name {
                "privatekey" => o.ssh_private_key_path(path()?),
                "clientcert" => o.tls_client_certificate_path(path()?),
                "hostkey" if text == "*" => {
                    o.ssh_host_key_policy(SshHostKeyPolicy::GiveUpSecurityAndAcceptAny)
                }
                "hostkey" if text.eq_ignore_ascii_case("acceptnew") => {
                    o.ssh_host_key_policy(SshHostKeyPolicy::AcceptNew)
                }
                "hostkey" => o.ssh_host_key_fingerprint(text)?,
                "certificate" if text == "*" => o.give_up_security_and_accept_any_tls_host_certificate(true),
                "certificate" => o.tls_host_certificate_fingerprint(text)?,
                "username" => o.user_name(text),
                "password" | "passphrase" | "newpassword" => {
                    let secret = if from_files { first_line(path()?).await? } else { text };
                    match *name {
                        "password" => o.password(secret),
                        "passphrase" => o.private_key_passphrase(secret),
                        _ => o.new_password(secret),
                    }
                }
                "passive" => match text.to_ascii_lowercase().as_str() {
                    "" | "on" => o.ftp_mode(FtpMode::Passive),
                    "off" => o.ftp_mode(FtpMode::Active),
                    other => return Err(bad(format!("'-passive={other}': it takes on or off"))),
                },
                "implicit" => o.ftp_secure(FtpSecure::Implicit),
                "explicit" => o.ftp_secure(FtpSecure::Explicit),
                "timeout" => {
                    let seconds = text.parse().map_err(|_| bad("'-timeout' takes seconds"))?;
                    o.timeout(Duration::from_secs(seconds))?
                }
                "sessionname" => o.name(text),
                "filezilla" => {
                    return Err(not_yet(
                        "'-filezilla' is not built: 'ferry sites import filezilla' takes its sites over",
                    ));
                }
                _ => o,
            };
        }
        for (name, value) in c.pairs("rawsettings")? {
            o = o.add_raw_setting(name, value)?;
        }
        Ok(o)
    }

    pub(super) async fn close(&mut self, c: &Command) -> Result<()> {
        let number = match c.arguments.first() {
            Some(text) => self.numbered(text)?,
            None => self.slot()?.number,
        };
        let Some(at) = self.slots.iter().position(|s| s.number == number) else { return Ok(()) };
        let slot = self.slots.remove(at);
        let closed = slot.session.close().await;
        if self.current == Some(number) {
            self.current = self.slots.last().map(|s| s.number);
        }
        self.console.line(&format!("Session '{}' closed.", slot.name));
        closed
    }

    fn numbered(&self, text: &str) -> Result<usize> {
        let number = text.parse().ok().filter(|n| self.slots.iter().any(|s| s.number == *n));
        number.ok_or_else(|| bad(format!("there is no session '{text}'")))
    }

    pub(super) fn session(&mut self, c: &Command) -> Result<()> {
        match c.arguments.first() {
            Some(text) => {
                self.current = Some(self.numbered(text)?);
                let slot = self.slot()?;
                let words = format!("Active session: [{}] {}", slot.number, slot.name);
                self.console.line(&words);
            }
            None => {
                for slot in &self.slots {
                    let mark = if self.current == Some(slot.number) { " *" } else { "" };
                    self.console.line(&format!("[{}] {}{mark}", slot.number, slot.name));
                }
            }
        }
        Ok(())
    }
}

async fn first_line(path: PathBuf) -> Result<String> {
    let text = tokio::fs::read_to_string(&path).await.map_err(|e| missing(e, &path))?;
    Ok(text.lines().next().unwrap_or_default().to_string())
}

/// A command for people and logs: without passwords.
pub(super) fn shown(line: &str, command: &Command) -> String {
    const SECRETS: [&str; 3] = ["password", "passphrase", "newpassword"];
    if command.verb != Verb::Open {
        return line.trim().to_string();
    }
    let mut out = "open".to_string();
    for place in &command.arguments {
        let shown = match parse_script_url(place) {
            Ok((options, _)) => options.to_url(),
            Err(_) => place.rsplit_once('@').map_or_else(|| place.clone(), |(_, host)| format!("…@{host}")),
        };
        let _ = write!(out, " {shown}");
    }
    for (name, value) in &command.switches {
        let _ = match value {
            Some(_) if SECRETS.contains(name) || *name == "rawsettings" => write!(out, " -{name}=***"),
            Some(value) => write!(out, " -{name}={}", quoted(value)),
            None => write!(out, " -{name}"),
        };
    }
    out
}
