use store::knowledge::DocumentKind;

use super::*;

fn page(html: &str) -> Extracted {
    let base = "https://example.org/a/page".parse().unwrap();
    extract(html.as_bytes(), None, Some(&base)).unwrap()
}

#[test]
fn headings_lists_tables_and_code_survive_as_markdown() {
    let page = page(
        "<html><body><main><h1>Prices</h1><p>What it <b>costs</b>.</p>
         <h2>Workshop <a href='#workshop'>#</a></h2><ul><li>one day</li><li>two days</li></ul>
         <table><thead><tr><th>Size</th><th>Price</th></tr></thead>
         <tbody><tr><td>S</td><td>100</td></tr></tbody></table>
         <pre><code>let x = 1;</code></pre><hr></main></body></html>",
    );
    for part in [
        "# Prices\n\nWhat it **costs**.",
        "\n\n## Workshop\n\n- one day\n- two days\n",
        "| S ",
        "```\nlet x = 1;\n```",
    ] {
        assert!(page.text.contains(part), "{part:?} in {}", page.text);
    }
    assert_eq!(page.title.as_deref(), Some("Prices"));
    // A rule is not taken for front matter.
    assert!(!page.text.contains("---\n\n"), "{}", page.text);
}

#[test]
fn only_the_main_content_is_kept() {
    for html in [
        "<body><header>Logo</header><nav>Menu</nav><main><p>Text.</p><nav>Contents</nav></main>
         <aside>Ad</aside><footer>Imprint</footer></body>",
        "<body><div>Menu</div><div role=main><p>Text.</p></div></body>",
        "<body><div>Menu</div><article><header><p>Text.</p></header></article></body>",
        "<body><header>Logo</header><div role=navigation>Menu</div><p>Text.</p>
         <footer>Imprint</footer></body>",
        "<body><main></main><p>Text.</p><script>alert('x')</script><style>p{}</style>
         <noscript>Switch it on</noscript><template>T</template><p hidden>H</p>
         <p style='display: none'>H</p><p aria-hidden=true>H</p><button>B</button>
         <form><input value=I><select><option>O</select><textarea>T</textarea></form>
         <svg><title>S</title></svg><iframe>F</iframe><!-- C --></body>",
    ] {
        assert_eq!(page(html).text, "Text.", "{html}");
    }
}

#[test]
fn several_articles_are_a_list_and_not_the_main_content() {
    let page = page("<body><article><p>One.</p></article><article><p>Two.</p></article></body>");
    assert_eq!(page.text, "One.\n\nTwo.");
}

#[test]
fn links_lead_somewhere_from_everywhere_or_lose_their_target() {
    let page = page(
        "<base href='/b/'><body><nav><a href=menu>M</a></nav><main><p><a href='x?y#z'>X</a>
         <a href='//other.example/'>O</a> <a href='mailto:a@example.org'>A</a>
         <a href='javascript:alert(1)'>J</a> <a href='#top'>Top</a>
         <a rel='nofollow noopener' href='/n'>N</a> <a href='http://['>B</a></p></main></body>",
    );
    assert_eq!(
        page.text,
        "[X](https://example.org/b/x?y#z) [O](https://other.example/) \
         [A](mailto:a@example.org) J Top [N](https://example.org/n) B"
    );
    assert_eq!(
        page.links,
        [
            "https://example.org/b/menu",
            "https://example.org/b/x?y",
            "https://other.example/",
        ]
    );
}

#[test]
fn a_page_says_what_it_is() {
    let said = page(
        "<html lang='de-AT'><head><title> Über
         uns </title><link rel='canonical' href='/proper#x'>
         <meta name='growth-chat:kind' content='case_study'>
         <meta name='ROBOTS' content='noindex, follow'></head><body><p>Text.</p><a href=/b>B</a>",
    );
    assert_eq!(said.title.as_deref(), Some("Über uns"));
    assert_eq!(said.language.as_deref(), Some("de"));
    assert_eq!(said.kind, Some(DocumentKind::CaseStudy));
    assert_eq!(
        said.canonical.as_deref(),
        Some("https://example.org/proper")
    );
    assert!(said.noindex);
    assert_eq!(said.links, ["https://example.org/b"]);
    let none = page("<meta name=robots content=none><body>Text.<a href=/b>B</a>");
    assert!(none.noindex && none.links.is_empty());
    let other = page("<meta name=googlebot content=noindex><body>Text.");
    assert!(!other.noindex);
}

#[test]
fn a_page_is_decoded_as_browsers_do() {
    let text = |bytes: &[u8], charset| extract(bytes, charset, None).unwrap().text;
    assert_eq!(text(b"<p>\xfcber</p>", Some("iso-8859-1")), "über");
    assert_eq!(
        text(b"<meta charset='windows-1251'><p>\xcf\xd0</p>", None),
        "ПР"
    );
    assert_eq!(text("<p>über</p>".as_bytes(), None), "über");
    assert_eq!(text(b"<p>\xfcber \x80</p>", None), "über €");
    assert_eq!(text(b"\xff\xfe<\0p\0>\0\xe4\0", Some("utf-8")), "ä");
    assert_eq!(text("<p>ü</p>".as_bytes(), Some("no-such-charset")), "ü");
}

#[test]
fn a_page_nested_without_end_does_not_overflow() {
    let html = format!("<p>Text.</p>{}deep", "<div>".repeat(4_000));
    let page = std::thread::Builder::new()
        .stack_size(super::super::STACK_BYTES)
        .spawn(move || page(&html))
        .unwrap()
        .join()
        .unwrap();
    assert_eq!(page.text, "Text.");
}

#[test]
fn any_bytes_are_some_page() {
    for bytes in [
        &b""[..],
        b"\0\0",
        b"<",
        b"<!--",
        b"\xff\xfe\0",
        b"<html><frameset>",
        b"<svg><p>",
    ] {
        assert!(extract(bytes, None, None).is_ok());
    }
}
