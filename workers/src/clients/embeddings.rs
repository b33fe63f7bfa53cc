//! `OpenAI`'s embeddings.
//!
//! The provider takes at most 2,048 inputs, 300,000 tokens together and 8,192 tokens each. A batch is
//! kept smaller than that, because its answer has to fit into a small machine. Vectors are asked for in
//! base64, which is a third of the bytes and a tenth of the work; a gateway that knows numbers only may
//! answer with those.

use std::{ops::Range, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};

use store::trace::Span;

use super::{
    error::{Failure, ProviderError},
    gen_ai,
    http::{header, read_body, refusal, send_as, send_error},
};
use crate::{config::EmbeddingsConfig, knowledge::tokens};

/// The embeddings could not be had.
pub type EmbeddingsError = ProviderError;

const PROVIDER: &str = "openai";
const REQUEST_ID: &str = "x-request-id";
/// One call, from the request to the end of the answer.
const TIMEOUT: Duration = Duration::from_secs(20);
/// The most tokens of one input.
pub const MAX_INPUT_TOKENS: usize = 8_192;
/// The most inputs of a request (the provider's limit is 2,048).
const BATCH_INPUTS: usize = 256;
/// The most bytes of a request's inputs. A token has at least one byte, so that 300,000 tokens are
/// never exceeded, without counting them.
const BATCH_BYTES: usize = 300_000;
/// A dimension is 12 to 24 bytes as a number (5.4 in base64); this holds 256 × 3,072 of them.
const ANSWER_LIMIT: usize = 32 * 1024 * 1024;

/// The client. A clone shares its connections.
#[derive(Debug, Clone)]
pub struct Embedder {
    http: reqwest::Client,
    config: EmbeddingsConfig,
}

/// The embeddings of some texts, in the order of the texts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Embedded {
    /// One vector for each text, of the configured number of dimensions.
    pub vectors: Vec<Vec<f32>>,
    /// The tokens that are billed.
    pub tokens: u64,
    /// The requests that it took.
    pub requests: usize,
}

#[derive(Serialize)]
struct Request<'r, T> {
    model: &'r str,
    input: &'r [T],
    encoding_format: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    dimensions: Option<u16>,
}

#[derive(Deserialize)]
struct Answer {
    data: Vec<Item>,
    #[serde(default)]
    usage: AnswerUsage,
}

#[derive(Deserialize)]
struct Item {
    index: usize,
    embedding: Packed,
}

/// A vector on the wire.
#[derive(Deserialize)]
#[serde(untagged)]
enum Packed {
    Base64(String),
    Numbers(Vec<f32>),
}

impl Packed {
    /// `None`: it is not a number of whole floats.
    fn unpack(self) -> Option<Vec<f32>> {
        let text = match self {
            Self::Numbers(numbers) => return Some(numbers),
            Self::Base64(text) => text,
        };
        let bytes = STANDARD.decode(text).ok()?;
        let (floats, rest) = bytes.as_chunks::<4>();
        rest.is_empty().then(|| {
            floats
                .iter()
                .map(|float| f32::from_le_bytes(*float))
                .collect()
        })
    }
}

#[derive(Default, Deserialize)]
struct AnswerUsage {
    #[serde(default)]
    total_tokens: u64,
}

impl Embedder {
    /// A client over the process's connection pool.
    pub fn new(config: EmbeddingsConfig, http: reqwest::Client) -> Self {
        Self { http, config }
    }

    /// The model, as the chunks' rows name it.
    pub fn model(&self) -> &str {
        &self.config.model
    }

    /// The length of every vector.
    pub fn dimensions(&self) -> u16 {
        self.config.dimensions
    }

    /// Embeds `texts`, in as many requests as the provider's limits ask for, one after the other.
    /// A blank text is an `invalid_request`, one of more than [`MAX_INPUT_TOKENS`] is `too_large`;
    /// neither is sent.
    pub async fn embed<T: AsRef<str> + Serialize + Sync>(
        &self,
        texts: &[T],
    ) -> Result<Embedded, EmbeddingsError> {
        for text in texts {
            let text = text.as_ref();
            if text.trim().is_empty() {
                return Err(ProviderError::new(PROVIDER, Failure::InvalidRequest));
            }
            // Only a text with more bytes than that can have more tokens.
            if text.len() > MAX_INPUT_TOKENS && tokens::count(text) > MAX_INPUT_TOKENS {
                return Err(ProviderError::new(PROVIDER, Failure::TooLarge));
            }
        }
        let mut embedded = Embedded::default();
        for batch in Self::requests(texts) {
            let answer = self.request(&texts[batch]).await?;
            embedded.vectors.extend(answer.vectors);
            embedded.tokens += answer.tokens;
            embedded.requests += 1;
        }
        Ok(embedded)
    }

    /// The requests that `texts` are embedded in, for whoever wants to keep what each of them brought.
    pub fn requests<T: AsRef<str>>(texts: &[T]) -> Vec<Range<usize>> {
        batches(texts.iter().map(|text| text.as_ref().len()))
    }

    async fn request<T: Serialize + Sync>(&self, batch: &[T]) -> Result<Embedded, EmbeddingsError> {
        let mut span = gen_ai::embeddings(PROVIDER, &self.config.model, self.config.dimensions);
        let embedded = self.request_as(&mut span, batch).await;
        match &embedded {
            Ok(embedded) => gen_ai::embedded(&mut span, embedded.tokens),
            Err(error) => span.fail(error.code()),
        }
        embedded
    }

