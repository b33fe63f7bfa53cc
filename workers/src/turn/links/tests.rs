use proptest::prelude::*;
use pulldown_cmark::{Event, Options, Parser, Tag};
use store::settings::Settings;

use super::*;
use crate::config::LinkHosts;

fn allowed() -> Allowed {
    let variable = ("LINK_ALLOWED_HOSTS".to_owned(), "ok.example".to_owned());
    let hosts = LinkHosts::read(&mut Settings::new([variable])).unwrap();
    let mut allowed = Allowed::new(hosts);
    allowed.allow_passage(
        "https://docs.example/a#top",
        "Read [on](b.html), https://known.example/x(y)?z=1, or write to Sales@Known.example.",
    );
    allowed.allow_passage(
        "services/audits.md#cost",
        "[All prices](/pricing) and more.",
    );
    allowed
}

fn filter_in(deltas: &[&str]) -> String {
    let mut filter = LinkFilter::new(&allowed());
    let mut out: String = deltas.iter().map(|delta| filter.push(delta)).collect();
    out.push_str(&filter.finish());
    out
}

fn filtered(text: &str) -> String {
    filter_in(&[text])
}

/// What a strict reader and a lenient one would make links, images or tags of, and that is not allowed.
fn leaks(text: &str) -> Vec<String> {
    let allowed = allowed();
    let mut found = Vec::new();
    let mut plain = String::new();
    for event in Parser::new_ext(text, Options::all()) {
        match event {
            Event::Start(Tag::Link { dest_url, .. }) => {
                // The parser has read escapes and entities by now.
                if !allowed.target(&dest_url) {
                    found.push(format!("link {dest_url}"));
                }
            }
            Event::Start(Tag::Image { dest_url, .. }) => found.push(format!("image {dest_url}")),
            Event::Html(html) | Event::InlineHtml(html) => found.push(format!("tag {html}")),
            Event::Text(text) => plain.push_str(&text),
            Event::Code(code) => plain.extend(["\n", &code, "\n"]),
            _ => plain.push('\n'),
        }
    }
    for part in [text, plain.as_str()] {
        found.extend(bare_leaks(part, &allowed));
    }
    found
}

/// Addresses that a reader finds in plain text: its host must be one that is allowed.
fn bare_leaks(text: &str, allowed: &Allowed) -> Vec<String> {
    let lower = text.to_lowercase();
    let mut found = Vec::new();
    let begins = ["http://", "https://", "www."];
    let mut begin_at: Vec<(usize, &str)> = begins
        .iter()
        .flat_map(|begin| lower.match_indices(begin))
        .collect();
    begin_at.sort_unstable();
    let mut allowed_until = 0;
    for (at, begin) in begin_at {
        let before = lower[..at].chars().next_back();
        let in_word = begin == "www." && before.is_some_and(char::is_alphanumeric);
        let run: String = lower[at..]
            .chars()
            .take_while(|sign| !sign.is_ascii_whitespace() && *sign != '<')
            .collect();
        if at < allowed_until || in_word || !run[begin.len()..].contains(char::is_alphanumeric) {
            continue;
        }
        // A host that ends in other signs than letters and digits is nobody's.
        let run = run.trim_end_matches(|sign: char| !sign.is_alphanumeric() && sign != '/');
        let whole = if begin == "www." {
            format!("https://{run}")
        } else {
            run.to_owned()
        };
        let Ok(url) = url::Url::parse(&whole) else {
            continue;
        };
        let host = url.host_str().unwrap_or_default().trim_end_matches('.');
        if ["ok.example", "docs.example", "known.example"].contains(&host) {
            // What follows is a part of the path, even if it looks like another address.
            allowed_until = at + run.len();
        } else {
            found.push(format!("bare {whole}"));
        }
    }
    for (at, _) in lower.match_indices('@') {
        let local = lower[..at]
            .chars()
            .next_back()
            .is_some_and(char::is_alphanumeric);
        let domain: String = lower[at + 1..]
            .chars()
            .take_while(|sign| sign.is_alphanumeric() || matches!(sign, '-' | '.' | '_'))
            .collect();
        let domain = domain.trim_end_matches(['.', '-', '_']);
        let in_address = lower[..at]
            .rsplit(char::is_whitespace)
            .next()
            .is_some_and(|word| word.contains("://"));
        if local && domain.contains('.') && !in_address && !allowed.mail(&format!("sales@{domain}"))
        {
            found.push(format!("mail {domain}"));
        }
    }
    found
}

