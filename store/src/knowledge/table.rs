//! The chunks' table: its name, and its making.

use std::{fmt, str::FromStr};

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::{KnowledgeError, vector_index};

/// The most dimensions that pgvector indexes in a `vector` column.
pub const MAX_DIMENSIONS: u16 = 2_000;
/// The longest name: Postgres keeps 63 bytes, and the names of the table's constraints add to it.
const MAX_NAME_LEN: usize = 48;

/// The tables of everything else, and sqlx's own. A test compares them with the schema.
pub const OTHER_TABLES: [&str; 36] = [
    "_sqlx_migrations",
    "backup_runs",
    "business_hours",
    "checkpoint_writes",
    "checkpoints",
    "edge_keys",
    "edge_limits",
    "erasure_ledger",
    "feedback",
    "handoff_attempts",
    "handoff_deliveries",
    "handoff_records",
    "handoff_told",
    "knowledge_calibrations",
    "knowledge_corpora",
    "knowledge_documents",
    "knowledge_embeddings",
    "knowledge_pages",
    "knowledge_settings",
    "knowledge_terms",
    "messages",
    "model_calls",
    "privacy_requests",
    "provider_circuits",
    "retention_rule",
    "sessions",
    "slack_inbound",
    "slack_people",
    "slack_threads",
    "spend_days",
    "spend_reservations",
    "turn_events",
    "turns",
    "webhook_attempts",
    "webhook_endpoints",
    "webhook_secrets",
];

/// The name of the chunks' table, safe to stand in a statement.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KnowledgeTable(String);

/// The name is not a legal one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a table name is {}", KnowledgeTable::RULE)]
pub struct BadTableName;

impl KnowledgeTable {
    /// What a legal name is.
    pub const RULE: &str =
        "1 to 48 of a-z, 0-9 and '_', not beginning with a digit, and no table of something else";

    /// The name as written in the configuration.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for KnowledgeTable {
    fn default() -> Self {
        Self("knowledge_chunks".to_owned())
    }
}

impl FromStr for KnowledgeTable {
    type Err = BadTableName;

    fn from_str(text: &str) -> Result<Self, BadTableName> {
        let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let begins_well = text
            .bytes()
            .next()
            .is_some_and(|byte| !byte.is_ascii_digit());
        let is_ours = OTHER_TABLES.contains(&text);
        if begins_well && text.len() <= MAX_NAME_LEN && text.bytes().all(legal) && !is_ours {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadTableName)
        }
    }
}

impl fmt::Display for KnowledgeTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Makes the chunks' table and its indexes unless they are there, and checks that it holds vectors of
/// this length. An empty table of another length is changed to it; a table from before the full text
/// search gets its column and its index.
pub async fn ensure_table(
    conn: &mut PgConnection,
    table: &KnowledgeTable,
    dimensions: u16,
) -> Result<(), KnowledgeError> {
    if dimensions > MAX_DIMENSIONS {
        return Err(KnowledgeError::TooManyDimensions(dimensions));
    }
    // The usual case takes no lock and writes nothing. Without the lock a table that is being made may
    // show its name before its columns.
    match look_at(conn, table).await {
        Ok(Some(found)) if found.is_whole(dimensions) => return Ok(()),
        Ok(_) | Err(KnowledgeError::NotAKnowledgeTable(_)) => {}
        Err(error) => return Err(error),
    }
    let mut tx = conn.begin().await?;
    sqlx::query!(
        "select pg_advisory_xact_lock(hashtextextended($1, 0))",
        vector_index::LOCK
    )
    .execute(&mut *tx)
    .await?;
    match look_at(&mut tx, table).await? {
        None => create(&mut tx, table, dimensions).await?,
        Some(found) if found.is_whole(dimensions) => {}
        Some(found) if found.dimensions == i32::from(dimensions) => {
            add_search(&mut tx, table).await?;
            vector_index::build(&mut tx, table, dimensions).await?;
        }
        Some(Found {
            dimensions: found, ..
        }) => {
            let sql = format!(r#"lock table "{table}" in access exclusive mode"#);
            sqlx::query(AssertSqlSafe(sql)).execute(&mut *tx).await?;
            let sql = format!(r#"select exists (select 1 from "{table}")"#);
            if sqlx::query_scalar(AssertSqlSafe(sql))
                .fetch_one(&mut *tx)
                .await?
            {
                return Err(KnowledgeError::Dimensions {
                    table: table.clone(),
                    found,
                    wanted: dimensions,
                });
            }
            let sql = format!(
                r#"alter table "{table}" alter column embedding type vector({dimensions})"#
            );
            sqlx::query(AssertSqlSafe(sql)).execute(&mut *tx).await?;
            add_search(&mut tx, table).await?;
            vector_index::build(&mut tx, table, dimensions).await?;
        }
    }
    tx.commit().await?;
    Ok(())
}

/// What a table is.
struct Found {
    /// The length of its vectors.
    dimensions: i32,
    /// Whether it has the column of the full text search, and an index on it.
    has_search: bool,
    /// Whether it has the index on its vectors.
    has_vector_index: bool,
}

impl Found {
    fn is_whole(&self, dimensions: u16) -> bool {
        self.dimensions == i32::from(dimensions) && self.has_search && self.has_vector_index
    }
}

/// `None` if there is no such table.
async fn look_at(
    conn: &mut PgConnection,
    table: &KnowledgeTable,
) -> Result<Option<Found>, KnowledgeError> {
    let row = sqlx::query!(
        r#"select (select atttypmod from pg_attribute a
                   join pg_type t on t.oid = a.atttypid and t.typname = 'vector'
                   where a.attrelid = c.table_id and a.attname = 'embedding' and not a.attisdropped)
                  as dimensions,
                  exists (select from pg_attribute a
                          join pg_index i on i.indrelid = a.attrelid and a.attnum = any (i.indkey) and i.indisvalid
                          where a.attrelid = c.table_id and a.attname = 'search' and not a.attisdropped
                            and a.atttypid = 'tsvector'::regtype)
                  as "has_search!",
                  exists (select from pg_attribute a
                          join pg_index i on i.indrelid = a.attrelid and a.attnum = any (i.indkey) and i.indisvalid
                          where a.attrelid = c.table_id and a.attname = 'embedding' and not a.attisdropped)
                  as "has_vector_index!"
           from to_regclass(quote_ident($1)) as c (table_id)
           where c.table_id is not null"#,
        table.as_str(),
    )
    .fetch_optional(conn)
    .await?;
    match row {
        None => Ok(None),
        Some(row) => match row.dimensions {
            Some(dimensions) => Ok(Some(Found {
                dimensions,
                has_search: row.has_search,
                has_vector_index: row.has_vector_index,
            })),
            None => Err(KnowledgeError::NotAKnowledgeTable(table.clone())),
        },
    }
}

/// The length of a table's vectors; `None` if there is no such table.
pub async fn dimensions_of(
    conn: &mut PgConnection,
    table: &KnowledgeTable,
) -> Result<Option<i32>, KnowledgeError> {
    let found = look_at(conn, table).await?;
    Ok(found.map(|found| found.dimensions))
}

/// What a table of chunks has for a search by a model's vectors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contents {
    /// Chunks.
    Chunks,
    /// Chunks of another model only, this one among others.
    OfAnotherModel(String),
    /// No chunks at all.
    Nothing,
}