    async fn request_as<T: Serialize + Sync>(
        &self,
        span: &mut Span,
        batch: &[T],
    ) -> Result<Embedded, EmbeddingsError> {
        let body = Request {
            model: &self.config.model,
            input: batch,
            encoding_format: "base64",
            // Older models have one length only and refuse the parameter.
            dimensions: self
                .config
                .model
                .starts_with("text-embedding-3")
                .then_some(self.config.dimensions),
        };
        let request = self
            .http
            .post(format!("{}/embeddings", self.config.base_url))
            .bearer_auth(self.config.api_key.expose_secret())
            .timeout(TIMEOUT)
            .json(&body);
        let response = send_as(span, request)
            .await
            .map_err(|error| send_error(PROVIDER, Failure::Timeout, error))?;
        if !response.status().is_success() {
            return Err(refusal(PROVIDER, REQUEST_ID, response).await);
        }
        let request_id = header(response.headers(), REQUEST_ID).map(str::to_owned);
        let body = read_body(PROVIDER, response, ANSWER_LIMIT).await?;
        serde_json::from_slice(&body)
            .ok()
            .and_then(|answer| in_order(answer, batch.len(), self.config.dimensions.into()))
            .ok_or_else(|| {
                ProviderError::new(PROVIDER, Failure::MalformedResponse)
                    .with_request_id(request_id.as_deref())
            })
    }
}

/// Cuts inputs of these lengths (in bytes) into requests.
fn batches(lengths: impl Iterator<Item = usize>) -> Vec<Range<usize>> {
    let mut batches: Vec<Range<usize>> = Vec::new();
    let mut bytes = 0;
    for (position, length) in lengths.enumerate() {
        match batches.last_mut() {
            Some(batch) if batch.len() < BATCH_INPUTS && bytes + length <= BATCH_BYTES => {
                batch.end = position + 1;
                bytes += length;
            }
            _ => {
                batches.push(position..position + 1);
                bytes = length;
            }
        }
    }
    batches
}

/// The vectors by `index`; `None` unless there is exactly one of the right length for each input.
fn in_order(answer: Answer, inputs: usize, dimensions: usize) -> Option<Embedded> {
    let mut vectors = vec![Vec::new(); inputs];
    if answer.data.len() != inputs {
        return None;
    }
    for item in answer.data {
        let place = vectors.get_mut(item.index)?;
        let embedding = item.embedding.unpack()?;
        let sound =
            embedding.len() == dimensions && embedding.iter().all(|value| value.is_finite());
        if !place.is_empty() || !sound {
            return None;
        }
        *place = embedding;
    }
    Some(Embedded {
        vectors,
        tokens: answer.usage.total_tokens,
        requests: 1,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answer(items: &[(usize, &[f32])]) -> Answer {
        Answer {
            data: items
                .iter()
                .map(|(index, embedding)| Item {
                    index: *index,
                    embedding: Packed::Numbers(embedding.to_vec()),
                })
                .collect(),
            usage: AnswerUsage { total_tokens: 7 },
        }
    }

    #[test]
    fn vectors_are_put_into_the_order_of_their_inputs() {
        let embedded = in_order(answer(&[(1, &[3.0, 4.0]), (0, &[1.0, 2.0])]), 2, 2).unwrap();
        assert_eq!(embedded.vectors, [[1.0, 2.0], [3.0, 4.0]]);
        assert_eq!(embedded.tokens, 7);
    }

    #[test]
    fn an_answer_that_does_not_fit_its_request_is_refused() {
        let one: &[f32] = &[1.0, 2.0];
        for (what, items) in [
            ("one is missing", vec![(0, one)]),
            ("one comes twice", vec![(0, one), (0, one)]),
            ("a number that was not asked for", vec![(0, one), (2, one)]),
            ("too short", vec![(0, one), (1, &[1.0])]),
            ("not a number", vec![(0, one), (1, &[1.0, f32::NAN])]),
        ] {
            assert_eq!(in_order(answer(&items), 2, 2), None, "{what}");
        }
    }

    #[test]
    fn vectors_are_unpacked_from_either_form() {
        for (json, vector) in [
            ("[0.5, -2]", Some(vec![0.5, -2.0])),
            ("\"AAAAPwAAAMA=\"", Some(vec![0.5, -2.0])),
            ("\"AAAAPw==\"", Some(vec![0.5])),
            ("\"AAAA\"", None),
            ("\"no base64\"", None),
        ] {
            let packed: Packed = serde_json::from_str(json).unwrap();
            assert_eq!(packed.unpack(), vector, "{json}");
        }
    }

    proptest! {
        #[test]
        fn batches_cover_every_input_once_and_keep_the_limits(
            lengths in proptest::collection::vec(1_usize..40_000, 0..600),
        ) {
            let batches = batches(lengths.iter().copied());
            let covered: Vec<usize> = batches.iter().cloned().flatten().collect();
            prop_assert_eq!(covered, (0..lengths.len()).collect::<Vec<_>>());
            for batch in batches {
                prop_assert!(batch.len() <= BATCH_INPUTS);
                prop_assert!(lengths[batch].iter().sum::<usize>() <= BATCH_BYTES);
            }
        }
    }
}
