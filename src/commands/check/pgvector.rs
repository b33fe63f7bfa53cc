//! Whether the extension `vector` is there and new enough: before 0.8 a filtered search stops too
//! early, and 0.8.2 fixed how an index is built in parallel.

use super::{Context, Finding};

const OLDEST: [u32; 3] = [0, 8, 2];

pub(super) async fn probe(context: &Context) -> Finding {
    let Some(database) = &context.database else {
        return Finding::not_configured();
    };
    let versions = sqlx::query!(
        "select (select extversion from pg_extension where extname = 'vector') as installed,
                (select default_version from pg_available_extensions where name = 'vector') as available"
    )
    .fetch_one(database.pool())
    .await;
    match versions {
        Ok(row) => judge(row.installed.as_deref(), row.available.as_deref()),
        Err(error) => Finding::failed("the extensions can't be read", error),
    }
}

fn judge(installed: Option<&str>, available: Option<&str>) -> Finding {
    let needed = "0.8.2 or newer is needed";
    match (installed, available) {
        (None, None) => Finding::fail(format!("the server does not offer pgvector: {needed}")),
        (None, Some(version)) if parse(version) >= Some(OLDEST) => Finding::warn(format!(
            "pgvector {version} is offered and not installed yet: run `growth-chat migrate`"
        )),
        (None, Some(version)) => Finding::fail(format!("pgvector {version} is offered: {needed}")),
        (Some(version), _) if parse(version) >= Some(OLDEST) => {
            Finding::pass(format!("pgvector {version} is installed"))
        }
        (Some(version), _) => Finding::fail(format!(
            "pgvector {version} is too old: {needed}; update the server's package, then \
             `alter extension vector update`"
        )),
    }
}

/// `None` for what is no version; it is older than any.
fn parse(version: &str) -> Option<[u32; 3]> {
    let mut numbers = version.split('.').map(|part| part.parse().ok());
    let mut next = || numbers.next().unwrap_or(Some(0));
    Some([next()?, next()?, next()?])
}

#[cfg(test)]
mod tests {
    use super::{super::Status, *};

    #[test]
    fn versions_are_compared_by_their_numbers() {
        for (version, status) in [
            ("0.8.1", Status::Fail),
            ("0.8.2", Status::Pass),
            ("0.8.10", Status::Pass),
            ("0.10", Status::Pass),
            ("0.8", Status::Fail),
            ("1.0.0", Status::Pass),
            ("new", Status::Fail),
        ] {
            assert_eq!(judge(Some(version), None).status, status, "{version}");
        }
        assert_eq!(judge(None, None).status, Status::Fail);
        assert_eq!(judge(None, Some("0.7.4")).status, Status::Fail);
        assert_eq!(judge(None, Some("0.8.5")).status, Status::Warn);
    }
}
