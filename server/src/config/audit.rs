//! `audit` of `[log]`: the file of what happened; a path, or a table with more.

use std::path::PathBuf;

use serde::{Deserialize, Deserializer};

use super::fault::{Fault, Source, Step};

words! {
    /// How the audit is written.
    AuditFormat {
        /// One JSON object a line.
        #[default]
        Json,
        /// W3C extended log, with the fields of IIS.
        W3c,
    }
    /// When a new file begins.
    Rotate {
        /// Each day, UTC.
        Day,
        /// Each hour.
        Hour,
        /// Only by size, or by whoever moves it away.
        #[default]
        Never,
    }
    /// What happens when more is to be recorded than can be.
    Full {
        /// It is counted, and the number recorded.
        #[default]
        Count,
        /// What clients ask is refused meanwhile, too.
        Refuse,
    }
}

/// The audit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// The file.
    pub file: PathBuf,
    /// How it is written.
    pub format: AuditFormat,
    /// When a new one begins.
    pub rotate: Rotate,
    /// And when it is so large, bytes; 0 for no limit.
    pub size: u64,
    /// How many old ones are kept; 0 for all.
    pub keep: usize,
    /// What happens when records are lost.
    pub full: Full,
}

impl<'de> Deserialize<'de> for Audit {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(default)]
        #[derive(Default)]
        struct Table {
            file: PathBuf,
            format: AuditFormat,
            rotate: Rotate,
            size: u64,
            keep: usize,
            full: Full,
        }
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Audit;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a path, or a table with a file")
            }

            fn visit_str<E: serde::de::Error>(self, path: &str) -> Result<Audit, E> {
                Ok(Audit { file: path.into(), ..Audit::default() })
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Audit, A::Error> {
                let t = Table::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                let Table { file, format, rotate, size, keep, full } = t;
                Ok(Audit { file, format, rotate, size, keep, full })
            }
        }
        d.deserialize_any(Visitor)
    }
}

/// Faults between values.
pub(super) fn check(audit: Option<&Audit>, source: &Source<'_>) -> Vec<Fault> {
    let at = [Step::Key("log".into()), Step::Key("audit".into())];
    match audit {
        Some(audit) if audit.file.as_os_str().is_empty() => {
            vec![source.fault_at(&at, "the audit needs a file")]
        }
        Some(audit) if (1..4096).contains(&audit.size) => {
            vec![source.fault_at(&at, "an audit file has room for 4096 bytes at least")]
        }
        _ => Vec::new(),
    }
}
