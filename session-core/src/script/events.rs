//! The events that handlers can be bound to: one table, from which the reference and the editor's types
//! are made and by which handlers are bound and run.
//!
//! A row says when the event fires, what `Session` is then, whether the client waits, what a refusal
//! means on each protocol, what a handler may change, and how long it may take.

use std::time::Duration;

/// What a script finds in `Session` and `Session.GetUser()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Present {
    /// `Session` is null.
    Nothing,
    /// `Session` is an object, `GetUser()` is null.
    Session,
    /// Both are objects.
    User,
    /// `Session` is an object; `GetUser()` is one if somebody has logged in.
    Maybe,
}

impl Present {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Present::Nothing => "null",
            Present::Session => "no user yet",
            Present::User => "with user",
            Present::Maybe => "user after login",
        }
    }
}

/// What `BlockOperation` refuses, and so what a client sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Veto {
    /// Nothing at hand: it refuses the next thing asked.
    Next,
    /// What the server refuses whatever a handler says.
    Anyway,
    /// Nothing at all: there is no session to call it on, and a failure is only logged.
    Never,
    /// The channel.
    Channel,
    /// The command.
    Command,
    /// The publishing of the upload: the old content stands.
    Commit,
    /// The connection, by `RefuseConnection`: there is no session to call `BlockOperation` on.
    Connection,
    /// The attempt to log in.
    Login,
    /// The operation.
    Operation,
}

impl Veto {
    /// Whether something at hand is refused.
    pub fn refuses(self) -> bool {
        !matches!(self, Veto::Next | Veto::Never)
    }

    /// What is refused, in words.
    pub fn words(self) -> &'static str {
        match self {
            Veto::Next => "(what is asked next)",
            Veto::Anyway => "(refused anyway)",
            Veto::Never => "",
            Veto::Channel => "the channel",
            Veto::Command => "the command",
            Veto::Commit => "the publishing",
            Veto::Connection => "the connection",
            Veto::Login => "the attempt",
            Veto::Operation => "the operation",
        }
    }

    /// What an SFTP client sees.
    pub fn sftp(self) -> &'static str {
        match self {
            Veto::Anyway => "refused",
            Veto::Next | Veto::Never => "",
            Veto::Channel => "channel failure",
            Veto::Command | Veto::Operation => "status 3",
            Veto::Commit => "status 3 at CLOSE",
            Veto::Connection => "closed before the identification",
            Veto::Login => "authentication failure",
        }
    }

    /// What a client of WebDAV or S3 sees.
    pub fn http(self) -> &'static str {
        match self {
            Veto::Next | Veto::Never => "",
            Veto::Anyway | Veto::Channel => "–",
            Veto::Command | Veto::Commit | Veto::Operation => "403",
            Veto::Connection => "closed without an answer",
            Veto::Login => "401, S3 403",
        }
    }

    /// What an FTP client sees.
    pub fn ftp(self) -> &'static str {
        match self {
            Veto::Next | Veto::Never => "",
            Veto::Anyway | Veto::Channel => "–",
            Veto::Command | Veto::Operation => "550",
            Veto::Commit => "550 instead of 226",
            Veto::Connection => "421",
            Veto::Login => "530",
        }
    }
}

/// Which paths an event has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paths {
    /// None: `CtxRelPath()` is empty.
    None,
    /// One: `CtxRelPath()`.
    One,
    /// Two: `CtxRelTargetPath()` too.
    Two,
}

/// What holds for an event.
#[derive(Debug)]
pub struct EventSpec {
    /// Its name.
    pub name: &'static str,
    /// When it fires.
    pub when: &'static str,
    /// The client waits for the handler.
    pub awaited: bool,
    /// What `BlockOperation`, or a failure, refuses.
    pub veto: Veto,
    /// What there is of a session.
    pub present: Present,
    /// Which paths.
    pub paths: Paths,
    /// The calls by which a handler changes what happens, besides a refusal.
    pub changes: &'static [&'static str],
    /// How long a handler may take, where its binding says nothing.
    pub budget: Duration,
}

impl EventSpec {
    /// Whether `Session` is an object.
    pub fn session(&self) -> bool {
        self.present != Present::Nothing
    }
}

/// Steps of a login: a stranger waits, and holds a slot.
const STRANGER: Duration = Duration::from_secs(5);
/// Decisions about an operation.
const DECISION: Duration = Duration::from_secs(10);
/// The verdict on an upload: content may be looked at.
const VERDICT: Duration = Duration::from_secs(60);
/// What nobody waits for.
const AFTERWARDS: Duration = Duration::from_secs(60);