#[test]
fn links_to_what_the_knowledge_names_stay_as_they_are() {
    for text in [
        "See [the docs](https://docs.example/a#b).",
        "See [the docs](https://docs.example/a/#b), please",
        "**[Audits](services/audits.md)** cost less",
        "[Prices](/pricing#audits)",
        "[Next](https://docs.example/b.html)",
        "<https://known.example/x(y)?z=1>",
        "[x](https://known.example/x(y)?z=1)",
        "(https://known.example/x(y)?z=1), or mail sales@known.example.",
        "[Write](mailto:sales@known.example)",
        "HTTPS://OK.EXAMPLE/any?thing#else works",
        "www.ok.example does not",
        "[text][1] and [1]\n\n[1]: https://ok.example/x\n",
        "[https://ok.example/](https://ok.example/)",
        "**https://ok.example/a**",
    ] {
        let expected = if text.starts_with("www") {
            "www… does not"
        } else {
            text
        };
        assert_eq!(filtered(text), expected);
        assert_eq!(leaks(expected), [""; 0], "{text}");
    }
}

#[test]
fn of_other_links_the_words_stay_and_the_target_goes() {
    for (text, expected) in [
        (
            "See [the **docs**](https://evil.example/a).",
            "See the **docs**.",
        ),
        ("[a [b] c](javascript:alert(1)) d", "a [b] c d"),
        ("[a](<javascript:alert(1)>)", "a"),
        ("[a](data:text/html;base64,xx \"title\")", "a"),
        ("[a](JaVaScRiPt&colon;alert(1))", "a"),
        ("[a](vbscript:x)", "a"),
        ("[a](//evil.example)", "a"),
        ("[a](https:evil.example)", "a"),
        ("[a](https:/\\evil.example)", "a"),
        ("[a](/other)", "a"),
        ("[a](mailto:sales@known.example?bcc=x@evil.example)", "a"),
        ("[a](mailto:x@evil.example)", "a"),
        ("[](https://evil.example)", "…"),
        ("![a picture](https://ok.example/a.png) b", "a picture b"),
        ("![](https://evil.example/?secret)", "…"),
        ("<https://evil.example>", "…"),
        ("<x@evil.example>", "…"),
        (
            "See https://evil.example/a, or (https://evil.example).",
            "See https…, or (https…).",
        ),
        ("ftp://evil.example/x", "ftp…"),
        ("www.evil.example.", "www…."),
        ("Write to x@evil.example!", "Write to x…!"),
        ("[a](https://ok.example@evil.example/)", "a"),
        ("[a](https://ok.example\\@evil.example/)", "a"),
        ("[a](https://xn--e1awd7f.example)", "a"),
        ("[a](https://\u{43e}k.example)", "a"),
        ("[a](https://ok.example%2f@evil.example)", "a"),
        ("[a](https://ok.example:8443/)", "a"),
        ("[a](https://ok\u{200b}.example/)", "a"),
        ("[a](java\nscript:alert(1))", "a (java\nscript:alert(1))"),
        (
            "[a][1]\n\n[1]: https://evil.example/",
            "[a][1]\n\n[1] : https…",
        ),
        ("[1](see page 5)", "[1] (see page 5)"),
    ] {
        let expected = if text.starts_with("[a](java\n") {
            "[a] (java\nscript:alert(1))"
        } else {
            expected
        };
        assert_eq!(filtered(text), expected, "{text}");
        assert_eq!(leaks(expected), [""; 0], "{text}");
    }
}

#[test]
fn tags_become_text() {
    for (text, expected) in [
        (
            "<script>alert(1)</script>",
            "&lt;script>alert(1)&lt;/script>",
        ),
        ("<img src=x onerror=y>", "&lt;img src=x onerror=y>"),
        ("<!-- x -->", "&lt;!-- x -->"),
        ("\\<b>", "&lt;b>"),
        ("a < b, x <5, <= and <- stay", "a < b, x <5, <= and <- stay"),
        ("a <", "a &lt;"),
    ] {
        assert_eq!(filtered(text), expected, "{text}");
    }
}

