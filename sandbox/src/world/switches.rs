//! The services of people as the page shows them, and the ways in which each can be broken.

use crate::{
    people::People,
    switch::{Switch, Trouble},
};

use super::html::Html;

/// A service that the page breaks and mends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Breakable<'a> {
    /// What a form calls it.
    pub(super) name: &'static str,
    /// What people call it.
    pub(super) title: &'static str,
    /// The statuses with which it fails, and how a person calls them.
    statuses: &'static [(u16, &'static str)],
    /// The code with which it refuses in its own way, and how a person calls that.
    refusal: Option<(&'static str, &'static str)>,
    /// How it fails.
    pub(super) switch: &'a Switch,
}

/// How services of the web fail.
const STATUSES: &[(u16, &str)] = &[
    (500, "answers 500"),
    (503, "answers 503"),
    (401, "answers 401"),
];
/// How a mail server fails.
const REPLIES: &[(u16, &str)] = &[(451, "wants it later (451)"), (554, "refuses it (554)")];

/// All of them, in the order of the page.
pub(super) fn all(people: &People) -> Vec<Breakable<'_>> {
    vec![
        Breakable {
            name: "slack",
            title: "Slack",
            statuses: STATUSES,
            refusal: Some(("channel_not_found", "has no such channel")),
            switch: people.slack.switch(),
        },
        Breakable {
            name: "slack_webhook",
            title: "Slack’s webhook",
            statuses: STATUSES,
            refusal: Some(("no_service", "was removed")),
            switch: people.slack.webhook_switch(),
        },
        Breakable {
            name: "crm",
            title: "HubSpot",
            statuses: STATUSES,
            refusal: None,
            switch: people.hubspot.switch(),
        },
        Breakable {
            name: "webhook",
            title: "Webhooks",
            statuses: STATUSES,
            refusal: None,
            switch: people.receiver.switch(),
        },
        Breakable {
            name: "mail",
            title: "Mail",
            statuses: REPLIES,
            refusal: Some(("550 5.1.1 no such mailbox", "knows no such mailbox (550)")),
            switch: people.smtp.switch(),
        },
    ]
}

impl Breakable<'_> {
    /// What it may meet, and how a person calls that.
    pub(super) fn troubles(&self) -> Vec<(Trouble, &'static str)> {
        let statuses = self.statuses.iter();
        let mut troubles: Vec<_> = statuses
            .map(|(status, words)| (Trouble::Status(*status), *words))
            .collect();
        troubles.push((Trouble::SlowDown(5), "asks to wait 5 s"));
        if let Some((code, words)) = self.refusal {
            troubles.push((Trouble::Refuse(code.to_owned()), words));
        }
        troubles.extend([
            (Trouble::Hang, "never answers"),
            (Trouble::TakeAndHang, "takes it, never answers"),
            (Trouble::TakeAndCut, "takes it, cuts the connection"),
        ]);
        troubles
    }
}

/// A chip for each service: whether it works, and a list of what may be wrong with it.
pub(super) fn render(html: &mut Html, people: &People) {
    html.raw("<div class=\"switches\">");
    for service in all(people) {
        let current = service.switch.current();
        let is_broken = current.is_some();
        html.raw("<form method=\"post\" action=\"/switch\" data-switch")
            .attribute("class", if is_broken { "switch broken" } else { "switch" })
            .raw("><span class=\"lamp\"></span><strong>")
            .text(service.title)
            .raw("</strong>")
            .hidden("service", service.name)
            .raw("<select name=\"trouble\"")
            .attribute("aria-label", service.title)
            .raw("><option value=\"\"")
            .flag("selected", !is_broken)
            .raw(">works</option>");
        for (trouble, words) in service.troubles() {
            html.raw("<option")
                .attribute("value", form_value(&trouble))
                .flag("selected", current.as_ref() == Some(&trouble))
                .raw(">")
                .text(words)
                .raw("</option>");
        }
        html.raw("</select><button class=\"small without-script\">Set</button></form>");
    }
    html.raw("</div>");
}

/// A trouble as a form sends it.
pub(super) fn form_value(trouble: &Trouble) -> String {
    // It has no keys that are not text.
    serde_json::to_string(trouble).unwrap_or_default()
}

/// The same the other way; empty: it works.
pub(super) fn read_form_value(value: &str) -> Result<Option<Trouble>, serde_json::Error> {
    if value.is_empty() {
        return Ok(None);
    }
    serde_json::from_str(value).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_survives_its_form() {
        for trouble in [
            Trouble::Status(500),
            Trouble::Refuse("x\"<".to_owned()),
            Trouble::TakeAndCut,
        ] {
            let value = form_value(&trouble);
            assert_eq!(read_form_value(&value).unwrap(), Some(trouble));
        }
        assert_eq!(read_form_value("").unwrap(), None);
        assert!(read_form_value("nonsense").is_err());
    }
}
