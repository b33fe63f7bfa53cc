//! The store behind the stand-in: `s3s-fs`, with what it lacks, and what is broken on demand.

use std::{collections::BTreeMap, future::pending, io, path::Path, sync::Arc, time::SystemTime};

use s3s::{
    S3, S3Request, S3Response, S3Result,
    auth::Credentials,
    dto::{
        AbortMultipartUploadInput, AbortMultipartUploadOutput, CompleteMultipartUploadInput,
        CompleteMultipartUploadOutput, CreateMultipartUploadInput, CreateMultipartUploadOutput,
        DeleteObjectInput, DeleteObjectOutput, GetBucketLifecycleConfigurationInput,
        GetBucketLifecycleConfigurationOutput, GetObjectInput, GetObjectOutput, HeadBucketInput,
        HeadBucketOutput, HeadObjectInput, HeadObjectOutput, LifecycleRule,
        ListMultipartUploadsInput, ListMultipartUploadsOutput, ListObjectsV2Input,
        ListObjectsV2Output, ListPartsInput, ListPartsOutput, MultipartUpload,
        PutBucketLifecycleConfigurationInput, PutBucketLifecycleConfigurationOutput,
        PutObjectInput, PutObjectOutput, Timestamp, UploadPartInput, UploadPartOutput,
    },
    s3_error,
};
use s3s_fs::FileSystem;

use super::{Fault, Faults, Rule, Shared};

/// An upload that nobody has ended.
#[derive(Debug)]
pub(super) struct Unfinished {
    pub(super) key: String,
    begun: SystemTime,
}

/// Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Store {
    files: Arc<FileSystem>,
    pub(super) faults: Shared<Faults>,
    /// By their ids.
    pub(super) uploads: Shared<BTreeMap<String, Unfinished>>,
    pub(super) parts: Shared<usize>,
    rules: Shared<Option<Vec<LifecycleRule>>>,
}

impl Store {
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        let files =
            FileSystem::new(folder).map_err(|error| io::Error::other(format!("{error:?}")))?;
        Ok(Self {
            files: Arc::new(files),
            faults: Shared::default(),
            uploads: Shared::default(),
            parts: Shared::default(),
            rules: Shared::default(),
        })
    }

    pub(super) fn told_rules(&self) -> Vec<Rule> {
        let rules = self.rules.lock();
        let told = rules.iter().flatten().map(|rule| Rule {
            id: rule.id.clone().unwrap_or_default(),
            prefix: rule
                .filter
                .as_ref()
                .and_then(|filter| filter.prefix.clone())
                .unwrap_or_default(),
            days: rule
                .expiration
                .as_ref()
                .and_then(|expiration| expiration.days),
        });
        told.collect()
    }

    /// What is broken; an error where the bucket is gone.
    fn faults(&self) -> S3Result<Faults> {
        let faults = self.faults.lock().clone();
        if faults.gone {
            Err(s3_error!(NoSuchBucket))
        } else {
            Ok(faults)
        }
    }
}

/// Fails before anything is done.
async fn before(fault: Option<Fault>, keys: Option<&Credentials>) -> S3Result<()> {
    match fault {
        Some(Fault::Refuse) => Err(s3_error!(InternalError)),
        Some(Fault::Quote) => {
            let id = keys.map_or("", |keys| &keys.access_key);
            let secret = keys.map_or("", |keys| keys.secret_key.expose());
            Err(s3_error!(InternalError, "{id} with {secret} may not"))
        }
        Some(Fault::Hang) => pending().await,
        Some(Fault::LoseAnswer) | None => Ok(()),
    }
}

/// Fails after it was done.
fn after<T>(fault: Option<Fault>, answer: S3Response<T>) -> S3Result<S3Response<T>> {
    if fault == Some(Fault::LoseAnswer) {
        Err(s3_error!(InternalError))
    } else {
        Ok(answer)
    }
}

#[async_trait::async_trait]
impl S3 for Store {
    async fn head_bucket(
        &self,
        request: S3Request<HeadBucketInput>,
    ) -> S3Result<S3Response<HeadBucketOutput>> {
        self.faults()?;
        self.files.head_bucket(request).await
    }

    async fn head_object(
        &self,
        request: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        self.faults()?;
        self.files.head_object(request).await
    }

    async fn get_object(
        &self,
        request: S3Request<GetObjectInput>,
    ) -> S3Result<S3Response<GetObjectOutput>> {
        self.faults()?;
        self.files.get_object(request).await
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        self.faults()?;
        self.files.list_objects_v2(request).await
    }

