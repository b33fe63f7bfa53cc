//! The chunks of one document, and their exchange for newer ones.

use pgvector::Vector;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, FromRow, PgConnection};

use super::{KnowledgeError, KnowledgeTable, lexical};

/// How many chunks one statement inserts: with 1,536 dimensions about 1.5 MB.
const INSERT_BATCH: usize = 256;

/// How much of a document's text is looked at to tell its language.
const DETECTION_BYTES: usize = 4_000;

/// What the full text search sees of a chunk: `$2` its configuration, `$3` its document's title, and
/// `word` its own plain words. Names and numbers also stand as they are written.
const SEARCH: &str = "(setweight(to_tsvector($2::text::regconfig, $3), 'A')
    || setweight(to_tsvector($2::text::regconfig, word.headings), 'B')
    || setweight(to_tsvector('simple', word.names), 'C')
    || to_tsvector($2::text::regconfig, word.content))";

/// A chunk that is stored, as far as it takes to recognise it.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct StoredChunk {
    /// The chunk.
    pub chunk_id: i64,
    /// Its place in the document, from 0.
    pub ordinal: i32,
    /// SHA-256 of the text that was embedded.
    pub content_hash: Vec<u8>,
}

/// A chunk that is to be stored. Its place in the document is its place in the list.
#[derive(Debug, Clone, PartialEq)]
pub struct ChunkToStore {
    /// The headings above it, outermost first.
    pub heading_path: Vec<String>,
    /// Its text.
    pub content: String,
    /// How many tokens the text has.
    pub token_count: i32,
    /// SHA-256 of the text that was embedded.
    pub content_hash: Vec<u8>,
    /// Where its embedding comes from.
    pub embedding: ChunkEmbedding,
}

/// Where a chunk's embedding comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum ChunkEmbedding {
    /// The stored chunk with this id is the same one; it moves to the new place.
    Kept(i64),
    /// A new embedding.
    New(Vec<f32>),
}

/// A document's chunks that `model` embedded, in order.
pub async fn stored_chunks(
    conn: &mut PgConnection,
    table: &KnowledgeTable,
    document_id: i64,
    model: &str,
) -> sqlx::Result<Vec<StoredChunk>> {
    let sql = format!(
        r#"select chunk_id, ordinal, content_hash from "{table}"
           where document_id = $1 and embedding_model = $2 order by ordinal"#
    );
    sqlx::query_as(AssertSqlSafe(sql))
        .bind(document_id)
        .bind(model)
        .fetch_all(conn)
        .await
}

/// Exchanges all chunks of a document and marks it as indexed, in one transaction.
///
/// Nothing is written and the error is [`KnowledgeError::Superseded`] if the document's text is no
/// longer the one with `content_hash`, [`KnowledgeError::Conflict`] if a chunk that was to be kept
/// is gone.
pub async fn replace_chunks(
    conn: &mut PgConnection,
    table: &KnowledgeTable,
    document_id: i64,
    content_hash: &[u8],
    indexed_hash: &[u8],
    model: &str,
    chunks: &[ChunkToStore],
) -> Result<(), KnowledgeError> {
    let mut tx = conn.begin().await?;
    // The document's row is what two exchanges of the same document wait for.
    let document = sqlx::query!(
        "update knowledge_documents set indexed_hash = $3, indexed_at = now()
         where document_id = $1 and content_hash = $2
         returning title, language",
        document_id,
        content_hash,
        indexed_hash
    )
    .fetch_optional(&mut *tx)
    .await?
    .ok_or(KnowledgeError::Superseded)?;
    let configuration = configuration(&mut tx, document.language.as_deref(), chunks).await?;
    sqlx::query!(
        "update knowledge_documents set search_configuration = $2
         where document_id = $1 and search_configuration is distinct from $2",
        document_id,
        configuration
    )
    .execute(&mut *tx)
    .await?;
    let exchange = Exchange {
        table,
        document_id,
        model,
        title: &document.title,
        configuration: &configuration,
    };
    exchange.keep(&mut tx, chunks).await?;
    let new: Vec<_> = chunks
        .iter()
        .enumerate()
        .filter_map(|(place, chunk)| match &chunk.embedding {
            ChunkEmbedding::New(embedding) => Some((ordinal(place), chunk, embedding)),
            ChunkEmbedding::Kept(_) => None,
        })
        .collect();
    for batch in new.chunks(INSERT_BATCH) {
        exchange.insert(&mut tx, batch).await?;
    }
    tx.commit().await?;
    Ok(())
}

