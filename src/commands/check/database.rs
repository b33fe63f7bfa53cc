//! Whether the database can be reached, and is of a version that this is tested with.

use super::{Context, Finding};

/// The oldest version, as `server_version_num` has it.
const OLDEST: i32 = 150_000;
/// The first version that nobody has tried.
const UNTRIED: i32 = 190_000;

pub(super) async fn probe(context: &Context) -> Finding {
    let Some(database) = &context.database else {
        return Finding::not_configured();
    };
    if let Err(error) = database.probe().await {
        return Finding::failed("it can't be reached", error);
    }
    let version = sqlx::query_scalar!(
        r#"select current_setting('server_version_num')::integer as "version!""#
    )
    .fetch_one(database.pool())
    .await;
    match version {
        Ok(version) => judge(version, database.is_local()),
        Err(error) => Finding::failed("its version can't be read", error),
    }
}

fn judge(version: i32, local: bool) -> Finding {
    let shown = format!("PostgreSQL {}.{}", version / 10_000, version % 10_000);
    if version < OLDEST {
        Finding::fail(format!("{shown} is too old: 15 or newer is needed"))
    } else if version >= UNTRIED {
        Finding::warn(format!(
            "{shown} is newer than what this version was tried with: 15 to 18"
        ))
    } else {
        // Without TLS another host was refused before.
        let way = if local { "on this machine" } else { "over TLS" };
        Finding::pass(format!("{shown} answers, {way}"))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Status, *};

    #[test]
    fn versions_15_to_18_are_those_that_are_known_to_work() {
        for (version, status) in [
            (140_018, Status::Fail),
            (150_000, Status::Pass),
            (180_001, Status::Pass),
            (190_000, Status::Warn),
        ] {
            assert_eq!(judge(version, true).status, status, "{version}");
        }
        assert_eq!(
            judge(180_001, false).says,
            "PostgreSQL 18.1 answers, over TLS"
        );
    }
}
