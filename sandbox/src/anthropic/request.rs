//! Reads a request as strictly as the real service does, so that what would be refused there is
//! refused here.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::ApiError;

/// Top-level fields that the service knows.
const FIELDS: &[&str] = &[
    "cache_control",
    "container",
    "context_management",
    "inference_geo",
    "max_tokens",
    "mcp_servers",
    "messages",
    "metadata",
    "model",
    "output_config",
    "output_format",
    "service_tier",
    "stop_sequences",
    "stream",
    "system",
    "temperature",
    "thinking",
    "tool_choice",
    "tools",
    "top_k",
    "top_p",
];

/// A legal request, as far as the stand-in uses it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Request {
    pub(crate) model: String,
    pub(crate) max_tokens: usize,
    pub(crate) stream: bool,
    /// The request's length, for the usage.
    pub(crate) bytes: usize,
    question: String,
    /// The instructions.
    pub(crate) system: String,
    /// The tools that may be called now.
    pub(crate) tools: Vec<String>,
    /// Whether the model has said something to the question already: a tool's result or a pause
    /// comes back.
    pub(crate) has_begun: bool,
    /// All of the request, in order: a citation's index counts over all of them.
    search_results: Vec<SearchResult>,
    /// The first search result that came with the question or after it.
    relevant_from: usize,
}

/// A passage that may be cited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SearchResult {
    pub(crate) source: String,
    pub(crate) title: String,
    /// The texts of its content blocks.
    pub(crate) blocks: Vec<String>,
    pub(crate) citable: bool,
}

impl Request {
    pub(crate) fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let value: Value = serde_json::from_slice(body).map_err(|error| {
            ApiError::invalid(format!("The request body is not valid JSON: {error}"))
        })?;
        let Value::Object(fields) = value else {
            return Err(ApiError::invalid("Input should be a valid dictionary"));
        };
        if let Some(unknown) = fields.keys().find(|name| !FIELDS.contains(&name.as_str())) {
            return Err(ApiError::invalid(format!(
                "{unknown}: Extra inputs are not permitted"
            )));
        }
        let model = string(&fields, "model", "")?;
        let max_tokens = fields
            .get("max_tokens")
            .ok_or_else(|| ApiError::invalid("max_tokens: Field required"))?
            .as_u64()
            .filter(|tokens| *tokens > 0)
            .and_then(|tokens| usize::try_from(tokens).ok())
            .ok_or_else(|| {
                ApiError::invalid("max_tokens: Input should be greater than or equal to 1")
            })?;
        let stream = match fields.get("stream") {
            None => false,
            Some(Value::Bool(stream)) => *stream,
            Some(_) => return Err(ApiError::invalid("stream: Input should be a valid boolean")),
        };
        check_temperature(&fields)?;
        check_system(&fields)?;
        check_tools(&fields)?;
        let mut request = Self {
            model,
            max_tokens,
            stream,
            bytes: body.len(),
            question: String::new(),
            system: system_text(&fields),
            tools: callable_tools(&fields),
            has_begun: false,
            search_results: Vec::new(),
            relevant_from: 0,
        };
        request.read_messages(&fields)?;
        Ok(request)
    }

    /// The text of the last message in which the user says something.
    pub(crate) fn question(&self) -> &str {
        &self.question
    }

    /// The passages that came with the question or after it, with their index in the request.
    pub(crate) fn relevant_results(&self) -> impl Iterator<Item = (usize, &SearchResult)> {
        self.search_results
            .iter()
            .enumerate()
            .skip(self.relevant_from)
    }

    pub(crate) fn search_result(&self, index: usize) -> Option<&SearchResult> {
        self.search_results.get(index)
    }

    fn read_messages(&mut self, fields: &Map<String, Value>) -> Result<(), ApiError> {
        let messages = array(fields, "messages", "")?;
        if messages.is_empty() {
            return Err(ApiError::invalid(
                "messages: at least one message is required",
            ));
        }
        let mut called_tools = HashSet::new();
        let mut unanswered = Vec::new();
        for (number, message) in messages.iter().enumerate() {
            let path = format!("messages.{number}.");
            let message = object(message, &path)?;
            let answered = ids(message, "tool_result", "tool_use_id");
            check_answered(&unanswered, &answered, &path)?;
            unanswered = ids(message, "tool_use", "id");
            let role = string(message, "role", &path)?;
            if role != "user" && role != "assistant" {
                return Err(ApiError::invalid(format!(
                    "{path}role: Input should be 'user' or 'assistant'"
                )));
            }
            if number == 0 && role != "user" {
                return Err(ApiError::invalid(
                    "messages: first message must use the \"user\" role",
                ));
            }
            let results_before = self.search_results.len();
            let said = match message.get("content") {
                Some(Value::String(text)) if text.is_empty() => {
                    return Err(ApiError::invalid(format!(
                        "{path}content: text content must be non-empty"
                    )));
                }
                Some(Value::String(text)) => text.clone(),
                Some(Value::Array(blocks)) if !blocks.is_empty() => {
                    self.read_blocks(blocks, &path, &mut called_tools)?
                }
                Some(Value::Array(_)) => {
                    return Err(ApiError::invalid(format!(
                        "{path}content: at least one block is required"
                    )));
                }
                _ => return Err(ApiError::invalid(format!("{path}content: Field required"))),
            };
            if role == "user" && !said.trim().is_empty() {
                self.question = said;
                self.relevant_from = results_before;
                self.has_begun = false;
            } else {
                self.has_begun = true;
            }
            if role == "assistant" && number + 1 == messages.len() {
                check_continuable(message)?;
            }
        }
        check_answered(&unanswered, &[], "messages.")?;
        let citable: HashSet<bool> = self.search_results.iter().map(|it| it.citable).collect();
        if citable.len() > 1 {
            return Err(ApiError::invalid(
                "citations must be enabled on all or none of the search results",
            ));
        }
        Ok(())
    }

    /// Reads the blocks of a message; returns its text.
    fn read_blocks(
        &mut self,
        blocks: &[Value],
        path: &str,
        called_tools: &mut HashSet<String>,
    ) -> Result<String, ApiError> {
        let mut said = Vec::new();
        for (number, block) in blocks.iter().enumerate() {
            let path = format!("{path}content.{number}.");
            let block = object(block, &path)?;
            match string(block, "type", &path)?.as_str() {
                "text" => said.push(non_empty_text(block, &path)?),
                "search_result" => self.search_results.push(search_result(block, &path)?),
                "tool_use" => {
                    string(block, "name", &path)?;
                    object(block.get("input").unwrap_or(&Value::Null), &path)?;
                    called_tools.insert(string(block, "id", &path)?);
                }
                "tool_result" => {
                    let id = string(block, "tool_use_id", &path)?;
                    if !called_tools.contains(&id) {
                        return Err(ApiError::invalid(format!(
                            "{path}tool_use_id: unexpected `tool_use_id` found in `tool_result` blocks: {id}"
                        )));
                    }
                    if let Some(Value::Array(inner)) = block.get("content") {
                        self.read_blocks(inner, &path, called_tools)?;
                    }
                }
                "thinking" | "redacted_thinking" | "image" | "document" => {}
                other => {
                    return Err(ApiError::invalid(format!(
                        "{path}type: Input tag '{other}' found using 'type' does not match any of the expected tags"
                    )));
                }
            }
        }
        Ok(said.join("\n"))
    }
}

