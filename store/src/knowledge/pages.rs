//! What a crawl remembers of the pages that are documents.

use sqlx::PgConnection;

use super::IndexProfile;

/// What the server said of a page, and where the page leads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// `ETag`, as it was sent.
    pub etag: Option<String>,
    /// `Last-Modified`, as it was sent.
    pub last_modified: Option<String>,
    /// The addresses that it links to, on its own site.
    pub links: Vec<String>,
    /// The version of the rules that made the document of the page.
    pub extractor: i16,
}

/// A document of a site that is known already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownPage {
    /// Its address.
    pub source: String,
    /// Whether its chunks are as the profile wants them.
    pub is_current: bool,
    /// What the last crawl saw; `None`: it did not come from a crawl.
    pub page: Option<Page>,
}

/// The documents whose source begins with `root`.
pub async fn known_pages(
    conn: &mut PgConnection,
    root: &str,
    profile: &IndexProfile,
) -> sqlx::Result<Vec<KnownPage>> {
    let rows = sqlx::query!(
        r#"select d.source, d.content_hash, d.indexed_hash, p.etag, p.last_modified,
                  p.links as "links?", p.extractor as "extractor?"
           from knowledge_documents d
           left join knowledge_pages p using (document_id)
           where starts_with(d.source, $1)
           order by d.source"#,
        root
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| KnownPage {
            is_current: row.indexed_hash == Some(profile.fingerprint(&row.content_hash)),
            source: row.source,
            page: row.extractor.map(|extractor| Page {
                etag: row.etag,
                last_modified: row.last_modified,
                links: row.links.unwrap_or_default(),
                extractor,
            }),
        })
        .collect())
}

/// Remembers a page of the document with this source; nothing happens if there is none.
pub async fn remember_page(conn: &mut PgConnection, source: &str, page: &Page) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into knowledge_pages (document_id, etag, last_modified, links, extractor)
         select document_id, $2, $3, $4, $5 from knowledge_documents where source = $1
         on conflict on constraint knowledge_pages_pkey do update
            set etag = excluded.etag, last_modified = excluded.last_modified,
                links = excluded.links, extractor = excluded.extractor, fetched_at = now()",
        source,
        page.etag,
        page.last_modified,
        &page.links,
        page.extractor,
    )
    .execute(conn)
    .await?;
    Ok(())
}
