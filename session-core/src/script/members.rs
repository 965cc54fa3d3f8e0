//! What scripts can call, in one table: the reference, the editor's types and the check of unknown members
//! are made from it, and a test compares it with the objects themselves.

use std::fmt::Write as _;

use super::events::EVENTS;
use super::grants::Grant;
use super::outbound::OUTBOUND;

/// Whose member it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An answer of `fetch`.
    Answer,
    /// `console`.
    Console,
    /// A function or a constant of every script.
    Global,
    /// An entry of a directory.
    Item,
    /// `PGP`.
    Pgp,
    /// What its calls answer.
    PgpResponse,
    /// A client of another server.
    Remote,
    /// What its transfers are told.
    RemoteOptions,
    /// What a call on the user's files answers.
    Response,
    /// What `Exec` answers.
    Run,
    /// `Session`.
    Session,
    /// `Sessions`.
    Sessions,
    /// What `SqlQuery` answers.
    Sql,
    /// `Store`.
    Store,
    /// A function of test files.
    Test,
    /// `Session.GetUser()`.
    User,
    /// `GetCurrentVFS()`.
    Vfs,
}

impl Kind {
    /// Every one, in the reference's order.
    pub const ALL: &'static [Kind] = &[
        Kind::Session,
        Kind::User,
        Kind::Global,
        Kind::Vfs,
        Kind::Response,
        Kind::Item,
        Kind::Remote,
        Kind::RemoteOptions,
        Kind::Sql,
        Kind::Pgp,
        Kind::PgpResponse,
        Kind::Sessions,
        Kind::Store,
        Kind::Run,
        Kind::Answer,
        Kind::Console,
        Kind::Test,
    ];

    /// The type's name.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Answer => "FetchResponse",
            Kind::Console => "console",
            Kind::Global => "Functions",
            Kind::Item => "DirListItem",
            Kind::Pgp => "PGP",
            Kind::PgpResponse => "PgpResponse",
            Kind::Remote => "RemoteClient",
            Kind::RemoteOptions => "RemoteOptions",
            Kind::Response => "VfsResponse",
            Kind::Run => "ExecResult",
            Kind::Session => "Session",
            Kind::Sessions => "Sessions",
            Kind::Sql => "SqlResult",
            Kind::Store => "Store",
            Kind::Test => "Tests",
            Kind::User => "User",
            Kind::Vfs => "VirtualFileSystem",
        }
    }
}

/// One member.
#[derive(Debug)]
pub struct Member {
    /// Whose.
    pub of: Kind,
    /// Its name.
    pub name: &'static str,
    /// What follows the name in TypeScript; of what is made with `new`, that word and what follows.
    pub signature: &'static str,
    /// What it does, in words.
    pub does: &'static str,
    /// What its handler's binding must grant.
    pub grant: Option<Grant>,
}

/// What needs a grant with all of its kind, or nothing.
pub(super) const fn m(of: Kind, name: &'static str, signature: &'static str, does: &'static str) -> Member {
    let grant = match of {
        Kind::Sessions => Some(Grant::Sessions),
        Kind::Store => Some(Grant::Store),
        _ => None,
    };
    Member { of, name, signature, does, grant }
}

/// What needs this grant.
pub(super) const fn g(
    grant: Grant,
    of: Kind,
    name: &'static str,
    signature: &'static str,
    does: &'static str,
) -> Member {
    Member { of, name, signature, does, grant: Some(grant) }
}

use Kind::{Answer, Console, Global, Item, Response, Run, Session, Sessions, Store, Test, User, Vfs};

