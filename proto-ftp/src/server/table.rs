//! Every verb that the server knows, one row each.
//!
//! What a row says is asked before the verb is carried out, in one place: whether it needs a login, a data
//! connection, an argument; whether it may be used before TLS where TLS is required; which operation of
//! the gate it becomes. A verb that becomes none is shown to hooks as a command. A new verb is a row here
//! and an arm in `verbs.rs`.

use session_core::operation::OperationKind as Op;

/// Whether a verb has an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// None; one that is sent is passed over.
    Nothing,
    /// One may stand there.
    Maybe,
    /// One must stand there.
    Something,
}

macro_rules! table {
    ($( $verb:ident $name:literal $takes:ident $login:literal $data:literal $clear:literal $op:expr, $help:literal; )*) => {
        /// A verb.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(missing_docs, reason = "each is the verb of its name, see the table")]
        pub enum Verb { $( $verb, )* }

        /// The rows, by name.
        pub const TABLE: &[Row] = &[
            $( Row { verb: Verb::$verb, name: $name, takes: Takes::$takes, login: $login, data: $data, clear: $clear, operation: $op, help: $help }, )*
        ];
    };
}

/// One verb.
#[derive(Debug)]
pub struct Row {
    /// Which.
    pub verb: Verb,
    /// On the wire.
    pub name: &'static str,
    /// Its argument.
    pub takes: Takes,
    /// Somebody must be logged in.
    pub login: bool,
    /// It uses a data connection.
    pub data: bool,
    /// It may be used before TLS where TLS is required.
    pub clear: bool,
    /// What the gate sees; `None` for what is no operation, which hooks see as a command.
    pub operation: Option<Op>,
    /// Its argument in words.
    pub help: &'static str,
}

// verb name takes login data clear operation, help
table! {
    Abor "ABOR" Nothing   false false true  None, "";
    Acct "ACCT" Something false false false None, "answer to the question of 332";
    Allo "ALLO" Something true  false false None, "size";
    Appe "APPE" Something true  true  false Some(Op::Open), "path";
    Auth "AUTH" Something false false true  None, "TLS";
    Avbl "AVBL" Maybe     true  false false Some(Op::Space), "[path]";
    Ccc  "CCC"  Nothing   false false true  None, "(refused)";
    Cdup "CDUP" Nothing   true  false false Some(Op::Stat), "";
    Clnt "CLNT" Something false false true  None, "name of the client";
    Cpsv "CPSV" Nothing   true  false false None, "";
    Cwd  "CWD"  Maybe     true  false false Some(Op::Stat), "path";
    Dele "DELE" Something true  false false Some(Op::RemoveFile), "path";
    Eprt "EPRT" Something true  false false None, "|1|address|port|";
    Epsv "EPSV" Maybe     true  false false None, "[1|2|ALL]";
    Feat "FEAT" Nothing   false false true  None, "";
    Hash "HASH" Something true  false false Some(Op::Checksum), "path";
    Help "HELP" Maybe     false false true  None, "[verb]";
    Host "HOST" Something false false true  None, "name";
    List "LIST" Maybe     true  true  false Some(Op::List), "[path]";
    Mdtm "MDTM" Something true  false false Some(Op::Stat), "path";
    Mff  "MFF"  Something true  false false Some(Op::SetAttributes), "fact=value;… path";
    Mfmt "MFMT" Something true  false false Some(Op::SetAttributes), "YYYYMMDDHHMMSS path";
    Mkd  "MKD"  Something true  false false Some(Op::CreateDir), "path";
    Mlsd "MLSD" Maybe     true  true  false Some(Op::List), "[path]";
    Mlst "MLST" Maybe     true  false false Some(Op::Stat), "[path]";
    Mode "MODE" Something true  false false None, "S|Z";
    Nlst "NLST" Maybe     true  true  false Some(Op::List), "[path]";
    Noop "NOOP" Nothing   false false true  None, "";
    Opts "OPTS" Something false false true  None, "verb options";
    Pass "PASS" Maybe     false false false None, "password";
    Pasv "PASV" Nothing   true  false false None, "";
    Pbsz "PBSZ" Something false false true  None, "0";
    Port "PORT" Something true  false false None, "h1,h2,h3,h4,p1,p2";
    Prot "PROT" Something false false true  None, "C|P";
    Pwd  "PWD"  Nothing   true  false false None, "";
    Quit "QUIT" Nothing   false false true  None, "";
    Rang "RANG" Something true  false false None, "first last";
    Rein "REIN" Nothing   false false true  None, "";
    Rest "REST" Something true  false false None, "offset";
    Retr "RETR" Something true  true  false Some(Op::Open), "path";
    Rmd  "RMD"  Something true  false false Some(Op::RemoveDir), "path";
    Rnfr "RNFR" Something true  false false Some(Op::Stat), "path";
    Rnto "RNTO" Something true  false false Some(Op::Rename), "path";
    // What SITE does is seen by its own words: `calls.rs` makes operations of some.
    Site "SITE" Something true  false false None, "CHMOD|CPFR|CPTO|HELP|SYMLINK|UTIME …";
    Size "SIZE" Something true  false false Some(Op::Stat), "path";
    Smnt "SMNT" Maybe     true  false false None, "(not served)";
    Sscn "SSCN" Maybe     true  false false None, "[ON|OFF]";
    Stat "STAT" Maybe     false false false None, "[path]";
    Stor "STOR" Something true  true  false Some(Op::Open), "path";
    Stou "STOU" Maybe     true  true  false Some(Op::Open), "[name]";
    Stru "STRU" Something true  false false None, "F";
    Syst "SYST" Nothing   false false true  None, "";
    Type "TYPE" Something true  false false None, "A|I|L 8";
    User "USER" Something false false false None, "name";
    Xcrc "XCRC" Something true  false false Some(Op::Checksum), "path [first [end]]";
    Xmd5 "XMD5" Something true  false false Some(Op::Checksum), "path [first [end]]";
    Xsha1 "XSHA1" Something true false false Some(Op::Checksum), "path [first [end]]";
    Xsha256 "XSHA256" Something true false false Some(Op::Checksum), "path [first [end]]";
}

/// Older names of the same verbs (RFC 775).
const ALIASES: &[(&str, Verb)] = &[
    ("XCUP", Verb::Cdup),
    ("XCWD", Verb::Cwd),
    ("XMKD", Verb::Mkd),
    ("XPWD", Verb::Pwd),
    ("XRMD", Verb::Rmd),
    ("XSHA", Verb::Xsha1),
];

/// The row of a verb by its name in capitals, and the name as it is shown: the older one where that came.
pub fn row(name: &str) -> Option<(&'static Row, &'static str)> {
    if let Ok(at) = TABLE.binary_search_by(|row| row.name.cmp(name)) {
        return TABLE.get(at).map(|row| (row, row.name));
    }
    let (alias, verb) = ALIASES.iter().find(|a| a.0 == name)?;
    TABLE.iter().find(|row| row.verb == *verb).map(|row| (row, *alias))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_is_found_by_its_name() {
        assert!(TABLE.is_sorted_by(|a, b| a.name < b.name));
        for r in TABLE {
            assert_eq!(row(r.name).unwrap().0.verb, r.verb);
            assert!(r.name.len() <= crate::wire::command::MAX_VERB);
            assert!(!r.data || r.login, "{} moves data for nobody", r.name);
            assert!(!r.clear || !r.login, "{} serves a user in the clear", r.name);
        }
        for (alias, verb) in ALIASES {
            assert_eq!(row(alias).unwrap().0.verb, *verb);
        }
        assert!(row("").is_none() && row("GET").is_none());
    }
}
