//! What a handler may do besides looking at its session and deciding: nothing, unless its binding says so.

/// A capability, by its word in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Grant {
    /// Run the programs of the allow-list.
    Exec,
    /// Work on the user's files, with the user's permissions.
    Files,
    /// Make HTTP requests.
    Http,
    /// Work in the folders of this machine that the configuration names.
    Local,
    /// Send mail.
    Mail,
    /// Encrypt, decrypt, sign and verify with the server's keys.
    Pgp,
    /// Connect to other servers.
    Remotes,
    /// Read named secrets.
    Secrets,
    /// See and end sessions of everybody.
    Sessions,
    /// Limit the session's speed.
    Speed,
    /// Ask databases.
    Sql,
    /// Keep values that sessions share.
    Store,
}

impl Grant {
    /// Every one.
    pub const ALL: &'static [Grant] = &[
        Grant::Exec,
        Grant::Files,
        Grant::Http,
        Grant::Local,
        Grant::Mail,
        Grant::Pgp,
        Grant::Remotes,
        Grant::Secrets,
        Grant::Sessions,
        Grant::Speed,
        Grant::Sql,
        Grant::Store,
    ];

    /// The word.
    pub fn name(self) -> &'static str {
        match self {
            Grant::Exec => "exec",
            Grant::Files => "files",
            Grant::Http => "http",
            Grant::Local => "local",
            Grant::Mail => "mail",
            Grant::Pgp => "pgp",
            Grant::Remotes => "remotes",
            Grant::Secrets => "secrets",
            Grant::Sessions => "sessions",
            Grant::Speed => "speed",
            Grant::Sql => "sql",
            Grant::Store => "store",
        }
    }

    /// What it is for, in words.
    pub fn does(self) -> &'static str {
        match self {
            Grant::Exec => "run programs of the allow-list",
            Grant::Files => "work on the user's files, with the user's permissions",
            Grant::Http => "make HTTP requests",
            Grant::Local => "work in folders of this machine",
            Grant::Mail => "send mail",
            Grant::Pgp => "use the keys of PGP",
            Grant::Remotes => "connect to other servers",
            Grant::Secrets => "read named secrets",
            Grant::Sessions => "see and end sessions of everybody",
            Grant::Speed => "limit the session's speed",
            Grant::Sql => "ask databases",
            Grant::Store => "keep values that sessions share",
        }
    }

    /// The grant called `name`.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|g| g.name() == name)
    }
}

/// A set of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Grants(u16);

impl Grants {
    /// None.
    pub const NONE: Grants = Grants(0);

    /// These.
    pub fn of(grants: &[Grant]) -> Self {
        Grants(grants.iter().fold(0, |set, g| set | 1 << (*g as u16)))
    }

    /// All of them.
    pub fn all() -> Self {
        Self::of(Grant::ALL)
    }

    /// Whether `grant` is in it.
    pub fn has(self, grant: Grant) -> bool {
        self.0 & 1 << (grant as u16) != 0
    }
}