/// Every member. Of `Session`, the first 26 are Syncplify's.
pub static MEMBERS: &[Member] = &[
    m(Session, "GetID", "(): string", "the id, the same in live sessions and log; sorts by start"),
    m(Session, "GetUser", "(): User | null", "the user, or `null` before login"),
    m(Session, "GetUserID", "(): string", "the user's name; empty before login"),
    m(Session, "GetVirtualSite", "(): string", "the site's name"),
    m(Session, "GetRemoteAddress", "(): string", "the client's address without port"),
    m(Session, "GetClientVersion", "(): string", "what the client said of itself; empty if nothing"),
    m(Session, "GetProtocol", "(): string", "`SFTP`, `SCP`, `FTP`, `FTPS`, `WEBDAV`, `WEBDAVS`, `S3`"),
    m(Session, "GetStartTime", "(): Date", "when it began"),
    m(Session, "GetLastActivity", "(): Date", "when something last moved"),
    m(
        Session,
        "BlockOperation",
        "(reason?: string): void",
        "refuses what is at hand, with words for the client; in an event that cannot be refused, the next thing asked",
    ),
    m(
        Session,
        "AddCustomData",
        "(s: string): void",
        "appends to a list that lives as long as the session; at most 1,000 strings of 64 KiB",
    ),
    m(Session, "GetCustomData", "(index: number): string", "one of them; empty where there is none"),
    m(Session, "GetAllCustomData", "(): string[]", "all of them"),
    m(
        Session,
        "AddQuestion",
        "(pos: number, question: string, answer: string, echo: boolean): void",
        "asks, and expects this answer",
    ),
    m(
        Session,
        "AddQuestionPassword",
        "(pos: number, question: string): void",
        "asks for the account's password",
    ),
    m(
        Session,
        "AddQuestionTOTP",
        "(pos: number, question: string): void",
        "asks for a one-time code of the account",
    ),
    m(
        Session,
        "AuthenticateUserFromScript",
        "(): void",
        "the attempt counts as proven for the account of the name that was asked for",
    ),
    m(
        Session,
        "GetAbsPath",
        "(): string",
        "the path on disk where the home is a folder, else the virtual path",
    ),
    m(Session, "GetRelPath", "(): string", "the virtual path, as `CtxRelPath()`"),
    m(Session, "GetAbsTargetPath", "(): string", "the same of a target"),
    m(Session, "GetRelTargetPath", "(): string", "the same of a target"),
    m(
        Session,
        "RemoveFromListDir",
        "(name: string): void",
        "leaves out a name, or a pattern with `*` and `?`",
    ),
    m(
        Session,
        "GetLastCommand",
        "(): string",
        "as the client sent it, secrets masked; empty before the first",
    ),
    m(Session, "GetLastCommandTime", "(): Date | null", "when that began"),
    m(Session, "GetLastError", "(): string", "empty until one happens"),
    m(Session, "GetLastErrorTime", "(): Date | null", "when that happened"),
    m(Session, "GetBytesReceived", "(): number", "content from the client"),
    m(Session, "GetBytesSent", "(): number", "content to the client"),
    m(Session, "GetCipher", "(): string", "the cipher of the connection; empty without one"),
    m(Session, "GetCommandStartTime", "(): Date | null", "when the last command began"),
    m(Session, "GetCurrentCommand", "(): string", "the command that runs now; empty between commands"),
    m(Session, "GetPreviousCommand", "(): string", "the command before"),
    m(Session, "GetRemotePort", "(): number", "the client's port"),
    m(Session, "GetRequestedUser", "(): string", "the name that was asked for at login, proven or not"),
    m(Session, "GetTLS", "(): string", "`TLSv1.3` or `TLSv1.2`; empty where there is no TLS"),
    m(
        Session,
        "RedirectTo",
        "(path: string): void",
        "the operation is done there instead, if the user may; of a rename, copy or link it is the target",
    ),
    g(
        Grant::Speed,
        Session,
        "SetSpeedLimit",
        "(bytesPerSecond: number): void",
        "both directions together, from now on; 0 for no limit",
    ),
    m(
        Session,
        "SetTag",
        "(name: string, value: string): void",
        "a tag of the session, by which it is found among live and ended ones (`ferryd sessions --tag`); an empty value takes \
         it away; at most 32, with names of 64 bytes and values of 256",
    ),
    m(Session, "GetTag", "(name: string): string", "the value of a tag; empty where there is none"),
    m(Session, "Terminate", "(reason?: string): void", "ends the session"),
    m(User, "GetID", "(): string", "the account's name"),
    m(User, "GetName", "(): string", "the account's name"),
    m(User, "GetHome", "(): string", "where relative paths begin"),
    m(User, "GetGroups", "(): readonly string[]", "its groups"),
    m(User, "GetAuthMethods", "(): readonly string[]", "the methods that this login passed"),
    m(User, "IsAnonymous", "(): boolean", "whether anybody may be it"),
    m(
        User,
        "GetCustom",
        "(key: string): string",
        "a value of the account's `custom` table; empty where there is none",
    ),
    m(
        User,
        "GetPermissions",
        "(path: string): readonly string[] | null",
        "the names of what it may do at a path, links not followed; `null` before it has files, and where nobody \
         restricts it",
    ),
    m(
        User,
        "GetQuota",
        "(): { Bytes: number, Files: number, MaxBytes: number | null, MaxFiles: number | null } | null",
        "what its home holds and may hold, uploads under way among it; `null` where that is not counted",
    ),
    m(User, "ID", ": string", "as `GetID()`"),
    m(User, "UserID", ": string", "as `GetID()`"),
    m(User, "Username", ": string", "as `GetName()`"),
    m(User, "HomeDir", ": string", "as `GetHome()`"),
    m(Global, "Base64Decode", "(text: string): Uint8Array", "bytes of base64"),
    m(Global, "Base64Encode", "(data: string | Uint8Array): string", "base64 of bytes, or of a text's UTF-8"),
    m(Global, "BytesToText", "(bytes: Uint8Array): string", "text of UTF-8"),
    m(Global, "CtxEvent", "(): string", "the event's name"),
    m(
        Global,
        "CtxDigest",
        "(): string",
        "the upload's digest (`sha256:…`) where one was made when it was judged; else empty",
    ),
    m(
        Global,
        "CtxNotice",
        "(): { network?: string, offence?: string, weight?: number, sum?: number, of?: number, reason?: string, by?: string, until?: string | null } | null",
        "what the protector did; `null` in events that are not its",
    ),
    m(Global, "CtxRelPath", "(): string", "the path of the event, frozen; empty where there is none"),
    m(Global, "CtxRelTargetPath", "(): string", "the target of a rename, copy or link, frozen; else empty"),
    m(Global, "CtxRemoteAddress", "(): string", "the client's address, also where `Session` is null"),
    m(
        Global,
        "CtxSize",
        "(): number | null",
        "bytes of content that the event is about, where that is known",
    ),
    m(
        Global,
        "CtxVerdicts",
        "(): string[]",
        "what those said who judged the upload (`clamd: clean`), in their order",
    ),
    g(
        Grant::Exec,
        Global,
        "Exec",
        "(program: string, args?: string[], options?: { input?: string | Uint8Array, inputFile?: string, time?: number }): ExecResult",
        "runs a program of the allow-list by its name there; `inputFile` is a file of the user's that it reads (needs `files` too)",
    ),
    m(Global, "Exit", "(): never", "ends the handler, which is no failure"),
    m(Global, "ExtractExt", "(path: string): string", "the extension with its dot"),
    m(Global, "FromCurrent", ": 1", "for reading and writing: as `FromStart`, since no position is kept"),
    m(Global, "FromEnd", ": 2", "the offset counts back from the end"),
    m(Global, "FromStart", ": 0", "the offset counts from the start"),
    g(
        Grant::Files,
        Global,
        "GetCurrentVFS",
        "(): VirtualFileSystem | null",
        "the user's files; `null` before there are any",
    ),
    g(
        Grant::Secrets,
        Global,
        "GetSecret",
        "(name: string): string",
        "a secret of the configuration; it is taken out of what this handler logs",
    ),
    m(
        Global,
        "Hash",
        "(algorithm: string, data: string | Uint8Array): string",
        "`blake3`, `crc32`, `md5`, `sha1`, `sha256`, `sha384` or `sha512`, in hexadecimal",
    ),
    m(Global, "HexDecode", "(text: string): Uint8Array", "bytes of hexadecimal"),
    m(
        Global,
        "HexEncode",
        "(data: string | Uint8Array): string",
        "hexadecimal of bytes, or of a text's UTF-8",
    ),
    m(
        Global,
        "Hmac",
        "(algorithm: string, key: string | Uint8Array, data: string | Uint8Array): string",
        "a keyed digest (RFC 2104), in hexadecimal",
    ),
    m(Global, "Log", "(...words: unknown[]): void", "a line in the log, with event, file and session"),
    m(
        Global,
        "QuarantineUpload",
        "(reason?: string): void",
        "the upload is not published but put where no user reaches it; the client sees the reason",
    ),
    m(
        Global,
        "RefuseConnection",
        "(reason?: string): void",
        "in `OnNewConnection`: the client is not let in",
    ),
    m(Global, "SetSoftwareID", "(id: string): void", "in `BeforeSendSoftwareID`: what is sent instead"),
    m(Global, "Sleep", "(milliseconds: number): void", "waits; ends with the handler's time or its session"),
    m(Global, "SortAsc", ": 'asc'", "for `ReadDir`"),
    m(Global, "SortByName", ": 'name'", "for `ReadDir`"),
    m(Global, "SortByNameDirsFirst", ": 'namedf'", "for `ReadDir`"),
    m(Global, "SortBySize", ": 'size'", "for `ReadDir`"),
    m(Global, "SortByTime", ": 'time'", "for `ReadDir`"),
    m(Global, "SortDesc", ": 'desc'", "for `ReadDir`"),
    m(Global, "TextToBytes", "(text: string): Uint8Array", "UTF-8 of a text"),
    g(
        Grant::Http,
        Global,
        "fetch",
        "(url: string, options?: { method?: string, headers?: Record<string, string>, body?: string | Uint8Array }): Promise<FetchResponse>",
        "an HTTP request; private addresses are refused unless the configuration allows them, redirects are not followed",
    ),
    g(Grant::Files, Vfs, "Stat", "(path: string): VfsResponse", "`Info()` of what a path leads to"),
    g(Grant::Files, Vfs, "Lstat", "(path: string): VfsResponse", "`Info()` of the path itself"),
    g(
        Grant::Files,
        Vfs,
        "ReadDir",
        "(path: string, sortBy?: string, sortDir?: string): VfsResponse",
        "`Infos()` of a directory, at most 100,000",
    ),
    g(Grant::Files, Vfs, "Mkdir", "(path: string): VfsResponse", "makes a directory"),
    g(Grant::Files, Vfs, "MkdirAll", "(path: string): VfsResponse", "with those above it"),
    g(Grant::Files, Vfs, "Rmdir", "(path: string): VfsResponse", "removes an empty directory"),
    g(Grant::Files, Vfs, "Rename", "(source: string, target: string): VfsResponse", "a file may be replaced"),
    g(Grant::Files, Vfs, "Remove", "(path: string): VfsResponse", "removes a file"),
    g(Grant::Files, Vfs, "RemoveAll", "(path: string): VfsResponse", "removes an entry with all below it"),
    g(Grant::Files, Vfs, "TreeSize", "(path: string): VfsResponse", "`Size()` of the files below it"),
    g(
        Grant::Files,
        Vfs,
        "Symlink",
        "(path: string, link: string): VfsResponse",
        "makes `link`, which leads to `path`",
    ),
    g(
        Grant::Files,
        Vfs,
        "Chown",
        "(path: string, uid: number, gid: number): VfsResponse",
        "sets owner and group",
    ),
    g(Grant::Files, Vfs, "Chmod", "(path: string, mode: number): VfsResponse", "sets permission bits"),
    g(
        Grant::Files,
        Vfs,
        "Chtimes",
        "(path: string, atime: Date | number, mtime: Date | number): VfsResponse",
        "sets times, as dates or in milliseconds",
    ),
    g(Grant::Files, Vfs, "Truncate", "(path: string, size: number): VfsResponse", "cuts or extends"),
    g(
        Grant::Files,
        Vfs,
        "ReadFileAsText",
        "(path: string, length?: number, offset?: number, whence?: number): VfsResponse",
        "`Data()` as text; without a length all of it, at most 4 MiB",
    ),
    g(
        Grant::Files,
        Vfs,
        "ReadFileAsHex",
        "(path: string, length?: number, offset?: number, whence?: number): VfsResponse",
        "`Data()` in hexadecimal",
    ),
    g(
        Grant::Files,
        Vfs,
        "ReadFileAsBytes",
        "(path: string, length?: number, offset?: number, whence?: number): VfsResponse",
        "`Data()` as `Uint8Array`",
    ),
    g(
        Grant::Files,
        Vfs,
        "WriteFileAsText",
        "(path: string, text: string, offset?: number, whence?: number): VfsResponse",
        "without an offset the file is made anew; with one it is changed in place",
    ),
    g(
        Grant::Files,
        Vfs,
        "WriteFileAsHex",
        "(path: string, hex: string, offset?: number, whence?: number): VfsResponse",
        "the same with hexadecimal",
    ),
    g(
        Grant::Files,
        Vfs,
        "WriteFileAsBytes",
        "(path: string, bytes: Uint8Array, offset?: number, whence?: number): VfsResponse",
        "the same with bytes",
    ),
    m(Response, "Ok", "(): boolean", "whether it was done"),
    m(Response, "ErrorMsg", "(): string", "why not; empty otherwise"),
    m(Response, "Info", "(): DirListItem", "of `Stat` and `Lstat`"),
    m(Response, "Infos", "(): DirListItem[]", "of `ReadDir`"),
    m(Response, "Size", "(): number", "of `TreeSize`"),
    m(Response, "Data", "(): any", "of the three that read"),
    m(Item, "Name", ": string", "its name"),
    m(Item, "Type", ": string", "`file`, `directory`, `symlink` or `other`"),
    m(Item, "IsDir", ": boolean", "whether it is a directory"),
    m(Item, "Size", ": number", "bytes"),
    m(Item, "Mode", ": number | null", "permission bits, where there are any"),
    m(Item, "TimeStamp", ": Date | null", "last change, where that is known"),
    m(Store, "Get", "(key: string): string | null", "the value, or `null`"),
    m(
        Store,
        "Set",
        "(key: string, value: string, seconds?: number): void",
        "keeps it; without a time, until the server stops",
    ),
    m(
        Store,
        "Add",
        "(key: string, value: string, seconds?: number): boolean",
        "keeps it where nothing is; whether it did",
    ),
    m(
        Store,
        "Increment",
        "(key: string, by?: number, seconds?: number): number",
        "the sum; the time counts from the first",
    ),
    m(Store, "Delete", "(key: string): boolean", "whether it was there"),
    m(
        Sessions,
        "list",
        "(filter?: { user?: string, address?: string, protocol?: string, site?: string, node?: string, state?: string, path?: string, tag?: string, order?: string }): any[]",
        "the live sessions, of all sites and nodes, as `ferryd sessions --json` prints them",
    ),
    m(
        Sessions,
        "terminate",
        "(which: string | { user?: string, address?: string, site?: string, node?: string }, reason?: string): number",
        "ends a session by its id, or all of a user, an address or a site; how many",
    ),
    m(Run, "ExitCode", ": number | null", "`null` where a signal or the time ended it"),
    m(Run, "Stdout", ": string", "its output, at most what the configuration allows"),
    m(Run, "Stderr", ": string", "its errors, at most as much"),
    m(Run, "TimedOut", ": boolean", "it was killed, with its process group"),
    m(Run, "Truncated", ": boolean", "there was more output"),
    m(Answer, "status", ": number", "the status"),
    m(Answer, "ok", ": boolean", "whether it is 200 to 299"),
    m(Answer, "url", ": string", "what was asked"),
    m(Answer, "headers", ": { get(name: string): string | null }", "one header"),
    m(Answer, "text", "(): Promise<string>", "the body as text"),
    m(Answer, "json", "(): Promise<any>", "the body as JSON"),
    m(Answer, "bytes", "(): Promise<Uint8Array>", "the body"),
    m(Console, "log", "(...words: unknown[]): void", "as `Log`"),
    m(Console, "info", "(...words: unknown[]): void", "as `Log`"),
    m(Console, "debug", "(...words: unknown[]): void", "a line of level debug"),
    m(Console, "warn", "(...words: unknown[]): void", "a line of level warn"),
    m(Console, "error", "(...words: unknown[]): void", "a line of level error"),
    m(Test, "test", "(name: string, body: () => void | Promise<void>): void", "a test; it fails by throwing"),
    m(
        Test,
        "run",
        "(file: string, input: object): any",
        "runs a handler with a session and files that are made up, and tells what it did",
    ),
    m(Test, "assert", "(holds: boolean, words?: string): void", "throws unless it holds"),
    m(Test, "equal", "(actual: unknown, expected: unknown): void", "throws unless both are the same as JSON"),
];

