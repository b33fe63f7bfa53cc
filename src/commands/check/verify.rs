//! Whether a backup can be verified: it is restored into a database of its own on the same server.

use super::{Context, Finding};

pub(super) async fn probe(context: &Context) -> Finding {
    let (Some(database), Some(_)) = (&context.database, &context.backups) else {
        return Finding::not_configured();
    };
    let may = sqlx::query_scalar!(
        r#"select rolcreatedb or rolsuper as "may!" from pg_roles where rolname = current_user"#
    )
    .fetch_one(database.pool())
    .await;
    match may {
        Ok(true) => Finding::pass(
            "the user of CHECKPOINT_DB_URL may create the database that a backup is verified in",
        ),
        Ok(false) => Finding::warn(
            "the user of CHECKPOINT_DB_URL may not create databases, so that no backup is verified: \
             `alter role … createdb`",
        ),
        Err(error) => Finding::failed("it can't be looked at", error),
    }
}