/// An event that tells of something done.
const fn after(name: &'static str, when: &'static str, paths: Paths) -> EventSpec {
    EventSpec {
        name,
        when,
        awaited: false,
        veto: Veto::Next,
        present: Present::User,
        paths,
        changes: &[],
        budget: AFTERWARDS,
    }
}

/// An event that decides about an operation.
const fn before(
    name: &'static str,
    when: &'static str,
    paths: Paths,
    changes: &'static [&'static str],
) -> EventSpec {
    EventSpec {
        name,
        when,
        awaited: true,
        veto: Veto::Operation,
        present: Present::User,
        paths,
        changes,
        budget: DECISION,
    }
}

/// A step in a connection's life.
const fn step(
    name: &'static str,
    when: &'static str,
    present: Present,
    veto: Veto,
    changes: &'static [&'static str],
) -> EventSpec {
    let budget = match present {
        Present::Nothing | Present::Session => STRANGER,
        Present::User | Present::Maybe => DECISION,
    };
    EventSpec { name, when, awaited: true, veto, present, paths: Paths::None, changes, budget }
}

/// What the server did by itself: told afterwards, to the handlers of every site.
const fn notice(name: &'static str, when: &'static str) -> EventSpec {
    EventSpec {
        name,
        when,
        awaited: false,
        veto: Veto::Never,
        present: Present::Nothing,
        paths: Paths::None,
        changes: &[],
        budget: DECISION,
    }
}

const REDIRECT: &[&str] = &["RedirectTo"];
const QUARANTINE: &[&str] = &["QuarantineUpload"];
const VOUCH: &[&str] = &["AuthenticateUserFromScript"];
use Paths::{One, Two};
use Present::{Maybe, Nothing, Session, User};

/// Every event, by name.
pub static EVENTS: &[EventSpec] = &[
    after("AfterDirCreate", "a directory was made", One),
    after("AfterDirDelete", "a directory was removed", One),
    after("AfterFileAborted", "an upload was thrown away, or its publishing refused", One),
    after("AfterFileCopy", "a file was copied inside the store", Two),
    after("AfterFileDelete", "a file was removed", One),
    after("AfterFileDownload", "a file that was read is closed", One),
    after("AfterFileParked", "an upload was interrupted and kept", One),
    after("AfterFileRename", "an entry was renamed", Two),
    after("AfterFileUpload", "an upload was published", One),
    after("AfterHardLink", "a hard link was made", Two),
    after("AfterSetAttributes", "attributes were set", One),
    after("AfterSymlink", "a symbolic link was made", One),
    step("BeforeCommand", "a wire command that is no operation", Maybe, Veto::Command, &[]),
    EventSpec {
        veto: Veto::Commit,
        budget: VERDICT,
        ..before("BeforeCommit", "an upload is complete and about to be published", One, QUARANTINE)
    },
    before("BeforeDirCreate", "a directory is about to be made", One, REDIRECT),
    before("BeforeDirDelete", "a directory is about to be removed", One, &[]),
    before("BeforeFileCopy", "a file is about to be copied inside the store", Two, REDIRECT),
    before("BeforeFileDelete", "a file is about to be removed", One, &[]),
    before("BeforeFileDownload", "a file is about to be opened for reading", One, REDIRECT),
    before("BeforeFileRename", "an entry is about to be renamed", Two, REDIRECT),
    before("BeforeFileUpload", "a file is about to be opened for writing", One, REDIRECT),
    before("BeforeHardLink", "a hard link is about to be made", Two, REDIRECT),
    step("BeforeOpenClientFwd", "a client asks for a tunnel", User, Veto::Anyway, &[]),
    step("BeforeOpenCmd", "a client asks to run a command", User, Veto::Anyway, &[]),
    step("BeforeOpenSFTP", "a client asks for the SFTP subsystem", User, Veto::Channel, &[]),
    step("BeforeOpenServerFwd", "a client asks for a tunnel towards it", User, Veto::Anyway, &[]),
    step("BeforeOpenShell", "a client asks for a shell", User, Veto::Anyway, &[]),
    step(
        "BeforeSendSoftwareID",
        "the server's identification is about to be sent",
        Nothing,
        Veto::Never,
        &["SetSoftwareID"],
    ),
    before("BeforeSetAttributes", "attributes are about to be set", One, &[]),
    before("BeforeSymlink", "a symbolic link is about to be made", One, REDIRECT),
    step("OnAuthFail", "an attempt to log in failed", Session, Veto::Next, &[]),
    step("OnAuthInteractive", "answers to the questions of a login arrived", Session, Veto::Login, VOUCH),
    step(
        "OnAuthInteractiveSetQuestions",
        "the questions of a login are being made",
        Session,
        Veto::Next,
        &["AddQuestion", "AddQuestionPassword", "AddQuestionTOTP"],
    ),
    step("OnAuthPKI", "a key has signed a login", Session, Veto::Login, VOUCH),
    step("OnAuthPassword", "a password was given", Session, Veto::Login, VOUCH),
    step("OnAuthRequest", "a user asks to log in", Session, Veto::Login, &[]),
    step("OnAuthRequestAllowed", "the user may try", Session, Veto::Next, &[]),
    step("OnAuthRequestDenied", "the user may not try", Session, Veto::Next, &[]),
    step("OnAuthSuccess", "a login is complete", User, Veto::Next, &[]),
    notice("OnBlocklistAdd", "an address came onto the block list"),
    notice("OnBlocklistHit", "an address on the block list tried to connect"),
    step("OnConnectionClose", "the connection is over, however it ended", Maybe, Veto::Next, &[]),
    before("OnDirList", "a directory is about to be listed", One, &["RemoveFromListDir", "RedirectTo"]),
    step("OnNewConnection", "a connection arrived", Nothing, Veto::Connection, &["RefuseConnection"]),
    notice("OnProtectorStrike", "a client was given a strike"),
    after("OnQuotaHit", "an operation failed because a quota is used up", One),
    step(
        "OnSessionTerminated",
        "the session was ended by an administrator, a handler or a rule",
        Maybe,
        Veto::Next,
        &[],
    ),
];