/// Every member: those of this table, and those that reach further.
pub fn members() -> impl Iterator<Item = &'static Member> {
    MEMBERS.iter().chain(OUTBOUND)
}

impl Member {
    /// Name and signature, as the manual shows them.
    fn shown(&self) -> String {
        match self.signature.strip_prefix("new ") {
            Some(rest) => format!("new {}{rest}", self.name),
            None => format!("{}{}", self.name, self.signature),
        }
    }

    /// As a declaration of TypeScript, without its word.
    fn declared(&self) -> String {
        match self.signature.starts_with("new ") {
            true => format!("{}: {{ {} }}", self.name, self.signature),
            false => format!("{}{}", self.name, self.signature),
        }
    }
}

/// What `object.member` in a script is about, if it is one of ours.
fn object(name: &str) -> Option<Kind> {
    match name {
        "Session" => Some(Kind::Session),
        "PGP" => Some(Kind::Pgp),
        "Sessions" => Some(Kind::Sessions),
        "Store" => Some(Kind::Store),
        "console" => Some(Kind::Console),
        _ => None,
    }
}

/// A member that a script names and that there is not, with its line and the nearest that there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// From 1.
    pub line: usize,
    /// As it stands there: `Session.GetIdd`.
    pub name: String,
    /// The nearest.
    pub nearest: &'static str,
}

