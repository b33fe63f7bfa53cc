//! The words of a question: languages, rare words, hostile text, and the table's way to them.

use sqlx::AssertSqlSafe;
use store::knowledge::refresh_terms_if_stale;
use workers::knowledge::{Ranked, SearchMode, Verdict, nearest, rank};

use crate::knowledge_base::{World, embed, indexed};

impl World {
    /// Writes documents of a language, indexes them and counts their words.
    async fn library(&self, documents: &[(&str, Option<&str>, &str)]) {
        for (path, _, text) in documents {
            self.write(&format!("k/{path}.md"), text);
        }
        assert_eq!(self.stage(&["k"]).await.skipped, []);
        for (path, language, _) in documents {
            sqlx::query("update knowledge_documents set language = $2 where source = $1")
                .bind(format!("k/{path}.md"))
                .bind(language)
                .execute(self.pool())
                .await
                .unwrap();
        }
        self.run_jobs().await;
        self.deps.refresh_terms().await.unwrap();
    }

    async fn ranked(&self, question: &str, locale: Option<&str>, mode: SearchMode) -> Vec<Ranked> {
        rank(&self.deps, embed(question), question, locale, mode)
            .await
            .unwrap()
    }

    /// The sources that have words of the question, the best first.
    async fn by_words(&self, question: &str) -> Vec<String> {
        let ranked = self.ranked(question, None, SearchMode::Text).await;
        ranked.into_iter().map(|one| one.document_source).collect()
    }
}

#[tokio::test]
async fn words_are_found_in_another_form_in_the_documents_language() {
    let world = World::new().await;
    world
        .library(&[
            ("de", Some("de"), "Die Häuser wurden geprüft."),
            ("es", Some("es"), "Los precios de las auditorías."),
            ("fr", Some("fr"), "Les tarifs des formations continues."),
            ("en", Some("en"), "Companies are invoiced monthly."),
        ])
        .await;
    for (question, source) in [
        ("Wann wird mein Haus geprüft?", "k/de.md"),
        ("¿Qué precio tiene una auditoría?", "k/es.md"),
        ("Quel est le tarif d'une formation continue ?", "k/fr.md"),
        ("When does a company get its invoice?", "k/en.md"),
    ] {
        assert_eq!(world.by_words(question).await, [source], "{question}");
    }
    for question in [
        "Was ist das?",
        "¿Qué es esto?",
        "Qu'est-ce que c'est ?",
        "What is the",
    ] {
        let found = world.by_words(question).await;
        assert!(found.is_empty(), "{question}: {found:?}");
    }
}

#[tokio::test]
async fn a_document_that_does_not_say_its_language_is_read_in_the_one_it_looks_like() {
    let world = World::new().await;
    world
        .library(&[
            ("de", None, "Wir prüfen für Sie, ob das Haus und die Anlage noch den Regeln entsprechen, die es dafür gibt."),
            ("es", Some("tlh"), "La auditoría de su empresa se hace en tres días y no cuesta más de lo que se acordó con usted."),
            ("en", None, "We look at what you have and tell you what it would take to get it to where you want to be."),
            ("none", None, "Grafana, Prometheus, Loki, Tempo, Mimir, Pyroscope."),
        ])
        .await;
    let told: Vec<(String, String)> = sqlx::query_as(
        "select source, search_configuration from knowledge_documents order by source",
    )
    .fetch_all(world.pool())
    .await
    .unwrap();
    let expected = [
        ("k/de.md", "german"),
        ("k/en.md", "english"),
        ("k/es.md", "spanish"),
        ("k/none.md", "simple"),
    ];
    assert_eq!(
        told,
        expected.map(|(source, configuration)| (source.to_owned(), configuration.to_owned()))
    );
}

#[tokio::test]
async fn a_name_counts_for_more_than_a_word_of_the_same_stem() {
    let world = World::new().await;
    world
        .library(&[
            ("a", Some("en"), "The university of the town."),
            ("b", Some("en"), "We work with Universal today."),
        ])
        .await;
    let found = world
        .ranked("Arbeitet ihr mit universal?", Some("de"), SearchMode::Text)
        .await;
    let sources: Vec<&str> = found
        .iter()
        .map(|one| one.document_source.as_str())
        .collect();
    assert_eq!(sources, ["k/b.md", "k/a.md"]);
    assert!(found[0].text_score > found[1].text_score);
}

