//! What the model does when nobody has scripted it: about what a real one would. It goes by its
//! instructions as far as it can read them, and calls a tool only if it is offered.

use serde_json::{Value, json};

use super::{Content, compose::compose, request::Request};

/// Words by which a visitor asks for a person.
const PERSON: &[&str] = &[
    "agent",
    "colleague",
    "human",
    "person",
    "representative",
    "salesperson",
    "mensch",
    "menschen",
    "mitarbeiter",
    "persona",
    "personne",
    "quelqu",
];

/// Words by which a visitor shows that there may be business.
const BUSINESS: &[&str] = &[
    "budget",
    "offer",
    "price",
    "prices",
    "pricing",
    "project",
    "proposal",
    "quote",
    "angebot",
    "preis",
    "preise",
    "projekt",
    "precio",
    "precios",
    "presupuesto",
    "proyecto",
    "devis",
    "prix",
    "projet",
];

/// The most words of a summary.
const SUMMARY_WORDS: usize = 200;

/// Whether the request is for a summary of a conversation.
pub(super) fn is_summary(request: &Request) -> bool {
    request.system.contains("running summary")
}

/// The answer's blocks.
pub(super) fn behave(request: &Request) -> Vec<Content> {
    if is_summary(request) {
        return vec![text(summary(request.question()))];
    }
    let offered = |tool: &str| request.tools.iter().any(|offered| offered == tool);
    let question = request.question();
    if request.has_begun {
        return compose(request);
    }
    if asks(question, PERSON) && offered("request_handoff") {
        return handoff(question);
    }
    let mut content = compose(request);
    if asks(question, BUSINESS)
        && offered("set_stage")
        && let Some(next) = next_stage(&request.system)
    {
        content.push(Content::ToolUse {
            name: "set_stage".to_owned(),
            input: json!({"stage": next}),
        });
    }
    content
}

fn asks(question: &str, words: &[&str]) -> bool {
    question
        .split(|letter: char| !letter.is_alphanumeric())
        .any(|word| words.contains(&word.to_lowercase().as_str()))
}

fn handoff(question: &str) -> Vec<Content> {
    let mut input = json!({"reason": "explicit_wish"});
    let email = question
        .split_whitespace()
        .map(|word| word.trim_matches(|sign: char| !sign.is_alphanumeric()))
        .find(|word| word.contains('@') && word.contains('.'));
    if let Some(email) = email {
        input["email"] = json!(email);
    }
    vec![
        text("Of course. A colleague will get in touch with you.".to_owned()),
        Content::ToolUse {
            name: "request_handoff".to_owned(),
            input,
        },
    ]
}

/// The stage behind the one that the instructions name.
fn next_stage(system: &str) -> Option<&'static str> {
    let (_, stage) = system.rsplit_once("stage of the conversation: ")?;
    if stage.starts_with("discover") {
        Some("qualify")
    } else if stage.starts_with("qualify") {
        Some("propose")
    } else {
        None
    }
}

/// What was known, and the words of the messages, without the JSON around them.
fn summary(asked: &str) -> String {
    let (so_far, messages) = asked.split_once('[').unwrap_or((asked, ""));
    let so_far = so_far
        .find('"')
        .zip(so_far.rfind('"'))
        .and_then(|(begin, end)| serde_json::from_str::<String>(so_far.get(begin..=end)?).ok());
    let messages: Value = serde_json::from_str(&format!("[{messages}")).unwrap_or_default();
    let said = messages
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_object)
        .flatten()
        .filter_map(|(who, words)| Some(format!("The {who} said: {}", words.as_str()?)));
    let parts: Vec<String> = so_far.into_iter().chain(said).collect();
    let words: Vec<&str> = parts
        .iter()
        .flat_map(|part| part.split_whitespace())
        .take(SUMMARY_WORDS)
        .collect();
    if words.is_empty() {
        "Nothing was said.".to_owned()
    } else {
        words.join(" ")
    }
}

fn text(text: String) -> Content {
    Content::Text {
        text,
        citations: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(question: &str, stage: &str, more: &Value) -> Vec<Content> {
        let tool = |name: &str| json!({"name": name, "input_schema": {}});
        let mut body = json!({
            "model": "m",
            "max_tokens": 100,
            "system": [{"type": "text", "text": format!("The stage of the conversation: {stage}.")}],
            "tools": [tool("set_stage"), tool("request_handoff")],
            "messages": [{"role": "user", "content": question}],
        });
        for (name, value) in more.as_object().unwrap() {
            body[name] = value.clone();
        }
        behave(&Request::parse(body.to_string().as_bytes()).unwrap())
    }

    fn called(content: &[Content]) -> Option<(&str, &Value)> {
        content.iter().find_map(|block| match block {
            Content::ToolUse { name, input } => Some((name.as_str(), input)),
            Content::Text { .. } => None,
        })
    }

    #[test]
    fn a_visitor_who_asks_for_a_person_is_handed_off() {
        let content = answered(
            "May I talk to a person? ada@example.org",
            "discover",
            &json!({}),
        );
        let wish = json!({"reason": "explicit_wish", "email": "ada@example.org"});
        assert_eq!(called(&content), Some(("request_handoff", &wish)));
        assert!(matches!(content[0], Content::Text { .. }));
    }

    #[test]
    fn a_visitor_who_asks_for_prices_is_led_on() {
        for (stage, next) in [("discover", "qualify"), ("qualify", "propose")] {
            let content = answered("What is the price?", stage, &json!({}));
            assert_eq!(
                called(&content),
                Some(("set_stage", &json!({"stage": next})))
            );
        }
        let content = answered("What is the price?", "propose", &json!({}));
        assert_eq!(called(&content), None);
        let content = answered("Where are you?", "discover", &json!({}));
        assert_eq!(called(&content), None);
    }

    #[test]
    fn no_tool_is_called_that_is_not_offered() {
        for more in [
            json!({"tools": []}),
            json!({"tool_choice": {"type": "none"}}),
        ] {
            let content = answered("What is the price? I want a person.", "discover", &more);
            assert_eq!(called(&content), None);
        }
    }

    #[test]
    fn a_summary_is_made_of_what_was_said() {
        let asked = "The summary so far: \"They ask.\"\nThe messages to add: \
            [{\"visitor\":\"Do you sell bicycles?\"},{\"assistant\":\"No.\"}]";
        let system = json!({"system": "You keep the running summary of a conversation."});
        let content = answered(asked, "discover", &system);
        let Content::Text { text, .. } = &content[0] else {
            panic!("a tool call");
        };
        assert_eq!(
            text,
            "They ask. The visitor said: Do you sell bicycles? The assistant said: No."
        );
    }
}
