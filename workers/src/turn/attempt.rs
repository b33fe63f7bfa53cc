//! One attempt to answer a turn.

use std::time::Duration;

use futures::StreamExt;
use jobs::{Ended, Fence, HandlerResult, JobError, Outcome};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::{
    checkpoints::{self, ConversationState},
    events,
    ids::TurnKey,
    knowledge::KnowledgeError,
    turns::{self, Beginning, Begun, Ending, Finish, TurnUsage},
};
use tokio::time::Instant;

use super::{
    BROKE_OFF, RETRIEVED, TurnDeps,
    answer::{Answer, Opening},
    ending::{self, End},
    lease, lease_lost, measure,
    prompt::{self, Question},
    provider_failed,
    writer::Emitter,
};
use crate::{
    clients::{
        RetryClass,
        anthropic::{MessageRequest, MessageStream, ModelError},
    },
    knowledge::{Passage, embed_question, nearest},
};

/// Answers a turn under the job's fence, until it is `cancelled`.
///
/// Frames are written as the answer comes. It ends in [`Outcome::Committed`] when the turn and its
/// job were ended, and in an error when the queue is to decide; in between nothing is left over that
/// the next attempt would trip over.
#[tracing::instrument(
    skip_all,
    fields(session_id = %key.session_id, turn = key.turn, job_id = fence.id.0)
)]
pub async fn process(
    deps: &TurnDeps,
    key: TurnKey,
    fence: Fence,
    cancelled: impl Future<Output = ()>,
) -> HandlerResult {
    let taken = Instant::now();
    let beginning = {
        let mut conn = deps.pool.acquire().await?;
        turns::begin_attempt(&mut conn, lease(fence), &key, deps.window).await?
    };
    let begun = match beginning {
        Beginning::Begun(begun) => *begun,
        Beginning::NothingToDo => return Ok(Outcome::Done),
        Beginning::LeaseLost => return Err(lease_lost()),
    };
    let attempt = Attempt {
        deps,
        emitter: deps.writer.emitter(key.clone(), begun.attempt),
        key,
        fence,
        begun,
        taken,
    };
    let mut progress = attempt.progress();
    if !attempt.begun.cancel_requested {
        tokio::select! {
            biased;
            // Dropping the answer in the making closes the model's connection.
            () = cancelled => {}
            answered = attempt.answer(&mut progress) => {
                answered?;
                return attempt.end(progress, Ended::Done).await;
            }
        }
    }
    if progress.model_called.is_some() {
        measure::model_call("cancelled", progress.answer.usage());
    }
    attempt.end(progress, Ended::Cancelled).await
}

struct Attempt<'d> {
    deps: &'d TurnDeps,
    key: TurnKey,
    fence: Fence,
    begun: Begun,
    emitter: Emitter,
    /// When the handler got the job.
    taken: Instant,
}

/// How far an attempt has come. It stands outside of the work that a cancellation drops.
struct Progress {
    answer: Answer,
    passages: Vec<Passage>,
    /// The time in which we waited for the embeddings.
    embedding: Duration,
    model_called: Option<Instant>,
    first_token: Option<Instant>,
}

/// What [`BROKE_OFF`] records.
#[derive(Serialize, Deserialize)]
struct BrokeOff {
    error: String,
    input: i64,
    output: i64,
    cache_write: i64,
    cache_read: i64,
}

