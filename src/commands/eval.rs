//! `growth-chat eval FILE`: measures the search on questions with known sources, and proposes the
//! relevance threshold for this model and corpus.

mod report;
mod text;

use std::{
    fs::File,
    io::{Read, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail};
use store::knowledge::{Calibration, SearchSettings, save_calibration};
use workers::{
    evaluation::{EvaluateError, Evaluation, Evaluator, QuestionSet, UnknownSource, plot},
    knowledge::KnowledgeDeps,
};

use self::report::Report;
use super::search;
use crate::{environment, reach::reach_migrated};

/// The largest file of questions.
const MAX_FILE_BYTES: u64 = 8 * 1024 * 1024;

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct EvalArgs {
    /// The questions, in TOML: see docs/evaluating.md
    file: PathBuf,
    /// Answer with JSON on standard output
    #[arg(long)]
    json: bool,
    /// Tell the proposed threshold only
    #[arg(long, conflicts_with = "json")]
    brief: bool,
    /// Draw recall and abstention over the threshold into this SVG file
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Among how many passages the right one has to be [default: `RAG_TOP_K`]
    #[arg(short, value_name = "PASSAGES", value_parser = clap::value_parser!(u16).range(1..=100))]
    k: Option<u16>,
    /// Keep the proposed threshold as this corpus's calibration
    #[arg(long)]
    save: bool,
}

/// Measures and prints. The questions are read before anything else, and held against what is indexed
/// before anything is paid.
pub(crate) async fn run(args: EvalArgs) -> anyhow::Result<ExitCode> {
    let set = read(&args.file)?;
    let mut settings = environment::settings();
    let config = search::command::read(&mut settings);
    let (database, knowledge) = settings.finish(config)?;
    let database = database.open()?;
    reach_migrated(&database).await?;
    let deps = knowledge.deps(&database)?;
    deps.prepare()
        .await
        .context("the knowledge base can't be used")?;
    let k = args.k.unwrap_or(deps.config.top_k);
    let evaluation = match Evaluator::new(&deps)
        .run(&set, deps.config.relevance_threshold)
        .await
    {
        Err(EvaluateError::UnknownSources(unknown)) => bail!(complaint(&args.file, &unknown)),
        evaluation => evaluation.context("measuring failed")?,
    };
    let mut report = Report::new(&set, &evaluation, deps.config.table.as_str(), k.into());
    if let Some(path) = &args.plot {
        let title = format!("{}: {}", set.name, report.model);
        let svg = plot::svg(&title, &report.curve, k.into(), report.proposal);
        std::fs::write(path, svg)
            .with_context(|| format!("{} could not be written", path.display()))?;
    }
    if args.save {
        save(&deps, &set, &evaluation, &report, k).await?;
        report.saved = true;
    }
    let out = &mut std::io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &report)?;
        writeln!(out)?;
    } else {
        text::print(&report, args.brief, out)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The questions of a file.
fn read(path: &Path) -> anyhow::Result<QuestionSet> {
    let shown = path.display();
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text))
        .with_context(|| format!("{shown} could not be read"))?;
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > MAX_FILE_BYTES {
        bail!("{shown} has more than {} MB", MAX_FILE_BYTES >> 20);
    }
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    QuestionSet::parse(&name, &text).map_err(|error| {
        let told = error.to_string();
        let lines: Vec<String> = told
            .lines()
            .map(|line| format!("{shown}: {line}"))
            .collect();
        anyhow::Error::msg(lines.join("\n"))
    })
}

/// Names every source that is not indexed.
fn complaint(path: &Path, unknown: &[UnknownSource]) -> String {
    use std::fmt::Write as _;

    let mut told = "nothing was asked: some expected sources are not indexed".to_owned();
    for one in unknown {
        let _ = write!(
            told,
            "\n{}: line {}: no document or section is called {}",
            path.display(),
            one.line,
            one.source
        );
    }
    told
}

/// Keeps the proposal with what it was measured with.
async fn save(
    deps: &KnowledgeDeps,
    set: &QuestionSet,
    evaluation: &Evaluation,
    report: &Report,
    k: u16,
) -> anyhow::Result<()> {
    let Some(proposal) = report.proposal else {
        bail!(
            "there is no threshold to save: a set needs questions that something answers and some \
             that nothing answers"
        );
    };
    let calibration = Calibration {
        settings: SearchSettings {
            threshold: proposal.threshold,
            ..evaluation.running.clone()
        },
        corpus_hash: evaluation.corpus_hash.clone(),
        recall: proposal.recall,
        abstention: proposal.abstention,
        passages: k,
        questions: u32::try_from(set.questions.len()).unwrap_or(u32::MAX),
        question_set: set.name.clone(),
    };
    let mut conn = deps.pool.acquire().await?;
    save_calibration(&mut conn, &deps.config.table, &calibration)
        .await
        .context("the calibration could not be saved")
}