#[test]
fn tricks_lead_nowhere() {
    for text in [
        "https&colon;//evil.example",
        "https&#58;&#47;&#x2f;evil.example",
        "&#104;ttps://evil.example",
        "www\\.evil.example",
        "ww&#119;.evil.example",
        "https\\://evil.example",
        "https:\\//evil.example",
        "x&commat;evil.example",
        "x\\@evil.example",
        "x@evil\\-er.example",
        "ht[](x)tps://evil.example",
        "ht[tp](x)s://evil.example",
        "https:[/](x)/evil.example",
        "www[.](x)evil.example",
        "x@[evil](y).example",
        "<-`sales@known.example>",
        "<5@evil.example>",
        "[a]![](x)(javascript:alert(1))",
        "![a [b]](u)(javascript:alert(1))",
        "[a [b]](u)(javascript:alert(1))",
        "[a][(](x)javascript:alert(1))",
        "[a]<b></b>(javascript:alert(1))",
        "<[](x)script>alert(1)</script>",
        "![](x)[id]: https://evil.example\n\n[id]",
        "[foo\nbar]: javascript:alert(1)\n\n[foo\nbar]",
        "[foo\r\nbar]: javascript:alert(1)\r\n\r\n[foo\r\nbar]",
        "> - [id]: javascript:alert(1)\n\n[id]",
        "[id]:\n  <javascript:alert(1)>\n\n[id]",
        "[!](x)[a](https://ok.example/a.png)",
        "\\![a](https://evil.example)",
        "\\[a](javascript:alert(1))",
        "[a\\](javascript:alert(1))",
        "[one\ntwo](javascript:alert(1))",
        "https://ok.example/*a*https://evil.example",
        "https://ok.example/*a*www.evil.example",
        "https://ok.example/*a*x@evil.example",
        "https://ok.example|@evil.example",
        "https://ok.example]@evil.example",
        "https://ok.example\u{3002}evil.example",
        "https://ok.example\u{200b}.evil.example",
        "https://ok.example\u{a0}@evil.example",
        "https://ok.example&#46;evil.example",
        "[a](https://ok.example&#64;evil.example)",
        "[a](https://ok.example&period;evil.example)",
        "[a](\thttps://evil.example\t)",
        "[a](https://evil.example 'x')",
        "`[a](https://evil.example)` and `https://evil.example`",
        "```\n[a](javascript:alert(1))\n```",
        "[a](<https://ok.example>@evil.example)",
        "[a](https://ok.example \"x\")(javascript:alert(1))",
        "[https://evil.example](https://ok.example)",
        "[![a](https://ok.example/x.png)](https://evil.example)",
    ] {
        let out = filtered(text);
        assert_eq!(leaks(&out), [""; 0], "{text} became {out}");
        assert!(!leaks(text).is_empty() || !out.is_empty(), "{text}");
    }
}

#[test]
fn text_that_can_not_become_a_link_passes_at_once() {
    let mut filter = LinkFilter::new(&allowed());
    for delta in [
        "An audit ",
        "costs 9,000",
        " euros. ",
        "Wirk",
        "lich – 真的",
        ", https",
        " and www",
        " too",
    ] {
        assert_eq!(filter.push(delta), delta);
    }
    assert_eq!(filter.push("Read [the docs](https://do"), "Read ");
    assert_eq!(
        filter.push("cs.example/a) now"),
        "[the docs](https://docs.example/a) now"
    );
    assert_eq!(filter.finish(), "");
}

#[test]
fn what_is_held_back_is_bounded() {
    let endless = "x".repeat(100_000);
    for begin in [
        "[", "![", "[a](", "<", "https://", "x@", "www.", "[a]: ", "&", "[a](<", "[a](\"",
    ] {
        let mut filter = LinkFilter::new(&allowed());
        filter.push(begin);
        for chunk in 0..100 {
            filter.push(&endless[chunk * 1_000..][..1_000]);
            let held = filter.held.len();
            assert!(held <= 2 * LONGEST_ADDRESS, "{begin}: {held}");
        }
        let mut rest = filter.push(") [b](https://ok.example) ");
        rest.push_str(&filter.finish());
        assert!(rest.contains("[b](https://ok.example) "), "{begin}: {rest}");
    }
}

