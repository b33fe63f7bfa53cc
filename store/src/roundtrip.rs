//! How long a question to the database is under way: the network and the server's attention, without any
//! work of its own.
//!
//! A pool asks a connection whether it is still there before it lends it again. That question happens with
//! every piece of work and with nothing else, so that measuring it costs the database nothing, and one that
//! sleeps is left asleep.

use futures::{FutureExt, future::BoxFuture};
use sqlx::{Connection, PgConnection, Postgres, pool::PoolConnectionMetadata, pool::PoolOptions};
use tokio::time::Instant;

/// `growth_chat_database_roundtrip_seconds`.
const METRIC: &str = "growth_chat_database_roundtrip_seconds";

/// Has a pool ask each connection before it is lent again, as sqlx does by itself, and measures that.
pub(crate) fn measured(options: PoolOptions<Postgres>) -> PoolOptions<Postgres> {
    options.test_before_acquire(false).before_acquire(ask)
}

/// False: the connection is lost, and another one takes its place. How long it took to find that out says
/// nothing about the way to the server.
fn ask(
    connection: &mut PgConnection,
    _: PoolConnectionMetadata,
) -> BoxFuture<'_, sqlx::Result<bool>> {
    async move {
        let asked = Instant::now();
        match connection.ping().await {
            Ok(()) => {
                metrics::histogram!(METRIC).record(asked.elapsed().as_secs_f64());
                Ok(true)
            }
            Err(error) => {
                tracing::info!(error = %error, "an idle connection was lost");
                Ok(false)
            }
        }
    }
    .boxed()
}
