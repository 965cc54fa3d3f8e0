//! `ReadOnly`: nothing is changed through this session, whatever its permissions say.
//!
//! Refused before the store sees it. Chunks need no look: a file that was not opened for writing takes
//! none.

use async_trait::async_trait;

use crate::error::{Error, Result};
use crate::intercept::{Cx, Interceptor};
use crate::operation::{Operation, OperationKind, OperationSet};

/// The interceptor.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReadOnly;

fn changes(operation: &Operation<'_>) -> bool {
    match operation {
        Operation::Open(r) => r.options.write || r.options.create || r.options.truncate,
        Operation::Abort(_)
        | Operation::Commit(_)
        | Operation::Copy(_)
        | Operation::CreateDir(_)
        | Operation::HardLink(_)
        | Operation::Lock(_)
        | Operation::Park(_)
        | Operation::RemoveDir(_)
        | Operation::RemoveFile(_)
        | Operation::Rename(_)
        | Operation::SetAttributes(_)
        | Operation::Symlink(_)
        | Operation::Sync(_)
        | Operation::Write(_) => true,
        Operation::Canonicalize(_)
        | Operation::Checksum(_)
        | Operation::List(_)
        | Operation::Read(_)
        | Operation::ReadLink(_)
        | Operation::Space(_)
        | Operation::Stat(_)
        | Operation::Unlock(_) => false,
    }
}

#[async_trait]
impl Interceptor for ReadOnly {
    fn interests(&self) -> OperationSet {
        // The end of an upload and a sync follow an open that was refused.
        OperationSet::of(&[
            OperationKind::Copy,
            OperationKind::CreateDir,
            OperationKind::HardLink,
            OperationKind::Lock,
            OperationKind::Open,
            OperationKind::RemoveDir,
            OperationKind::RemoveFile,
            OperationKind::Rename,
            OperationKind::SetAttributes,
            OperationKind::Symlink,
        ])
    }

    async fn before(&self, _: &Cx<'_>, operation: Operation<'_>) -> Result<(), Error> {
        if changes(&operation) {
            return Err(Error::refused("permission denied: this account may only read"));
        }
        Ok(())
    }
}