/// The unknown members of `Session`, `Session.GetUser()`, `PGP`, `Store` and `console` in a script. What stands in
/// strings, templates and comments is passed over.
pub fn unknown_members(source: &str) -> Vec<Unknown> {
    let code = code_of(source);
    let mut found = Vec::new();
    let bytes = code.as_bytes();
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'$';
    let mut at = 0;
    while at < code.len() {
        let rest = code.get(at..).unwrap_or_default();
        let starts = at == 0 || bytes.get(at - 1).is_none_or(|b| !is_word(*b) && *b != b'.');
        let length = rest.bytes().take_while(|b| is_word(*b)).count();
        if length == 0 || !starts {
            at += length.max(rest.chars().next().map_or(1, char::len_utf8));
            continue;
        }
        let word = rest.get(..length).unwrap_or_default();
        at += length;
        let Some(mut kind) = object(word) else { continue };
        let mut owner = word.to_string();
        // `Session.GetUser().GetName()` is followed one step.
        while let Some((name, end)) = member_at(&code, at) {
            let known = members().find(|m| m.of == kind && m.name == name);
            let Some(known) = known else {
                let line = 1 + code.get(..at).unwrap_or_default().matches('\n').count();
                let names = members().filter(|m| m.of == kind).map(|m| m.name);
                let nearest = names.min_by_key(|n| super::hooks::distance(n, name)).unwrap_or_default();
                found.push(Unknown { line, name: format!("{owner}.{name}"), nearest });
                break;
            };
            at = end;
            if kind == Kind::Session
                && known.name == "GetUser"
                && let Some(after) = code.get(at..).and_then(|r| r.trim_start().strip_prefix("()"))
            {
                at = code.len() - after.len();
                (kind, owner) = (Kind::User, "Session.GetUser()".into());
                continue;
            }
            break;
        }
    }
    found
}