/// The ids in a message's blocks of a type.
fn ids<'m>(message: &'m Map<String, Value>, kind: &str, field: &str) -> Vec<&'m str> {
    let blocks = message.get("content").and_then(Value::as_array);
    let of_kind = blocks
        .into_iter()
        .flatten()
        .filter(|block| block["type"] == kind);
    of_kind.filter_map(|block| block[field].as_str()).collect()
}

/// Every call of a tool is answered by the next message.
fn check_answered(called: &[&str], answered: &[&str], path: &str) -> Result<(), ApiError> {
    match called.iter().find(|id| !answered.contains(id)) {
        None => Ok(()),
        Some(id) => Err(ApiError::invalid(format!(
            "{path} `tool_use` ids were found without `tool_result` blocks immediately after: {id}"
        ))),
    }
}

/// An answer that is to be continued ends with a word.
fn check_continuable(message: &Map<String, Value>) -> Result<(), ApiError> {
    let text = match message.get("content") {
        Some(Value::String(text)) => Some(text.as_str()),
        Some(Value::Array(blocks)) => blocks.last().and_then(|block| block["text"].as_str()),
        _ => None,
    };
    if text.is_some_and(|text| text.ends_with(char::is_whitespace)) {
        return Err(ApiError::invalid(
            "messages: final assistant content cannot end with trailing whitespace",
        ));
    }
    Ok(())
}

