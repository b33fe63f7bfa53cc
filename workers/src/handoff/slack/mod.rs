//! Slack: how a handoff reaches people, and how they say what they do with it.
//!
//! | file | |
//! |---|---|
//! | `message` | the handoff's message as a pure function of what is known |
//! | `notes` | the smaller messages: the CRM's link, the reminder, notes in the thread |
//! | `talk` | what is said in the thread while a person speaks with the visitor |
//! | `text`, `block` | what makes them harmless and keeps them within Slack's limits |
//! | `client`, `error` | the calls, and what their failures mean |
//! | `mark` | how a message is found again whose fate nobody knows |
//! | `post` | bot or webhook |
//! | `channels` | the two deliveries of the handoff |
//! | `erase` | takes all of it out again |
//!
//! The token needs the scopes `chat:write` (`chat:write.public` for a channel that the bot is not in),
//! `channels:history` and `channels:read` (`groups:…` for a private channel), `metadata.message:read` and
//! `users:read`. Without those that read, a message whose fate is unknown is sent again.

mod block;
mod channels;
mod client;
mod erase;
mod error;
mod mark;
mod message;
mod notes;
mod post;
mod talk;
mod text;

pub use self::{
    channels::{NOT_TO_BE_CHANGED, SlackMessage, SlackUpdate, place},
    client::{Destination, Identity, Place, SlackClient},
    erase::Erased,
    error::{Call, Class, Fault, SlackError},
    mark::Mark,
    message::{
        Face, HAND_BACK, MESSAGE, Message, OPEN_CRM, OPEN_PAGE, REPLY, TAKE_OVER, TAKEN, message,
    },
    notes::{LINK, REMINDER, note, reminder},
    post::Posted,
    talk::{notice, relayed, reply_form},
};
