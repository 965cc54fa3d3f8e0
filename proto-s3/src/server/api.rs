//! The operations, each with its place.

use async_trait::async_trait;
use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result};

use super::exchange::Api;
use super::{buckets, copy, list, multipart, read, remove, write};

/// One operation a line: its name for the library, what goes in, what comes out, who does it.
macro_rules! operations {
    ($( $name:ident $input:ident $output:ident $place:path; )*) => {
        #[async_trait]
        impl S3 for Api {
            $(
                async fn $name(&self, req: S3Request<$input>) -> S3Result<S3Response<$output>> {
                    $place(&self.0, req).await
                }
            )*
        }
    };
}

operations! {
    abort_multipart_upload AbortMultipartUploadInput AbortMultipartUploadOutput multipart::abort;
    complete_multipart_upload CompleteMultipartUploadInput CompleteMultipartUploadOutput multipart::finish;
    copy_object CopyObjectInput CopyObjectOutput copy::copy;
    create_bucket CreateBucketInput CreateBucketOutput buckets::create;
    create_multipart_upload CreateMultipartUploadInput CreateMultipartUploadOutput multipart::create;
    delete_bucket DeleteBucketInput DeleteBucketOutput buckets::delete;
    delete_object DeleteObjectInput DeleteObjectOutput remove::one;
    delete_objects DeleteObjectsInput DeleteObjectsOutput remove::many;
    get_bucket_location GetBucketLocationInput GetBucketLocationOutput buckets::location;
    get_bucket_versioning GetBucketVersioningInput GetBucketVersioningOutput buckets::versioning;
    get_object GetObjectInput GetObjectOutput read::get;
    get_object_attributes GetObjectAttributesInput GetObjectAttributesOutput read::attributes;
    head_bucket HeadBucketInput HeadBucketOutput buckets::head;
    head_object HeadObjectInput HeadObjectOutput read::head;
    list_buckets ListBucketsInput ListBucketsOutput buckets::list;
    list_multipart_uploads ListMultipartUploadsInput ListMultipartUploadsOutput multipart::list;
    list_objects ListObjectsInput ListObjectsOutput list::first;
    list_objects_v2 ListObjectsV2Input ListObjectsV2Output list::second;
    list_parts ListPartsInput ListPartsOutput multipart::parts;
    put_object PutObjectInput PutObjectOutput write::put;
    upload_part UploadPartInput UploadPartOutput multipart::part;
    upload_part_copy UploadPartCopyInput UploadPartCopyOutput multipart::part_copy;
}
