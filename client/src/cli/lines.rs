//! The lines of `--json`: every kind of line with its fields, defined once.
//!
//! Each line is one object that names this schema and its kind, `event`. A kind may have other fields in other
//! commands: whoever reads knows which command it asked. New fields may come within a version of the schema;
//! none is renamed, removed or given another meaning. What is no line of this schema: contents (`cat`, `get … -`),
//! plans, which name their own, and what `docs` and `--help` print.

use serde_json::Value;

/// The schema of this version.
pub(super) const SCHEMA: &str = "ferry.line/1";

/// A kind of line.
pub(super) struct Kind {
    /// Its name, the field `event`.
    pub(super) event: &'static str,
    /// The commands that print it, with commas between.
    pub(super) by: &'static str,
    /// What it tells.
    about: &'static str,
    /// Its fields, as Markdown: names stand between backticks, nothing else does.
    fields: &'static str,
}

/// A line: the fields, with what every line has.
pub(super) fn line(kind: &Kind, mut fields: Value) -> Value {
    if let Some(map) = fields.as_object_mut() {
        map.insert("schema".into(), SCHEMA.into());
        map.insert("event".into(), kind.event.into());
    }
    fields
}

/// The fields of something that would be done, marked as such where `yes`.
pub(super) fn rehearsed(mut fields: Value, yes: bool) -> Value {
    if let Some(map) = fields.as_object_mut().filter(|_| yes) {
        map.insert("dry_run".into(), true.into());
    }
    fields
}

/// All kinds as a table in Markdown.
pub(super) fn table() -> String {
    let mut out =
        String::from("| `event` | Printed by | What it tells | Its fields |\n| --- | --- | --- | --- |\n");
    for k in ALL {
        out.push_str(&format!("| `{}` | {} | {} | {} |\n", k.event, k.by, k.about, k.fields));
    }
    out
}

/// Every kind, in the order of the table.
#[rustfmt::skip]
const ALL: &[&Kind] = &[
    &ENTRY, &TREE, &SPACE, &DIGEST, &SUM,
    &CHANGE, &ITEM, &ITEM_NOTE, &TRANSFERRED, &JOB,
    &DIFFERENCE, &OPERATION, &NOTE, &COMPARED, &ALIKE,
    &WATCHING, &READY, &LOST, &WAITING, &FAILED, &ROUND, &WATCHED,
    &OUTPUT, &ERROR_OUTPUT, &EXIT,
    &SETTING, &HOST_KEY, &CERTIFICATE, &KEY, &KEY_ALLOWED, &SITE, &SITE_TAKEN, &SITE_NOTE, &CHECKED,
    &TAGS, &PRESIGNED, &VERSION, &UPLOAD,
    &ERROR, &WARNING, &HOOK,
];

pub(super) const ENTRY: Kind = Kind {
    event: "entry",
    by: "ls, tree, stat, find",
    about: "An entry of a directory, or what was named",
    fields: "`place`: where it is listed, or the entry itself; `name`, `name_hex` where that is not UTF-8; `type`; `size`; \
             `modified`, `accessed`, `created`; `mode`, octal; `uid`, `gid`; `links`; `etag`; `s3`: what a store of \
             objects says, of stat only",
};
pub(super) const TREE: Kind =
    Kind { event: "summary", by: "tree", about: "The end", fields: "`directories`, `files`" };
