//! A replay: a finished turn is asked again, of another model or with other rules, for an operator who
//! wants to know what would have become of it.
//!
//! ```text
//! recorded: asked, retrieved, found.N ─▶ the same request ─▶ the model ─▶ two answers side by side
//! ```
//! Nothing of it reaches the visitor: no stage moves, no handoff is made, nothing is written but the bill,
//! which is counted as any other. The rules of the conversation decide as they did in the turn, so that the
//! model is told the same. The N-th search finds what the turn's N-th search found; one that the turn did
//! not make looks into the knowledge base as it is now.

mod replaying;

use std::time::Duration;

use store::{
    ids::TurnKey,
    replays::{self, REPLAY_ATTEMPT, RecordedTurn},
    spend::Usd,
    transcript::Source,
    turns::{PastMessage, TurnUsage},
};
use tokio::time::Instant;

use self::replaying::Replaying;
use super::{
    TurnDeps,
    answer::{Answer, Opening},
    asked::{ASKED, Asked},
    attempt::allowed_links,
    call::Said,
    progress::Progress,
    prompt::{Directive, RULES},
    steps::{self, ANSWERED, Answered, Called, RETRIEVED, Retrieved},
};
use crate::{
    budget::CapReached, clients::ProviderError, conversation::Conversation,
    knowledge::RetrieveError,
};

/// What is different from the turn.
#[derive(Debug, Clone, Default)]
pub struct Variation {
    /// Another model; none: the one that the turn asked for.
    pub model: Option<String>,
    /// Other rules; none: those of this version.
    pub rules: Option<String>,
}

