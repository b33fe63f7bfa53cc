//! The bucket: an S3 store, by what backups and the erasure ledger need of it.
//!
//! Nothing of ours is overwritten by accident: [`Bucket::put_new`] and [`Bucket::complete`] say
//! `If-None-Match: *`, and where a store does not know that (501) they look once more and go on without.
//! A request is tried three times by the SDK; an error tells the operation, the status and the store's
//! code, and nothing of what was sent.

mod error;
mod lifecycle;
mod upload;

use std::time::Duration;

use aws_sdk_s3::{
    Client,
    config::{
        BehaviorVersion, Credentials, Region, RequestChecksumCalculation,
        ResponseChecksumValidation, retry::RetryConfig, timeout::TimeoutConfig,
    },
    primitives::{ByteStream, DateTimeFormat},
};
use aws_smithy_http_client::{
    Builder,
    tls::{Provider, rustls_provider::CryptoMode},
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use secrecy::ExposeSecret;

pub use self::{
    error::{BucketError, BucketFailure},
    lifecycle::Expiry,
    upload::{SentPart, StaleUpload},
};
use crate::config::BucketConfig;

/// The metadata that says which run made an object.
const TOKEN: &str = "growth-chat-run";
/// The most that is read of a small object: manifests and ledger entries are a few kilobytes.
const SMALL: u64 = 4 * 1024 * 1024;
/// Objects that are listed at most, of some hundred bytes each: thousands of years of backups, and more
/// erasures than there are visitors of most sites. More is an error: what is left out might be the newest.
const MOST_LISTED: usize = 1_000_000;

/// How patient the client is.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For a connection.
    pub connect: Duration,
    /// For the answer to one try of a request. A part of 5 MiB has to go through in it.
    pub attempt: Duration,
    /// Tries.
    pub tries: u32,
    /// The wait before the second try; doubled before each further one.
    pub first_wait: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            attempt: Duration::from_mins(1),
            tries: 3,
            first_wait: Duration::from_secs(1),
        }
    }
}

/// A client of one bucket. Clones share its connections.
#[derive(Debug, Clone)]
pub struct Bucket {
    client: Client,
    name: String,
}

/// An object, as a look at its head tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Its length in bytes.
    pub bytes: u64,
    /// The run that made it, if one of ours did.
    pub token: Option<String>,
}

/// An object of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its key.
    pub key: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// When it was written, by the store's clock.
    pub modified: Option<DateTime<Utc>>,
}