impl Attempt<'_> {
    fn progress(&self) -> Progress {
        let opening = Opening {
            key: self.key.clone(),
            answer_id: self.begun.answer_id.clone(),
            stage: self.begun.stage,
            attempt: self.begun.attempt,
            reset: self.begun.earlier_frames,
        };
        Progress {
            answer: Answer::new(opening),
            passages: Vec::new(),
            embedding: Duration::ZERO,
            model_called: None,
            first_token: None,
        }
    }

    /// From the message to the end of the answer. May be dropped at any point: what `progress` says
    /// was said is what the event writer was given.
    async fn answer(&self, progress: &mut Progress) -> Result<(), JobError> {
        let recorded = self.begun.steps.output(RETRIEVED);
        let is_recorded = recorded.is_some();
        progress.passages = match recorded {
            Some(passages) => passages,
            None => self.retrieve(progress).await?,
        };
        let request = self.request(&progress.passages);
        progress.model_called = Some(Instant::now());
        // The visitor does not wait for the record; the model is on its way meanwhile.
        let (kept, stream) = tokio::join!(
            async {
                if is_recorded {
                    return Ok(());
                }
                self.record(RETRIEVED, &progress.passages).await
            },
            self.deps.model.stream(&request),
        );
        let mut stream = match stream {
            Ok(stream) => stream,
            Err(error) => return self.broke(progress, &error).await,
        };
        kept?;
        self.relay(&mut stream, progress).await
    }

    async fn retrieve(&self, progress: &mut Progress) -> Result<Vec<Passage>, JobError> {
        let asked = Instant::now();
        let embedded = embed_question(&self.deps.knowledge, &self.begun.message).await;
        progress.embedding = asked.elapsed();
        let Some(embedding) = embedded.map_err(|error| provider_failed(&error))? else {
            return Ok(Vec::new());
        };
        let (message, locale) = (&self.begun.message, self.begun.locale.as_deref());
        nearest(&self.deps.knowledge, embedding, message, locale)
            .await
            .map(|retrieved| retrieved.passages)
            .map_err(|error| match error {
                KnowledgeError::Database(error) => error.into(),
                other => JobError::fatal(format!("the knowledge base was not searched: {other}")),
            })
    }

    fn request(&self, passages: &[Passage]) -> MessageRequest {
        prompt::request(&Question {
            model: &self.deps.model_name,
            max_tokens: self.deps.max_output_tokens,
            locale: self.begun.locale.as_deref(),
            page_url: self.begun.page_url.as_deref(),
            window: &self.begun.window,
            passages,
            message: &self.begun.message,
        })
    }

    /// Records a step's output, under the fence.
    async fn record(&self, step: &str, output: &impl Serialize) -> Result<(), JobError> {
        let output: Value = serde_json::to_value(output)
            .map_err(|_| JobError::fatal(format!("the output of `{step}` has no JSON form")))?;
        let mut conn = self.deps.pool.acquire().await?;
        let attempt = self.begun.attempt;
        let held = checkpoints::record(
            &mut conn,
            lease(self.fence),
            &self.key,
            attempt,
            step,
            &output,
        );
        if held.await? {
            Ok(())
        } else {
            Err(lease_lost())
        }
    }

    /// Hands the answer on while it comes.
    async fn relay(
        &self,
        stream: &mut MessageStream,
        progress: &mut Progress,
    ) -> Result<(), JobError> {
        while !progress.answer.is_finished() {
            // A log that is behind slows the reading of the model, and nothing piles up here.
            self.emitter.ready().await?;
            match stream.next().await {
                Some(Ok(event)) => {
                    for chunk in progress.answer.take(event) {
                        self.emitter.push(chunk);
                    }
                    if progress.first_token.is_none() && progress.answer.has_text() {
                        progress.first_token = Some(Instant::now());
                        self.measure_first_token(progress);
                    }
                }
                Some(Err(error)) => return self.broke(progress, &error).await,
                // The stream ends by an event or an error.
                None => break,
            }
        }
        let has_text = progress.answer.has_text();
        let outcome = if has_text { "ok" } else { "empty" };
        measure::model_call(outcome, progress.answer.usage());
        if has_text {
            Ok(())
        } else {
            Err(JobError::retry("the model's answer had no text"))
        }
    }

    /// The model failed. Before the first text the queue tries again as often as it does; after it the
    /// answer starts again once.
    async fn broke(&self, progress: &Progress, error: &ModelError) -> Result<(), JobError> {
        let usage = progress.answer.usage();
        measure::model_call(error.code(), usage);
        let failed = provider_failed(error);
        if !progress.answer.has_text() || error.retry() == RetryClass::Never {
            return Err(failed);
        }
        if self.broke_off_before().is_some() {
            return Err(JobError::fatal(format!(
                "the answer broke off for the second time: {}",
                failed.reason
            )));
        }
        let broke_off = BrokeOff {
            error: error.code().to_owned(),
            input: usage.input,
            output: usage.output,
            cache_write: usage.cache_write,
            cache_read: usage.cache_read,
        };
        // What was shown is settled before the next attempt looks whether there was something.
        self.emitter.flush().await?;
        self.record(BROKE_OFF, &broke_off).await?;
        Err(failed)
    }

    fn broke_off_before(&self) -> Option<BrokeOff> {
        self.begun.steps.output(BROKE_OFF)
    }

    fn since_accepted(&self) -> Duration {
        self.begun.age + self.taken.elapsed()
    }

    fn measure_first_token(&self, progress: &Progress) {
        let model = progress.model_called.map(|called| called.elapsed());
        let others = progress.embedding + model.unwrap_or_default();
        let overhead = self.taken.elapsed().saturating_sub(others);
        measure::first_token(self.since_accepted(), overhead);
    }

    /// What all attempts are billed for, as far as it is known.
    fn usage(&self, answer: &Answer) -> TurnUsage {
        let mut usage = answer.usage();
        if let Some(earlier) = self.broke_off_before() {
            usage.input += earlier.input;
            usage.output += earlier.output;
            usage.cache_write += earlier.cache_write;
            usage.cache_read += earlier.cache_read;
        }
        usage
    }

    async fn end(self, progress: Progress, ended: Ended) -> HandlerResult {
        let answer = &progress.answer;
        let sources = answer.sources(&progress.passages);
        let (outcome, ending, tail) = if ended == Ended::Cancelled {
            ("cancelled", Ending::Cancelled, answer.aborted_tail())
        } else {
            let ending = Ending::Answered(answer.finish_reason());
            ("answered", ending, answer.tail(&sources))
        };
        let next_seq = self.emitter.flush().await?;
        let finish = Finish {
            attempt: self.begun.attempt,
            ending,
            answer_id: self.begun.answer_id.clone(),
            text: answer.text().to_owned(),
            sources,
            model: answer.model().map(str::to_owned),
            usage: self.usage(answer),
            since_first_token: None,
            state: ConversationState {
                stage: self.begun.stage,
            },
            tail: events::number(&self.key, self.begun.attempt, next_seq, &tail),
        };
        let end = End {
            key: self.key.clone(),
            fence: self.fence,
            ended,
            finish,
            first_token: progress.first_token,
        };
        ending::commit(&self.deps.pool, &self.deps.bus, end).await?;
        measure::finished(outcome, self.since_accepted());
        tracing::info!(attempt = self.begun.attempt, outcome, "a turn is finished");
        Ok(Outcome::Committed)
    }
}