/// The text search configuration of a document: that of its language. Of a document that does not say
/// its language it is the one to which most of the words at its beginning are stop words.
async fn configuration(
    conn: &mut PgConnection,
    language: Option<&str>,
    chunks: &[ChunkToStore],
) -> sqlx::Result<String> {
    let said = lexical::configuration(language);
    if said != lexical::SIMPLE {
        return Ok(said.to_owned());
    }
    let mut beginning = String::new();
    for chunk in chunks {
        if beginning.len() >= DETECTION_BYTES {
            break;
        }
        beginning.push_str(&chunk.content);
        beginning.push(' ');
    }
    beginning.truncate(beginning.floor_char_boundary(DETECTION_BYTES));
    // What is left of a text by a configuration of its own language is two thirds of it or less.
    sqlx::query_scalar!(
        r#"select configuration as "configuration!"
           from unnest($1::text[]) as configuration
           cross join lateral (
               select count(*) as words
               from unnest(to_tsvector(configuration::regconfig, $2)) as word, unnest(word.positions)) left_over
           order by words + case when configuration = $3 then -0.15 * words else 0 end, configuration = $3 desc,
                    configuration
           limit 1"#,
        &lexical::DETECTABLE.map(str::to_owned)[..],
        lexical::plain(&beginning),
        lexical::SIMPLE,
    )
    .fetch_one(conn)
    .await
}

/// One document's exchange.
struct Exchange<'e> {
    table: &'e KnowledgeTable,
    document_id: i64,
    model: &'e str,
    title: &'e str,
    configuration: &'e str,
}

