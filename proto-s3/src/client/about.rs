//! What S3 says of an object beside its content: type, metadata, class, encryption, tags, ACL; seen and changed.
//!
//! Reached from the remote alone, not through the filesystem. Tags and ACL are changed in place. Everything else S3
//! keeps with the content: it is changed by a copy of the object onto itself, made by the store and under the etag
//! that was looked at, which says everything else again: also who may do what with it, which no copy brings along.
//! Where versions are kept, that is a new version.
//!
//! Deliberately absent: grants other than canned ones, locks, what a customer's own key encrypts.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};
use aws_sdk_s3::types::{
    Grant, ObjectCannedAcl, ObjectLockLegalHoldStatus, ObjectLockMode, Permission, ServerSideEncryption,
    StorageClass, Tag, Tagging,
};
use session_core::error::{Error, ErrorKind, Result};
use session_core::path::VPath;

use super::copy;
use super::options::Putting;
use super::put::{Put as _, add_md5};
use super::remote::{S3Remote, object_at};
use super::store::{Store, object, size_of};
use crate::keyspace::Place;

/// What a store says of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// The media type.
    pub content_type: Option<String>,
    /// `Content-Encoding`.
    pub content_encoding: Option<String>,
    /// `Content-Language`.
    pub content_language: Option<String>,
    /// `Content-Disposition`.
    pub content_disposition: Option<String>,
    /// `Cache-Control`.
    pub cache_control: Option<String>,
    /// The storage class; `STANDARD` where the store says nothing else.
    pub storage_class: String,
    /// Encryption at rest.
    pub encryption: Option<String>,
    /// The key of `aws:kms`.
    pub kms_key: Option<String>,
    /// The version, where versions are kept.
    pub version: Option<String>,
    /// How far an archived object is on its way back, in the store's words.
    pub restore: Option<String>,
    /// Metadata of the user's own.
    pub metadata: BTreeMap<String, String>,
}

/// Who may do what with an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// Who, as S3's headers name them: `id=…`, `uri=…` (a group), `emailAddress=…`.
    pub who: String,
    /// What: `FULL_CONTROL`, `READ`, `READ_ACP`, `WRITE_ACP`.
    pub permission: String,
    /// It is the owner's.
    pub owner: bool,
}

/// What requests say of an object that is written.
#[derive(Clone, Debug, Default)]
pub(super) struct Said {
    pub(super) content_type: Option<String>,
    pub(super) content_encoding: Option<String>,
    pub(super) content_language: Option<String>,
    pub(super) content_disposition: Option<String>,
    pub(super) cache_control: Option<String>,
    pub(super) expires: Option<DateTime>,
    pub(super) website: Option<String>,
    pub(super) metadata: HashMap<String, String>,
    pub(super) class: Option<StorageClass>,
    pub(super) encryption: Option<ServerSideEncryption>,
    pub(super) kms_key: Option<String>,
    pub(super) lock: Option<ObjectLockMode>,
    pub(super) locked_until: Option<DateTime>,
    pub(super) hold: Option<ObjectLockLegalHoldStatus>,
    pub(super) acl: Option<ObjectCannedAcl>,
    /// By the header: full control, read, read the ACL, write the ACL.
    pub(super) grants: [Option<String>; 4],
}

/// Says it, in a request that makes an object.
macro_rules! says {
    ($request:expr, $said:expr) => {{
        let said: &$crate::client::about::Said = $said;
        let [full, read, read_acl, write_acl] = said.grants.clone();
        $request
            .set_content_type(said.content_type.clone())
            .set_content_encoding(said.content_encoding.clone())
            .set_content_language(said.content_language.clone())
            .set_content_disposition(said.content_disposition.clone())
            .set_cache_control(said.cache_control.clone())
            .set_expires(said.expires)
            .set_website_redirect_location(said.website.clone())
            .set_metadata(Some(said.metadata.clone()))
            .set_storage_class(said.class.clone())
            .set_server_side_encryption(said.encryption.clone())
            .set_ssekms_key_id(said.kms_key.clone())
            .set_object_lock_mode(said.lock.clone())
            .set_object_lock_retain_until_date(said.locked_until)
            .set_object_lock_legal_hold_status(said.hold.clone())
            .set_acl(said.acl.clone())
            .set_grant_full_control(full)
            .set_grant_read(read)
            .set_grant_read_acp(read_acl)
            .set_grant_write_acp(write_acl)
    }};
}

pub(super) use says;

