//! `cargo eval-report [--check]`: writes `docs/evaluation.md` and its images, or tells whether they are
//! what the shipped question sets give now.
//!
//! The program itself measures, as an operator would have it: a private Postgres, the stand-in for the
//! embeddings, `migrate`, `index`, `eval --json`. Its figures are the same every time, in whichever
//! order the documents were indexed.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line tool"
)]

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{ExitCode, Output},
};

use anyhow::{Context, Result, ensure};
use sandbox::{
    generated::{only_checks, workspace},
    openai::{OpenAi, RELEVANCE_THRESHOLD},
    outside::OutsideWorld,
    postgres::{Progress, Server, ServerOptions, ensure_database},
};
use serde::Deserialize;
use tokio::process::Command;

/// The shipped sets: the name of database and image, the questions, the documents.
const SETS: [(&str, &str, &str); 2] = [
    (
        "sample_knowledge",
        "evaluation/sample-knowledge.toml",
        "knowledge",
    ),
    (
        "docs_corpus",
        "evaluation/docs-corpus.toml",
        "evaluation/docs-corpus",
    ),
];
/// The report, and the folder of its images.
const REPORT: &str = "docs/evaluation.md";
const IMAGES: &str = "docs/evaluation";

/// File, relative to the workspace → content.
type Files = BTreeMap<PathBuf, String>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("eval-report: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<()> {
    let check = only_checks("eval-report")?;
    let root = workspace()?;
    let files = measure(root).await?;
    let stale: Vec<String> = files
        .iter()
        .filter(|(path, content)| {
            fs::read_to_string(root.join(path)).ok().as_ref() != Some(content)
        })
        .map(|(path, _)| path.display().to_string())
        .collect();
    if check {
        ensure!(
            stale.is_empty(),
            "run `cargo eval-report` and commit {}",
            stale.join(", ")
        );
        println!("eval-report: {REPORT} is fresh");
        return Ok(());
    }
    fs::create_dir_all(root.join(IMAGES))?;
    for (path, content) in &files {
        fs::write(root.join(path), content)
            .with_context(|| format!("writing {} failed", path.display()))?;
    }
    println!(
        "eval-report: {} files, {} changed",
        files.len(),
        stale.len()
    );
    Ok(())
}

/// What the sets give now.
async fn measure(root: &Path) -> Result<Files> {
    let program = build(root).await?;
    let server = Server::start(ServerOptions {
        progress: Progress::new(|step| eprintln!("eval-report: {step}")),
        ..ServerOptions::default()
    })
    .await?;
    let openai = OpenAi::start(OutsideWorld::default(), 0).await?;
    let place = tempfile::tempdir()?;
    let mut files = Files::new();
    let mut reports = Vec::new();
    for (name, questions, documents) in SETS {
        eprintln!("eval-report: {questions}");
        ensure_database(&server.url("postgres"), name).await?;
        let environment = environment(&server.url(name), &openai);
        let run = async |arguments: &[&str]| -> Result<Output> {
            let output = Command::new(&program)
                .args(arguments)
                .env_clear()
                .envs(environment.iter().cloned())
                .current_dir(root)
                .output()
                .await?;
            ensure!(
                output.status.success(),
                "{}: {}",
                arguments.join(" "),
                String::from_utf8_lossy(&output.stderr)
            );
            Ok(output)
        };
        let image = place.path().join("plot.svg");
        let image = image.to_str().context("the temporary folder's name")?;
        run(&["migrate"]).await?;
        run(&["index", documents]).await?;
        let output = run(&["eval", questions, "--json", "--plot", image]).await?;
        let report: Report = serde_json::from_slice(&output.stdout)?;
        let file = format!("{}.svg", name.replace('_', "-"));
        files.insert(Path::new(IMAGES).join(&file), fs::read_to_string(image)?);
        reports.push(section(&report, questions, documents, &file)?);
    }
    files.insert(REPORT.into(), document(&reports));
    server.stop().await?;
    Ok(files)
}

/// Builds the program in the profile that is built already during development.
async fn build(root: &Path) -> Result<PathBuf> {
    let cargo = option_env!("CARGO").unwrap_or("cargo");
    let output = Command::new(cargo)
        .args(["build", "--package", "growth-chat", "--bin", "growth-chat"])
        .args(["--message-format", "json-render-diagnostics"])
        .current_dir(root)
        .stderr(std::process::Stdio::inherit())
        .output()
        .await?;
    ensure!(output.status.success(), "the program could not be built");
    let executable = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == "growth-chat")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from));
    executable.context("cargo did not say where the program is")
}

fn environment(database: &str, openai: &OpenAi) -> Vec<(&'static str, String)> {
    vec![
        ("ENVIRONMENT", "development".to_owned()),
        ("CHECKPOINT_DB_URL", database.to_owned()),
        ("OPENAI_API_KEY", "stand-in".to_owned()),
        ("OPENAI_EU_ENDPOINT", openai.url()),
        ("RAG_RELEVANCE_THRESHOLD", RELEVANCE_THRESHOLD.to_string()),
        ("RUST_LOG", "error".to_owned()),
    ]
}

