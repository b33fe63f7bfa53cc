//! What a stand-in does instead of answering properly: once, or until it is switched back.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// A way in which a service fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trouble {
    /// Answers with this status and takes nothing.
    Status(u16),
    /// Answers 429 with this `Retry-After` in seconds and takes nothing.
    SlowDown(u32),
    /// Refuses in the service's own way with this code: `ok: false` of Slack, 550 of a mail server.
    Refuse(String),
    /// Answers with this status, takes nothing, and quotes all that it was asked with, the token too.
    Quote(u16),
    /// Takes it and never answers.
    TakeAndHang,
    /// Takes it and cuts the connection.
    TakeAndCut,
    /// Takes nothing and never answers.
    Hang,
}

/// The switch of a stand-in. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct Switch {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// None: the request is answered properly.
    next: VecDeque<Option<Trouble>>,
    always: Option<Trouble>,
}

impl Switch {
    /// The next request that nothing is planned for yet meets this.
    pub fn once(&self, trouble: Trouble) {
        self.state.lock().next.push_back(Some(trouble));
    }

    /// The next so many requests that nothing is planned for yet are answered properly, and the one after
    /// them meets this.
    pub fn once_after(&self, requests: usize, trouble: Trouble) {
        let mut state = self.state.lock();
        state.next.extend(std::iter::repeat_n(None, requests));
        state.next.push_back(Some(trouble));
    }

    /// Every request meets this from now on; `None`: it works again.
    pub fn set(&self, trouble: Option<Trouble>) {
        self.state.lock().always = trouble;
    }

    /// What every request meets.
    pub fn current(&self) -> Option<Trouble> {
        self.state.lock().always.clone()
    }

    /// What this request meets.
    pub(crate) fn take(&self) -> Option<Trouble> {
        let mut state = self.state.lock();
        let planned = state.next.pop_front();
        planned.unwrap_or_else(|| state.always.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_planned_once_goes_before_what_always_holds() {
        let switch = Switch::default();
        switch.set(Some(Trouble::Status(500)));
        switch.once(Trouble::Hang);
        assert_eq!(switch.take(), Some(Trouble::Hang));
        assert_eq!(switch.take(), Some(Trouble::Status(500)));
        switch.once_after(1, Trouble::Hang);
        assert_eq!(switch.take(), None);
        assert_eq!(switch.take(), Some(Trouble::Hang));
        switch.set(None);
        assert_eq!(switch.take(), None);
    }
}
