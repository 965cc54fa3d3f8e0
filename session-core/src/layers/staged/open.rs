//! Opening: what is staged, joined, continued, written through.

use std::sync::Arc;

use bytes::BytesMut;

use super::area::{Hold, New, View, changed};
use super::finish::finish;
use super::handle::{Handle, Reader};
use super::progress::Progress;
use super::table::{Serial, judged};
use super::{InPlace, Staged, unfinished};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::*;
use crate::metadata::{Attributes, Metadata};
use crate::path::VPath;

/// How much of a file is copied at once.
const CHUNK: usize = 256 << 10;

impl Staged {
    pub(super) async fn open_for_reading(
        &self,
        path: &VPath,
        options: &OpenOptions,
    ) -> Result<Arc<dyn File>> {
        match self.view(path) {
            Some(View::Open(_, body)) => Ok(Arc::new(Reader(body))),
            Some(View::Parked(..)) => Err(unfinished()),
            None => self.store().open(path, options).await,
        }
    }

    pub(super) async fn open_for_writing(
        &self,
        path: &VPath,
        options: &OpenOptions,
    ) -> Result<Arc<dyn File>> {
        if path.is_root() {
            return Err(Error::new(ErrorKind::IsADirectory));
        }
        if let (true, Some(name)) = (options.apart, &options.unfinished) {
            return self.go_on(path, name, options).await;
        }
        if self.area.policy.is_off(path) && self.view(path).is_none() {
            return self.store().open(path, options).await;
        }
        let mut hold = self.area.hold(vec![path.clone()]).await;
        loop {
            let published = self.published(path, options).await?;
            let view = self.view(path);
            if options.exclusive {
                if published.is_some() || matches!(view, Some(View::Parked(..))) {
                    return Err(Error::new(ErrorKind::AlreadyExists));
                }
                return Ok(Arc::new(self.stage(path, options, published, hold).await?.0));
            }
            if published.is_none() && view.is_none() && !options.create {
                return Err(Error::new(ErrorKind::NotFound));
            }
            if options.truncate {
                return Ok(Arc::new(self.stage(path, options, published, hold).await?.0));
            }
            match (view, published) {
                (Some(View::Open(_, body)), _) if body.is_sealed() => return Err(judged()),
                (Some(View::Open(serial, _)), _) => {
                    if let Some(body) = self.area.join(serial, options.if_match.clone()) {
                        return Ok(Arc::new(Handle::new(Arc::clone(&self.area), serial, body, options)));
                    }
                }
                (Some(View::Parked(serial, ..)), _) => {
                    let (handle, back) = self.reopen(serial, options, hold).await?;
                    match handle {
                        Some(handle) => return Ok(Arc::new(handle)),
                        None => hold = back,
                    }
                }
                (None, Some(published)) => return self.change_in_place(path, options, published, hold).await,
                (None, None) => return Ok(Arc::new(self.stage(path, options, None, hold).await?.0)),
            }
        }
    }

    /// Opens again what lasts under `name`. Errors: `NotFound` where it is over, or is to be published elsewhere.
    async fn go_on(&self, path: &VPath, name: &str, options: &OpenOptions) -> Result<Arc<dyn File>> {
        let mut hold = self.area.hold(vec![path.clone()]).await;
        // It may lie behind a link.
        self.published(path, options).await?;
        loop {
            match self.area.lasting(&self.owner, path, name) {
                None => return Err(Error::new(ErrorKind::NotFound).with_detail("the upload is over")),
                Some(View::Open(_, body)) if body.is_sealed() => return Err(judged()),
                Some(View::Open(serial, _)) => {
                    if let Some(body) = self.area.join(serial, None) {
                        // What was written through another handle is there, and comes no later.
                        body.still().await;
                        return Ok(Arc::new(Handle::new(Arc::clone(&self.area), serial, body, options)));
                    }
                }
                Some(View::Parked(serial, ..)) => {
                    let (handle, back) = self.reopen(serial, options, hold).await?;
                    match handle {
                        Some(handle) => return Ok(Arc::new(handle)),
                        None => hold = back,
                    }
                }
            }
        }
    }

    /// What stands published at `path`, as far as an open for writing may go on.
    async fn published(&self, path: &VPath, options: &OpenOptions) -> Result<Option<Metadata>> {
        // An exclusive open fails on a link, wherever it leads.
        let follow = if options.exclusive { Follow::No } else { Follow::Yes };
        let published = match self.store().stat(path, follow).await {
            Ok(published) => Some(published),
            Err(e) if e.kind() == ErrorKind::NotFound => None,
            Err(e) => return Err(e),
        };
        if let (Some(there), false) = (&published, options.exclusive) {
            if there.is_dir() {
                return Err(Error::new(ErrorKind::IsADirectory));
            }
            if !there.is_file() {
                return Err(Error::new(ErrorKind::InvalidArgument).with_detail("not a regular file"));
            }
        }
        if let Some(tag) = &options.if_match
            && published.as_ref().and_then(|p| p.etag.as_ref()) != Some(tag)
        {
            return Err(changed());
        }
        Ok(published)
    }