#[tokio::test]
async fn a_rare_word_counts_for_more_than_several_common_ones() {
    let world = World::new().await;
    let common: Vec<String> = (0..30)
        .map(|number| format!("The yearly report of pump number {number}."))
        .collect();
    let names: Vec<String> = (0..30).map(|number| format!("p{number}")).collect();
    let mut documents: Vec<(&str, Option<&str>, &str)> = names
        .iter()
        .zip(&common)
        .map(|(name, text)| (name.as_str(), Some("en"), text.as_str()))
        .collect();
    documents.push(("rare", Some("en"), "A pump that is called ZX-4711."));
    world.library(&documents).await;
    let ranked = world
        .ranked(
            "Is there a yearly report of the pump zx 4711?",
            None,
            SearchMode::Text,
        )
        .await;
    assert_eq!(ranked[0].document_source, "k/rare.md");
    assert_eq!(ranked[0].matched_terms, ["4711", "zx", "pump"]);
    assert!(ranked[0].text_score > ranked[1].text_score);
    // Words that say nothing take nobody's place.
    let wordy = "I would like to know what it is that you do and how, and when it is that we can have \
                 what we were told before, and where, with all of our pumps";
    let ranked = world.ranked(wordy, None, SearchMode::Text).await;
    assert_eq!(ranked[0].matched_terms, ["pumps"]);
}

#[tokio::test]
async fn words_that_are_all_common_are_looked_for_together() {
    let world = World::new().await;
    let table = &world.deps.config.table;
    sqlx::query(
        "insert into knowledge_documents (source, url, title, content, content_hash, search_configuration)
         values ('d', 'd', 'd', '', '', 'english')",
    )
    .execute(world.pool())
    .await
    .unwrap();
    let sql = format!(
        "insert into {table} (document_id, ordinal, content, token_count, content_hash, embedding_model, embedding, search)
         select document_id, n, text, 1, '', $1, $2::real[]::vector, to_tsvector('english', text)
         from knowledge_documents, generate_series(1, 1500) n,
              lateral (select concat_ws(' ', 'alpha', case when n <= 1000 or n > 1400 then 'beta' end,
                                        case when n > 1000 then 'gamma' end, n)) t (text)"
    );
    sqlx::query(AssertSqlSafe(sql))
        .bind(world.deps.embedder.model())
        .bind(embed("alpha"))
        .execute(world.pool())
        .await
        .unwrap();
    world.deps.refresh_terms().await.unwrap();
    let ranked = world
        .ranked("alpha beta gamma", None, SearchMode::Text)
        .await;
    assert_eq!(ranked.len(), 40);
    for one in &ranked {
        assert_eq!(one.matched_terms, ["gamma", "beta", "alpha"]);
    }
    // One rare word is enough by itself.
    let ranked = world
        .ranked("alpha beta gamma 777", None, SearchMode::Text)
        .await;
    assert_eq!(ranked.len(), 1);
    assert_eq!(ranked[0].matched_terms, ["777", "beta", "alpha"]);
}

#[tokio::test]
async fn any_text_is_a_question() {
    let world = World::new().await;
    world
        .library(&[
            ("a", Some("en"), "Apples and pears."),
            ("b", None, "Pears."),
        ])
        .await;
    let long = "apple's ".repeat(500);
    for question in [
        "",
        " \n\t",
        "the of and",
        "'; drop table knowledge_chunks; --",
        "apples' | '",
        "a & !b | (c <-> d) <2> e:*AB",
        "''''\\\\''\\'",
        "$1 $$ %s {}",
        "nul\0inside",
        "👩‍👩‍👧‍👦 \u{202e}\u{feff}",
        "http://x.org/a?b=c&d#e user@example.org /etc/passwd -1.5e10 1.2.3.4",
        "<a href=\"x\">tag</a>",
        &"x".repeat(4_000),
        &"𓀀".repeat(4_000),
        &"1.".repeat(2_000),
        &long[..4_000],
    ] {
        for mode in [SearchMode::Hybrid, SearchMode::Vector, SearchMode::Text] {
            for locale in [None, Some("de-AT"), Some("'; drop"), Some("")] {
                world.ranked(question, locale, mode).await;
            }
        }
    }
    assert_eq!(
        world.by_words("pears' | 'apples").await,
        ["k/a.md", "k/b.md"]
    );
}