/// Looks what there is to search.
pub async fn contents(
    conn: &mut PgConnection,
    table: &KnowledgeTable,
    model: &str,
) -> sqlx::Result<Contents> {
    let sql = format!(
        r#"(select embedding_model from "{table}" where embedding_model = $1 limit 1)
           union all
           (select embedding_model from "{table}" limit 1)
           limit 1"#
    );
    let found: Option<String> = sqlx::query_scalar(AssertSqlSafe(sql))
        .bind(model)
        .fetch_optional(conn)
        .await?;
    Ok(match found {
        None => Contents::Nothing,
        Some(found) if found == model => Contents::Chunks,
        Some(other) => Contents::OfAnotherModel(other),
    })
}

/// The same table as the migration's `knowledge_chunks`, under another name.
async fn create(
    conn: &mut PgConnection,
    table: &KnowledgeTable,
    dimensions: u16,
) -> sqlx::Result<()> {
    let sql = format!(
        r#"create table "{table}" (
               chunk_id        bigint  generated always as identity,
               document_id     bigint  not null,
               ordinal         integer not null,
               heading_path    text[]  not null default '{{}}',
               content         text    not null,
               token_count     integer not null,
               content_hash    bytea   not null,
               embedding_model text    not null,
               embedding       vector({dimensions}) not null,
               constraint "{table}_pkey" primary key (chunk_id),
               constraint "{table}_ordinal_key" unique (document_id, ordinal),
               constraint "{table}_document_fkey" foreign key (document_id)
                   references knowledge_documents (document_id) on delete cascade
           )"#
    );
    sqlx::query(AssertSqlSafe(sql)).execute(&mut *conn).await?;
    vector_index::build(conn, table, dimensions).await?;
    add_search(conn, table).await
}

/// The same as the migrations do to `knowledge_chunks`. Chunks that are there have no words yet, so
/// that the index is made at once: each gets them when its document is indexed again.
async fn add_search(conn: &mut PgConnection, table: &KnowledgeTable) -> sqlx::Result<()> {
    for sql in [
        format!(r#"alter table "{table}" add column if not exists search tsvector"#),
        format!(r#"alter table "{table}" alter column search set storage main"#),
        format!(
            r#"create index if not exists "{table}_search" on "{table}"
                   using gin (search) with (fastupdate = off)"#
        ),
    ] {
        sqlx::query(AssertSqlSafe(sql)).execute(&mut *conn).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_lower_case_names_are_legal() {
        for legal in ["knowledge_chunks", "_x", "a1", "user", &"a".repeat(48)] {
            assert_eq!(legal.parse::<KnowledgeTable>().unwrap().as_str(), legal);
        }
        for illegal in [
            "",
            "1a",
            "A",
            "a-b",
            "a b",
            "a\"b",
            "a;b",
            "ä",
            "a.b",
            &"a".repeat(49),
        ] {
            assert_eq!(
                illegal.parse::<KnowledgeTable>(),
                Err(BadTableName),
                "{illegal}"
            );
        }
    }
}
