//! `Layer` and `FileLayer`: a filesystem around a filesystem, with the forwarding written once.
//!
//! A layer is its struct, `inner()` and the methods it changes; the blanket impl makes it a
//! `Filesystem`. A layer's defaults forward where a store's defaults refuse, so an operation added to
//! the trait is not lost in a wrapper. The gate is deliberately not a layer (see [`crate::gate`]).

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};

use crate::capability::Capabilities;
use crate::error::Result;
use crate::fs::*;
use crate::metadata::{Attributes, Metadata};
use crate::path::VPath;

macro_rules! forwarding {
    (
        $(#[$doc:meta])* trait $layer:ident over $base:ident;
        $( fn $plain:ident($( $plain_arg:ident : $plain_ty:ty ),*) -> $plain_ret:ty; )*
        $( async fn $name:ident($( $arg:ident : $ty:ty ),*) -> $ret:ty; )*
    ) => {
        $(#[$doc])*
        #[async_trait]
        #[allow(missing_docs, reason = "each method is documented on the trait it forwards to")]
        pub trait $layer: Send + Sync {
            fn inner(&self) -> &dyn $base;
            $( fn $plain(&self, $( $plain_arg : $plain_ty ),*) -> $plain_ret { self.inner().$plain($($plain_arg),*) } )*
            $( async fn $name(&self, $( $arg : $ty ),*) -> $ret { self.inner().$name($($arg),*).await } )*
        }

        #[async_trait]
        impl<L: $layer> $base for L {
            $( fn $plain(&self, $( $plain_arg : $plain_ty ),*) -> $plain_ret { $layer::$plain(self, $($plain_arg),*) } )*
            $( async fn $name(&self, $( $arg : $ty ),*) -> $ret { $layer::$name(self, $($arg),*).await } )*
        }
    };
}

forwarding! {
    /// A filesystem around a filesystem: every method forwards to `inner()` unless it is overridden.
    trait Layer over Filesystem;
    fn capabilities() -> Capabilities;
    fn capabilities_at(path: &VPath) -> Capabilities;
    async fn stat(path: &VPath, follow: Follow) -> Result<Metadata>;
    async fn list(dir: &VPath, options: &ListOptions) -> Result<Listing>;
    async fn open(path: &VPath, options: &OpenOptions) -> Result<Arc<dyn File>>;
    async fn create_dir(path: &VPath, attributes: &Attributes) -> Result<()>;
    async fn remove_file(path: &VPath) -> Result<()>;
    async fn remove_dir(path: &VPath) -> Result<()>;
    async fn rename(from: &VPath, to: &VPath, replace: Replace) -> Result<()>;
    async fn set_attributes(path: &VPath, attributes: &Attributes, follow: Follow) -> Result<()>;
    async fn copy(from: &VPath, to: &VPath, replace: Replace) -> Result<()>;
    async fn symlink(target: &[u8], at: &VPath) -> Result<()>;
    async fn hard_link(from: &VPath, to: &VPath) -> Result<()>;
    async fn read_link(path: &VPath) -> Result<Bytes>;
    async fn canonicalize(path: &VPath) -> Result<VPath>;
    async fn space(path: &VPath) -> Result<Space>;
    async fn checksum(path: &VPath, algorithm: Algorithm, range: Range<u64>) -> Result<Bytes>;
    async fn stage(stage: &Stage) -> Result<(StageId, Arc<dyn File>)>;
    async fn publish(id: &StageId, to: &VPath, replace: Replace, keep: bool) -> Result<Metadata>;
    async fn unstage(id: &StageId) -> Result<()>;
    async fn staged() -> Result<Vec<StageEntry>>;
}

forwarding! {
    /// A file around a file: every method forwards to `inner()` unless it is overridden.
    trait FileLayer over File;
    async fn read_into(offset: u64, len: usize, buf: BytesMut) -> Result<BytesMut>;
    async fn write_at(offset: u64, data: Bytes) -> Result<()>;
    async fn metadata() -> Result<Metadata>;
    async fn set_attributes(attributes: &Attributes) -> Result<()>;
    async fn sync() -> Result<()>;
    async fn settle() -> Result<()>;
    async fn keep() -> Result<Option<Unfinished>>;
    async fn lend(range: Range<u64>) -> Result<Option<Lent>>;
    async fn seal(options: &CommitOptions) -> Result<Sealed>;
    async fn commit(options: &CommitOptions) -> Result<Metadata>;
    async fn park() -> Result<()>;
    async fn abort() -> Result<()>;
}
