//! Transactions that are held back before their commit.

use sqlx::{Connection, PgConnection};

use super::support::Leads;

/// A lock of the test's own that a transaction has to wait for.
pub(super) struct Lock(PgConnection);

impl Lock {
    pub(super) async fn take(leads: &Leads, statement: &'static str) -> Self {
        let mut connection = PgConnection::connect(&leads.system.database_url())
            .await
            .unwrap();
        sqlx::raw_sql("begin")
            .execute(&mut connection)
            .await
            .unwrap();
        sqlx::raw_sql(statement)
            .execute(&mut connection)
            .await
            .unwrap();
        Self(connection)
    }

    /// Keeps the deliveries of a channel from being written as delivered, and nothing else.
    pub(super) async fn of_ends(leads: &Leads, channel: &str) -> Self {
        // A trigger of this database's own: whoever writes that waits for the lock that the test holds.
        let trigger = format!(
            "create or replace function hold_back() returns trigger language plpgsql as $$ begin
                 if new.status = 'delivered' and new.channel = '{channel}' then
                     perform pg_advisory_xact_lock(4711);
                 end if;
                 return new;
             end $$;
             create or replace trigger hold_back before update on handoff_deliveries
                 for each row execute function hold_back();"
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(trigger))
            .execute(&leads.pool)
            .await
            .unwrap();
        Self::take(leads, "select pg_advisory_xact_lock(4711)").await
    }

    pub(super) async fn until_waited_for(&self, leads: &Leads, by: usize) {
        leads
            .until("the ends wait for the lock", async || {
                let waiting = "select count(*) from pg_stat_activity
                    where datname = current_database() and wait_event_type = 'Lock' and application_name = 'growth-chat'";
                let waiting = usize::try_from(leads.count(waiting).await).unwrap();
                (waiting >= by).then_some(())
            })
            .await;
    }

    pub(super) async fn release(self) {
        self.0.close().await.unwrap();
    }
}