#[tokio::test]
async fn the_words_lift_a_passage_but_not_over_the_threshold() {
    let mut world = World::new().await;
    world
        .library(&[
            ("a", Some("en"), "Red apples in the garden."),
            ("b", Some("en"), "Red apples called Boskoop."),
            ("c", Some("en"), "My Boskoop, our Boskoop."),
        ])
        .await;
    let question = "apples boskoop";
    let places = |ranked: &[Ranked]| -> Vec<(String, Verdict)> {
        let place = |one: &Ranked| (one.document_source.clone(), one.verdict);
        ranked.iter().map(place).collect()
    };
    // By the embedding `a` is the best, by the words `b`.
    let ask = async |world: &World| {
        rank(
            &world.deps,
            embed("red apples"),
            question,
            None,
            SearchMode::Hybrid,
        )
        .await
        .unwrap()
    };
    let ranked = ask(&world).await;
    assert_eq!(ranked[0].document_source, "k/b.md");
    assert_eq!(
        (ranked[0].vector_rank, ranked[0].text_rank),
        (Some(2), Some(1))
    );
    assert_eq!(ranked[0].verdict, Verdict::Chosen);
    assert_eq!(
        places(&ranked)[2],
        ("k/c.md".to_owned(), Verdict::BelowThreshold)
    );
    world.deps.config.relevance_threshold = 0.99;
    world.deps.config.proactive_threshold = 0.99;
    let ranked = ask(&world).await;
    assert_eq!(ranked.len(), 3);
    assert!(
        ranked
            .iter()
            .all(|one| one.verdict == Verdict::BelowThreshold)
    );
    let retrieved = nearest(&world.deps, embed("red apples"), question, None)
        .await
        .unwrap();
    assert_eq!(retrieved.passages, []);
}

#[tokio::test]
async fn a_passage_that_is_there_twice_is_given_once() {
    let world = World::new().await;
    let text = "Machines are replaced one after another, at night, and nobody notices it.";
    world
        .library(&[
            ("one", Some("en"), text),
            ("two", Some("en"), text),
            ("other", Some("en"), "Machines are bought once a year."),
        ])
        .await;
    let question = "when are machines replaced";
    let retrieved = nearest(&world.deps, embed(question), question, None).await;
    let mut urls: Vec<String> = retrieved
        .unwrap()
        .passages
        .into_iter()
        .map(|passage| passage.url)
        .collect();
    urls.sort();
    assert_eq!(urls, ["one.md", "other.md"]);
}

#[tokio::test]
async fn a_case_study_that_fits_is_given_besides() {
    let mut world = World::new().await;
    world.deps.config.top_k = 1;
    world
        .library(&[
            (
                "pumps",
                Some("en"),
                "# Pumps\n\nWe repair pumps of all makers.",
            ),
            (
                "case-studies/mill",
                Some("en"),
                "# Mill\n\nThey repair pumps of all sizes.",
            ),
            (
                "case-studies/bank",
                Some("en"),
                "# Bank\n\nMoney was counted.",
            ),
        ])
        .await;
    let question = "do you repair pumps of all makers";
    let ask = async |world: &World| {
        nearest(&world.deps, embed(question), question, None)
            .await
            .unwrap()
    };
    let retrieved = ask(&world).await;
    assert_eq!(retrieved.passages[0].url, "pumps.md");
    let told = retrieved.proactive.expect("a case study is near enough");
    assert_eq!(told.url, "case-studies/mill.md");
    world.deps.config.proactive_threshold = told.score + 0.01;
    assert_eq!(ask(&world).await.proactive, None);
    world.deps.config.proactive_threshold = 0.3;
    world.deps.config.top_k = 5;
    let retrieved = ask(&world).await;
    assert!(
        retrieved
            .passages
            .iter()
            .any(|one| one.url == "case-studies/mill.md")
    );
    assert_eq!(
        retrieved.proactive, None,
        "it is among the passages already"
    );
}

