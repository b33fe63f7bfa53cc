//! What is said in a handoff's thread while a person speaks with the visitor, and the form that they write
//! in (docs/decisions/0019).

use jobs::catalog::Notice;
use serde_json::{Value, json};
use store::ids::{HandoffId, SessionId};

use super::{
    block::{SECTION, context, plain_text, section},
    mark::Mark,
    message::{Message, REPLY},
    notes::note,
    text::{inert, plain},
};

/// The longest notification text, in UTF-16 units.
const NOTIFICATION: usize = 150;
/// What Slack takes in a field of a form.
const LONGEST_REPLY: usize = 3_000;

/// What the visitor wrote, all of it.
pub fn relayed(mark: Mark, words: &str) -> Message {
    let mut blocks = vec![context(&[plain_text("Visitor")])];
    blocks.extend(
        pieces(words)
            .iter()
            .map(|piece| section(&plain(piece, SECTION))),
    );
    Message {
        text: format!("Visitor: {}", inert(words, NOTIFICATION)),
        blocks,
        mark,
    }
}

/// A text in pieces that fit into a block each, cut between words where there are any.
fn pieces(text: &str) -> Vec<String> {
    let mut pieces = Vec::new();
    let mut piece = String::new();
    let mut room = SECTION;
    for word in text.split_inclusive(char::is_whitespace) {
        let whole = word.chars().map(cost).sum::<usize>();
        if whole > room && whole <= SECTION {
            pieces.push(std::mem::take(&mut piece));
            room = SECTION;
        }
        for sign in word.chars() {
            if cost(sign) > room {
                pieces.push(std::mem::take(&mut piece));
                room = SECTION;
            }
            room -= cost(sign);
            piece.push(sign);
        }
    }
    pieces.push(piece);
    pieces.retain(|piece| !piece.trim().is_empty());
    if pieces.is_empty() {
        pieces.push("…".to_owned());
    }
    pieces
}

/// What a sign takes of a block, in UTF-16 units, when it is escaped.
fn cost(sign: char) -> usize {
    match sign {
        '&' => "&amp;".len(),
        '<' | '>' => "&lt;".len(),
        sign => sign.len_utf16(),
    }
}

/// Tells the thread what has become of the conversation; `by` is the person whom the notice names.
pub fn notice(mark: Mark, notice: &Notice, by: &str) -> Message {
    let words = match notice {
        Notice::TakenOver { .. } => {
            format!(
                "{by} speaks with the visitor now, and the assistant is silent. Begin a message in this \
                 thread with reply: to have the visitor read it, or press Reply… above. Everything else \
                 that is written here stays among you."
            )
        }
        Notice::HandedBack { .. } => {
            format!("{by} has handed the visitor back. The assistant answers again.")
        }
        // Its words are a note of their own.
        Notice::Said { .. } => format!("{by} has replied to the visitor."),
        Notice::Closed => {
            "The conversation is over: the visitor can't be reached here any more. Nothing was sent."
                .to_owned()
        }
        Notice::Unreachable => {
            "What the visitor wrote could not be brought here for several minutes. They were told that \
             nobody could be reached, and the assistant answers again. Take over to speak with them."
                .to_owned()
        }
    };
    note(mark, "", &words)
}

/// The form in which a person writes to the visitor.
pub fn reply_form(session_id: &SessionId, handoff_id: &HandoffId) -> Value {
    let text = |text: &str| json!({"type": "plain_text", "text": text});
    json!({
        "type": "modal",
        "callback_id": REPLY,
        "private_metadata": format!("{session_id}:{handoff_id}"),
        "notify_on_close": true,
        "title": text("Reply to the visitor"),
        "submit": text("Send"),
        "close": text("Cancel"),
        "blocks": [{
            "type": "input",
            "block_id": REPLY,
            "label": text("What the visitor reads"),
            "element": {
                "type": "plain_text_input", "action_id": "text", "multiline": true,
                "focus_on_load": true, "min_length": 1, "max_length": LONGEST_REPLY,
            },
        }],
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn nothing_of_a_message_is_lost_and_every_piece_fits(text in "([a-z&<>ä😀]{0,40}[ \n]?){0,200}") {
            let pieces = pieces(&text);
            for piece in &pieces {
                prop_assert!(piece.chars().map(cost).sum::<usize>() <= SECTION);
            }
            let kept = |text: &str| text.split_whitespace().collect::<String>();
            if !text.trim().is_empty() {
                prop_assert_eq!(kept(&pieces.concat()), kept(&text));
            }
        }
    }

    #[test]
    fn the_longest_message_of_a_visitor_arrives_whole() {
        let mark = || Mark::new(&"s".parse().unwrap(), &"h".parse().unwrap(), "relay-1");
        let words = "&".repeat(4_000);
        let message = relayed(mark(), &words);
        let shown: String = message.blocks()[1..]
            .iter()
            .map(|block| block["text"]["text"].as_str().unwrap())
            .collect();
        assert_eq!(shown, "&amp;".repeat(4_000));
        assert!(message.blocks().len() < 50);
        let hostile = relayed(mark(), "<!channel> *x* <@U1>");
        let shown = hostile.blocks()[1]["text"].clone();
        assert_eq!(shown["type"], "plain_text");
        assert_eq!(shown["text"], "&lt;!channel&gt; *x* &lt;@U1&gt;");
    }

    #[test]
    fn the_form_keeps_to_what_slack_takes() {
        let form = reply_form(&"s".parse().unwrap(), &"h".parse().unwrap());
        assert!(form["title"]["text"].as_str().unwrap().len() <= 24);
        assert_eq!(form["private_metadata"], "s:h");
    }
}
