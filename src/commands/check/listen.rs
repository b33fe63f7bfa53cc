//! Whether a notification arrives: wake-ups and streams live on it, and a transaction pooler swallows
//! it without an error.

use std::time::Duration;

use sqlx::{PgPool, postgres::PgListener};
use store::bus::Deaf;
use tokio::time::timeout;

use super::{Context, Finding};
use crate::process::fresh_name;

/// How long a notification may take. It takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(3);

pub(super) async fn probe(context: &Context) -> Finding {
    let Some(database) = &context.database else {
        return Finding::not_configured();
    };
    match timeout(PATIENCE, arrives(database.pool())).await {
        Ok(Ok(())) => Finding::pass("they arrive: the connection is direct"),
        Ok(Err(error)) => Finding::failed("LISTEN failed", error),
        Err(_) => Finding::fail(Deaf.to_string()),
    }
}

async fn arrives(pool: &PgPool) -> sqlx::Result<()> {
    // Nobody else has this channel.
    let channel = format!("growth_chat_check_{}", fresh_name());
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(&channel).await?;
    sqlx::query!("select pg_notify($1, '')", channel)
        .execute(pool)
        .await?;
    listener.recv().await.map(drop)
}