/// The name after a dot at `at`, and where it ends.
fn member_at(code: &str, at: usize) -> Option<(&str, usize)> {
    let rest = code.get(at..)?.trim_start();
    let rest = rest.strip_prefix("?.").or_else(|| rest.strip_prefix('.'))?.trim_start();
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '$';
    let name = rest.get(..rest.find(|c| !is_word(c)).unwrap_or(rest.len()))?;
    let end = code.len() - rest.len() + name.len();
    if name.is_empty() { None } else { Some((name, end)) }
}

/// The script with everything in strings, templates and comments made blank; lines stay. A regular
/// expression with a quote in it may hide what follows on its line, never show what is not code.
fn code_of(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut chars = source.chars().peekable();
    let blank = |c: char| if c == '\n' { '\n' } else { ' ' };
    while let Some(c) = chars.next() {
        match (c, chars.peek()) {
            ('/', Some('/')) => {
                out.push(' ');
                while chars.peek().is_some_and(|c| *c != '\n') {
                    chars.next();
                }
            }
            ('/', Some('*')) => {
                let mut last = ' ';
                chars.next();
                for c in chars.by_ref() {
                    out.push(blank(c));
                    if last == '*' && c == '/' {
                        break;
                    }
                    last = c;
                }
            }
            ('"' | '\'' | '`', _) => {
                out.push(' ');
                while let Some(d) = chars.next() {
                    out.push(blank(d));
                    if d == '\\' {
                        out.extend(chars.next().map(blank));
                    } else if d == c || (d == '\n' && c != '`') {
                        break;
                    }
                }
            }
            _ => out.push(c),
        }
    }
    out
}

