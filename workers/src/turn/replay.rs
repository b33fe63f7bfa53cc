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

use std::time::Duration;

use futures::StreamExt;
use store::{
    ids::TurnKey,
    knowledge::KnowledgeError,
    phrases::{Language, Phrase},
    protocol::FinishReason,
    replays::{self, REPLAY_ATTEMPT, RecordedTurn},
    spend::{self, ModelCall, Purpose, Usd},
    transcript::Source,
    turns::{PastMessage, TurnUsage},
};
use tokio::time::Instant;

use super::{
    TurnDeps,
    answer::{Answer, Opening},
    asked::{self, ASKED, Asked},
    attempt::allowed_links,
    call::{Call, Round, Said, ToolAnswer, ToolResult},
    progress::{Progress, Task},
    prompt::{self, Directive, Question, RULES},
    steps::{self, Called, RETRIEVED, Retrieved},
};
use crate::{
    budget::{Admission, CapReached},
    clients::{ProviderError, anthropic::MessageRequest},
    conversation::Conversation,
    knowledge::{Passage, RetrieveError, retrieve},
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
    /// The calls of tools: name and arguments. Of the turn only those are known that needed another call of
    /// the model.
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
    let seconds = |seconds: Option<f64>| Duration::try_from_secs_f64(seconds?).ok();
    Side {
        model: turn.model.clone(),
        rules: asked.rules.clone(),
        text: turn.answer.clone().unwrap_or_default(),
        sources: turn.sources.clone(),
        tools: called.flat_map(|called| tools(&called.said)).collect(),
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

struct Replaying<'r> {
    deps: &'r TurnDeps,
    key: &'r TurnKey,
    turn: &'r RecordedTurn,
    asked: &'r Asked,
    window: &'r [PastMessage],
    model: String,
    rules: String,
    progress: Progress,
    begun: Instant,
    usage: TurnUsage,
    cost: Usd,
    tools: Vec<(String, serde_json::Value)>,
    to_first_token: Option<Duration>,
    new_searches: u16,
}

impl Replaying<'_> {
    /// The turn's loop, without what a visitor or a takeover needs.
    async fn converse(&mut self) -> Result<(), ReplayError> {
        loop {
            let called = self.ask().await?;
            self.tools.extend(tools(&called.said));
            self.progress.answer.cite(&called.cited);
            self.progress.model = Some(called.model.clone());
            let plan = self.progress.plan(&called, &self.deps.conversation);
            if !plan.again {
                self.finish_speaking();
                return Ok(());
            }
            let mut results = Vec::new();
            for (id, task) in plan.tasks {
                let (answer, is_error) = match task {
                    Task::Tell { text, is_error } => (ToolAnswer::Text(text), is_error),
                    Task::Search(query) => (self.look_up(&query).await?, false),
                };
                results.push(ToolResult {
                    id,
                    answer,
                    is_error,
                });
            }
            if !results.is_empty() {
                self.progress.answer.begin_paragraph();
            }
            self.progress.rounds.push(Round {
                said: called.said,
                results,
            });
        }
    }

    /// What a visitor would have read instead of nothing.
    fn finish_speaking(&mut self) {
        let phrase = match self.progress.finish_reason {
            FinishReason::ContentFilter => Phrase::Declined,
            FinishReason::Length if !self.progress.answer.is_spoken() => Phrase::TooLong,
            _ => return,
        };
        let language = Language::of(self.asked.locale.as_deref());
        self.progress.answer.begin_paragraph();
        let _ = self.progress.answer.say(phrase.text(language));
        let _ = self.progress.answer.settle();
    }

    fn request(&self) -> MessageRequest {
        let limits = &self.deps.conversation;
        prompt::request(&Question {
            rules: &self.rules,
            model: &self.model,
            max_tokens: self.deps.max_output_tokens,
            retrieval: limits.max_tool_calls_per_turn > 0,
            may_call: self.progress.may_call(limits),
            conversation: &self.progress.conversation,
            directives: &self.progress.directives,
            locale: self.asked.locale.as_deref(),
            page_url: self.asked.page_url.as_deref(),
            window: self.window,
            passages: &self.progress.passages[..self.progress.with_message],
            message: &self.turn.message,
            rounds: &self.progress.rounds,
        })
    }

    async fn ask(&mut self) -> Result<Called, ReplayError> {
        let request = self.request();
        self.admit(&request).await?;
        let mut call = Call::default();
        let heard = self.hear(&request, &mut call).await;
        let outcome = match &heard {
            Ok(()) if call.said().is_empty() => "empty",
            Ok(()) => "ok",
            Err(error) => error.code(),
        };
        // What was billed is counted, however the call ended.
        self.record(&call, outcome).await?;
        heard?;
        let stop_reason = call.stop_reason().cloned();
        Ok(Called {
            model: call.model().unwrap_or(&self.model).to_owned(),
            // A stream ends by it, or by an error.
            stop_reason: stop_reason.unwrap_or(crate::clients::anthropic::StopReason::EndTurn),
            usage: call.usage().into(),
            cited: call.cited().to_vec(),
            said: call.into_said(),
        })
    }

    async fn hear(
        &mut self,
        request: &MessageRequest,
        call: &mut Call,
    ) -> Result<(), ProviderError> {
        let mut stream = self.deps.model.stream(request).await?;
        while call.stop_reason().is_none() {
            let Some(event) = stream.next().await else {
                break;
            };
            if let Some(delta) = call.take(event?) {
                // The frames are for a visitor.
                let _ = self.progress.answer.say(&delta);
                if self.progress.answer.has_text() {
                    self.to_first_token
                        .get_or_insert_with(|| self.begun.elapsed());
                }
            }
        }
        let _ = self.progress.answer.settle();
        Ok(())
    }

    async fn admit(&self, request: &MessageRequest) -> Result<(), ReplayError> {
        // Far from the numbers of the turn's own calls, which may be reserved as well.
        let number = i16::try_from(self.progress.rounds.len()).unwrap_or(i16::MAX);
        let admission = self.deps.budget.admit(
            self.key,
            i16::MAX - number,
            &request.model,
            request.input_tokens_at_most(),
            request.max_tokens,
        );
        match admission.await? {
            Admission::Granted => Ok(()),
            Admission::Refused(cap) => Err(ReplayError::CapReached(cap)),
        }
    }

    /// Counts the call. One that no model has taken costs nothing.
    async fn record(&mut self, call: &Call, outcome: &'static str) -> Result<(), ReplayError> {
        let Some(model) = call.model() else {
            return Ok(());
        };
        let usage = call.usage();
        let cost = self.deps.budget.cost(model, usage);
        let mut transaction = self.deps.pool.begin().await?;
        let serial_key = jobs::catalog::session_serial_key(&self.key.session_id);
        jobs::lock_serial_key(&mut transaction, &serial_key).await?;
        let recorded = ModelCall {
            call: replays::next_call(&mut transaction, self.key).await?,
            purpose: Purpose::Replay,
            model: model.to_owned(),
            outcome,
            usage,
            cost,
        };
        spend::record(&mut transaction, self.key, REPLAY_ATTEMPT, &[recorded]).await?;
        transaction.commit().await?;
        super::measure::model_call(outcome, usage);
        self.usage += usage;
        self.cost += cost;
        Ok(())
    }

    /// What the turn's search of this number found, without what the model has already.
    async fn look_up(&mut self, query: &str) -> Result<ToolAnswer, ReplayError> {
        self.progress.looked_up += 1;
        let name = steps::found(self.progress.looked_up);
        let recorded: Option<Vec<Passage>> = self.turn.steps.output(&name);
        let mut found = if let Some(found) = recorded {
            found
        } else {
            self.new_searches += 1;
            let locale = self.asked.locale.as_deref();
            let searched = retrieve(&self.deps.knowledge, query, locale).await;
            searched.map_err(search_failed)?.passages
        };
        found.retain(|passage| {
            let known = |other: &Passage| other.chunk_id == passage.chunk_id;
            !self.progress.passages.iter().any(known)
        });
        if found.is_empty() {
            return Ok(ToolAnswer::Text(super::converse::NOTHING_FOUND.to_owned()));
        }
        self.progress.answer.allow(&found);
        self.progress.passages.extend(found.iter().cloned());
        Ok(ToolAnswer::Passages(found))
    }

    fn side(self) -> Side {
        let answer = &self.progress.answer;
        Side {
            model: self.progress.model.clone(),
            rules: asked::version(&self.rules),
            text: answer.text().trim().to_owned(),
            sources: answer.sources(&self.progress.passages),
            tools: self.tools,
            usage: self.usage,
            cost: self.cost,
            to_first_token: self.to_first_token,
            total: Some(self.begun.elapsed()),
        }
    }
}

fn search_failed(error: RetrieveError) -> ReplayError {
    match error {
        RetrieveError::Search(KnowledgeError::Database(error)) => ReplayError::Database(error),
        other => ReplayError::Search(other),
    }
}