impl Bucket {
    /// A client. Connects to nothing yet.
    pub fn new(config: &BucketConfig, patience: Patience) -> Self {
        let credentials = Credentials::new(
            config.access_key_id.expose_secret(),
            config.secret_access_key.expose_secret(),
            None,
            None,
            "growth-chat",
        );
        let http = Builder::new()
            .tls_provider(Provider::Rustls(CryptoMode::Ring))
            .build_https();
        let sdk = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(config.region.clone()))
            .endpoint_url(&config.endpoint)
            .force_path_style(config.path_style)
            .credentials_provider(credentials)
            .http_client(http)
            .retry_config(
                RetryConfig::standard()
                    .with_max_attempts(patience.tries)
                    .with_initial_backoff(patience.first_wait),
            )
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(patience.connect)
                    .operation_attempt_timeout(patience.attempt)
                    .build(),
            )
            // The newer checksums are unknown to some stores. The signature has the SHA-256 of each
            // body, which every store compares.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .build();
        Self {
            client: Client::from_conf(sdk),
            name: config.name.clone(),
        }
    }

    /// Whether the bucket is there and ours to use.
    pub async fn probe(&self) -> Result<(), BucketError> {
        let asked = self.client.head_bucket().bucket(&self.name).send().await;
        asked
            .map(drop)
            .map_err(|error| BucketError::of("looking at the bucket", &error))
    }

    /// What an object is; `None`: there is none.
    pub async fn head(&self, key: &str) -> Result<Option<Head>, BucketError> {
        let asked = self.client.head_object().bucket(&self.name).key(key);
        match asked.send().await {
            Ok(head) => Ok(Some(Head {
                bytes: length(head.content_length()),
                token: head
                    .metadata()
                    .and_then(|metadata| metadata.get(TOKEN).cloned()),
            })),
            Err(error) => {
                let error = BucketError::of("looking at an object", &error);
                if error.is_missing_in_bucket() {
                    return Ok(None);
                }
                Err(error)
            }
        }
    }

    /// A small object as a whole; `None`: there is none.
    pub async fn get(&self, key: &str) -> Result<Option<Bytes>, BucketError> {
        const OPERATION: &str = "reading an object";
        let asked = self.client.get_object().bucket(&self.name).key(key);
        let found = match asked.send().await {
            Ok(found) => found,
            Err(error) => {
                let error = BucketError::of(OPERATION, &error);
                return if error.is_missing_in_bucket() {
                    Ok(None)
                } else {
                    Err(error)
                };
            }
        };
        if length(found.content_length()) > SMALL {
            return Err(BucketError::new(OPERATION, BucketFailure::TooLarge));
        }
        let body = found.body.collect().await;
        let body = body.map_err(|_| BucketError::new(OPERATION, BucketFailure::Broken))?;
        Ok(Some(body.into_bytes()))
    }

    /// The bytes of an object from an offset on.
    pub async fn read_from(&self, key: &str, offset: u64) -> Result<ByteStream, BucketError> {
        let asked = self.client.get_object().bucket(&self.name).key(key);
        let asked = match offset {
            0 => asked,
            offset => asked.range(format!("bytes={offset}-")),
        };
        let found = asked.send().await;
        let found = found.map_err(|error| BucketError::of("reading an object", &error))?;
        Ok(found.body)
    }

    /// Writes an object that is not there yet. False: it is, and stays as it is.
    pub async fn put_new(&self, key: &str, body: Bytes, kind: &str) -> Result<bool, BucketError> {
        const OPERATION: &str = "writing an object";
        let put = || {
            self.client
                .put_object()
                .bucket(&self.name)
                .key(key)
                .content_type(kind)
                .body(ByteStream::from(body.clone()))
        };
        let Err(error) = put().if_none_match("*").send().await else {
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
        let put = put().send().await;
        put.map(|_| true)
            .map_err(|error| BucketError::of(OPERATION, &error))
    }

    /// Removes an object; one that is not there is none the worse.
    pub async fn delete(&self, key: &str) -> Result<(), BucketError> {
        let deleted = self.client.delete_object().bucket(&self.name).key(key);
        match deleted.send().await {
            Ok(_) => Ok(()),
            Err(error) => {
                let error = BucketError::of("deleting an object", &error);
                if error.is_missing_in_bucket() {
                    return Ok(());
                }
                Err(error)
            }
        }
    }

    /// All objects below a prefix, in the order of their keys; an error beyond a million.
    pub async fn list(&self, prefix: &str) -> Result<Vec<Listed>, BucketError> {
        self.list_at_most(prefix, MOST_LISTED).await
    }

    async fn list_at_most(&self, prefix: &str, most: usize) -> Result<Vec<Listed>, BucketError> {
        const OPERATION: &str = "listing the bucket";
        let mut listed = Vec::new();
        let mut token = None;
        loop {
            let page = self
                .client
                .list_objects_v2()
                .bucket(&self.name)
                .prefix(prefix)
                .set_continuation_token(token)
                .send()
                .await
                .map_err(|error| BucketError::of(OPERATION, &error))?;
            for object in page.contents() {
                let Some(key) = object.key() else { continue };
                if listed.len() == most {
                    return Err(BucketError::new(OPERATION, BucketFailure::TooMany(most)));
                }
                listed.push(Listed {
                    key: key.to_owned(),
                    bytes: length(object.size()),
                    modified: object.last_modified().and_then(moment),
                });
            }
            token = page.next_continuation_token().map(str::to_owned);
            if token.is_none() {
                break;
            }
        }
        listed.sort_by(|one, other| one.key.cmp(&other.key));
        Ok(listed)
    }
}

fn length(told: Option<i64>) -> u64 {
    told.and_then(|bytes| u64::try_from(bytes).ok())
        .unwrap_or_default()
}

fn moment(time: &aws_sdk_s3::primitives::DateTime) -> Option<DateTime<Utc>> {
    let text = time.fmt(DateTimeFormat::DateTime).ok()?;
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use sandbox::s3::S3;

    use super::*;

    #[tokio::test]
    async fn a_list_has_every_page_or_is_an_error() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let s3 = S3::start(None, 0).await.unwrap();
        let config = BucketConfig {
            name: sandbox::s3::BUCKET.to_owned(),
            access_key_id: sandbox::s3::ACCESS_KEY_ID.into(),
            secret_access_key: sandbox::s3::SECRET_ACCESS_KEY.into(),
            endpoint: s3.url(),
            path_style: true,
            region: "auto".to_owned(),
        };
        let bucket = Bucket::new(&config, Patience::default());
        // A page has a thousand.
        std::fs::create_dir(s3.path("many")).unwrap();
        for number in 0..1_001 {
            std::fs::write(s3.path(&format!("many/{number:04}")), "").unwrap();
        }
        let listed = bucket.list("many/").await.unwrap();
        let keys: Vec<&str> = listed.iter().map(|object| object.key.as_str()).collect();
        assert_eq!(keys.len(), 1_001);
        assert_eq!(keys.last(), Some(&"many/1000"));
        assert_eq!(bucket.list_at_most("many/", 1_001).await.unwrap(), listed);
        let error = bucket.list_at_most("many/", 1_000).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "listing the bucket failed: there are more than 1000 objects"
        );
    }
}
