//! Every method that the server knows, one row each.
//!
//! What a row says is asked in one place before the method is carried out: which operation of the gate it
//! becomes. A method that becomes none is shown to hooks as a command. A new method is a row here and an arm
//! in `service.rs`.

use session_core::operation::OperationKind as Op;

macro_rules! table {
    ($( $method:ident $name:literal $op:expr, $help:literal; )*) => {
        /// A method.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(missing_docs, reason = "each is the method of its name, see the table")]
        pub enum Method { $( $method, )* }

        /// The rows, by name.
        pub const TABLE: &[Row] = &[
            $( Row { method: Method::$method, name: $name, operation: $op, help: $help }, )*
        ];

        /// What `Allow` says.
        pub const ALLOW: &str = {
            const ALL: &str = concat!($( $name, ", " ),*);
            ALL.split_at(ALL.len() - 2).0
        };
    };
}

/// One method.
#[derive(Debug)]
pub struct Row {
    /// Which.
    pub method: Method,
    /// On the wire.
    pub name: &'static str,
    /// What the gate sees; `None` for what is no operation, which hooks see as a command.
    pub operation: Option<Op>,
    /// What it does, in words.
    pub help: &'static str,
}

// method name operation, help
table! {
    Copy      "COPY"      Some(Op::Copy),          "copies a file or a tree";
    Delete    "DELETE"    Some(Op::RemoveFile),    "removes a file or a tree";
    Get       "GET"       Some(Op::Open),          "reads a file; of a directory, a page";
    Head      "HEAD"      Some(Op::Stat),          "what GET would say of it";
    Lock      "LOCK"      Some(Op::Lock),          "locks, or prolongs a lock";
    Mkcol     "MKCOL"     Some(Op::CreateDir),     "makes a directory";
    Move      "MOVE"      Some(Op::Rename),        "renames a file or a tree";
    Options   "OPTIONS"   None,                    "what is offered here";
    Propfind  "PROPFIND"  Some(Op::List),          "properties, of a directory's entries too";
    Proppatch "PROPPATCH" Some(Op::SetAttributes), "changes properties";
    Put       "PUT"       Some(Op::Commit),        "writes a file";
    Unlock    "UNLOCK"    Some(Op::Unlock),        "gives a lock back";
}

impl Row {
    /// The row of a method as it is sent. Methods are told by case.
    pub fn find(name: &str) -> Option<&'static Row> {
        TABLE.iter().find(|row| row.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_by_name_and_says_what_is_allowed() {
        assert!(TABLE.is_sorted_by_key(|row| row.name));
        assert_eq!(ALLOW.split(", ").count(), TABLE.len());
        assert!(Row::find("GET").is_some() && Row::find("get").is_none() && Row::find("PATCH").is_none());
    }
}