#[tokio::test]
async fn a_table_from_before_the_full_text_gets_its_words_and_keeps_its_embeddings() {
    let world = World::new().await;
    world.write("k/a.md", "# T\n\nRed apples.\n");
    world.index(&["k"]).await;
    let table = &world.deps.config.table;
    let sql = format!("alter table {table} drop column search");
    sqlx::query(AssertSqlSafe(sql))
        .execute(world.pool())
        .await
        .unwrap();
    sqlx::query("delete from knowledge_corpora")
        .execute(world.pool())
        .await
        .unwrap();
    // As the rules of before left it.
    sqlx::query(
        "update knowledge_documents set indexed_hash = 'of before', search_configuration = null",
    )
    .execute(world.pool())
    .await
    .unwrap();

    let made = futures::future::join_all((0..4).map(|_| world.deps.prepare())).await;
    assert!(made.iter().all(Result::is_ok), "{made:?}");
    let sql = format!(
        "select indexdef from pg_indexes where tablename = '{table}' and indexdef like '%gin (search)%'"
    );
    let indexes: Vec<String> = sqlx::query_scalar(AssertSqlSafe(sql))
        .fetch_all(world.pool())
        .await
        .unwrap();
    assert_eq!(indexes.len(), 1);
    assert_eq!(
        world.ask("red apples").await.len(),
        1,
        "the vector is there all the time"
    );
    assert!(world.by_words("apples").await.is_empty());
    let embedded = world.embedded().len();
    assert_eq!(world.index(&["k"]).await, [indexed(1, 0)]);
    assert_eq!(world.embedded().len(), embedded);
    assert_eq!(world.by_words("apples").await, ["k/a.md"]);
}

#[tokio::test]
async fn the_words_are_counted_again_when_the_table_has_grown_by_half() {
    let world = World::new().await;
    let table = &world.deps.config.table;
    let counted = async || -> (i64, Option<f64>) {
        sqlx::query_as(
            "select c.chunks, t.chunks from knowledge_corpora c
             left join knowledge_terms t on t.table_name = c.table_name and t.term = 'appl'",
        )
        .fetch_one(world.pool())
        .await
        .unwrap()
    };
    let add = async |from: u32, to: u32| {
        for number in from..to {
            world.write(
                &format!("k/{number}.md"),
                format!("The apples and pears of {number}."),
            );
        }
        world.index(&["k"]).await;
    };
    add(0, 10).await;
    world.deps.refresh_terms().await.unwrap();
    assert_eq!(counted().await, (10, Some(10.0)));
    add(10, 15).await;
    assert_eq!(
        counted().await,
        (10, Some(10.0)),
        "half as many again is not more than that"
    );
    add(15, 16).await;
    assert_eq!(counted().await, (16, Some(16.0)));

    for number in 0..15 {
        world.write(
            &format!("k/{number}.md"),
            format!("Pears of {number} only."),
        );
    }
    world.index(&["k"]).await;
    world.deps.refresh_terms().await.unwrap();
    assert_eq!(
        counted().await,
        (16, None),
        "a term in one chunk is as rare as an unknown one"
    );
    // Somebody else counts: nobody waits.
    let mut conn = world.pool().begin().await.unwrap();
    sqlx::query("select pg_advisory_xact_lock(hashtextextended($1, 0))")
        .bind(format!("growth-chat knowledge terms of {table}"))
        .execute(&mut *conn)
        .await
        .unwrap();
    let mut other = world.pool().acquire().await.unwrap();
    sqlx::query("delete from knowledge_corpora")
        .execute(&mut *other)
        .await
        .unwrap();
    refresh_terms_if_stale(&mut other, table).await.unwrap();
    let left: i64 = sqlx::query_scalar("select count(*) from knowledge_corpora")
        .fetch_one(&mut *other)
        .await
        .unwrap();
    assert_eq!(left, 0);
}
