//! Multipart uploads: nothing is at the key before [`Bucket::complete`].

use aws_sdk_s3::{
    primitives::ByteStream,
    types::{CompletedMultipartUpload, CompletedPart},
};
use bytes::Bytes;
use chrono::{DateTime, Utc};

use super::{Bucket, BucketError, TOKEN, length, moment};

/// A part that the store has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentPart {
    /// From 1.
    pub number: i32,
    /// What the store calls its content.
    pub etag: String,
    /// Its length in bytes.
    pub bytes: u64,
}

/// An upload that nobody has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaleUpload {
    /// Where it leads to.
    pub key: String,
    /// Its id.
    pub upload_id: String,
    /// When it was begun, by the store's clock.
    pub begun: Option<DateTime<Utc>>,
}

impl Bucket {
    /// Begins an upload and returns its id.
    pub async fn begin_upload(
        &self,
        key: &str,
        kind: &str,
        token: &str,
    ) -> Result<String, BucketError> {
        const OPERATION: &str = "beginning the upload";
        let begun = self
            .client
            .create_multipart_upload()
            .bucket(&self.name)
            .key(key)
            .content_type(kind)
            .metadata(TOKEN, token)
            .send()
            .await
            .map_err(|error| BucketError::of(OPERATION, &error))?;
        begun
            .upload_id
            .ok_or_else(|| BucketError::new(OPERATION, super::BucketFailure::Broken))
    }

    /// Sends a part.
    pub async fn send_part(
        &self,
        key: &str,
        upload_id: &str,
        number: i32,
        body: Bytes,
    ) -> Result<SentPart, BucketError> {
        let bytes = body.len() as u64;
        let sent = self
            .client
            .upload_part()
            .bucket(&self.name)
            .key(key)
            .upload_id(upload_id)
            .part_number(number)
            .body(ByteStream::from(body))
            .send()
            .await
            .map_err(|error| BucketError::of("sending a part", &error))?;
        Ok(SentPart {
            number,
            etag: sent.e_tag.unwrap_or_default(),
            bytes,
        })
    }

    /// The numbers and lengths of the parts that the store has, in their order.
    pub async fn parts(&self, key: &str, upload_id: &str) -> Result<Vec<(i32, u64)>, BucketError> {
        let mut parts = Vec::new();
        let mut marker = None;
        loop {
            let page = self
                .client
                .list_parts()
                .bucket(&self.name)
                .key(key)
                .upload_id(upload_id)
                .set_part_number_marker(marker)
                .send()
                .await
                .map_err(|error| BucketError::of("looking at the parts", &error))?;
            let told = page.parts().iter();
            parts.extend(told.filter_map(|part| Some((part.part_number()?, length(part.size())))));
            marker = page
                .next_part_number_marker()
                .filter(|_| page.is_truncated() == Some(true))
                .map(str::to_owned);
            if marker.is_none() {
                break;
            }
        }
        parts.sort_unstable();
        Ok(parts)
    }

    /// Puts the parts at the key. False: something is there already, and stays.
    pub async fn complete(
        &self,
        key: &str,
        upload_id: &str,
        parts: &[SentPart],
    ) -> Result<bool, BucketError> {
        const OPERATION: &str = "completing the upload";
        let parts = parts.iter().map(|part| {
            CompletedPart::builder()
                .part_number(part.number)
                .e_tag(&part.etag)
                .build()
        });
        let whole = CompletedMultipartUpload::builder()
            .set_parts(Some(parts.collect()))
            .build();
        let complete = self
            .client
            .complete_multipart_upload()
            .bucket(&self.name)
            .key(key)
            .upload_id(upload_id)
            .multipart_upload(whole);
        let Err(error) = complete.clone().if_none_match("*").send().await else {
            return Ok(true);
        };
        let error = BucketError::of(OPERATION, &error);
        if error.is_taken() {
            return Ok(false);
        }
        if !error.is_unsupported() {
            return Err(error);
        }
        if self.head(key).await?.is_some() {
            return Ok(false);
        }
        let completed = complete.send().await;
        completed
            .map(|_| true)
            .map_err(|error| BucketError::of(OPERATION, &error))
    }

    /// Drops an upload and its parts; one that is gone is none the worse.
    pub async fn abort(&self, key: &str, upload_id: &str) -> Result<(), BucketError> {
        let aborted = self
            .client
            .abort_multipart_upload()
            .bucket(&self.name)
            .key(key)
            .upload_id(upload_id)
            .send()
            .await;
        match aborted {
            Ok(_) => Ok(()),
            Err(error) => {
                let error = BucketError::of("aborting the upload", &error);
                if error.is_missing_upload() {
                    return Ok(());
                }
                Err(error)
            }
        }
    }

    /// The first thousand uploads below a prefix that nobody has ended.
    pub async fn uploads(&self, prefix: &str) -> Result<Vec<StaleUpload>, BucketError> {
        let page = self
            .client
            .list_multipart_uploads()
            .bucket(&self.name)
            .prefix(prefix)
            .send()
            .await
            .map_err(|error| BucketError::of("listing the uploads", &error))?;
        let uploads = page.uploads().iter().filter_map(|upload| {
            Some(StaleUpload {
                key: upload.key()?.to_owned(),
                upload_id: upload.upload_id()?.to_owned(),
                begun: upload.initiated().and_then(moment),
            })
        });
        Ok(uploads.collect())
    }
}
