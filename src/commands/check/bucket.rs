//! Whether the bucket of the backups can be used: looked at and listed, nothing is written.

use workers::{
    backup::{Found, Restorer, told},
    clients::bucket::{BucketError, BucketFailure, Patience},
};

use super::{Context, Finding};

pub(super) async fn probe(context: &Context) -> Finding {
    let Some(config) = &context.backups else {
        return Finding::not_configured();
    };
    let restorer = Restorer::new(config, Patience::default());
    if let Err(error) = restorer.bucket().probe().await {
        return Finding::fail(format!("it can't be used: {error}: {}", advice(&error)));
    }
    match restorer.list().await {
        Ok(found) => judge(&found),
        Err(error) => Finding::fail(format!(
            "it can't be listed: {}: the key of TIGRIS_ACCESS_KEY_ID needs to list, read, write and delete",
            told(&error)
        )),
    }
}

/// How good what it has is. How old the newest good one may be is for the alerts to say.
fn judge(found: &[Found]) -> Finding {
    let Some(newest) = found.last() else {
        return Finding::warn("it has no backup yet: run `growth-chat backup`");
    };
    let says = format!(
        "it has {} backups, the newest is {}",
        found.len(),
        newest.name
    );
    let unreadable = found.iter().rev().find_map(|found| {
        let error = found.manifest.as_ref().err()?;
        Some((&found.name, told(error)))
    });
    let proved = found.iter().rev().find(|found| found.proved_at.is_some());
    match (unreadable, proved) {
        (Some((name, error)), _) => Finding::warn(format!("{says}; {name} can't be used: {error}")),
        (None, None) => Finding::warn(format!(
            "{says}; none was ever restored for a proof: run `growth-chat backup verify`"
        )),
        (None, Some(proved)) => Finding::pass(format!(
            "{says}; the newest that was restored for a proof is {}",
            proved.name
        )),
    }
}

fn advice(error: &BucketError) -> &'static str {
    match error.failure {
        BucketFailure::Refused {
            status: 401 | 403, ..
        } => {
            "look at TIGRIS_ACCESS_KEY_ID and TIGRIS_SECRET_ACCESS_KEY, and whether the key is for the bucket of \
             TIGRIS_BUCKET_NAME"
        }
        BucketFailure::Refused { status: 404, .. } => {
            "there is no bucket of the name in TIGRIS_BUCKET_NAME: make it, or correct the name"
        }
        _ => "look at TIGRIS_ENDPOINT_URL and TIGRIS_REGION",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_store_refuses_is_told_with_the_variables_to_look_at() {
        for (status, named) in [
            (401, "TIGRIS_SECRET_ACCESS_KEY"),
            (403, "TIGRIS_SECRET_ACCESS_KEY"),
            (404, "TIGRIS_BUCKET_NAME"),
            (500, "TIGRIS_ENDPOINT_URL"),
        ] {
            let error = BucketError {
                operation: "looking at the bucket",
                failure: BucketFailure::Refused {
                    status,
                    code: "without a code".to_owned(),
                },
            };
            assert!(advice(&error).contains(named), "{status}");
        }
    }
}