impl Said {
    /// What the store says of an object, to be said again; not who may do what with it.
    pub(super) fn of(told: &HeadObjectOutput) -> Said {
        let text = |t: Option<&str>| t.map(str::to_owned);
        let date = |t: &str| DateTime::from_str(t, DateTimeFormat::HttpDate).ok();
        Said {
            content_type: text(told.content_type()),
            content_encoding: text(told.content_encoding()),
            content_language: text(told.content_language()),
            content_disposition: text(told.content_disposition()),
            cache_control: text(told.cache_control()),
            expires: told.expires_string().and_then(date),
            website: text(told.website_redirect_location()),
            metadata: told.metadata().cloned().unwrap_or_default(),
            class: told.storage_class().cloned(),
            encryption: told.server_side_encryption().cloned(),
            kms_key: text(told.ssekms_key_id()),
            lock: told.object_lock_mode().cloned(),
            locked_until: told.object_lock_retain_until_date().copied(),
            hold: told.object_lock_legal_hold_status().cloned(),
            acl: None,
            grants: Default::default(),
        }
    }

    /// With what is wanted instead, and without these names of metadata.
    fn changed(mut self, wanted: &Putting, without: &[String]) -> Said {
        self.content_type = wanted.content_type.clone().or(self.content_type);
        self.cache_control = wanted.cache_control.clone().or(self.cache_control);
        self.class = wanted.class().or(self.class);
        if let Some(encryption) = wanted.sse() {
            // Another key, or none: what was said of the old one is over.
            (self.encryption, self.kms_key) = (Some(encryption), wanted.kms_key.clone());
        }
        // Names have no case: stores tell them in small letters.
        let small = |name: &str| name.to_ascii_lowercase();
        self.metadata.retain(|name, _| !without.iter().any(|w| small(w) == small(name)));
        for (name, value) in &wanted.metadata {
            self.metadata.retain(|n, _| small(n) != small(name));
            self.metadata.insert(small(name), value.clone());
        }
        self
    }
}

/// What a store says of who may do what, as the headers of a request; nothing where it is what every object has.
fn headers(grants: &[Granted]) -> [Option<String>; 4] {
    if grants.iter().all(|g| g.owner && g.permission == "FULL_CONTROL") {
        return Default::default();
    }
    ["FULL_CONTROL", "READ", "READ_ACP", "WRITE_ACP"].map(|permission| {
        let who: Vec<_> = grants.iter().filter(|g| g.permission == permission).map(quoted_who).collect();
        (!who.is_empty()).then(|| who.join(", "))
    })
}

/// `id="…"`.
fn quoted_who(grant: &Granted) -> String {
    match grant.who.split_once('=') {
        Some((kind, name)) => format!("{kind}=\"{name}\""),
        None => grant.who.clone(),
    }
}

fn granted(grant: &Grant, owner: Option<&str>) -> Result<Granted> {
    let no = || Error::new(ErrorKind::PeerMisbehaved).with_detail("the store's ACL names nobody");
    let grantee = grant.grantee().ok_or_else(no)?;
    let who = match (grantee.id(), grantee.uri(), grantee.email_address()) {
        (Some(id), _, _) => format!("id={id}"),
        (_, Some(uri), _) => format!("uri={uri}"),
        (_, _, Some(mail)) => format!("emailAddress={mail}"),
        _ => return Err(no()),
    };
    let permission = grant.permission().map(Permission::as_str).unwrap_or_default().to_owned();
    Ok(Granted { who, permission, owner: owner.is_some() && grantee.id() == owner })
}

impl S3Remote {
    /// What the store says of the object at `path`. Errors: `NotFound`, `IsADirectory`.
    pub async fn about(&self, path: &VPath) -> Result<About> {
        let told = self.told(path).await?;
        let text = |t: Option<&str>| t.map(str::to_owned);
        Ok(About {
            content_type: text(told.content_type()),
            content_encoding: text(told.content_encoding()),
            content_language: text(told.content_language()),
            content_disposition: text(told.content_disposition()),
            cache_control: text(told.cache_control()),
            storage_class: told.storage_class().map_or("STANDARD", StorageClass::as_str).to_owned(),
            encryption: text(told.server_side_encryption().map(ServerSideEncryption::as_str)),
            kms_key: text(told.ssekms_key_id()),
            version: text(told.version_id()),
            restore: text(told.restore()),
            metadata: told.metadata().into_iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect(),
        })
    }