    async fn put_object(
        &self,
        request: S3Request<PutObjectInput>,
    ) -> S3Result<S3Response<PutObjectOutput>> {
        let faults = self.faults()?;
        if faults.no_conditions && request.input.if_none_match.is_some() {
            return Err(s3_error!(NotImplemented));
        }
        before(faults.put, request.credentials.as_ref()).await?;
        after(faults.put, self.files.put_object(request).await?)
    }

    async fn delete_object(
        &self,
        request: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        let faults = self.faults()?;
        before(faults.delete, request.credentials.as_ref()).await?;
        after(faults.delete, self.files.delete_object(request).await?)
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let faults = self.faults()?;
        before(faults.begin, request.credentials.as_ref()).await?;
        let key = request.input.key.clone();
        let answer = self.files.create_multipart_upload(request).await?;
        if let Some(id) = &answer.output.upload_id {
            #[expect(clippy::disallowed_methods, reason = "a store has a clock of its own")]
            let begun = SystemTime::now();
            self.uploads
                .lock()
                .insert(id.clone(), Unfinished { key, begun });
        }
        after(faults.begin, answer)
    }

    async fn upload_part(
        &self,
        request: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        let faults = self.faults()?;
        let number = request.input.part_number;
        let fault = faults
            .part
            .filter(|(broken, _)| *broken == number)
            .map(|(_, fault)| fault);
        before(fault, request.credentials.as_ref()).await?;
        if !self.uploads.lock().contains_key(&request.input.upload_id) {
            return Err(s3_error!(NoSuchUpload));
        }
        let answer = self.files.upload_part(request).await?;
        *self.parts.lock() += 1;
        after(fault, answer)
    }

    async fn list_parts(
        &self,
        request: S3Request<ListPartsInput>,
    ) -> S3Result<S3Response<ListPartsOutput>> {
        self.faults()?;
        self.files.list_parts(request).await
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let faults = self.faults()?;
        if faults.no_conditions && request.input.if_none_match.is_some() {
            return Err(s3_error!(NotImplemented));
        }
        before(faults.complete, request.credentials.as_ref()).await?;
        let id = request.input.upload_id.clone();
        if !self.uploads.lock().contains_key(&id) {
            return Err(s3_error!(NoSuchUpload));
        }
        let answer = self.files.complete_multipart_upload(request).await?;
        self.uploads.lock().remove(&id);
        after(faults.complete, answer)
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        self.faults()?;
        if self
            .uploads
            .lock()
            .remove(&request.input.upload_id)
            .is_none()
        {
            return Err(s3_error!(NoSuchUpload));
        }
        self.files.abort_multipart_upload(request).await
    }

    async fn list_multipart_uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        self.faults()?;
        let prefix = request.input.prefix.unwrap_or_default();
        let uploads = self.uploads.lock();
        let listed = uploads
            .iter()
            .filter(|(_, upload)| upload.key.starts_with(&prefix))
            .map(|(id, upload)| MultipartUpload {
                key: Some(upload.key.clone()),
                upload_id: Some(id.clone()),
                initiated: Some(Timestamp::from(upload.begun)),
                ..MultipartUpload::default()
            });
        Ok(S3Response::new(ListMultipartUploadsOutput {
            uploads: Some(listed.collect()),
            ..ListMultipartUploadsOutput::default()
        }))
    }

    async fn get_bucket_lifecycle_configuration(
        &self,
        _request: S3Request<GetBucketLifecycleConfigurationInput>,
    ) -> S3Result<S3Response<GetBucketLifecycleConfigurationOutput>> {
        if self.faults()?.no_lifecycle {
            return Err(s3_error!(NotImplemented));
        }
        let Some(rules) = self.rules.lock().clone() else {
            return Err(s3_error!(NoSuchLifecycleConfiguration));
        };
        Ok(S3Response::new(GetBucketLifecycleConfigurationOutput {
            rules: Some(rules),
            ..GetBucketLifecycleConfigurationOutput::default()
        }))
    }

    async fn put_bucket_lifecycle_configuration(
        &self,
        request: S3Request<PutBucketLifecycleConfigurationInput>,
    ) -> S3Result<S3Response<PutBucketLifecycleConfigurationOutput>> {
        if self.faults()?.no_lifecycle {
            return Err(s3_error!(NotImplemented));
        }
        let rules = request.input.lifecycle_configuration;
        *self.rules.lock() = rules.map(|rules| rules.rules);
        Ok(S3Response::new(
            PutBucketLifecycleConfigurationOutput::default(),
        ))
    }
}
