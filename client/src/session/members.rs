//! WinSCP's members and ours: one table, from which the manual's page is made.
//!
//! Every public member of WinSCP's .NET assembly stands here with its counterpart, or with the reason why
//! there is none. [`markdown`] writes the page, raw settings and commands of scripts included; a test compares
//! it with what is in the repository, and the table with a list of members.

use std::fmt::Write as _;

use super::raw;

/// What stands for a member here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ours {
    /// This does the same, but for what the note says.
    Is(&'static str),
    /// It cannot apply, for the reason that the note gives.
    Refused,
}

/// One member.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    /// WinSCP's class.
    pub class: &'static str,
    /// WinSCP's name.
    pub name: &'static str,
    /// What stands for it.
    pub ours: Ours,
    /// What differs and why.
    pub note: &'static str,
}

use Ours::{Is, Refused};

const CHILD: &str = "there is no child process: the session runs in this one";
const CLI: &str = "logs are the program's: `tracing` and the events of a session";
const OBSOLETE: &str = "obsolete in WinSCP";
const SECURE: &str = "secrets have one type, which does not print";

macro_rules! members {
    ($($class:literal { $($name:literal => $ours:expr, $note:expr;)* })*) => {
        &[$($(Member { class: $class, name: $name, ours: $ours, note: $note },)*)*]
    };
}

