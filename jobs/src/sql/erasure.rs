//! The live jobs that write for a session: found by keys, because the table may hold a million others.

use sqlx::PgConnection;
use store::ids::SessionId;

/// The live jobs of two serial keys, in their order.
pub(crate) async fn live_of_keys(
    conn: &mut PgConnection,
    first: &str,
    second: &str,
) -> sqlx::Result<Vec<i64>> {
    // Each half has an index; together they would have none.
    sqlx::query_scalar!(
        r#"select id as "id!"
           from (select id from queue.jobs where serial_key = $1 and state <> 'blocked'
                 union all
                 select id from queue.jobs where serial_key = $1 and state = 'blocked'
                 union all
                 select id from queue.jobs where serial_key = $2 and state <> 'blocked'
                 union all
                 select id from queue.jobs where serial_key = $2 and state = 'blocked') live
           order by id"#,
        first,
        second,
    )
    .fetch_all(conn)
    .await
}

/// The live jobs that deliver the session's handoffs, and whatever else is just running for it. Those that
/// wait find nothing when they run: no handoff, no thread. Events for endpoints name ids only; they belong
/// to the order of their endpoint and stay in it.
pub(crate) async fn live_of_handoffs(
    conn: &mut PgConnection,
    session_id: &SessionId,
) -> sqlx::Result<Vec<i64>> {
    sqlx::query_scalar!(
        r#"select id as "id!"
           from (select j.id
                 from handoff_records r
                 cross join unnest(array['handoff.slack', 'handoff.crm', 'handoff.slack_update', 'handoff.email',
                                         'handoff.remind']) as k (kind)
                 join queue.jobs j on j.kind = k.kind and j.unique_key = r.handoff_id
                 where r.session_id = $1
                 union
                 select id from queue.jobs
                 where state = 'running' and payload ->> 'session_id' = $1 and kind <> 'webhook.deliver') live
           order by id"#,
        session_id.as_str(),
    )
    .fetch_all(conn)
    .await
}
