//! What a store refused: the operation, the status, the store's code. Its message may quote what was
//! sent, and is left out.

use std::fmt;

use aws_sdk_s3::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
};

/// A request that failed, after its last try.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{operation} failed: {failure}")]
pub struct BucketError {
    /// What was done.
    pub operation: &'static str,
    /// How it failed.
    pub failure: BucketFailure,
}

/// How a request failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BucketFailure {
    /// The store refused.
    Refused {
        /// The HTTP status.
        status: u16,
        /// The store's word for it, `NoSuchBucket`.
        code: String,
    },
    /// No answer in time.
    TimedOut,
    /// The store was not reached.
    Unreachable,
    /// The answer broke off, or could not be understood.
    Broken,
    /// An object is larger than its kind is.
    TooLarge,
    /// There are more objects than this.
    TooMany(usize),
}

impl fmt::Display for BucketFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { status, code } => write!(f, "the store answered {status} {code}"),
            Self::TimedOut => f.write_str("the store did not answer in time"),
            Self::Unreachable => f.write_str("the store could not be reached"),
            Self::Broken => f.write_str("the store's answer broke off"),
            Self::TooMany(most) => write!(f, "there are more than {most} objects"),
            Self::TooLarge => f.write_str("the object is larger than it may be"),
        }
    }
}

impl BucketError {
    pub(super) fn new(operation: &'static str, failure: BucketFailure) -> Self {
        Self { operation, failure }
    }

    pub(super) fn of<E: ProvideErrorMetadata>(
        operation: &'static str,
        error: &SdkError<E, HttpResponse>,
    ) -> Self {
        let failure = match error {
            SdkError::TimeoutError(_) => BucketFailure::TimedOut,
            SdkError::DispatchFailure(failure) if failure.is_timeout() => BucketFailure::TimedOut,
            SdkError::DispatchFailure(_) | SdkError::ConstructionFailure(_) => {
                BucketFailure::Unreachable
            }
            SdkError::ServiceError(refused) => BucketFailure::Refused {
                status: refused.raw().status().as_u16(),
                code: word(refused.err().code()),
            },
            _ => BucketFailure::Broken,
        };
        Self { operation, failure }
    }

    /// What was read broke off.
    pub(crate) fn broken(operation: &'static str) -> Self {
        Self::new(operation, BucketFailure::Broken)
    }

    fn refused(&self) -> Option<(u16, &str)> {
        match &self.failure {
            BucketFailure::Refused { status, code } => Some((*status, code)),
            _ => None,
        }
    }

    /// There is no such thing in the bucket: an object, a lifecycle configuration. That the bucket is gone is
    /// another matter; the head of an object is answered without a word, though.
    pub(super) fn is_missing_in_bucket(&self) -> bool {
        self.refused()
            .is_some_and(|(status, code)| status == 404 && code != "NoSuchBucket")
    }

    /// The key is taken: `If-None-Match` did not hold, or somebody writes it right now.
    pub(super) fn is_taken(&self) -> bool {
        matches!(
            self.refused(),
            Some((412, _) | (409, "ConditionalRequestConflict"))
        )
    }

    /// The upload was aborted or completed.
    pub(super) fn is_missing_upload(&self) -> bool {
        self.refused()
            .is_some_and(|(status, code)| status == 404 && code == "NoSuchUpload")
    }

    /// The store does not know what was asked for.
    pub fn is_unsupported(&self) -> bool {
        matches!(self.refused(), Some((501 | 405, _)))
            || matches!(
                self.refused(),
                Some((_, "NotImplemented" | "MethodNotAllowed"))
            )
    }

    /// The key may not do this.
    pub fn is_forbidden(&self) -> bool {
        matches!(self.refused(), Some((403, _)))
    }
}

/// The store's code, if it is a word.
fn word(code: Option<&str>) -> String {
    let is_word = |code: &&str| {
        !code.is_empty()
            && code.len() <= 64
            && code.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    code.filter(is_word).unwrap_or("without a code").to_owned()
}