/// Every member.
pub const MEMBERS: &[Member] = members! {
    "Session" {
        "Open" => Is("Session::open"), "takes the decider too; nobody is asked what the options answer";
        "Close" => Is("Session::close"), "calls in flight end with `Canceled`; it may be opened again";
        "Dispose" => Is("drop"), "the connection is cut with the last clone";
        "Abort" => Is("Session::abort"), "from any task, also before it is open";
        "ScanFingerprint" => Is("Session::scan_fingerprint"), "not for certificates that an authority vouches for: nobody is asked about those";
        "ListDirectory" => Is("Session::list_directory"), "never `.` and `..`; complete or an error";
        "EnumerateRemoteFiles" => Is("Session::enumerate_remote_files"), "a stream, page by page; a directory that cannot be listed is an error among the items, where WinSCP says nothing";
        "GetFiles" => Is("Session::get_files"), "many files at once; temporary names on both sides";
        "PutFiles" => Is("Session::put_files"), "as `get_files`; local masks know `*` and `?`";
        "GetFilesToDirectory" => Is("Session::get_files_to_directory"), "";
        "PutFilesToDirectory" => Is("Session::put_files_to_directory"), "";
        "GetFileToDirectory" => Is("Session::get_file_to_directory"), "";
        "PutFileToDirectory" => Is("Session::put_file_to_directory"), "";
        "GetFile" => Is("Session::get_file"), "a stream that can jump, with bounded reading ahead, any number at once";
        "PutFile" => Is("Session::put_file"), "under a temporary name until all has arrived, where the server can rename files";
        "RemoveFiles" => Is("Session::remove_files"), "a path that is not there is a failure; a mask that nothing fits is none; a directory stays where something in it stays";
        "RemoveFile" => Is("Session::remove_file"), "";
        "SynchronizeDirectories" => Is("Session::synchronize_directories"), "arguments in `SynchronizationOptions`; many files at once; goes on after a failure; removes no more than `max_delete` allows, and nothing after a listing that failed; names differ by case where both sides can tell";
        "CompareDirectories" => Is("Session::compare_directories"), "";
        "GetFileInfo" => Is("Session::get_file_info"), "";
        "TryGetFileInfo" => Is("Session::try_get_file_info"), "only what is missing is `None`: what may not be looked at is an error";
        "FileExists" => Is("Session::file_exists"), "what may not be looked at is an error, never `false`";
        "CalculateFileChecksum" => Is("Session::calculate_file_checksum"), "where the server cannot, a program of its shell does (`sha256sum`), if the shell begins where SFTP does; else the file is read and hashed here. The answer says which; no sha-224";
        "CreateDirectory" => Is("Session::create_directory"), "`create_directories` makes those above too";
        "MoveFile" => Is("Session::move_file"), "never replaces anything, on any protocol, and says what moved where";
        "DuplicateFile" => Is("Session::duplicate_file"), "never replaces anything";
        "ExecuteCommand" => Is("Session::execute_command"), "names the directory; output as bytes; over SFTP on a channel of the same connection, over FTP a raw line";
        "AddRawConfiguration" => Refused, "there is no program behind a session that could be configured, and no registry";
        "EscapeFileMask" => Is("remote_path::escape_file_mask"), OBSOLETE;
        "CombinePaths" => Is("remote_path::combine"), OBSOLETE;
        "TranslateLocalPathToRemote" => Is("remote_path::translate_local_to_remote"), OBSOLETE;
        "TranslateRemotePathToLocal" => Is("remote_path::translate_remote_to_local"), OBSOLETE;
        "AdditionalExecutableArguments" => Refused, CHILD;
        "DebugLogPath" => Refused, CLI;
        "DebugLogLevel" => Is("LogLevel"), "of the session log: `-1`, `0`, `1`; `2` is as `1`";
        "SessionLogPath" => Is("Session::set_log"), "a `SessionLog`, which several sessions may share; appended to, readable by its owner only; never a secret. A program's own subscriber of `tracing` hears the same";
        "XmlLogPath" => Is("script::XmlLog"), "of scripts: a program has the results themselves";
        "XmlLogPreserve" => Refused, "a log is written where it is asked for and stays there";
        "ReconnectTime" => Is("Session::set_reconnect_time"), "begins anew whenever bytes have moved";
        "ReconnectTimeInMilliseconds" => Is("Session::set_reconnect_time"), "";
        "Timeout" => Is("SessionOptions::timeout"), "a long silence of the session's own work is no failure: only the server's counts";
        "HomePath" => Is("Session::home_path"), "";
        "Opened" => Is("Session::opened"), "";
        "Output" => Is("Session::events"), "`Event::Output`; nothing is kept for later";
        "ExecutablePath" => Refused, CHILD;
        "ExecutableProcessUserName" => Refused, CHILD;
        "ExecutableProcessPassword" => Refused, CHILD;
        "DisableVersionCheck" => Refused, CHILD;
        "DefaultConfiguration" => Refused, CHILD;
        "IniFilePath" => Refused, CHILD;
        "FileTransferred" => Is("Event::FileTransferred"), "as each file ends; of synchronisations when the whole call is over";
        "Failed" => Is("Event::Failed"), "once for each failure";
        "FileTransferProgress" => Is("Event::Progress"), "at the rate that `set_progress_interval` sets; costs no listing ahead";
        "OutputDataReceived" => Is("Event::Output"), "";
        "QueryReceived" => Is("Event::Query"), "the decider answers, with every answer that the question has";
    }
    "SessionOptions" {
        "Protocol" => Is("SessionOptions::protocol"), "";
        "HostName" => Is("SessionOptions::host_name"), "";
        "PortNumber" => Is("SessionOptions::port_number"), "";
        "UserName" => Is("SessionOptions::user_name"), "without one: the user of this machine over SSH, anonymous over FTP";
        "Password" => Is("SessionOptions::password"), "";
        "SecurePassword" => Is("SessionOptions::password"), SECURE;
        "NewPassword" => Is("SessionOptions::new_password"), "given to a server that asks for it by questions (keyboard-interactive), which then come before the method 'password'; one that asks within that method is not heard, and the error says so";
        "SecureNewPassword" => Is("SessionOptions::new_password"), SECURE;
        "Timeout" => Is("SessionOptions::timeout"), "";
        "TimeoutInMilliseconds" => Is("SessionOptions::timeout"), "";
        "Name" => Is("SessionOptions::name"), "";
        "RootPath" => Is("SessionOptions::root_path"), "";
        "Secure" => Is("SessionOptions::secure"), "";
        "SshHostKeyFingerprint" => Is("SessionOptions::ssh_host_key_fingerprint"), "takes OpenSSH's `SHA256:…` too; without one, the record of known hosts decides, then the decider";
        "SshHostKeyPolicy" => Is("SessionOptions::ssh_host_key_policy"), "`AcceptNew` uses the record of known hosts";
        "SshPrivateKeyPath" => Is("SessionOptions::ssh_private_key_path"), "PuTTY's keys and OpenSSH's";
        "SshPrivateKey" => Is("SessionOptions::ssh_private_key"), "";
        "PrivateKeyPassphrase" => Is("SessionOptions::private_key_passphrase"), "";
        "SecurePrivateKeyPassphrase" => Is("SessionOptions::private_key_passphrase"), SECURE;
        "SshPrivateKeyPassphrase" => Is("SessionOptions::private_key_passphrase"), OBSOLETE;
        "FtpMode" => Is("SessionOptions::ftp_mode"), "the active mode not through a proxy";
        "FtpSecure" => Is("SessionOptions::ftp_secure"), "";
        "TlsHostCertificateFingerprint" => Is("SessionOptions::tls_host_certificate_fingerprint"), "";
        "GiveUpSecurityAndAcceptAnyTlsHostCertificate" => Is("SessionOptions::give_up_security_and_accept_any_tls_host_certificate"), "told as a warning each time";
        "GiveUpSecurityAndAcceptAnySshHostKey" => Is("SshHostKeyPolicy::GiveUpSecurityAndAcceptAny"), OBSOLETE;
        "TlsClientCertificatePath" => Is("SessionOptions::tls_client_certificate_path"), "PKCS#12, or PEM with the key in the same file or in the one that ends in `.key`; of old encryptions DES and RC4 are refused";
        "WebdavSecure" => Is("SessionOptions::secure"), OBSOLETE;
        "WebdavRoot" => Is("SessionOptions::root_path"), OBSOLETE;
        "AddRawSettings" => Is("SessionOptions::add_raw_setting"), "one that cannot apply is refused by name; see below";
        "ParseUrl" => Is("SessionOptions::parse_url"), "`to_url` writes one";
    }
    "TransferOptions" {
        "PreserveTimestamp" => Is("TransferOptions::preserve_times"), "directories too";
        "FilePermissions" => Is("TransferOptions::permissions"), "also for downloads; `preserve_modes` keeps the source's";
        "TransferMode" => Is("TransferOptions::text"), "which files are text, a `mask::FileMask`: none (binary), `FileMask::all()` (ASCII) or `mask::TEXTS` (automatic); over SFTP lines end alike on both sides and nothing is changed";
        "FileMask" => Is("TransferOptions::selection"), "any predicate, a `mask::FileMask` among them; `SynchronizationOptions::mask`";
        "ResumeSupport" => Is("TransferOptions::temporary_names"), "`resume` says whether a part is continued";
        "OverwriteMode" => Is("TransferOptions::overwrite"), "also newer, never, and asking";
        "SpeedLimit" => Is("TransferOptions::limit"), "bytes per second";
        "AddRawSettings" => Is("TransferOptions"), "fields: `directory_times`, `exclude_hidden`, `exclude_empty_directories`, `name_case`, `invalid_chars`, `preserve_read_only`, `remove_bom`, `remove_ctrl_z`, `ignore_attribute_errors`, `add_x_to_directories`; scripts take WinSCP's names, and refuse the others";
    }
    "TransferResumeSupport" {
        "State" => Is("TransferOptions::temporary_names"), "on: with `temporary_from` 0";
        "Threshold" => Is("TransferOptions::temporary_from"), "bytes; 100 KiB if nothing is said";
    }
    "OperationResultBase" {
        "Failures" => Is("failures"), "typed errors: kind, cause, whether a retry can help, the server's own reply";
        "IsSuccess" => Is("is_success"), "";
        "Check" => Is("check"), "";
    }
    "TransferOperationResult" {
        "Transfers" => Is("TransferResult::transfers"), "also what was left alone, and why; `directories` lists those that were made";
    }
    "RemovalOperationResult" {
        "Removals" => Is("RemovalResult::removals"), "each entry, also below a directory";
    }
    "SynchronizationResult" {
        "Uploads" => Is("SynchronizationResult::uploads"), "";
        "Downloads" => Is("SynchronizationResult::downloads"), "";
        "Removals" => Is("SynchronizationResult::removals"), "";
    }
    "CommandExecutionResult" {
        "Output" => Is("CommandResult::output"), "bytes; `output_text()`";
        "ErrorOutput" => Is("CommandResult::error_output"), "bytes; `error_text()`";
        "ExitCode" => Is("CommandResult::exit_code"), "`None` where a signal ended it; a code that is not 0 is a failure, too";
    }
    "TransferEventArgs" {
        "FileName" => Is("Transfer::source"), "";
        "Destination" => Is("Transfer::destination"), "";
        "Length" => Is("Transfer::length"), "";
        "Side" => Is("Transfer::side"), "";
        "Error" => Is("Transfer::error"), "";
        "Touch" => Is("Transfer::touch"), "a time that cannot be set fails the file, unless `ignore_attribute_errors` is set";
        "Chmod" => Is("Transfer::chmod"), "as `Touch`; also where the permissions are the source's";
        "Removal" => Is("Transfer::removal"), "";
    }
    "RemovalEventArgs" {
        "FileName" => Is("Removal::path"), "";
        "Error" => Is("Removal::error"), "";
    }
    "ChmodEventArgs" {
        "FileName" => Is("Chmod::path"), "";
        "FilePermissions" => Is("Chmod::permissions"), "";
        "Error" => Is("Chmod::error"), "";
    }
    "TouchEventArgs" {
        "FileName" => Is("Touch::path"), "";
        "LastWriteTime" => Is("Touch::modified"), "";
        "Error" => Is("Touch::error"), "";
    }
    "FileTransferProgressEventArgs" {
        "Operation" => Refused, "it is always a transfer";
        "Side" => Is("TransferProgress::side"), "";
        "FileName" => Is("TransferProgress::progress.current"), "all files in work, with bytes done and in all";
        "Directory" => Is("TransferProgress::progress.current"), "names are whole paths";
        "OverallProgress" => Is("TransferProgress::overall"), "bytes and files done and known are there too";
        "FileProgress" => Is("TransferProgress::file"), "";
        "CPS" => Is("TransferProgress::progress.rate"), "`seconds_left` too";
        "Cancel" => Is("TransferProgress::cancel"), "";
    }
    "QueryReceivedEventArgs" {
        "Message" => Is("Event::Query"), "the question as a value, not a text";
        "Abort" => Is("Answer::Abort"), "from the decider";
        "Continue" => Is("Answer::Skip"), "from the decider, who has every other answer too";
    }
    "FailedEventArgs" {
        "Error" => Is("Event::Failed"), "";
    }
    "OutputDataReceivedEventArgs" {
        "Data" => Is("Event::Output.data"), "";
        "Error" => Is("Event::Output.error"), "";
    }
    "RemoteFileInfo" {
        "Name" => Is("RemoteFileInfo::name"), "the bytes are `path.name()`";
        "FullName" => Is("RemoteFileInfo::full_name"), "";
        "FileType" => Is("RemoteFileInfo::file_type"), "`?` for devices, pipes and sockets";
        "Length" => Is("RemoteFileInfo::length"), "";
        "Length32" => Refused, "sizes have 64 bits";
        "LastWriteTime" => Is("RemoteFileInfo::last_write_time"), "a point in time; `None` where it is not known";
        "FilePermissions" => Is("RemoteFileInfo::file_permissions"), "";
        "Owner" => Is("RemoteFileInfo::owner"), "";
        "Group" => Is("RemoteFileInfo::group"), "";
        "IsDirectory" => Is("RemoteFileInfo::is_directory"), "";
        "IsThisDirectory" => Refused, "listings never hold `.`";
        "IsParentDirectory" => Refused, "listings never hold `..`";
    }
    "RemoteDirectoryInfo" {
        "Files" => Is("RemoteDirectoryInfo::files"), "";
    }
    "FilePermissions" {
        "Numeric" => Is("FilePermissions::numeric"), "";
        "Text" => Is("FilePermissions::text"), "";
        "Octal" => Is("FilePermissions::octal"), "";
        "UserRead" => Is("FilePermissions::has(0o400)"), "";
        "UserWrite" => Is("FilePermissions::has(0o200)"), "";
        "UserExecute" => Is("FilePermissions::has(0o100)"), "";
        "GroupRead" => Is("FilePermissions::has(0o040)"), "";
        "GroupWrite" => Is("FilePermissions::has(0o020)"), "";
        "GroupExecute" => Is("FilePermissions::has(0o010)"), "";
        "OtherRead" => Is("FilePermissions::has(0o004)"), "";
        "OtherWrite" => Is("FilePermissions::has(0o002)"), "";
        "OtherExecute" => Is("FilePermissions::has(0o001)"), "";
        "SetUid" => Is("FilePermissions::has(0o4000)"), "";
        "SetGid" => Is("FilePermissions::has(0o2000)"), "";
        "Sticky" => Is("FilePermissions::has(0o1000)"), "";
    }
    "ComparisonDifference" {
        "Action" => Is("sync::Difference::action"), "`winscp()` gives WinSCP's number and name";
        "IsDirectory" => Is("sync::Difference::is_dir"), "";
        "Local" => Is("sync::Difference::left"), "";
        "Remote" => Is("sync::Difference::right"), "";
        "Resolve" => Is("Comparison::resolve"), "looks again first: what has changed since is left alone and reported";
        "Reverse" => Is("sync::Difference::reverse"), "";
    }
    "ComparisonFileInfo" {
        "FileName" => Is("Comparison::path"), "";
        "LastWriteTime" => Is("sync::Facts::modified"), "";
        "Length" => Is("sync::Facts::size"), "";
    }
    "EnumerationOptions" {
        "AllDirectories" => Is("EnumerationOptions::all_directories"), "";
        "MatchDirectories" => Is("EnumerationOptions::match_directories"), "";
        "EnumerateDirectories" => Is("EnumerationOptions::enumerate_directories"), "";
    }
    "RemotePath" {
        "Combine" => Is("remote_path::combine"), "";
        "EscapeFileMask" => Is("remote_path::escape_file_mask"), "";
        "EscapeOperationMask" => Is("remote_path::escape_operation_mask"), "";
        "GetDirectoryName" => Is("remote_path::directory_name"), "";
        "GetFileName" => Is("remote_path::file_name"), "";
        "AddDirectorySeparator" => Is("remote_path::add_directory_separator"), "";
        "TranslateRemotePathToLocal" => Is("remote_path::translate_remote_to_local"), "local paths have this system's separator";
        "TranslateLocalPathToRemote" => Is("remote_path::translate_local_to_remote"), "local paths have this system's separator";
    }
    "SessionException" {
        "Session" => Refused, "an error says what failed on what; who called knows the session";
    }
    "SessionLocalException" {
        "Message" => Is("Error"), "by `kind()`: `Canceled`, `Closed`, `InvalidArgument`, …";
    }
    "SessionRemoteException" {
        "Message" => Is("Error"), "by `kind()`, with `wire()` for the server's reply and `retry()`";
    }
};