    async fn told(&self, path: &VPath) -> Result<HeadObjectOutput> {
        let (bucket, key) = object_at(path)?;
        let store = self.store();
        let told = store.call(Some(&bucket), |c| {
            c.head_object().bucket(&bucket).key(&key).set_request_payer(store.payer()).send()
        });
        match told.await {
            Err(e) if e.kind() == ErrorKind::NotFound => Err(match store.is_dir(&Place::of(path)?).await {
                Ok(true) => ErrorKind::IsADirectory.into(),
                _ => e,
            }),
            told => told,
        }
    }

    /// The tags of the object at `path`. Errors: `NotFound`, `PermissionDenied`, `Unsupported`.
    pub async fn tags(&self, path: &VPath) -> Result<BTreeMap<String, String>> {
        let (bucket, key) = object_at(path)?;
        self.store().tags(&bucket, &key).await
    }

    /// Gives the object at `path` these tags and no others. Errors: those of [`tags`](Self::tags);
    /// `InvalidArgument` for what the store takes for no tags.
    pub async fn set_tags(&self, path: &VPath, tags: &BTreeMap<String, String>) -> Result<()> {
        let (bucket, key) = object_at(path)?;
        let store = self.store();
        if tags.is_empty() {
            let gone =
                store.call(Some(&bucket), |c| c.delete_object_tagging().bucket(&bucket).key(&key).send());
            return gone.await.map(drop);
        }
        let invalid = |e| Error::new(ErrorKind::InvalidArgument).with_source(e);
        let set = tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build());
        let set: std::result::Result<Vec<_>, _> = set.collect();
        let tagging = Tagging::builder().set_tag_set(Some(set.map_err(invalid)?)).build().map_err(invalid)?;
        let told = store.call(Some(&bucket), |c| {
            c.put_object_tagging()
                .bucket(&bucket)
                .key(&key)
                .tagging(tagging.clone())
                .set_request_payer(store.payer())
                .customize()
                .mutate_request(add_md5)
                .send()
        });
        told.await.map(drop)
    }

    /// Who may do what with the object at `path`. Errors: `NotFound`, `PermissionDenied`, `Unsupported`.
    pub async fn acl(&self, path: &VPath) -> Result<Vec<Granted>> {
        let (bucket, key) = object_at(path)?;
        let store = self.store();
        let told = store
            .call(Some(&bucket), |c| {
                c.get_object_acl().bucket(&bucket).key(&key).set_request_payer(store.payer()).send()
            })
            .await?;
        let owner = told.owner().and_then(|o| o.id());
        told.grants().iter().map(|grant| granted(grant, owner)).collect()
    }

    /// Changes what is said of the object at `path` to what is wanted, as far as that says anything, and takes the
    /// metadata of these names away; tags are added to those that are there. The content does not come here.
    ///
    /// Errors: `InvalidArgument` (nothing is wanted; the store takes it for none), `NotFound`, `IsADirectory`,
    /// `PermissionDenied` (also where who may do what cannot be read and would be lost), `Unsupported`,
    /// `PreconditionFailed` where the object has changed meanwhile. Dropped, or failed after the first of several
    /// requests, some of it may be done.
    pub async fn alter(&self, path: &VPath, wanted: &Putting, without: &[String]) -> Result<()> {
        let Putting { content_type, cache_control, storage_class, encryption, kms_key, .. } = wanted;
        let said = [content_type, cache_control, storage_class, encryption, kms_key];
        let anew = said.iter().any(|s| s.is_some()) || !wanted.metadata.is_empty() || !without.is_empty();
        if !anew && wanted.tags.is_empty() && wanted.acl.is_none() {
            return Err(Error::new(ErrorKind::InvalidArgument)
                .with_detail("nothing is said of what it is to be changed to"));
        }
        if anew {
            self.remake(path, wanted, without).await?;
        } else if let Some(acl) = wanted.canned() {
            let (bucket, key) = object_at(path)?;
            let store = self.store();
            let told = store.call(Some(&bucket), |c| {
                let asked = c.put_object_acl().bucket(&bucket).key(&key).acl(acl.clone());
                asked.set_request_payer(store.payer()).customize().mutate_request(add_md5).send()
            });
            told.await?;
        }
        if wanted.tags.is_empty() {
            return Ok(());
        }
        let mut tags = self.tags(path).await?;
        tags.extend(wanted.tags.iter().cloned());
        self.set_tags(path, &tags).await
    }

    async fn remake(&self, path: &VPath, wanted: &Putting, without: &[String]) -> Result<()> {
        let told = self.told(path).await?;
        if told.missing_meta().is_some_and(|n| n > 0) {
            return Err(Error::new(ErrorKind::Unsupported)
                .with_detail("the object has metadata that cannot be told over HTTP, and would lose it"));
        }
        let mut said = Said::of(&told).changed(wanted, without);
        match wanted.canned() {
            Some(acl) => said.acl = Some(acl),
            None => said.grants = self.grants(path).await?,
        }
        let source = object(size_of(told.content_length())?, told.last_modified(), told.e_tag());
        copy::anew(self.store(), path, &source, &said).await
    }

    /// Who may do what, to be said again. A store without ACLs has nothing to say.
    async fn grants(&self, path: &VPath) -> Result<[Option<String>; 4]> {
        match self.acl(path).await {
            Ok(grants) => Ok(headers(&grants)),
            Err(e)
                if e.kind() == ErrorKind::Unsupported || code_of(&e) == "AccessControlListNotSupported" =>
            {
                Ok(Default::default())
            }
            Err(e) if e.kind() == ErrorKind::PermissionDenied => Err(e
                .with_detail("the object's ACL may not be read, and what is changed would lose it")
                .with_hint("say which ACL it is to have: --s3-acl private")),
            Err(e) => Err(e),
        }
    }
}

