//! Whether the schema is as this program needs it.

use store::migration::is_migrated;

use super::{Context, Finding};

pub(super) async fn probe(context: &Context) -> Finding {
    let Some(database) = &context.database else {
        return Finding::not_configured();
    };
    match is_migrated(database.pool()).await {
        Ok(true) => Finding::pass("every migration of this version is applied"),
        Ok(false) => Finding::fail("it is older than this program: run `growth-chat migrate`"),
        Err(error) => Finding::failed("it can't be looked at", error),
    }
}