/// The tables of members as they stand in the manual.
pub fn members_table() -> String {
    let mut out = String::new();
    for kind in Kind::ALL {
        // Writing to a string does not fail.
        let _ = writeln!(out, "### {}\n\n| Member | Does | Grant |\n| --- | --- | --- |", kind.name());
        for m in members().filter(|m| m.of == *kind) {
            let shown = m.shown().replace('|', "\\|");
            let grant = m.grant.map(|g| format!("`{}`", g.name())).unwrap_or_default();
            let _ = writeln!(out, "| `{shown}` | {} | {grant} |", m.does);
        }
        out.push('\n');
    }
    out
}

/// Types of everything, for an editor (`.d.ts`).
pub fn types() -> String {
    let mut out = String::from(
        "// Types for handlers of Ferry, written by `ferryd hooks types` and by `ferry hooks types`.\n// Put it beside the scripts; an editor needs no more.\n\n",
    );
    for kind in Kind::ALL {
        let members = || members().filter(|m| m.of == *kind);
        let interface = match kind {
            Kind::Global | Kind::Test => {
                for m in members() {
                    let word = if m.signature.starts_with('(') { "function" } else { "const" };
                    let _ = writeln!(out, "/** {} */\ndeclare {word} {};", comment(m), m.declared());
                }
                out.push('\n');
                continue;
            }
            Kind::Session => "FerrySession",
            Kind::Pgp => "FerryPgp",
            Kind::Sessions => "FerrySessions",
            Kind::Store => "FerryStore",
            Kind::Console => "FerryConsole",
            other => other.name(),
        };
        let _ = writeln!(out, "interface {interface} {{");
        for m in members() {
            let readonly = if m.signature.starts_with(':') { "readonly " } else { "" };
            let _ = writeln!(out, "  /** {} */\n  {readonly}{}{};", comment(m), m.name, m.signature);
        }
        out.push_str("}\n\n");
    }
    out.push_str("/** A path of the user's files, or one of another VFS. */\ntype PgpFile = string | { vfs: VirtualFileSystem, path: string };\n\n");
    out.push_str("/** Null in the earliest events. */\ndeclare const Session: FerrySession;\n");
    out.push_str("declare const Sessions: FerrySessions;\ndeclare const Store: FerryStore;\ndeclare const PGP: FerryPgp;\ndeclare const console: FerryConsole;\n\n");
    out.push_str("type FerryEvent =\n");
    for e in EVENTS {
        let _ = writeln!(out, "  | '{}'", e.name);
    }
    out.push_str("  ;\n");
    out
}