/// What `eval --json` says, as far as it is reported.
#[derive(Debug, Deserialize)]
struct Report {
    question_set: String,
    questions: usize,
    answerable: usize,
    model: String,
    dimensions: u16,
    documents: usize,
    passages: usize,
    embedding_requests: usize,
    searches: Vec<Search>,
    curve: Vec<Point>,
    proposal: Option<Proposal>,
    failures: Vec<Failure>,
}

#[derive(Debug, Deserialize)]
struct Search {
    name: String,
    recall: f64,
    mrr: f64,
    at_threshold: Point,
}

#[derive(Debug, Deserialize)]
struct Point {
    threshold: f64,
    recall: Option<f64>,
    abstention: Option<f64>,
    precision: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct Proposal {
    threshold: f64,
    recall: f64,
    abstention: f64,
}

#[derive(Debug, Deserialize)]
struct Failure {
    question: String,
    why: String,
    place: Option<usize>,
    first_cosine: Option<f64>,
    cosine: Option<f64>,
}

fn document(sections: &[String]) -> String {
    format!(
        "# How good the search is\n\n\
         Written by `cargo eval-report`; `cargo eval-report --check` proves it fresh. [Evaluating](evaluating.md) \
         says what the figures mean and how to have them of documents of one's own.\n\n\
         The embeddings are those of the stand-in, which knows words and no meanings. So these figures tell \
         that the search, its fusion and its threshold work, and how versions of them compare; those of a real \
         model have to be measured with it.\n\n{}",
        sections.join("\n")
    )
}

/// The section of one set.
fn section(report: &Report, questions: &str, documents: &str, image: &str) -> Result<String> {
    let mut text = String::new();
    let k = report.passages;
    let proposal = report.proposal.as_ref();
    let proposal = proposal.context("no threshold is proposed")?;
    writeln!(
        text,
        "## {}\n\n\
         `{questions}` on `{documents}/`: {} questions, {} of them answerable and {} not; {} documents, \
         `{}` with {} dimensions, {} request(s) for the questions' embeddings.\n\n\
         | search | recall@{k} | MRR | at the proposed threshold: recall@{k} | abstention | precision |\n\
         |---|---|---|---|---|---|",
        report.question_set,
        report.questions,
        report.answerable,
        report.questions - report.answerable,
        report.documents,
        report.model,
        report.dimensions,
        report.embedding_requests,
    )?;
    for search in &report.searches {
        let at = &search.at_threshold;
        writeln!(
            text,
            "| {} | {} | {:.3} | {} | {} | {} |",
            search.name,
            percent(Some(search.recall)),
            search.mrr,
            percent(at.recall),
            percent(at.abstention),
            percent(at.precision)
        )?;
    }
    writeln!(text, "\n{}", comparison(&report.searches)?)?;
    writeln!(
        text,
        "\nProposed: `RAG_RELEVANCE_THRESHOLD={:.3}`, with a recall@{k} of {} and an abstention of {}.\n\n\
         ![Recall and abstention over the threshold](evaluation/{image})\n\n\
         | threshold | recall@{k} | abstention | precision |\n|---|---|---|---|",
        proposal.threshold,
        percent(Some(proposal.recall)),
        percent(Some(proposal.abstention)),
    )?;
    let mut before: Option<&Point> = None;
    for point in &report.curve {
        let same =
            |before: &Point| (before.recall, before.abstention) == (point.recall, point.abstention);
        if before.is_some_and(same) {
            continue;
        }
        before = Some(point);
        writeln!(
            text,
            "| {:.2} | {} | {} | {} |",
            point.threshold,
            percent(point.recall),
            percent(point.abstention),
            percent(point.precision)
        )?;
    }
    writeln!(
        text,
        "\nA threshold at which nothing changes is left out. What fails at the proposed one:\n"
    )?;
    for failure in &report.failures {
        let why = match (failure.why.as_str(), failure.place, failure.cosine) {
            ("answered", ..) => format!(
                "answered, with {:.3}",
                failure.first_cosine.unwrap_or_default()
            ),
            ("too_low", _, Some(cosine)) => format!("below the threshold, with {cosine:.3}"),
            ("too_late", Some(place), _) => format!("in place {place}"),
            _ => "not found".to_owned(),
        };
        writeln!(text, "- {} – {why}", failure.question)?;
    }
    Ok(text)
}

/// How far the first search, the hybrid one, is ahead of the others.
fn comparison(searches: &[Search]) -> Result<String> {
    let (hybrid, others) = searches.split_first().context("no search was measured")?;
    let ahead: Vec<String> = others
        .iter()
        .map(|other| {
            format!(
                "of {} alone by {:+.1} percentage points of recall and {:+.3} of MRR",
                other.name,
                100.0 * (hybrid.recall - other.recall),
                hybrid.mrr - other.mrr
            )
        })
        .collect();
    Ok(format!(
        "The {} search is ahead {}.",
        hybrid.name,
        ahead.join(", ")
    ))
}

fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "–".to_owned(), |share| format!("{:.1} %", share * 100.0))
}