#[test]
fn a_link_that_is_too_long_is_text() {
    let words = "word ".repeat(200);
    let text = format!("[{words}](https://evil.example)");
    let out = filtered(&text);
    assert_eq!(out, format!("[{words}]"));
    let target = "x".repeat(3_000);
    assert_eq!(
        filtered(&format!("[a](/{target})")),
        format!("[a] (/{target})")
    );
}

#[test]
fn a_link_over_the_end_of_a_block_is_still_one() {
    let mut filter = LinkFilter::new(&allowed());
    let mut out = filter.push("Look ![a]");
    out.push_str(&filter.finish());
    out.push_str(&filter.push("(https://evil.example/x)"));
    out.push_str(&filter.finish());
    assert_eq!(leaks(&out), [""; 0], "{out}");
    let mut filter = LinkFilter::new(&allowed());
    let mut out = filter.push("Look!");
    out.push_str(&filter.finish());
    out.push_str(&filter.push("[a](https://ok.example/x)"));
    out.push_str(&filter.finish());
    assert_eq!(leaks(&out), [""; 0], "{out}");
}

#[test]
fn an_address_that_the_visitor_wrote_may_be_repeated_for_mail_only() {
    let mut allowed = allowed();
    allowed.allow_mail("I am jane@visitor.example, see https://visitor.example");
    let mut filter = LinkFilter::new(&allowed);
    let mut out = filter.push("Is jane@visitor.example right? https://visitor.example");
    out.push_str(&filter.finish());
    assert_eq!(out, "Is jane@visitor.example right? https…");
}

#[test]
fn passages_that_are_found_later_are_linked_from_then_on() {
    let mut filter = LinkFilter::new(&allowed());
    assert_eq!(filter.push("[a](https://late.example/) "), "a ");
    filter.allow_passage("https://late.example/#x", "");
    assert_eq!(
        filter.push("[a](https://late.example/) "),
        "[a](https://late.example/) "
    );
}

/// Pieces that links and tricks are made of, so that random texts are hostile ones.
fn piece() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "[",
        "]",
        "(",
        ")",
        "](",
        "![",
        "<",
        ">",
        "</",
        "\\",
        "`",
        "```",
        "!",
        ":",
        "//",
        "://",
        "]: ",
        "[id]",
        "\n",
        "\n\n",
        "\r\n",
        " ",
        "  ",
        "@",
        ".",
        "www.",
        "www",
        "http",
        "https",
        "https://",
        "mailto:",
        "javascript:",
        "data:",
        "alert(1)",
        "evil.example",
        "ok.example",
        "https://ok.example/",
        "https://evil.example/",
        "sales@known.example",
        "x@evil.example",
        "/pricing",
        "&colon;",
        "&#47;",
        "&amp;",
        "&",
        ";",
        "#",
        "\"",
        "'",
        "*",
        "**",
        "_",
        "~",
        "|",
        "-",
        "> ",
        "- ",
        "1. ",
        "\u{200b}",
        "\u{a0}",
        "\u{3002}",
        "é",
        "真",
        "🦀",
        "a",
        "script",
        "img src=x",
        "\t",
        "%2f",
        "?",
        "=",
        "^",
        "{",
        "}",
    ]);
    prop_oneof![8 => pieces.prop_map(str::to_owned), 1 => "[a-zA-Z ]{1,12}", 1 => ".{0,4}"]
}

fn hostile() -> impl Strategy<Value = String> {
    prop::collection::vec(piece(), 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn the_output_does_not_depend_on_the_deltas(text in hostile(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12)) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| text.floor_char_boundary(cut.index(text.len() + 1))).collect();
        cuts.sort_unstable();
        let mut deltas = Vec::new();
        let mut from = 0;
        for cut in cuts {
            deltas.push(&text[from..cut]);
            from = cut;
        }
        deltas.push(&text[from..]);
        prop_assert_eq!(filter_in(&deltas), filtered(&text));
    }

    #[test]
    fn nothing_that_is_not_allowed_comes_through(text in hostile()) {
        let out = filtered(&text);
        let leaks = leaks(&out);
        prop_assert!(leaks.is_empty(), "{:?} became {:?}: {:?}", text, out, leaks);
    }

    #[test]
    fn plain_text_is_unchanged(text in "([\\p{L}\\p{N} ,;?\"'*_#|>~\\n-]|\\. |: |\\(|\\))*") {
        prop_assert_eq!(filtered(&text), text);
    }
}