fn comment(m: &Member) -> String {
    match m.grant {
        Some(grant) => format!("{} (needs grant = [\"{}\"])", m.does, grant.name()),
        None => m.does.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_the_vendors_come_first() {
        for (n, m) in members().enumerate() {
            assert!(!members().take(n).any(|o| o.of == m.of && o.name == m.name), "{} twice", m.name);
        }
        let session: Vec<_> = MEMBERS.iter().filter(|m| m.of == Kind::Session).collect();
        assert_eq!(session[25].name, "GetLastErrorTime");
        for change in EVENTS.iter().flat_map(|e| e.changes) {
            assert!(MEMBERS.iter().any(|m| m.name == *change), "{change} is no member");
        }
    }

    #[test]
    fn unknown_members_are_found_where_they_are_code() {
        let found = |source: &str| -> Vec<_> {
            unknown_members(source).into_iter().map(|u| (u.line, u.name, u.nearest)).collect()
        };
        assert_eq!(found("Session.GetID(); Store.Get('a'); console.log(1)"), []);
        assert_eq!(found("\nSession . GetIdd()"), [(2, "Session.GetIdd".into(), "GetID")]);
        assert_eq!(found("Session.GetUser().GetNam()"), [(1, "Session.GetUser().GetNam".into(), "GetName")]);
        assert_eq!(found("Session?.Terminat(Session.Blok())").len(), 2);
        for quiet in [
            "// Session.X",
            "/* Session.X\n*/",
            "'Session.X'",
            "\"a\\\"Session.X\"",
            "`\nSession.X`",
            "my.Session.X",
            "MySession.X",
            "Sessionss.X",
            "é Session",
        ] {
            assert_eq!(found(quiet), [], "{quiet}");
        }
        assert_eq!(
            found("'\\\\'; Session.X"),
            [(1, "Session.X".into(), "GetID")].map(|f| (f.0, f.1, found("Session.X")[0].2))
        );
    }

    #[test]
    fn the_types_name_every_member() {
        let types = types();
        for m in members() {
            assert!(types.contains(&m.declared()), "{}", m.name);
        }
        assert!(types.contains("declare const SftpClient: { new (): RemoteClient };"));
    }
}
