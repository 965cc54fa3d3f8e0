//! Every operation of S3 that the server knows, one row each.
//!
//! What a row says is asked in one place before the operation is carried out: which operation of the gate it
//! becomes. One that becomes none is shown to hooks as a command. A new operation is a row here and a function in
//! `api.rs`; what has no row is 501.

use session_core::operation::OperationKind as Op;

/// One operation.
#[derive(Debug)]
pub struct Row {
    /// Its name in the API Reference.
    pub name: &'static str,
    /// What the gate sees; `None` for what is no operation, which hooks see as a command.
    pub operation: Option<Op>,
    /// Its body is XML, and is taken into memory.
    pub has_list: bool,
    /// What it does, in words.
    pub help: &'static str,
}

const fn row(name: &'static str, operation: Option<Op>, help: &'static str) -> Row {
    Row { name, operation, has_list: false, help }
}

/// One whose body is XML.
const fn listed(name: &'static str, operation: Option<Op>, help: &'static str) -> Row {
    Row { has_list: true, ..row(name, operation, help) }
}

/// The rows, by name.
pub const TABLE: &[Row] = &[
    row("AbortMultipartUpload", Some(Op::Abort), "throws an upload in parts away"),
    listed("CompleteMultipartUpload", Some(Op::Commit), "publishes an upload in parts"),
    row("CopyObject", Some(Op::Copy), "copies an object, or changes what is kept with it"),
    listed("CreateBucket", Some(Op::CreateDir), "makes a bucket: a directory of the root"),
    row("CreateMultipartUpload", Some(Op::Open), "begins an upload in parts"),
    row("DeleteBucket", Some(Op::RemoveDir), "removes an empty bucket"),
    row("DeleteObject", Some(Op::RemoveFile), "removes an object, if it is there"),
    listed("DeleteObjects", Some(Op::RemoveFile), "removes up to a thousand objects"),
    row("GetBucketLocation", None, "the region that is configured"),
    row("GetBucketVersioning", None, "says that there are no versions"),
    row("GetObject", Some(Op::Open), "reads an object, or a range of it"),
    row("GetObjectAttributes", Some(Op::Stat), "what is asked for of what is known of an object"),
    row("HeadBucket", Some(Op::Stat), "whether a bucket is there"),
    row("HeadObject", Some(Op::Stat), "what is known of an object"),
    row("ListBuckets", Some(Op::List), "the buckets: the directories of the root"),
    row("ListMultipartUploads", None, "the uploads in parts that are under way"),
    row("ListObjects", Some(Op::List), "the objects of a bucket in pages, by marker"),
    row("ListObjectsV2", Some(Op::List), "the same, by continuation token"),
    row("ListParts", None, "the parts of an upload that have arrived"),
    row("PostObject", Some(Op::Commit), "writes an object out of a form of a browser"),
    row("PutObject", Some(Op::Commit), "writes an object"),
    row("UploadPart", Some(Op::Write), "writes a part of an upload"),
    row("UploadPartCopy", Some(Op::Write), "writes a part of an upload from another object"),
];

impl Row {
    /// The row of an operation by its name.
    pub fn find(name: &str) -> Option<&'static Row> {
        TABLE.iter().find(|row| row.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_by_name() {
        assert!(TABLE.is_sorted_by_key(|row| row.name));
        assert!(Row::find("GetObject").is_some() && Row::find("GetObjectTorrent").is_none());
    }
}
