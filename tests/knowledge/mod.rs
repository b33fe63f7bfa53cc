//! How documents come into the knowledge base, with real processes.

mod files;
mod resume;
mod site;

use sqlx::PgPool;

/// The documents: `(source, title, kind, language, format)`, in order.
async fn documents(pool: &PgPool) -> Vec<(String, String, String, Option<String>, Option<String>)> {
    sqlx::query_as(
        "select source, title, kind, language, format from knowledge_documents
         where indexed_hash is not null order by source",
    )
    .fetch_all(pool)
    .await
    .unwrap()
}

/// The sources of the documents, in order.
async fn sources(pool: &PgPool) -> Vec<String> {
    let documents = documents(pool).await;
    documents.into_iter().map(|document| document.0).collect()
}

/// The text of a document's chunks.
async fn chunks(pool: &PgPool, source: &str) -> Vec<String> {
    sqlx::query_scalar(
        "select c.content from knowledge_chunks c join knowledge_documents using (document_id)
         where source = $1 order by ordinal",
    )
    .bind(source)
    .fetch_all(pool)
    .await
    .unwrap()
}
