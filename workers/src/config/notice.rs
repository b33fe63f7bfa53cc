//! What every visitor is told.

use store::settings::Settings;

const RULE: &str = "a text of at most 2000 characters";

/// What a visitor is told at the beginning of a conversation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NoticeConfig {
    /// `NOTICE_TEXT`: that an AI answers, and what becomes of the visitor's data; it takes the place of
    /// the text that the widget was built with. Unset: the widget's own stands.
    pub text: Option<String>,
}

impl NoticeConfig {
    /// Reads the variable.
    pub fn read(settings: &mut Settings) -> Self {
        let text: Option<String> = settings.optional("NOTICE_TEXT", RULE);
        let legal = |text: &String| text.chars().count() <= 2_000 && !text.contains('\0');
        if text.as_ref().is_some_and(|text| !legal(text)) {
            settings.problem("NOTICE_TEXT", format!("is not valid: {RULE}"));
        }
        Self { text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_nobody_would_read_is_refused() {
        for (text, legal) in [
            ("We store this.", true),
            (&*"é".repeat(2_000), true),
            (&*"é".repeat(2_001), false),
        ] {
            let variable = ("NOTICE_TEXT".to_owned(), text.to_owned());
            let mut settings = Settings::new([variable]);
            let notice = NoticeConfig::read(&mut settings);
            assert_eq!(settings.finish(Some(notice)).is_ok(), legal);
        }
    }
}
