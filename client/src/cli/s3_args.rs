//! The flags of S3, of every command.

use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};

use super::args;
use crate::connect::{Checksums, Putting, S3Options, S3Role, UrlStyle};
use crate::jobs::state_dir;

/// How a bucket stands in a URL.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum StyleArg {
    /// In the host's name at AWS, in the path elsewhere
    Auto,
    /// In the path
    Path,
    /// In the host's name
    Virtual,
}

/// Whether uploads carry checksums of S3's kind.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ChecksumsArg {
    /// At AWS, and elsewhere where the store shows that it takes them
    Auto,
    /// Always
    Always,
    /// Where an operation cannot be without
    Required,
}

/// How a store is entered, and what is asked for with what is written.
#[derive(Args, Clone)]
pub(super) struct S3Args {
    /// S3: log in as this profile of ~/.aws says
    #[arg(long, global = true, value_name = "NAME")]
    pub(super) s3_profile: Option<String>,
    /// S3: log in as nobody; without it, and without a key in the URL, as the environment says (variables, profile,
    /// SSO, web identity, the machine's own role)
    #[arg(long, global = true, conflicts_with = "s3_profile")]
    pub(super) s3_anonymous: bool,
    /// S3: take on this role
    #[arg(long, global = true, value_name = "ARN")]
    pub(super) s3_role: Option<String>,
    /// S3: the region; found out where it is not given
    #[arg(long, global = true, value_name = "REGION")]
    pub(super) s3_region: Option<String>,
    /// S3: how a bucket stands in a URL
    #[arg(long, global = true, value_enum, value_name = "STYLE")]
    pub(super) s3_style: Option<StyleArg>,
    /// S3: checksums (CRC-32) with what is sent
    #[arg(long, global = true, value_enum, value_name = "WHEN")]
    pub(super) s3_checksums: Option<ChecksumsArg>,
    /// S3: the requester pays
    #[arg(long, global = true)]
    pub(super) s3_requester_pays: bool,
    /// S3: the storage class of what is written: STANDARD_IA, GLACIER, …
    #[arg(long, global = true, value_name = "CLASS")]
    pub(super) s3_class: Option<String>,
    /// S3: the canned ACL of what is written: private, public-read, …
    #[arg(long, global = true, value_name = "ACL")]
    pub(super) s3_acl: Option<String>,
    /// S3: encrypt what is written at rest: AES256, aws:kms
    #[arg(long, global = true, value_name = "HOW")]
    pub(super) s3_sse: Option<String>,
    /// S3: the key of aws:kms
    #[arg(long, global = true, value_name = "KEY")]
    pub(super) s3_kms_key: Option<String>,
    /// S3: the media type of what is written; by the name's ending where it is not given
    #[arg(long, global = true, value_name = "TYPE")]
    pub(super) s3_content_type: Option<String>,
    /// S3: Cache-Control of what is written
    #[arg(long, global = true, value_name = "VALUE")]
    pub(super) s3_cache_control: Option<String>,
    /// S3: metadata of what is written (may be given several times)
    #[arg(long, global = true, value_name = "NAME=VALUE", value_parser = pair)]
    pub(super) s3_meta: Vec<(String, String)>,
    /// S3: a tag of what is written (may be given several times)
    #[arg(long, global = true, value_name = "NAME=VALUE", value_parser = pair)]
    pub(super) s3_tag: Vec<(String, String)>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("it is NAME=VALUE".to_owned()),
    }
}

impl S3Args {
    /// What is said here goes before what the place says.
    pub(super) fn over(&self, place: &S3Options) -> S3Options {
        let or = |mine: &Option<String>, its: &Option<String>| mine.clone().or_else(|| its.clone());
        let its = &place.putting;
        S3Options {
            environment: !self.s3_anonymous,
            profile: if self.s3_anonymous { None } else { or(&self.s3_profile, &place.profile) },
            session_token: place.session_token.clone(),
            role: match &self.s3_role {
                Some(arn) => Some(S3Role { arn: arn.clone(), session_name: None, external_id: None }),
                None => place.role.clone(),
            },
            region: or(&self.s3_region, &place.region),
            style: match self.s3_style {
                None => place.style,
                Some(StyleArg::Auto) => UrlStyle::Auto,
                Some(StyleArg::Path) => UrlStyle::Path,
                Some(StyleArg::Virtual) => UrlStyle::Virtual,
            },
            checksums: match self.s3_checksums {
                None => place.checksums,
                Some(ChecksumsArg::Auto) => Checksums::Auto,
                Some(ChecksumsArg::Always) => Checksums::Always,
                Some(ChecksumsArg::Required) => Checksums::Required,
            },
            known_stores: state_dir().ok().map(|state| state.join("s3-stores")),
            requester_pays: self.s3_requester_pays || place.requester_pays,
            putting: Putting {
                content_type: or(&self.s3_content_type, &its.content_type),
                cache_control: or(&self.s3_cache_control, &its.cache_control),
                storage_class: or(&self.s3_class, &its.storage_class),
                acl: or(&self.s3_acl, &its.acl),
                encryption: or(&self.s3_sse, &its.encryption),
                kms_key: or(&self.s3_kms_key, &its.kms_key),
                metadata: if self.s3_meta.is_empty() { its.metadata.clone() } else { self.s3_meta.clone() },
                tags: if self.s3_tag.is_empty() { its.tags.clone() } else { self.s3_tag.clone() },
            },
            page: place.page,
        }
    }
}