/// What WinSCP has not.
const MORE: &[(&str, &str)] = &[
    ("Session::remove_empty_directory", "removes a directory only if it is empty"),
    ("Session::remove_entry", "removes one entry by its exact name, with all below it"),
    ("Session::matching", "what a path or mask names"),
    ("Session::stat", "a link itself, or what it leads to"),
    ("Session::chmod", "sets permissions"),
    ("Session::chown", "sets owner and group"),
    ("Session::touch", "sets the time of the last change"),
    ("Session::create_symbolic_link", "makes a symbolic link"),
    ("Session::create_hard_link", "makes a hard link"),
    ("Session::read_link", "what a link holds"),
    ("Session::space", "room on the server"),
    (
        "Session::keep_remote_directory_up_to_date",
        "keeps a remote directory like a local one (the script's `keepuptodate`)",
    ),
    ("Session::lock, refresh_lock, unlock", "WebDAV: locks an entry for oneself"),
    ("Session::about, alter", "S3: what is said of an object beside its content, seen and changed"),
    ("Session::tags, set_tags", "S3: the tags of an object"),
    ("Session::versions, restore_version", "S3: the versions of an object, and back to one"),
    ("Session::events, Session::on_event", "events as a stream and as callbacks"),
    ("Session::set_request_limit", "bounds the operations a second, over all sessions that share the limit"),
    ("Session::snapshot", "counters and state of the connection"),
    ("Session::filesystem", "the guarded filesystem below, for everything else"),
];

