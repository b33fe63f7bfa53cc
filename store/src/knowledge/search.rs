//! The search: the chunks whose embeddings are nearest to a question's, and those that have its words.
//!
//! ```text
//! embedding ─▶ HNSW ──────────────────────────────────▶ nearest ─┐
//! question ─▶ words ─▶ rare ones ─▶ GIN ─▶ hits ─▶ score ▶ texts ─┴▶ each with its exact cosine
//! ```
//!
//! Both sides are bounded, whatever is asked: the vector side by its number of candidates, the text
//! side by the number of rows that it scores. A question's rarest words choose those rows, as many
//! words as stand in few enough chunks ([`HITS`]); if even the rarest one stands in more, the rows are
//! those that have several of them. A word that is nearly everywhere ([`MOST_POSTINGS`]) chooses none.
//! Then every word counts for the score, by how rare it is and where it stands.
//! `docs/decisions/0013-hybrid-search.md` says why it is done so.

use pgvector::Vector;
use sqlx::{AssertSqlSafe, FromRow, PgConnection};

use super::{DocumentKind, KnowledgeError, KnowledgeTable, lexical};

/// How many chunks the words that choose them may stand in, together and by the estimate.
const HITS: u32 = 300;
/// The most chunks that are scored, in case the estimate was wrong.
const MOST_HITS: u32 = 2 * HITS;
/// How many chunks a word that chooses rows may stand in: its entries in the index are read one by
/// one, about 30 ns each.
const MOST_POSTINGS: u32 = 20_000;
/// The most words of a question that are searched for: the rarest.
const MOST_WORDS: u32 = 12;
/// The most neighbours that pgvector looks at.
const MOST_EF_SEARCH: u16 = 1_000;
/// What an occurrence counts for: in the text, as a name in it, in a heading, in the title.
const WEIGHTS: &str = "{0.4, 0.3, 1.0, 0.6}";

/// What is searched for.
#[derive(Debug, Clone, PartialEq)]
pub struct Search<'s> {
    /// The question's embedding.
    pub embedding: Vec<f32>,
    /// The model that made it: vectors of two models can't be compared.
    pub model: &'s str,
    /// The question itself: any text.
    pub question: &'s str,
    /// The language that the question probably has, as a tag such as `de-AT`.
    pub locale: Option<&'s str>,
    /// The most chunks that are found by the vector. 0: none.
    pub nearest: u16,
    /// The most chunks that are found by their words. 0: none.
    pub texts: u16,
    /// The least cosine similarity, -1 to 1.
    pub least_cosine: f64,
    /// How many neighbours the vector index looks at; at least twice as many as `nearest` are.
    pub ef_search: u16,
    /// Whether to say which words of the question a chunk has. It takes a look at each chunk.
    pub explain: bool,
}

/// A chunk that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// The chunk.
    pub chunk_id: i64,
    /// Its document.
    pub document_id: i64,
    /// What its document was made of.
    pub document_source: String,
    /// Its document's url.
    pub url: String,
    /// Its document's title.
    pub title: String,
    /// What its document is.
    pub kind: DocumentKind,
    /// The headings above it, outermost first.
    pub heading_path: Vec<String>,
    /// Its text.
    pub content: String,
    /// The cosine similarity to the question.
    pub cosine: f64,
    /// Its place among the nearest, from 1; none: it is not one of them.
    pub vector_rank: Option<u32>,
    /// Its place among those that have the question's words, from 1; none: it is not one of them.
    pub text_rank: Option<u32>,
    /// What the question's words in it count for; comparable within one search only.
    pub text_score: Option<f64>,
    /// Which words of the question it has, the rarest first; empty unless asked for.
    pub matched_terms: Vec<String>,
}

#[derive(FromRow)]
struct Row {
    chunk_id: i64,
    document_id: i64,
    source: String,
    url: String,
    title: String,
    kind: String,
    heading_path: Vec<String>,
    content: String,
    distance: f64,
    vector_rank: Option<i64>,
    text_rank: Option<i64>,
    text_score: Option<f64>,
    matched_terms: Vec<String>,
}

/// Finds the candidates of both sides whose cosine similarity is high enough, in no order. One round trip.
///
/// A vector of zeros has no direction: its distance to anything is not a number, which is over every
/// limit, so that nothing is found.
pub async fn search(
    conn: &mut PgConnection,
    table: &KnowledgeTable,
    search: Search<'_>,
) -> Result<Vec<Candidate>, KnowledgeError> {
    // With just as many as are wanted, the last of them are often not the true ones.
    let ef_search = search
        .ef_search
        .max(search.nearest.saturating_mul(2))
        .min(MOST_EF_SEARCH);
    let rows: Vec<Row> = sqlx::query_as(AssertSqlSafe(statement(
        table,
        search.nearest,
        search.texts,
    )))
    .bind(Vector::from(search.embedding))
    .bind(search.model)
    .bind(ef_search.to_string())
    .bind(table.as_str())
    .bind(lexical::plain(search.question))
    .bind(lexical::configuration(search.locale))
    .bind(search.least_cosine)
    .bind(search.explain)
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(Candidate::from).collect())
}