pub(super) const SPACE: Kind = Kind {
    event: "space",
    by: "df",
    about: "The room at a place, bytes",
    fields: "`place`, `total`, `free`, `available`, `entries`, `entries_free`, `read_only`",
};
pub(super) const DIGEST: Kind = Kind {
    event: "digest",
    by: "hash",
    about: "The digest of a file",
    fields: "`place`, `algorithm`, `digest`, `proof`: who computed it",
};
pub(super) const SUM: Kind = Kind {
    event: "sum",
    by: "du",
    about: "What a directory holds",
    fields: "`place`, `bytes`, `files`, `directories`",
};
pub(super) const CHANGE: Kind = Kind {
    event: "change",
    by: "alter, chmod, chown, hooks types, jobs forget, jobs kill, jobs limit, jobs pause, jobs resume, ln, lock, mkdir, mv, rm, rmdir, \
         sites add, sites passphrase, sites rm, touch, unlock, versions",
    about: "One thing that was changed, or was not",
    fields: "`command`; `place`: as it was named; `path`: what was changed there, `path_b64` where that is not UTF-8; \
             `outcome`: done, skipped or failed; `why` it was skipped; `error`; `dry_run`; `target` of a link or a \
             rename, `target_b64`; `mode`, octal; `uid`, `gid`; `modified`; `made`; `recursive`; of a lock `token`, `exclusive`, \
             `deep`, `seconds`; `version`; `job`; `rate`",
};
pub(super) const ITEM: Kind = Kind {
    event: "item",
    by: "get, put, cp, resume, mv",
    about: "A file that took part",
    fields: "`source`, `target`, `size`, `outcome`: done, skipped or failed; `bytes` that were sent; `why` it was \
             skipped; `failure`: its number in the summary's list; `dry_run`",
};
pub(super) const ITEM_NOTE: Kind = Kind {
    event: "note",
    by: "get, put, cp, resume, mv",
    about: "Something to know of a file",
    fields: "`target`, `words`",
};
pub(super) const TRANSFERRED: Kind = Kind {
    event: "summary",
    by: "get, put, cp, resume, mv",
    about: "The end",
    fields: "`done`, `skipped`, `failed`, `verified`, `bytes`, `seconds`, `failures`, `dry_run`",
};
pub(super) const JOB: Kind = Kind {
    event: "job",
    by: "jobs",
    about: "A transfer",
    fields: "`job`, `standing`, `pid`, `since`, `command`, `source`, `target`, `paths`, `files_done`, `files_total`, \
             `bytes_done`, `bytes_total`, `failed`, `unfinished`; while it runs `current`, `limit`, `paused`, `rate`, \
             `scanning`, `seconds`, `seconds_left`",
};
pub(super) const DIFFERENCE: Kind = Kind {
    event: "difference",
    by: "diff, sync",
    about: "What differs, and what would be done",
    fields: "`action`, `side`, `path`, `path_b64`, `right_path`, `right_path_b64`, `left`, `right`, `tree`, `conflict`, \
             `moved`",
};
pub(super) const OPERATION: Kind = Kind {
    event: "operation",
    by: "sync, apply, resume, watch",
    about: "What was done about a difference",
    fields: "`action`, `side`, `path`, `path_b64`, `right_path`, `right_path_b64`, `left`, `right`, `tree`, `conflict`, \
             `moved`, `outcome`: done, skipped or failed; `bytes`; `why` it was skipped; `failure`: its number in the \
             list of failures; `dry_run`, of apply",
};
pub(super) const NOTE: Kind = Kind {
    event: "note",
    by: "diff, sync, apply, resume, watch",
    about: "What was left alone",
    fields: "`path`, `why`",
};
pub(super) const COMPARED: Kind = Kind {
    event: "summary",
    by: "diff, sync",
    about: "The end of a comparison, also of sync --dry-run",
    fields: "`differences`, `left`, `right`, `complete`, `failures`",
};
pub(super) const ALIKE: Kind = Kind {
    event: "summary",
    by: "sync, apply, resume",
    about: "The end",
    fields: "`left`, `right`, `copied_left`, `copied_right`, `moved`, `removed`, `skipped`, `failed`, `bytes`, `seconds`, \
             `failures`; `dry_run`, of apply",
};
pub(super) const WATCHING: Kind =
    Kind { event: "watching", by: "watch", about: "The beginning", fields: "`left`, `right`" };
pub(super) const READY: Kind =
    Kind { event: "ready", by: "watch", about: "What changes from now on is seen", fields: "" };
pub(super) const LOST: Kind =
    Kind { event: "lost", by: "watch", about: "Changes were lost: everything is compared", fields: "" };
pub(super) const WAITING: Kind =
    Kind { event: "waiting", by: "watch", about: "It is tried again after a pause", fields: "`seconds`" };
pub(super) const FAILED: Kind =
    Kind { event: "failed", by: "watch", about: "A round that failed as a whole", fields: "`error`" };
pub(super) const ROUND: Kind = Kind {
    event: "round",
    by: "watch",
    about: "The end of a round",
    fields: "`copied_left`, `copied_right`, `removed`, `skipped`, `bytes`, `seconds`, `failures`",
};
pub(super) const WATCHED: Kind = Kind {
    event: "summary",
    by: "watch",
    about: "The end",
    fields: "`rounds`, `copied`, `removed`, `bytes`, `failures`",
};
pub(super) const OUTPUT: Kind = Kind {
    event: "output",
    by: "exec, script, shell",
    about: "What a command said",
    fields: "`text`, of which what is not UTF-8 is replaced",
};
pub(super) const ERROR_OUTPUT: Kind = Kind {
    event: "error-output",
    by: "exec, script",
    about: "What a command said on its error output",
    fields: "`text`",
};
pub(super) const EXIT: Kind =
    Kind { event: "exit", by: "exec", about: "How the command ended", fields: "`code`, `signal`, `error`" };
