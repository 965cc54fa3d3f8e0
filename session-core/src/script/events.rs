//! The events that handlers can be bound to, in one table.

/// What holds for an event.
#[derive(Debug)]
pub struct EventSpec {
    /// Its name.
    pub name: &'static str,
    /// When it fires.
    pub when: &'static str,
    /// The client waits for the handler.
    pub awaited: bool,
    /// `BlockOperation` refuses what is at hand; elsewhere it refuses the next thing asked.
    pub veto: bool,
    /// `Session` is an object, not null.
    pub session: bool,
    /// `CtxRelPath` is not empty.
    pub path: bool,
}

const fn ev(name: &'static str, when: &'static str, flags: &str) -> EventSpec {
    EventSpec {
        name,
        when,
        awaited: has(flags, b'a'),
        veto: has(flags, b'v'),
        session: has(flags, b's'),
        path: has(flags, b'p'),
    }
}

const fn has(flags: &str, flag: u8) -> bool {
    let mut rest = flags.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        if *first == flag {
            return true;
        }
        rest = tail;
    }
    false
}

/// Every event, by name. `a` awaited, `v` can be vetoed, `s` has a session, `p` has a path.
pub static EVENTS: &[EventSpec] = &[
    ev("AfterDirCreate", "a directory was made", "sp"),
    ev("AfterDirDelete", "a directory was removed", "sp"),
    ev("AfterFileAborted", "an upload was thrown away", "sp"),
    ev("AfterFileCopy", "a file was copied inside the store", "sp"),
    ev("AfterFileDelete", "a file was removed", "sp"),
    ev("AfterFileDownload", "a file that was read is closed", "sp"),
    ev("AfterFileParked", "an upload was interrupted and kept", "sp"),
    ev("AfterFileRename", "an entry was renamed", "sp"),
    ev("AfterFileUpload", "an upload was published", "sp"),
    ev("AfterHardLink", "a hard link was made", "sp"),
    ev("AfterSetAttributes", "attributes were set", "sp"),
    ev("AfterSymlink", "a symbolic link was made", "sp"),
    ev("BeforeCommand", "a wire command that is no operation", "avs"),
    ev("BeforeCommit", "an upload is complete and about to be published", "avsp"),
    ev("BeforeDirCreate", "a directory is about to be made", "avsp"),
    ev("BeforeDirDelete", "a directory is about to be removed", "avsp"),
    ev("BeforeFileCopy", "a file is about to be copied inside the store", "avsp"),
    ev("BeforeFileDelete", "a file is about to be removed", "avsp"),
    ev("BeforeFileDownload", "a file is about to be opened for reading", "avsp"),
    ev("BeforeFileRename", "an entry is about to be renamed", "avsp"),
    ev("BeforeFileUpload", "a file is about to be opened for writing", "avsp"),
    ev("BeforeHardLink", "a hard link is about to be made", "avsp"),
    ev("BeforeOpenClientFwd", "a client asks for a tunnel", "avs"),
    ev("BeforeOpenCmd", "a client asks to run a command", "avs"),
    ev("BeforeOpenSFTP", "a client asks for the SFTP subsystem", "avs"),
    ev("BeforeOpenServerFwd", "a client asks for a tunnel towards it", "avs"),
    ev("BeforeOpenShell", "a client asks for a shell", "avs"),
    ev("BeforeSendSoftwareID", "the server's identification is about to be sent", "a"),
    ev("BeforeSetAttributes", "attributes are about to be set", "avsp"),
    ev("BeforeSymlink", "a symbolic link is about to be made", "avsp"),
    ev("OnAuthFail", "an attempt to log in failed", "as"),
    ev("OnAuthInteractive", "answers to the questions of a login arrived", "avs"),
    ev("OnAuthInteractiveSetQuestions", "the questions of a login are being made", "as"),
    ev("OnAuthPKI", "a key has signed a login", "avs"),
    ev("OnAuthPassword", "a password was given", "avs"),
    ev("OnAuthRequest", "a user asks to log in", "avs"),
    ev("OnAuthRequestAllowed", "the user may try", "as"),
    ev("OnAuthRequestDenied", "the user may not try", "as"),
    ev("OnAuthSuccess", "a login is complete", "as"),
    ev("OnConnectionClose", "the connection is over", "as"),
    ev("OnDirList", "a directory is about to be listed", "avsp"),
    ev("OnNewConnection", "a connection arrived", "av"),
    ev("OnQuotaHit", "an operation failed because a quota is used up", "sp"),
];

/// The event called `name`.
pub fn event(name: &str) -> Option<&'static EventSpec> {
    EVENTS.binary_search_by(|e| e.name.cmp(name)).ok().and_then(|i| EVENTS.get(i))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_consistent() {
        assert!(EVENTS.windows(2).all(|w| w[0].name < w[1].name));
        for e in EVENTS {
            assert_eq!(event(e.name).map(|f| f.name), Some(e.name));
            assert!(!e.veto || e.awaited, "{} can be vetoed but is not awaited", e.name);
            assert_eq!(e.awaited, !e.name.starts_with("After") && e.name != "OnQuotaHit");
        }
        assert!(event("OnNothing").is_none());
    }
}