impl Store {
    pub(super) async fn tags(&self, bucket: &str, key: &str) -> Result<BTreeMap<String, String>> {
        let told = self.call(Some(bucket), |c| {
            c.get_object_tagging().bucket(bucket).key(key).set_request_payer(self.payer()).send()
        });
        match told.await {
            Ok(told) => {
                Ok(told.tag_set().iter().map(|t| (t.key().to_owned(), t.value().to_owned())).collect())
            }
            // Some stores have no set where there are no tags.
            Err(e) if code_of(&e) == "NoSuchTagSet" => Ok(BTreeMap::new()),
            Err(e) => Err(e),
        }
    }
}

/// The store's own word for an error.
pub(super) fn code_of(e: &Error) -> &str {
    e.wire().map_or("", |w| w.text.split(':').next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(who: &str, permission: &str, owner: bool) -> Granted {
        Granted { who: who.into(), permission: permission.into(), owner }
    }

    #[test]
    fn who_may_do_what_is_said_again_where_it_is_not_the_usual() {
        let mine = grant("id=me", "FULL_CONTROL", true);
        assert_eq!(headers(&[]), [None, None, None, None]);
        assert_eq!(headers(std::slice::from_ref(&mine)), [None, None, None, None]);
        let all = "uri=http://acs.amazonaws.com/groups/global/AllUsers";
        let grants =
            [mine, grant(all, "READ", false), grant("id=b", "READ", false), grant("id=b", "READ_ACP", false)];
        let text = |t: &str| Some(t.to_owned());
        assert_eq!(
            headers(&grants),
            [
                text("id=\"me\""),
                text("uri=\"http://acs.amazonaws.com/groups/global/AllUsers\", id=\"b\""),
                text("id=\"b\""),
                None
            ]
        );
        // Somebody else's full control is not the usual.
        assert!(headers(&[grant("id=b", "FULL_CONTROL", false)])[0].is_some());
    }

    #[test]
    fn what_is_not_changed_is_said_again() {
        let old = Said {
            content_type: Some("text/plain".into()),
            cache_control: Some("no-store".into()),
            encryption: Some(ServerSideEncryption::AwsKms),
            kms_key: Some("old".into()),
            metadata: [("a", "1"), ("b", "2"), ("c", "3")].map(|(k, v)| (k.into(), v.into())).into(),
            ..Said::default()
        };
        let wanted = Putting {
            content_type: Some("text/html".into()),
            metadata: vec![("B".into(), "two".into())],
            ..Putting::default()
        };
        let new = old.clone().changed(&wanted, &["C".into()]);
        assert_eq!(
            (new.content_type.as_deref(), new.cache_control.as_deref()),
            (Some("text/html"), Some("no-store"))
        );
        assert_eq!(
            (new.encryption, new.kms_key.as_deref()),
            (Some(ServerSideEncryption::AwsKms), Some("old"))
        );
        let metadata: BTreeMap<_, _> = new.metadata.into_iter().collect();
        assert_eq!(metadata, [("a", "1"), ("b", "two")].map(|(k, v)| (k.to_owned(), v.to_owned())).into());
        // Encryption without a key has no key.
        let wanted = Putting { encryption: Some("AES256".into()), ..Putting::default() };
        let new = old.changed(&wanted, &[]);
        assert_eq!((new.encryption, new.kms_key), (Some(ServerSideEncryption::Aes256), None));
    }
}
