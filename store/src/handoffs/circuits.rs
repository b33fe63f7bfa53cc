//! What the fleet knows of a provider. What follows from it is decided in `workers`.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

/// A provider's recent past.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Circuit {
    /// Different handoffs that failed since the last success.
    pub failed_handoffs: Vec<String>,
    /// How often in a row a probe has failed.
    pub failed_probes: i32,
    /// Until then nobody asks; `None`: closed.
    pub open_until: Option<DateTime<Utc>>,
}

/// A provider's circuit and the database's time. With `lock`, nobody changes it until the transaction
/// ends; of a provider that never failed there is nothing to lock.
pub async fn circuit(
    conn: &mut PgConnection,
    provider: &str,
    lock: bool,
) -> sqlx::Result<(Circuit, DateTime<Utc>)> {
    if lock {
        sqlx::query!(
            "select from provider_circuits where provider = $1 for update",
            provider
        )
        .execute(&mut *conn)
        .await?;
    }
    let row = sqlx::query!(
        r#"select clock_timestamp() as "now!", failed_handoffs as "failed_handoffs?",
                  failed_probes as "failed_probes?", open_until as "open_until?"
           from (select) as always left join provider_circuits on provider = $1"#,
        provider
    )
    .fetch_one(conn)
    .await?;
    let circuit = Circuit {
        failed_handoffs: row.failed_handoffs.unwrap_or_default(),
        failed_probes: row.failed_probes.unwrap_or_default(),
        open_until: row.open_until,
    };
    Ok((circuit, row.now))
}

/// Keeps a provider's circuit.
pub async fn keep_circuit(
    conn: &mut PgConnection,
    provider: &str,
    circuit: &Circuit,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into provider_circuits (provider, failed_handoffs, failed_probes, open_until)
         values ($1, $2, $3, $4)
         on conflict on constraint provider_circuits_pkey do update
         set failed_handoffs = excluded.failed_handoffs, failed_probes = excluded.failed_probes,
             open_until = excluded.open_until, updated_at = now()",
        provider,
        &circuit.failed_handoffs,
        circuit.failed_probes,
        circuit.open_until,
    )
    .execute(conn)
    .await?;
    Ok(())
}
