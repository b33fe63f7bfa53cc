//! Slack: its Web API below `/api`, an incoming webhook at `/webhook`, and what it sends to the app
//! when people press buttons and write in threads.
//!
//! ```text
//! growth-chat ──▶ /api/chat.postMessage, … ──▶ ┌───────────┐ ◀── messages(), views(): tests, dev's page
//!             ──▶ /webhook ──────────────────▶ │ Workspace │
//!             ◀── /slack/events ────────────── │           │ ◀── reply_in_thread()
//!             ◀── /slack/interactions ──────── └───────────┘ ◀── press(), submit_view(), close_view()
//! ```

mod blocks;
mod inbound;
mod methods;
mod rate;
mod server;
mod workspace;

use std::{collections::HashMap, io, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::sync::watch;

pub use self::{
    blocks::check_message as check_blocks,
    inbound::{AppAnswer, InboundError, SLACK_SIGNING_SECRET, signature},
    rate::PostRate,
    workspace::{
        ANNA, APP_ID, BEN, BOT_ID, BOT_USER_ID, CHANNEL_ID, CHANNEL_NAME, OpenView, PostedMessage,
        SlackUser, TEAM_ID, USERS, Via, display_name,
    },
};
use self::{inbound::Inbound, workspace::State};
use crate::{
    outside::OutsideWorld,
    serve::Served,
    switch::{Switch, Trouble},
};

/// The app's token.
pub const BOT_TOKEN: &str = "xoxb-sandbox";

/// The stand-in, which serves until it is dropped.
#[derive(Debug)]
pub struct Slack {
    served: Served,
    workspace: Workspace,
}

impl Slack {
    /// Serves on a port, or with 0 on a free one.
    pub async fn start(world: OutsideWorld, port: u16) -> io::Result<Self> {
        let workspace = Workspace::new(world);
        let served = Served::start(server::router(workspace.clone()), port).await?;
        Ok(Self { served, workspace })
    }

    /// Its address, without a slash at its end.
    pub fn url(&self) -> String {
        self.served.url()
    }

    /// What is in it. A clone is the same workspace, and may outlive the server.
    pub fn workspace(&self) -> &Workspace {
        &self.workspace
    }

    /// How the Web API fails.
    pub fn switch(&self) -> &Switch {
        &self.workspace.inner.api
    }

    /// How the incoming webhook fails.
    pub fn webhook_switch(&self) -> &Switch {
        &self.workspace.inner.webhook
    }

    /// Every request to the Web API and to the webhook meets this from now on; `None`: they work again.
    pub fn set_trouble(&self, trouble: Option<Trouble>) {
        self.switch().set(trouble.clone());
        self.webhook_switch().set(trouble);
    }

    /// [`Workspace::messages`].
    pub fn messages(&self) -> Vec<PostedMessage> {
        self.workspace.messages()
    }
}

/// The workspace. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Workspace {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    world: OutsideWorld,
    state: Mutex<State>,
    changed: watch::Sender<()>,
    api: Switch,
    webhook: Switch,
    methods: Mutex<HashMap<String, Switch>>,
    inbound: Inbound,
}

impl Workspace {
    fn new(world: OutsideWorld) -> Self {
        Self {
            inner: Arc::new(Inner {
                world,
                state: Mutex::default(),
                changed: watch::Sender::new(()),
                api: Switch::default(),
                webhook: Switch::default(),
                methods: Mutex::default(),
                inbound: Inbound::default(),
            }),
        }
    }

    /// How one method of the Web API fails, such as `chat.postMessage`. It goes before the switch of all.
    pub fn switch_of(&self, method: &str) -> Switch {
        let mut methods = self.inner.methods.lock();
        methods.entry(method.to_owned()).or_default().clone()
    }

    /// All messages that are there, in the order in which they came; of many the newest.
    pub fn messages(&self) -> Vec<PostedMessage> {
        self.inner.state.lock().messages.iter().cloned().collect()
    }

    /// One message.
    pub fn message(&self, ts: &str) -> Option<PostedMessage> {
        self.inner.state.lock().find(CHANNEL_ID, ts).cloned()
    }

    /// The replies to a message, the oldest first.
    pub fn thread(&self, ts: &str) -> Vec<PostedMessage> {
        let state = self.inner.state.lock();
        let replies = state.messages.iter();
        replies
            .filter(|message| message.thread_ts.as_deref() == Some(ts))
            .cloned()
            .collect()
    }

    /// The names of messages that were deleted.
    pub fn deleted(&self) -> Vec<String> {
        self.inner.state.lock().deleted.iter().cloned().collect()
    }

    /// The modals that were opened, the newest last.
    pub fn views(&self) -> Vec<OpenView> {
        self.inner.state.lock().views.iter().cloned().collect()
    }

    /// How fast messages may come.
    pub fn set_rate(&self, rate: PostRate) {
        self.inner.state.lock().rate = rate;
    }

    /// How many messages came faster than the rate allows, whether they were refused or not.
    pub fn too_fast(&self) -> u64 {
        self.inner.state.lock().too_fast
    }

    /// How long after a button was pressed a modal may be opened: Slack's three seconds, or what a test
    /// on a slow machine wants.
    pub fn set_trigger_life(&self, life: Duration) {
        self.inner.state.lock().set_trigger_life(life);
    }

    /// Waits until `condition` finds what it looks for among the messages; none: not within `patience`.
    pub async fn wait_for<T>(
        &self,
        patience: Duration,
        condition: impl Fn(&[PostedMessage]) -> Option<T>,
    ) -> Option<T> {
        let mut changes = self.inner.changed.subscribe();
        let search = async {
            loop {
                changes.mark_unchanged();
                if let Some(found) = condition(&self.messages()) {
                    return Some(found);
                }
                changes.changed().await.ok()?;
            }
        };
        tokio::time::timeout(patience, search).await.ok().flatten()
    }

    /// The same for the newest modal that is open.
    pub async fn wait_for_view(&self, patience: Duration) -> Option<OpenView> {
        let mut changes = self.inner.changed.subscribe();
        let search = async {
            loop {
                changes.mark_unchanged();
                let open = self.views().into_iter().rev().find(|view| !view.done);
                if open.is_some() {
                    return open;
                }
                changes.changed().await.ok()?;
            }
        };
        tokio::time::timeout(patience, search).await.ok().flatten()
    }

    fn trouble_of(&self, method: &str) -> Option<Trouble> {
        let of_method = self.inner.methods.lock().get(method).and_then(Switch::take);
        of_method.or_else(|| self.inner.api.take())
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.inner.state.lock());
        self.inner.changed.send_replace(());
        result
    }
}

#[cfg(test)]
mod tests;
