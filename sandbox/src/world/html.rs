//! HTML under construction: what is not written in this program is escaped, because it holds what a
//! visitor wrote.

use std::fmt::{self, Display, Write};

/// A piece of HTML.
#[derive(Debug, Default, Clone)]
pub(super) struct Html(String);

impl Html {
    /// Markup: a literal of this program, which the type sees to.
    pub(super) fn raw(&mut self, markup: &'static str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    /// Text, escaped.
    pub(super) fn text(&mut self, text: impl Display) -> &mut Self {
        // Writing to a string can't fail.
        let _ = write!(Escaping(&mut self.0), "{text}");
        self
    }

    /// An attribute, with a space before it.
    pub(super) fn attribute(&mut self, name: &'static str, value: impl Display) -> &mut Self {
        self.raw(" ").raw(name).raw("=\"").text(value).raw("\"")
    }

    /// An attribute without a value, if it holds.
    pub(super) fn flag(&mut self, name: &'static str, holds: bool) -> &mut Self {
        if holds {
            self.raw(" ").raw(name);
        }
        self
    }

    /// What a form sends along.
    pub(super) fn hidden(&mut self, name: &'static str, value: impl Display) -> &mut Self {
        self.raw("<input type=\"hidden\"")
            .attribute("name", name)
            .attribute("value", value)
            .raw(">")
    }

    /// The whole text.
    pub(super) fn into_string(self) -> String {
        self.0
    }
}

/// Escapes whatever is written to it.
struct Escaping<'a>(&'a mut String);

impl Write for Escaping<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for letter in text.chars() {
            match letter {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                other => self.0.push(other),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_attributes_are_escaped() {
        let mut html = Html::default();
        html.raw("<a")
            .attribute("title", "\"><script>")
            .raw(">")
            .text("<b>&'")
            .raw("</a>");
        assert_eq!(
            html.into_string(),
            "<a title=\"&quot;&gt;&lt;script&gt;\">&lt;b&gt;&amp;&#39;</a>"
        );
    }
}
