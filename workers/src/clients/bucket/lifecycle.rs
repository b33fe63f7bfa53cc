//! The rule by which the store itself deletes old backups. Other rules of the bucket stay.

use aws_sdk_s3::types::{
    AbortIncompleteMultipartUpload, BucketLifecycleConfiguration, ExpirationStatus,
    LifecycleExpiration, LifecycleRule, LifecycleRuleFilter,
};

use super::{Bucket, BucketError};

/// Our rule's name.
const RULE: &str = "growth-chat-backups";
/// Parts of an upload that died: by then it has been aborted, unless nothing runs any more.
const ABORT_DAYS: i32 = 2;

/// How objects below a prefix expire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expiry {
    /// The prefix.
    pub prefix: String,
    /// After how many days.
    pub days: u16,
}

impl Bucket {
    /// Has the store delete what is older, and reads the rule back. False: the store does not do such
    /// things, or the key may not say so.
    pub async fn expire(&self, expiry: &Expiry) -> Result<bool, BucketError> {
        let mut rules = match self.rules().await {
            Err(error) if error.is_unsupported() || error.is_forbidden() => return Ok(false),
            rules => rules?,
        };
        if rules.iter().any(|rule| says(rule, expiry)) {
            return Ok(true);
        }
        rules.retain(|rule| rule.id() != Some(RULE));
        let Ok(ours) = rule(expiry) else {
            return Ok(false);
        };
        rules.push(ours);
        let Ok(all) = BucketLifecycleConfiguration::builder()
            .set_rules(Some(rules))
            .build()
        else {
            return Ok(false);
        };
        let put = self
            .client
            .put_bucket_lifecycle_configuration()
            .bucket(&self.name)
            .lifecycle_configuration(all)
            .send()
            .await
            .map_err(|error| BucketError::of("setting the lifecycle rule", &error));
        match put {
            Err(error) if error.is_unsupported() || error.is_forbidden() => return Ok(false),
            put => drop(put?),
        }
        Ok(self.rules().await?.iter().any(|rule| says(rule, expiry)))
    }

    async fn rules(&self) -> Result<Vec<LifecycleRule>, BucketError> {
        let asked = self
            .client
            .get_bucket_lifecycle_configuration()
            .bucket(&self.name)
            .send()
            .await;
        match asked {
            Ok(found) => Ok(found.rules.unwrap_or_default()),
            Err(error) => {
                let error = BucketError::of("reading the lifecycle rules", &error);
                // So a bucket says that it has none.
                if error.is_missing_in_bucket() {
                    return Ok(Vec::new());
                }
                Err(error)
            }
        }
    }
}

fn rule(expiry: &Expiry) -> Result<LifecycleRule, aws_sdk_s3::error::BuildError> {
    LifecycleRule::builder()
        .id(RULE)
        .status(ExpirationStatus::Enabled)
        .filter(
            LifecycleRuleFilter::builder()
                .prefix(&expiry.prefix)
                .build(),
        )
        .expiration(
            LifecycleExpiration::builder()
                .days(expiry.days.into())
                .build(),
        )
        .abort_incomplete_multipart_upload(
            AbortIncompleteMultipartUpload::builder()
                .days_after_initiation(ABORT_DAYS)
                .build(),
        )
        .build()
}

fn says(rule: &LifecycleRule, expiry: &Expiry) -> bool {
    let days = rule.expiration().and_then(LifecycleExpiration::days);
    let prefix = rule.filter().and_then(LifecycleRuleFilter::prefix);
    rule.id() == Some(RULE)
        && *rule.status() == ExpirationStatus::Enabled
        && prefix == Some(expiry.prefix.as_str())
        && days == Some(expiry.days.into())
}