impl Exchange<'_> {
    /// Deletes what is not kept and moves what is to its new place.
    async fn keep(
        &self,
        conn: &mut PgConnection,
        chunks: &[ChunkToStore],
    ) -> Result<(), KnowledgeError> {
        let table = self.table;
        let mut kept: Vec<i64> = Vec::new();
        let mut places: Vec<i32> = Vec::new();
        let mut words = Words::default();
        for (place, chunk) in chunks.iter().enumerate() {
            if let ChunkEmbedding::Kept(chunk_id) = chunk.embedding {
                kept.push(chunk_id);
                places.push(ordinal(place));
                words.push(chunk);
            }
        }
        let sql =
            format!(r#"delete from "{table}" where document_id = $1 and chunk_id <> all ($2)"#);
        sqlx::query(AssertSqlSafe(sql))
            .bind(self.document_id)
            .bind(&kept)
            .execute(&mut *conn)
            .await?;
        // Two chunks may change places: those that move leave theirs first. A chunk that stays is not
        // written, so that its entry in the vector index stays as well.
        let sql = format!(
            r#"update "{table}" c set ordinal = -1 - c.ordinal
               from unnest($2::bigint[], $3::integer[]) as place (chunk_id, ordinal)
               where c.document_id = $1 and c.chunk_id = place.chunk_id and c.ordinal <> place.ordinal"#
        );
        sqlx::query(AssertSqlSafe(sql))
            .bind(self.document_id)
            .bind(&kept)
            .bind(&places)
            .execute(&mut *conn)
            .await?;
        let sql = format!(
            r#"update "{table}" c set ordinal = place.ordinal
               from unnest($2::bigint[], $3::integer[]) as place (chunk_id, ordinal)
               where c.document_id = $1 and c.chunk_id = place.chunk_id and c.ordinal < 0"#
        );
        sqlx::query(AssertSqlSafe(sql))
            .bind(self.document_id)
            .bind(&kept)
            .bind(&places)
            .execute(&mut *conn)
            .await?;
        // The same text may be in a language that is known better by now, or be from before the search.
        let sql = format!(
            r#"update "{table}" c set search = new.search
               from (select word.chunk_id, {SEARCH} as search
                     from unnest($4::bigint[], $5::text[], $6::text[], $7::text[])
                          as word (chunk_id, headings, names, content)) new
               where c.document_id = $1 and c.chunk_id = new.chunk_id
                 and c.search is distinct from new.search"#
        );
        sqlx::query(AssertSqlSafe(sql))
            .bind(self.document_id)
            .bind(self.configuration)
            .bind(lexical::plain(self.title))
            .bind(&kept)
            .bind(&words.headings)
            .bind(&words.names)
            .bind(&words.contents)
            .execute(&mut *conn)
            .await?;
        let sql = format!(r#"select count(*) from "{table}" where document_id = $1"#);
        let left: i64 = sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(self.document_id)
            .fetch_one(conn)
            .await?;
        if usize::try_from(left).ok() == Some(kept.len()) {
            Ok(())
        } else {
            Err(KnowledgeError::Conflict)
        }
    }

    async fn insert(
        &self,
        conn: &mut PgConnection,
        batch: &[(i32, &ChunkToStore, &Vec<f32>)],
    ) -> sqlx::Result<()> {
        let table = self.table;
        let ordinals: Vec<i32> = batch.iter().map(|(ordinal, ..)| *ordinal).collect();
        // An array of arrays would have to be rectangular.
        let heading_paths: Vec<Value> = batch
            .iter()
            .map(|(_, chunk, _)| Value::from(chunk.heading_path.clone()))
            .collect();
        let contents: Vec<&str> = batch
            .iter()
            .map(|(_, chunk, _)| chunk.content.as_str())
            .collect();
        let token_counts: Vec<i32> = batch
            .iter()
            .map(|(_, chunk, _)| chunk.token_count)
            .collect();
        let hashes: Vec<&[u8]> = batch
            .iter()
            .map(|(_, chunk, _)| chunk.content_hash.as_slice())
            .collect();
        let embeddings: Vec<Vector> = batch
            .iter()
            .map(|(.., embedding)| Vector::from((*embedding).clone()))
            .collect();
        let mut words = Words::default();
        for (_, chunk, _) in batch {
            words.push(chunk);
        }
        let sql = format!(
            r#"insert into "{table}" (document_id, ordinal, heading_path, content, token_count,
                                      content_hash, embedding_model, embedding, search)
               select $1, new.ordinal, array(select jsonb_array_elements_text(new.heading_path)), new.content,
                      new.token_count, new.content_hash, $4, new.embedding, {SEARCH}
               from unnest($5::integer[], $6::jsonb[], $7::text[], $8::integer[], $9::bytea[], $10::vector[],
                           $11::text[], $12::text[], $13::text[])
                    as new (ordinal, heading_path, content, token_count, content_hash, embedding,
                            headings, names, words)
               cross join lateral (select new.headings, new.names, new.words) as word (headings, names, content)"#
        );
        sqlx::query(AssertSqlSafe(sql))
            .bind(self.document_id)
            .bind(self.configuration)
            .bind(lexical::plain(self.title))
            .bind(self.model)
            .bind(&ordinals)
            .bind(&heading_paths)
            .bind(&contents)
            .bind(&token_counts)
            .bind(&hashes)
            .bind(&embeddings)
            .bind(&words.headings)
            .bind(&words.names)
            .bind(&words.contents)
            .execute(conn)
            .await?;
        Ok(())
    }
}

/// The words of some chunks, for [`SEARCH`].
#[derive(Default)]
struct Words {
    headings: Vec<String>,
    names: Vec<String>,
    contents: Vec<String>,
}

impl Words {
    fn push(&mut self, chunk: &ChunkToStore) {
        self.headings
            .push(lexical::plain(&chunk.heading_path.join(" ")));
        self.names.push(lexical::names(&chunk.content));
        self.contents.push(lexical::plain(&chunk.content));
    }
}

/// A place as it stands in a row. A document of 5 MB has far fewer chunks than an `i32` can count.
fn ordinal(place: usize) -> i32 {
    i32::try_from(place).unwrap_or(i32::MAX)
}
