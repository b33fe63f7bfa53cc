//! What is in the knowledge base, told to people and held against questions.

use sqlx::{AssertSqlSafe, FromRow, PgConnection};

use super::{IndexProfile, KnowledgeError, KnowledgeTable, dimensions_of, staged_sources};

/// A document that is searched, by all the names that a citation may have.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct DocumentSource {
    /// What makes it the same document next time.
    pub source: String,
    /// What a citation links to.
    pub url: String,
    /// The headings of its chunks, without repetition.
    pub headings: Vec<String>,
}

/// The documents that have chunks which `model` embedded, by source.
pub async fn document_sources(
    conn: &mut PgConnection,
    table: &KnowledgeTable,
    model: &str,
) -> Result<Vec<DocumentSource>, KnowledgeError> {
    let sql = format!(
        r#"select d.source, d.url,
                  coalesce(array_agg(distinct heading) filter (where heading is not null), '{{}}') as headings
           from knowledge_documents d
           join "{table}" c using (document_id)
           left join lateral unnest(c.heading_path) as heading on true
           where c.embedding_model = $1
           group by d.document_id
           order by d.source"#
    );
    let documents = sqlx::query_as(AssertSqlSafe(sql))
        .bind(model)
        .fetch_all(conn)
        .await?;
    Ok(documents)
}

/// How far the knowledge base is what the configuration asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnowledgeOverview {
    /// The length of the vectors in the chunks' table; `None`: there is no such table yet.
    pub dimensions: Option<i32>,
    /// Documents that were brought in.
    pub documents: usize,
    /// Those of them whose chunks are of their newest text and of this configuration.
    pub current: usize,
}

/// Looks at the knowledge base and changes nothing.
pub async fn knowledge_overview(
    conn: &mut PgConnection,
    profile: &IndexProfile,
) -> Result<KnowledgeOverview, KnowledgeError> {
    let dimensions = dimensions_of(&mut *conn, &profile.table).await?;
    let documents = sqlx::query_scalar!(r#"select count(*) as "count!" from knowledge_documents"#)
        .fetch_one(&mut *conn)
        .await?;
    // Every source begins with nothing.
    let current = staged_sources(conn, "", profile).await?;
    Ok(KnowledgeOverview {
        dimensions,
        documents: usize::try_from(documents).unwrap_or_default(),
        current: current.len(),
    })
}