/// The statement. All limits are literals, so that it is planned for what they are.
///
/// The index's settings are made by the statement itself, local to its transaction. The scan can't
/// begin before them because it stands in a lateral subquery that refers to them. The least cosine is
/// held against what was found and not inside the scan, where an iterative scan would look for more
/// of what isn't there.
fn statement(table: &KnowledgeTable, nearest: u16, texts: u16) -> String {
    format!(
        r#"with settings as materialized (
               select set_config('hnsw.ef_search', $3, true) as ef_search,
                      set_config('hnsw.iterative_scan', 'strict_order', true) as iterative_scan
           ), nearest as materialized (
               select c.chunk_id, c.distance, row_number() over (order by c.distance, c.chunk_id) as place
               from settings s
               cross join lateral (
                   select chunk_id, embedding <=> $1 as distance
                   from "{table}"
                   where embedding_model = $2 and s.ef_search is not null and s.iterative_scan is not null
                   order by embedding <=> $1
                   limit {nearest}) c
           ), corpus as materialized (
               select greatest(chunks, 1)::float8 as chunks,
                      greatest(chunks, 1)::float8 / greatest(sampled, 1) as for_unknown, configurations
               from knowledge_corpora where table_name = $4 and {texts} > 0
           ), lexemes as materialized (
               -- A word has the same position under every configuration, in which it may be spelt otherwise.
               select configuration, word.lexeme, word.positions[1] as position
               from corpus
               cross join unnest(corpus.configurations) as configuration
               cross join unnest(to_tsvector(configuration::regconfig, $5)) as word (lexeme, positions, weights)
           ), spoken as materialized (
               -- The question's language is the one in which most of its words are stop words.
               select configuration
               from corpus
               cross join unnest(corpus.configurations) as configuration
               left join lexemes using (configuration)
               group by configuration
               order by count(distinct position), configuration = $6 desc, configuration
               limit 1
           ), words as materialized (
               select l.position,
                      coalesce(min(l.lexeme) filter (where l.configuration = 'simple'), min(l.lexeme)) as word,
                      count(distinct l.lexeme) as spellings,
                      string_agg(distinct quote_literal(l.lexeme), ' | ')::tsquery as query,
                      least(sum(distinct_chunks), min(chunks)) as chunks, min(chunks) as of
               from (select distinct on (position, lexeme) position, lexeme, configuration,
                            coalesce(t.chunks, corpus.for_unknown) as distinct_chunks, corpus.chunks
                     from lexemes
                     cross join corpus
                     left join knowledge_terms t on t.table_name = $4 and t.term = lexemes.lexeme
                     where position in (select position from lexemes join spoken using (configuration))
                     order by position, lexeme, configuration = 'simple' desc) l
               group by l.position
               order by chunks, l.position
               limit {MOST_WORDS}
           ), terms as materialized (
               select word, query, spellings, chunks, ln(1 + (of - chunks + 0.5) / (chunks + 0.5)) as rarity,
                      sum(chunks) over rarest_first as any_of_them,
                      coalesce(of * exp(sum(ln(chunks / of)) over before), of) as all_before
               from words
               window rarest_first as (order by chunks, position),
                      before as (order by chunks, position rows between unbounded preceding and 1 preceding)
           ), wanted as materialized (
               select (case when min(any_of_them) <= {HITS}
                            then string_agg('(' || query::text || ')', ' | ') filter (where any_of_them <= {HITS})
                            else string_agg('(' || query::text || ')', ' & ') filter (where all_before > {HITS})
                       end)::tsquery as query
               from terms
               where chunks <= {MOST_POSTINGS}
           ), hits as materialized (
               -- A copy, so that each row's words are read once and not for every word of the question.
               select chunk_id, document_id, ordinal, content_hash, ts_filter(search, '{{a,b,c,d}}') as search
               from "{table}"
               where search @@ (select query from wanted) and embedding_model = $2
               limit {MOST_HITS}
           ), scored as materialized (
               select h.chunk_id, h.document_id, h.ordinal, score.sum as score
               from hits h
               cross join lateral (
                   select sum(t.rarity * t.spellings * ts_rank('{WEIGHTS}', h.search, t.query)) from terms t) score
               order by score.sum desc, h.content_hash, h.chunk_id
               limit {texts}
           ), texts as materialized (
               -- Equals stand in the order of their documents, and not in that in which these were indexed.
               select chunk_id, score, row_number() over (order by score desc, source collate "C", ordinal) as place
               from scored join knowledge_documents using (document_id)
           )
           select c.chunk_id, c.document_id, d.source, d.url, d.title, d.kind, c.heading_path, c.content, e.distance,
                  found.vector_rank, found.text_rank, found.score as text_score,
                  case when $8 then array(select t.word from terms t where c.search @@ t.query
                                          order by t.rarity desc, t.word)
                       else '{{}}' end as matched_terms
           from (select chunk_id, nearest.distance, nearest.place as vector_rank, texts.place as text_rank, texts.score
                 from nearest full join texts using (chunk_id)) found
           join "{table}" c using (chunk_id)
           join knowledge_documents d using (document_id)
           cross join lateral (select coalesce(found.distance, c.embedding <=> $1) as distance offset 0) e
           where e.distance <= 1 - $7::float8"#
    )
}

impl From<Row> for Candidate {
    fn from(row: Row) -> Self {
        let rank = |rank: Option<i64>| rank.and_then(|rank| u32::try_from(rank).ok());
        Self {
            chunk_id: row.chunk_id,
            document_id: row.document_id,
            document_source: row.source,
            url: row.url,
            title: row.title,
            // The column's check keeps other values out.
            kind: row.kind.parse().unwrap_or_default(),
            heading_path: row.heading_path,
            content: row.content,
            cosine: 1.0 - row.distance,
            vector_rank: rank(row.vector_rank),
            text_rank: rank(row.text_rank),
            text_score: row.text_score,
            matched_terms: row.matched_terms,
        }
    }
}
