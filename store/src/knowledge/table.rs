//! The chunks' table: its name, and its making.

use std::{fmt, str::FromStr};

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::KnowledgeError;

/// The most dimensions that pgvector indexes in a `vector` column.
pub const MAX_DIMENSIONS: u16 = 2_000;
/// The longest name: Postgres keeps 63 bytes, and the names of the table's constraints add to it.
const MAX_NAME_LEN: usize = 48;
/// Taken by everyone who makes or changes a chunks' table.
const LOCK: &str = "growth-chat knowledge table";

/// The name of the chunks' table, safe to stand in a statement.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KnowledgeTable(String);

/// The name is not a legal one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a table name is {}", KnowledgeTable::RULE)]
pub struct BadTableName;

impl KnowledgeTable {
    /// What a legal name is.
    pub const RULE: &str = "1 to 48 of a-z, 0-9 and '_', not beginning with a digit";

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
        if begins_well && text.len() <= MAX_NAME_LEN && text.bytes().all(legal) {
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

/// Makes the chunks' table and its index unless they are there, and checks that it holds vectors of
/// this length. An empty table of another length is changed to it.
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
    match dimensions_of(conn, table).await {
        Ok(Some(found)) if found == i32::from(dimensions) => return Ok(()),
        Ok(_) | Err(KnowledgeError::NotAKnowledgeTable(_)) => {}
        Err(error) => return Err(error),
    }
    let mut tx = conn.begin().await?;
    sqlx::query!(
        "select pg_advisory_xact_lock(hashtextextended($1, 0))",
        LOCK
    )
    .execute(&mut *tx)
    .await?;
    match dimensions_of(&mut tx, table).await? {
        None => create(&mut tx, table, dimensions).await?,
        Some(found) if found == i32::from(dimensions) => {}
        Some(found) => {
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
        }
    }
    tx.commit().await?;
    Ok(())
}

/// The length of the table's vectors; `None` if there is no such table.
pub async fn dimensions_of(
    conn: &mut PgConnection,
    table: &KnowledgeTable,
) -> Result<Option<i32>, KnowledgeError> {
    let row = sqlx::query!(
        r#"select (select atttypmod from pg_attribute a
                   join pg_type t on t.oid = a.atttypid and t.typname = 'vector'
                   where a.attrelid = c.table_id and a.attname = 'embedding' and not a.attisdropped)
                  as dimensions
           from to_regclass(quote_ident($1)) as c (table_id)
           where c.table_id is not null"#,
        table.as_str(),
    )
    .fetch_optional(conn)
    .await?;
    match row {
        None => Ok(None),
        Some(row) => match row.dimensions {
            Some(dimensions) => Ok(Some(dimensions)),
            None => Err(KnowledgeError::NotAKnowledgeTable(table.clone())),
        },
    }
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
    let sql = format!(
        r#"create index "{table}_embedding" on "{table}"
               using hnsw (embedding vector_cosine_ops) with (m = 16, ef_construction = 64)"#
    );
    sqlx::query(AssertSqlSafe(sql)).execute(conn).await?;
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