/// The event called `name`.
pub fn event(name: &str) -> Option<&'static EventSpec> {
    EVENTS.binary_search_by(|e| e.name.cmp(name)).ok().and_then(|i| EVENTS.get(i))
}

/// The table as it stands in the manual.
pub fn table() -> String {
    use std::fmt::Write as _;
    let mut out = String::from(
        "| Event | When | `Session` | Awaited | Paths | May change | A refusal refuses | SFTP | FTP | WebDAV, S3 | Time |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for e in EVENTS {
        let changes: Vec<String> = e.changes.iter().map(|c| format!("`{c}`")).collect();
        let paths = match e.paths {
            Paths::None => "",
            Paths::One => "one",
            Paths::Two => "two",
        };
        // Writing to a string does not fail.
        let _ = writeln!(
            out,
            "| `{}` | {} | {} | {} | {paths} | {} | {} | {} | {} | {} | {} s |",
            e.name,
            e.when,
            e.present.words(),
            if e.awaited { "yes" } else { "" },
            changes.join(", "),
            e.veto.words(),
            e.veto.sftp(),
            e.veto.ftp(),
            e.veto.http(),
            e.budget.as_secs()
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_consistent() {
        assert!(EVENTS.windows(2).all(|w| w[0].name < w[1].name));
        for e in EVENTS {
            assert_eq!(event(e.name).map(|f| f.name), Some(e.name));
            assert!(!e.veto.refuses() || e.awaited, "{} can be vetoed but is not awaited", e.name);
            let seen = [e.veto.sftp(), e.veto.ftp(), e.veto.http()];
            assert!(!e.veto.refuses() || seen.iter().all(|words| !words.is_empty()));
            assert!(e.changes.is_empty() || e.awaited, "{} changes what is past", e.name);
            let told = ["OnBlocklistAdd", "OnBlocklistHit", "OnProtectorStrike", "OnQuotaHit"];
            assert_eq!(e.awaited, !e.name.starts_with("After") && !told.contains(&e.name), "{}", e.name);
            // There is nothing to call `BlockOperation` on.
            assert_eq!(matches!(e.veto, Veto::Never | Veto::Connection), !e.session(), "{}", e.name);
        }
        assert!(event("OnNothing").is_none());
    }

    #[test]
    fn before_and_after_come_in_pairs() {
        for e in EVENTS {
            let Some(rest) = e.name.strip_prefix("Before") else { continue };
            let alone = ["Command", "Commit", "SendSoftwareID"].contains(&rest) || rest.starts_with("Open");
            assert_eq!(event(&format!("After{rest}")).is_none(), alone, "{}", e.name);
        }
    }
}