fn search_result(block: &Map<String, Value>, path: &str) -> Result<SearchResult, ApiError> {
    let blocks = array(block, "content", path)?
        .iter()
        .enumerate()
        .map(|(number, content)| {
            let path = format!("{path}content.{number}.");
            non_empty_text(object(content, &path)?, &path)
        })
        .collect::<Result<Vec<_>, _>>()?;
    if blocks.is_empty() {
        return Err(ApiError::invalid(format!(
            "{path}content: at least one block is required"
        )));
    }
    Ok(SearchResult {
        source: string(block, "source", path)?,
        title: string(block, "title", path)?,
        blocks,
        citable: block
            .get("citations")
            .and_then(|citations| citations.get("enabled"))
            .and_then(Value::as_bool)
            .unwrap_or(false),
    })
}

fn non_empty_text(block: &Map<String, Value>, path: &str) -> Result<String, ApiError> {
    let text = string(block, "text", path)?;
    if text.trim().is_empty() {
        return Err(ApiError::invalid(format!(
            "{path}text: text content blocks must contain non-whitespace text"
        )));
    }
    Ok(text)
}

fn check_temperature(fields: &Map<String, Value>) -> Result<(), ApiError> {
    let legal = fields
        .get("temperature")
        .is_none_or(|value| value.as_f64().is_some_and(|it| (0.0..=1.0).contains(&it)));
    if legal {
        return Ok(());
    }
    Err(ApiError::invalid("temperature: range: 0..1"))
}

fn check_system(fields: &Map<String, Value>) -> Result<(), ApiError> {
    match fields.get("system") {
        None | Some(Value::String(_)) => Ok(()),
        Some(Value::Array(blocks)) => {
            for (number, block) in blocks.iter().enumerate() {
                let path = format!("system.{number}.");
                non_empty_text(object(block, &path)?, &path)?;
            }
            Ok(())
        }
        Some(_) => Err(ApiError::invalid("system: Input should be a valid list")),
    }
}

/// The instructions as one text.
fn system_text(fields: &Map<String, Value>) -> String {
    match fields.get("system") {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(blocks)) => {
            let texts = blocks.iter().filter_map(|block| block["text"].as_str());
            texts.collect::<Vec<_>>().join("\n")
        }
        _ => String::new(),
    }
}

/// The names of the tools, if the model may choose to call them.
fn callable_tools(fields: &Map<String, Value>) -> Vec<String> {
    let choice = fields.get("tool_choice");
    if choice.is_some_and(|choice| choice["type"] == "none") {
        return Vec::new();
    }
    let tools = fields.get("tools").and_then(Value::as_array);
    let names = tools.into_iter().flatten();
    names
        .filter_map(|tool| Some(tool["name"].as_str()?.to_owned()))
        .collect()
}

fn check_tools(fields: &Map<String, Value>) -> Result<(), ApiError> {
    if !fields.contains_key("tools") {
        return Ok(());
    }
    for (number, tool) in array(fields, "tools", "")?.iter().enumerate() {
        let path = format!("tools.{number}.");
        let tool = object(tool, &path)?;
        let name = string(tool, "name", &path)?;
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if !(1..=128).contains(&name.len()) || !name.bytes().all(legal) {
            return Err(ApiError::invalid(format!(
                "{path}name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'"
            )));
        }
        // The service's own tools have a type and no schema.
        if tool.get("type").is_none_or(|kind| kind == "custom") {
            let schema = tool.get("input_schema").unwrap_or(&Value::Null);
            object(schema, &format!("{path}input_schema."))?;
        }
    }
    Ok(())
}

fn object<'a>(value: &'a Value, path: &str) -> Result<&'a Map<String, Value>, ApiError> {
    value.as_object().ok_or_else(|| {
        let path = path.trim_end_matches('.');
        ApiError::invalid(format!("{path}: Input should be a valid dictionary"))
    })
}

fn array<'a>(
    fields: &'a Map<String, Value>,
    name: &str,
    path: &str,
) -> Result<&'a Vec<Value>, ApiError> {
    match fields.get(name) {
        Some(Value::Array(values)) => Ok(values),
        Some(_) => Err(ApiError::invalid(format!(
            "{path}{name}: Input should be a valid list"
        ))),
        None => Err(ApiError::invalid(format!("{path}{name}: Field required"))),
    }
}

fn string(fields: &Map<String, Value>, name: &str, path: &str) -> Result<String, ApiError> {
    match fields.get(name) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => Err(ApiError::invalid(format!(
            "{path}{name}: Input should be a valid string"
        ))),
        None => Err(ApiError::invalid(format!("{path}{name}: Field required"))),
    }
}

#[cfg(test)]
mod tests;