/// A turn was not replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// There is no such turn, or what was said in it is gone.
    #[error("there is no such turn, or what was said in it has been deleted")]
    NotFound,
    /// It is queued or running.
    #[error("the turn is not finished")]
    NotFinished,
    /// It has no step `asked`.
    #[error(
        "what the turn was asked with was not recorded: it was answered by an earlier version, by a limit, \
         or not at all"
    )]
    NotRecorded,
    /// Messages of the conversation before it are gone.
    #[error("{0} messages of the conversation before the turn have been deleted")]
    WindowGone(usize),
    /// A cap on spending is reached.
    #[error("the {} cap on spending is reached", match .0 { CapReached::Daily => "daily", CapReached::Monthly => "monthly" })]
    CapReached(CapReached),
    /// The model failed.
    #[error("the model failed")]
    Model(#[from] ProviderError),
    /// The model wanted a search that the turn did not make, and it failed.
    #[error("a search failed that the turn had not made")]
    Search(#[source] RetrieveError),
    /// The database failed.
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
}

/// An answer, by the turn or by its replay. It has no `Debug`, because it holds text.
pub struct Side {
    /// The model that answered, as the provider names it.
    pub model: Option<String>,
    /// A short name of the version of the rules.
    pub rules: String,
    /// The answer.
    pub text: String,
    /// What it cites.
    pub sources: Vec<Source>,
    /// The calls of tools: name and arguments.
    pub tools: Vec<(String, serde_json::Value)>,
    /// What it was billed for.
    pub usage: TurnUsage,
    /// What that comes to.
    pub cost: Usd,
    /// Until the first text. The turn's also has the search, and attempts that failed.
    pub to_first_token: Option<Duration>,
    /// Until the end.
    pub total: Option<Duration>,
}

/// Both sides.
pub struct Replay {
    /// As it was.
    pub then: Side,
    /// As it is now.
    pub now: Side,
    /// Searches that the turn had not made.
    pub new_searches: u16,
}

/// Asks a finished turn again.
pub async fn replay(
    deps: &TurnDeps,
    key: &TurnKey,
    variation: Variation,
) -> Result<Replay, ReplayError> {
    let (turn, asked, window) = read(deps, key).await?;
    let model = variation.model.unwrap_or_else(|| asked.model.clone());
    let rules = variation.rules.unwrap_or_else(|| RULES.to_owned());
    let conversation = Conversation::begin(
        asked.state.clone(),
        key.turn,
        deps.conversation.stall_turn_threshold,
    );
    let opening = Opening {
        key: key.clone(),
        // Nobody is shown the frames that it is for.
        answer_id: store::ids::new_message_id(deps.entropy.as_ref()),
        stage: asked.state.stage,
        notice: None,
        attempt: REPLAY_ATTEMPT,
        reset: false,
    };
    let allowed = allowed_links(deps, &turn.message, &window);
    let mut progress = Progress::new(conversation, Answer::new(opening, &allowed));
    give_passages(&turn, &asked, &mut progress);
    let mut replaying = Replaying {
        deps,
        key,
        turn: &turn,
        asked: &asked,
        window: &window,
        model,
        rules,
        progress,
        begun: Instant::now(),
        usage: TurnUsage::default(),
        cost: Usd::ZERO,
        tools: Vec::new(),
        to_first_token: None,
        new_searches: 0,
    };
    replaying.converse().await?;
    let then = then(&turn, &asked);
    let new_searches = replaying.new_searches;
    Ok(Replay {
        then,
        now: replaying.side(),
        new_searches,
    })
}

async fn read(
    deps: &TurnDeps,
    key: &TurnKey,
) -> Result<(RecordedTurn, Asked, Vec<PastMessage>), ReplayError> {
    let mut conn = deps.pool.acquire().await?;
    let turn = replays::recorded(&mut conn, key).await?;
    let turn = turn.ok_or(ReplayError::NotFound)?;
    if !turn.finished {
        return Err(ReplayError::NotFinished);
    }
    let asked: Option<Asked> = turn.steps.output(ASKED);
    let asked = asked.ok_or(ReplayError::NotRecorded)?;
    let window = replays::messages(&mut conn, &key.session_id, &asked.window).await?;
    match asked.window.len() - window.len() {
        0 => Ok((turn, asked, window)),
        gone => Err(ReplayError::WindowGone(gone)),
    }
}

/// What the turn was given before its first call.
fn give_passages(turn: &RecordedTurn, asked: &Asked, progress: &mut Progress) {
    let retrieved: Option<Retrieved> = turn.steps.output(RETRIEVED);
    let (passages, proactive) =
        retrieved.map_or_else(Default::default, |it| (it.passages, it.proactive));
    progress.passages = passages;
    for directive in Directive::ALL {
        if asked.directives.iter().any(|name| name == directive.name()) {
            progress.directives.push(directive);
            if directive == Directive::TellCaseStudy {
                progress.passages.extend(proactive.clone());
            }
        }
    }
    progress.with_message = progress.passages.len();
    progress.answer.allow(&progress.passages);
}

fn then(turn: &RecordedTurn, asked: &Asked) -> Side {
    let called = (1..).map_while(|number| turn.steps.output::<Called>(&steps::called(number)));
    let answered: Answered = turn.steps.output(ANSWERED).unwrap_or_default();
    let said = called.flat_map(|called| called.said).chain(answered.tools);
    let said: Vec<Said> = said.collect();
    let seconds = |seconds: Option<f64>| Duration::try_from_secs_f64(seconds?).ok();
    Side {
        model: turn.model.clone(),
        rules: asked.rules.clone(),
        text: turn.answer.clone().unwrap_or_default(),
        sources: turn.sources.clone(),
        tools: tools(&said),
        usage: turn.usage,
        cost: turn.cost_usd.parse().unwrap_or_default(),
        to_first_token: seconds(turn.seconds_to_first_token),
        total: seconds(turn.seconds_total),
    }
}

fn tools(said: &[Said]) -> Vec<(String, serde_json::Value)> {
    said.iter()
        .filter_map(|said| match said {
            Said::Call { name, input, .. } => Some((name.clone(), input.clone())),
            Said::Text { .. } => None,
        })
        .collect()
}