/// The page of the manual.
pub fn markdown() -> String {
    let mut out = String::from(
        "# WinSCP's members and Ferry's\n\n\
         Generated from `client/src/session/members.rs`, `raw.rs` and `client/src/script/command.rs`; a test\n\
         of `client` compares. Ours is the library `client`, module `session`.\n",
    );
    let cell = |text: &str| text.replace('|', "\\|");
    let mut class = "";
    for member in MEMBERS {
        if member.class != class {
            class = member.class;
            let _ = write!(
                out,
                "\n## {class}\n\n| WinSCP | Ferry | What differs, and why |\n| --- | --- | --- |\n"
            );
        }
        let ours = match member.ours {
            Ours::Is(name) => format!("`{}`", cell(name)),
            Ours::Refused => "none".into(),
        };
        let _ = writeln!(out, "| `{}` | {ours} | {} |", member.name, cell(member.note));
    }
    out.push_str("\n## What WinSCP has not\n\n| Ferry | |\n| --- | --- |\n");
    for (name, what) in MORE {
        let _ = writeln!(out, "| `{name}` | {what} |");
    }
    out.push_str(
        "\n## Raw settings\n\nA setting is refused by name where it cannot apply; none is ignored.\n\n\
         | Group | Setting | WinSCP's default | In Ferry |\n| --- | --- | --- | --- |\n",
    );
    for s in raw::rows() {
        let what = match s.support {
            raw::Support::Typed(option) => format!("`SessionOptions::{option}`"),
            raw::Support::Applied(what) => what.to_string(),
            raw::Support::Except(values, what, why) => {
                let values: Vec<_> = values.iter().map(|v| format!("`{v}`")).collect();
                format!("{what}; not {}: {why}", values.join(", "))
            }
            raw::Support::Only(values, why) => {
                let values: Vec<_> = values.iter().map(|v| format!("`{v}`")).collect();
                format!("only {}: {why}", values.join(", "))
            }
            raw::Support::Refused(why) => format!("refused: {why}"),
        };
        let default = if s.default.is_empty() { String::new() } else { format!("`{}`", s.default) };
        let _ = writeln!(out, "| {} | `{}` | {default} | {} |", s.group, s.name, cell(&what));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_member_stands_in_the_table_once() {
        let listed: Vec<&str> = include_str!("../../tests/data/winscp-members.txt")
            .lines()
            .filter(|l| !l.is_empty() && !l.starts_with('#'))
            .collect();
        let mut table: Vec<String> = MEMBERS.iter().map(|m| format!("{}.{}", m.class, m.name)).collect();
        let missing: Vec<_> = listed.iter().filter(|l| !table.iter().any(|t| t == *l)).collect();
        assert!(missing.is_empty(), "not in the table: {missing:?}");
        let more: Vec<_> = table.iter().filter(|t| !listed.contains(&t.as_str())).collect();
        assert!(more.is_empty(), "not in the list: {more:?}");
        let all = table.len();
        table.sort();
        table.dedup();
        assert_eq!(table.len(), all, "a member stands there twice");
    }

    #[test]
    fn who_has_no_counterpart_says_why() {
        for member in MEMBERS.iter().filter(|m| m.ours == Ours::Refused) {
            assert!(!member.note.is_empty(), "{}.{}", member.class, member.name);
        }
    }

    #[test]
    fn the_page_is_the_tables() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/winscp-members.md");
        let page = markdown();
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(path, &page).unwrap();
        }
        let kept = std::fs::read_to_string(path).unwrap_or_default();
        assert!(kept == page, "docs/winscp-members.md is stale; run this test with UPDATE=1");
    }
}