impl S3Args {
    /// What the flags say of what is written, whatever the place says.
    pub(super) fn putting(&self) -> Putting {
        self.over(&S3Options::default()).putting
    }
}

/// A value of a flag by its name.
fn named<T: ValueEnum>(name: &str) -> Option<T> {
    T::from_str(name, false).ok()
}

fn name_of<T: ValueEnum>(value: &T) -> Option<String> {
    value.to_possible_value().map(|v| v.get_name().to_owned())
}

impl S3Args {
    /// The flags that have a text, by their names in a journal.
    fn texts(&mut self) -> [(&'static str, &mut Option<String>); 9] {
        [
            ("profile", &mut self.s3_profile),
            ("role", &mut self.s3_role),
            ("region", &mut self.s3_region),
            ("class", &mut self.s3_class),
            ("acl", &mut self.s3_acl),
            ("sse", &mut self.s3_sse),
            ("kms_key", &mut self.s3_kms_key),
            ("content_type", &mut self.s3_content_type),
            ("cache_control", &mut self.s3_cache_control),
        ]
    }

    fn pairs(&mut self) -> [(&'static str, &mut Vec<(String, String)>); 2] {
        [("meta", &mut self.s3_meta), ("tag", &mut self.s3_tag)]
    }

    /// What a job is to be taken up with; `None` where nothing was said. None of it is a secret.
    pub(super) fn to_json(&self) -> Option<Value> {
        let mut map = Map::new();
        let mut said = self.clone();
        for (name, text) in said.texts() {
            map.extend(text.take().map(|text| (name.to_owned(), text.into())));
        }
        for (name, pairs) in said.pairs().into_iter().filter(|(_, pairs)| !pairs.is_empty()) {
            let pairs: Vec<Value> = pairs.iter().map(|(n, v)| json!([n, v])).collect();
            map.insert(name.to_owned(), pairs.into());
        }
        map.extend(self.s3_style.as_ref().and_then(name_of).map(|n| ("style".to_owned(), n.into())));
        map.extend(self.s3_checksums.as_ref().and_then(name_of).map(|n| ("checksums".to_owned(), n.into())));
        for (name, is) in [("anonymous", self.s3_anonymous), ("requester_pays", self.s3_requester_pays)] {
            map.extend(is.then(|| (name.to_owned(), true.into())));
        }
        (!map.is_empty()).then(|| map.into())
    }

    /// The same back; what the user says now goes before it.
    pub(super) fn recall(&mut self, then: &Value) {
        for (name, text) in self.texts() {
            let said = then.get(name).and_then(Value::as_str);
            *text = text.take().or_else(|| said.map(str::to_owned));
        }
        for (name, pairs) in self.pairs().into_iter().filter(|(_, pairs)| pairs.is_empty()) {
            let all = then.get(name).and_then(Value::as_array).into_iter().flatten();
            let text = |v: Option<&Value>| v.and_then(Value::as_str).map(str::to_owned);
            pairs.extend(all.filter_map(|p| Some((text(p.get(0))?, text(p.get(1))?))));
        }
        let word = |name: &str| then.get(name).and_then(Value::as_str);
        self.s3_style = self.s3_style.or_else(|| word("style").and_then(named));
        self.s3_checksums = self.s3_checksums.or_else(|| word("checksums").and_then(named));
        let said = |name: &str| then.get(name).and_then(Value::as_bool).unwrap_or(false);
        self.s3_anonymous |= said("anonymous") && self.s3_profile.is_none();
        self.s3_requester_pays |= said("requester_pays");
    }
}

/// `presign`.
#[derive(Args)]
pub(super) struct Presign {
    /// How long the URL holds: 90s, 15m, 12h, 7d (which is the most)
    #[arg(long, default_value = "1h", value_name = "TIME", value_parser = time)]
    pub(super) expires: Duration,
    /// A URL to write with, instead of one to read with
    #[arg(long)]
    pub(super) put: bool,
    /// Objects: s3://bucket/path
    #[arg(required = true, value_name = "PLACE")]
    pub(super) places: Vec<String>,
}

/// `alter`.
#[derive(Args)]
pub(super) struct Alter {
    /// Take metadata of this name away (may be given several times)
    #[arg(long, value_name = "NAME")]
    pub(super) unset: Vec<String>,
    /// Objects: s3://bucket/path
    #[arg(required = true, value_name = "PLACE")]
    pub(super) places: Vec<String>,
}

/// `tag`.
#[derive(Args)]
pub(super) struct Tag {
    /// Set a tag (may be given several times); without this, --unset and --clear the tags are shown
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    pub(super) set: Vec<(String, String)>,
    /// Take a tag away (may be given several times)
    #[arg(long, value_name = "NAME")]
    pub(super) unset: Vec<String>,
    /// Take all others away
    #[arg(long)]
    pub(super) clear: bool,
    /// Objects: s3://bucket/path
    #[arg(required = true, value_name = "PLACE")]
    pub(super) places: Vec<String>,
}

impl Tag {
    /// Whether anything is to be changed.
    pub(super) fn changes(&self) -> bool {
        self.clear || !self.set.is_empty() || !self.unset.is_empty()
    }
}

/// `versions`.
#[derive(Args)]
pub(super) struct Versions {
    /// Make this version the newest one again, by a copy
    #[arg(long, value_name = "ID")]
    pub(super) restore: Option<String>,
    /// An object: s3://bucket/path
    #[arg(value_name = "PLACE")]
    pub(super) place: String,
}

fn time(text: &str) -> Result<Duration, String> {
    let all = args::seconds(text).filter(|n| (1..=7 * 86_400).contains(n));
    all.map(Duration::from_secs).ok_or_else(|| "it is a time of 1s to 7d".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        for (text, seconds) in [("90", 90), ("90s", 90), ("15m", 900), ("12h", 43_200), ("7d", 604_800)] {
            assert_eq!(time(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for bad in ["", "0", "8d", "1w", "-1h", "h", "99999999999999999999d"] {
            assert!(time(bad).is_err(), "{bad}");
        }
    }

    fn nothing_said() -> S3Args {
        S3Args {
            s3_profile: None,
            s3_anonymous: false,
            s3_role: None,
            s3_region: None,
            s3_style: None,
            s3_checksums: None,
            s3_requester_pays: false,
            s3_class: None,
            s3_acl: None,
            s3_sse: None,
            s3_kms_key: None,
            s3_content_type: None,
            s3_cache_control: None,
            s3_meta: Vec::new(),
            s3_tag: Vec::new(),
        }
    }

    #[test]
    fn a_job_is_taken_up_with_the_flags_it_was_begun_with() {
        let said = S3Args {
            s3_profile: Some("p".into()),
            s3_kms_key: Some("k".into()),
            s3_style: Some(StyleArg::Virtual),
            s3_checksums: Some(ChecksumsArg::Required),
            s3_requester_pays: true,
            s3_meta: vec![("colour".into(), "blue".into())],
            s3_tag: vec![("a".into(), "1".into()), ("b".into(), String::new())],
            ..nothing_said()
        };
        let then = said.to_json().unwrap();
        let mut now = nothing_said();
        now.recall(&then);
        assert_eq!(now.to_json(), Some(then.clone()));
        // What is said now stands.
        let mut now = S3Args {
            s3_profile: Some("q".into()),
            s3_style: Some(StyleArg::Path),
            s3_tag: vec![("c".into(), "2".into())],
            ..nothing_said()
        };
        now.recall(&then);
        let back = now.to_json().unwrap();
        assert_eq!((&back["profile"], &back["style"]), (&json!("q"), &json!("path")));
        assert_eq!((&back["tag"], &back["kms_key"]), (&json!([["c", "2"]]), &json!("k")));
        assert_eq!(nothing_said().to_json(), None);
    }

    #[test]
    fn flags_go_before_what_the_place_says() {
        let none = nothing_said();
        let place = S3Options {
            region: Some("a".into()),
            profile: Some("p".into()),
            style: UrlStyle::Path,
            ..S3Options::default()
        };
        let same = none.over(&place);
        assert_eq!((same.region.as_deref(), same.style, same.environment), (Some("a"), UrlStyle::Path, true));
        let other = S3Args {
            s3_region: Some("b".into()),
            s3_anonymous: true,
            s3_style: Some(StyleArg::Virtual),
            ..none
        };
        let other = other.over(&place);
        assert_eq!((other.region.as_deref(), other.style), (Some("b"), UrlStyle::Virtual));
        assert_eq!((other.environment, other.profile), (false, None));
    }
}