    /// A new staged file. The path stays held while it is made, also if the caller gives up.
    async fn stage(
        &self,
        path: &VPath,
        options: &OpenOptions,
        published: Option<Metadata>,
        hold: Hold,
    ) -> Result<(Handle, Hold)> {
        let copied = published.is_some() && !options.truncate;
        let attributes = if published.is_some() { Attributes::none() } else { options.attributes.clone() };
        let new = New {
            owner: self.owner.clone(),
            path: path.clone(),
            overwrites: published.is_some(),
            exclusive: options.exclusive,
            apart: options.apart && options.truncate,
            lasting: options.lasting.clone().filter(|_| options.truncate && self.area.may_last(&self.owner)),
            copied,
            if_match: options.if_match.clone(),
            attributes,
        };
        let (area, options) = (Arc::clone(&self.area), options.clone());
        finish(async move {
            let (serial, body) = area.stage_new(new).await?;
            Ok((Handle::new(area, serial, body, &options), hold))
        })
        .await
    }

    async fn reopen(
        &self,
        serial: Serial,
        options: &OpenOptions,
        hold: Hold,
    ) -> Result<(Option<Handle>, Hold)> {
        let (area, options) = (Arc::clone(&self.area), options.clone());
        finish(async move {
            let body = area.reopen(serial, options.if_match.clone()).await?;
            Ok((body.map(|body| Handle::new(area, serial, body, &options)), hold))
        })
        .await
    }

    async fn change_in_place(
        &self,
        path: &VPath,
        options: &OpenOptions,
        published: Metadata,
        hold: Hold,
    ) -> Result<Arc<dyn File>> {
        match self.area.policy.in_place {
            InPlace::Allow => {
                // Whatever happens to the file meanwhile, nothing is made here unstaged.
                let options = OpenOptions { create: false, ..options.clone() };
                self.store().open(path, &options).await
            }
            InPlace::Refuse => Err(refused()),
            InPlace::Copy => {
                let source = self.store().open(path, &OpenOptions::read()).await?;
                let (handle, _hold) = self.stage(path, options, Some(published), hold).await?;
                // Until it is whole the copy counts as nothing received: a drop throws it away.
                let size = copy_all(&*source, &*handle.body().file).await?;
                *handle.body().progress() = Progress::whole(size);
                Ok(Arc::new(handle))
            }
        }
    }

    /// Sets attributes by path, on the owner's upload where there is one.
    pub(super) async fn set_staged_attributes(
        &self,
        path: &VPath,
        attributes: &Attributes,
        follow: Follow,
    ) -> Result<()> {
        if self.view(path).is_none() {
            if attributes.size.is_none()
                || self.area.policy.in_place == InPlace::Allow
                || self.area.policy.is_off(path)
            {
                return self.store().set_attributes(path, attributes, follow).await;
            }
            // A size set by path changes the file in place, so the policy for that decides.
            let file = self.open_for_writing(path, &OpenOptions::update()).await?;
            file.set_attributes(attributes).await?;
            return file.commit(&CommitOptions::default()).await.map(drop);
        }
        let hold = self.area.hold(vec![path.clone()]).await;
        match self.view(path) {
            Some(View::Open(_, body)) => body.set_attributes(attributes).await,
            Some(View::Parked(serial, ..)) => {
                let (handle, _hold) = self.reopen(serial, &OpenOptions::update(), hold).await?;
                // Dropped, it is parked again.
                handle.ok_or(ErrorKind::NotFound)?.set_attributes(attributes).await
            }
            None => self.store().set_attributes(path, attributes, follow).await,
        }
    }
}

fn refused() -> Error {
    Error::refused("files here are not changed in place")
        .with_hint("send the whole file; it replaces the old one in one step")
}

async fn copy_all(from: &dyn File, to: &dyn File) -> Result<u64> {
    let mut offset = 0;
    loop {
        let chunk = from.read_into(offset, CHUNK, BytesMut::with_capacity(CHUNK)).await?;
        if chunk.is_empty() {
            return Ok(offset);
        }
        let len = chunk.len() as u64;
        to.write_at(offset, chunk.freeze()).await?;
        offset += len;
    }
}
