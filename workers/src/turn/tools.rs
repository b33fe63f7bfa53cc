//! What the model may call, as it is told of it. What a call does is decided in
//! [`mod@crate::conversation`].

use serde_json::json;

use crate::{clients::anthropic::Tool, conversation::ToolCall};

/// The tools. Without retrieval, when `MAX_TOOL_CALLS_PER_TURN` is 0.
pub(super) fn offered(retrieval: bool) -> Vec<Tool> {
    let mut tools = vec![set_stage(), request_handoff()];
    if retrieval {
        tools.push(retrieve_knowledge());
    }
    tools
}

fn set_stage() -> Tool {
    Tool {
        name: ToolCall::SET_STAGE.to_owned(),
        description: "Moves the conversation to another stage. Call it together with your answer, \
            in the same message, when the present stage no longer fits."
            .to_owned(),
        input_schema: json!({
            "type": "object",
            "properties": {
                "stage": {"type": "string", "enum": ["discover", "qualify", "propose"]},
            },
            "required": ["stage"],
            "additionalProperties": false,
        }),
        cache_control: None,
    }
}

fn request_handoff() -> Tool {
    let text = |description: &str| json!({"type": "string", "description": description});
    Tool {
        name: ToolCall::REQUEST_HANDOFF.to_owned(),
        description:
            "Asks people of the company to take over. Call it together with your answer when \
            the visitor asks for a person, accepts one, or wants to go ahead. Give only what the \
            visitor said; make nothing up."
                .to_owned(),
        input_schema: json!({
            "type": "object",
            "properties": {
                "reason": {
                    "type": "string",
                    "enum": ["qualified_lead", "explicit_wish", "stall_accepted"],
                },
                "summary": text(
                    "What the conversation was about, for whoever takes over, in two or three sentences",
                ),
                "name": text("The visitor's name"),
                "email": text("The visitor's e-mail address"),
                "company": text("The visitor's company"),
                "phone": text("The visitor's telephone number"),
                "need": text("What the visitor needs, in a sentence"),
                "timeline": text("By when"),
                "budget": text("What it may cost"),
            },
            "required": ["reason"],
            "additionalProperties": false,
        }),
        cache_control: None,
    }
}

fn retrieve_knowledge() -> Tool {
    Tool {
        name: ToolCall::RETRIEVE_KNOWLEDGE.to_owned(),
        description: "Searches the company's documents with other words than the visitor's. The \
            results for the visitor's own words are already there: call it only if they do not \
            answer, and another query may."
            .to_owned(),
        input_schema: json!({
            "type": "object",
            "properties": {"query": {"type": "string", "description": "What to search for"}},
            "required": ["query"],
            "additionalProperties": false,
        }),
        cache_control: None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value};

    use super::*;

    /// A call that has every argument of a tool's schema.
    fn full_call(tool: &Tool) -> Value {
        let properties = tool.input_schema["properties"].as_object().unwrap();
        let arguments: Map<String, Value> = properties
            .iter()
            .map(|(name, schema)| {
                let value = match (schema["enum"][0].clone(), name.as_str()) {
                    (Value::Null, "email") => json!("a@b.de"),
                    (Value::Null, "phone") => json!("+49 123456"),
                    (Value::Null, _) => json!("text"),
                    (first, _) => first,
                };
                (name.clone(), value)
            })
            .collect();
        Value::Object(arguments)
    }

    #[test]
    fn every_argument_that_is_offered_is_understood() {
        for tool in offered(true) {
            let arguments = full_call(&tool);
            assert!(
                ToolCall::read(&tool.name, &arguments).is_ok(),
                "{} {arguments}",
                tool.name
            );
        }
    }

    #[test]
    fn no_tool_takes_the_id_of_a_session() {
        let schemas: String = offered(true)
            .iter()
            .map(|tool| tool.input_schema.to_string())
            .collect();
        assert!(!schemas.contains("session"), "{schemas}");
    }

    #[test]
    fn a_search_is_not_offered_when_none_is_allowed() {
        let names: Vec<String> = offered(false).into_iter().map(|tool| tool.name).collect();
        assert_eq!(names, ["set_stage", "request_handoff"]);
    }
}