pub(super) const HOST_KEY: Kind = Kind {
    event: "host-key",
    by: "fingerprint",
    about: "The key of a host",
    fields: "`host`, `port`, `algorithm`, `sha256`, `md5`, `winscp`",
};
pub(super) const SETTING: Kind = Kind {
    event: "setting",
    by: "explain",
    about: "What one thing about a connection comes to",
    fields: "`place`, `name`, `values`",
};
pub(super) const CERTIFICATE: Kind = Kind {
    event: "certificate",
    by: "fingerprint",
    about: "The certificate of a host",
    fields: "`host`, `port`, `subject`, `issuer`, `valid`, `sha256`, `sha1`",
};
pub(super) const KEY: Kind = Kind {
    event: "key",
    by: "keygen",
    about: "A key that was made",
    fields: "`file`, `public_file`, `algorithm`, `fingerprint`, `public`",
};
pub(super) const KEY_ALLOWED: Kind = Kind {
    event: "key",
    by: "copy-id",
    about: "A key that may log in",
    fields: "`path`, `fingerprint`, `added`",
};
pub(super) const SITE: Kind = Kind {
    event: "site",
    by: "sites list, sites show",
    about: "A stored site",
    fields: "`name`, `url`, `directory`, `private_key`, `client_certificate`, `known_hosts`, `timeout`, `active`, \
             `host_key_policy`, `accept_any_certificate`, `secrets`: whether some are stored",
};
pub(super) const SITE_TAKEN: Kind = Kind {
    event: "site",
    by: "sites import",
    about: "A site that was found",
    fields: "`name`, `url`, `secrets`, `taken`",
};
pub(super) const SITE_NOTE: Kind =
    Kind { event: "note", by: "sites import", about: "What was not taken over", fields: "`site`, `words`" };
pub(super) const CHECKED: Kind = Kind {
    event: "checked",
    by: "hooks check",
    about: "A file of handlers",
    fields: "`file`, `good`, `faults`",
};
pub(super) const TAGS: Kind = Kind {
    event: "tags",
    by: "tag",
    about: "The tags of an object, after a change",
    fields: "`place`, `tags`",
};
pub(super) const PRESIGNED: Kind = Kind {
    event: "url",
    by: "presign",
    about: "A URL for others",
    fields: "`place`, `url`, `method`, `expires`: seconds",
};
pub(super) const VERSION: Kind = Kind {
    event: "version",
    by: "versions",
    about: "A version of an object",
    fields: "`id`, `modified`, `size`, `etag`, `latest`, `removed`",
};
pub(super) const UPLOAD: Kind = Kind {
    event: "upload",
    by: "uploads",
    about: "An upload that never ended",
    fields: "`id`, `aborted`; in S3 `bucket`, `key`, `begun`; in chunks `touched`, `held`, `path`, `size`",
};
pub(super) const ERROR: Kind = Kind {
    event: "error",
    by: "all, on the error output",
    about: "What failed and has no line of its own",
    fields: "`error`",
};
pub(super) const WARNING: Kind = Kind {
    event: "warning",
    by: "all, on the error output",
    about: "What is not as it should be",
    fields: "`words`",
};
pub(super) const HOOK: Kind = Kind {
    event: "hook",
    by: "all with --hooks, on the error output",
    about: "What a handler logged, or that it failed",
    fields: "`name` of the event, `handler`, `session`, `outcome`, `message`, `log`",
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_command_prints_two_kinds_of_one_name_that_a_reader_cannot_tell_apart() {
        // These have different runs.
        let known = ["sync", "resume"];
        for (n, a) in ALL.iter().enumerate() {
            for b in ALL.iter().skip(n + 1).filter(|b| b.event == a.event) {
                for command in a.by.split(", ").filter(|c| !known.contains(c)) {
                    assert!(!b.by.split(", ").any(|c| c == command), "{command}: {}", a.event);
                }
            }
        }
    }

    #[test]
    fn a_line_names_its_schema_and_kind() {
        let made = line(&SUM, serde_json::json!({ "bytes": 1 })).to_string();
        assert_eq!(made, r#"{"bytes":1,"event":"sum","schema":"ferry.line/1"}"#);
        assert!(
            table().contains(
                "| `sum` | du | What a directory holds | `place`, `bytes`, `files`, `directories` |"
            )
        );
    }
}
