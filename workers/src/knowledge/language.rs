//! The language of a text: what it says it is, or what it looks like.

/// How much of a text is looked at, in bytes: more tells nothing new.
const SAMPLE_BYTES: usize = 8 * 1024;
/// Of a shorter text one can't tell, in characters.
const FEWEST_CHARS: usize = 40;

/// The language of a tag such as `de-AT`: its primary subtag in lower case. `None` if it has none.
pub(super) fn primary(tag: &str) -> Option<String> {
    let subtag = tag.trim().split(['-', '_']).next()?.to_ascii_lowercase();
    let is_language = matches!(subtag.len(), 2 | 3)
        && subtag.bytes().all(|byte| byte.is_ascii_lowercase())
        && !matches!(subtag.as_str(), "und" | "mul" | "zxx" | "mis");
    is_language.then(|| short(&subtag).to_owned())
}

/// The language that a text looks like: ISO 639-1, or 639-3 where that has none. `None`: can't tell.
pub(super) fn detect(text: &str) -> Option<String> {
    let sample = &text[..text.floor_char_boundary(SAMPLE_BYTES)];
    if sample.chars().filter(|sign| sign.is_alphabetic()).count() < FEWEST_CHARS {
        return None;
    }
    let info = whatlang::detect(sample)?;
    info.is_reliable()
        .then(|| short(info.lang().code()).to_owned())
}

/// The two letters of a language that has them.
fn short(code: &str) -> &str {
    match code {
        "afr" => "af",
        "aka" => "ak",
        "amh" => "am",
        "ara" | "arb" => "ar",
        "aze" | "azj" => "az",
        "bel" => "be",
        "ben" => "bn",
        "bul" => "bg",
        "cat" => "ca",
        "ces" => "cs",
        "cmn" | "zho" => "zh",
        "cym" => "cy",
        "dan" => "da",
        "deu" => "de",
        "ell" => "el",
        "eng" => "en",
        "epo" => "eo",
        "est" => "et",
        "fin" => "fi",
        "fra" => "fr",
        "guj" => "gu",
        "heb" => "he",
        "hin" => "hi",
        "hrv" => "hr",
        "hun" => "hu",
        "hye" => "hy",
        "ind" => "id",
        "ita" => "it",
        "jav" => "jv",
        "jpn" => "ja",
        "kan" => "kn",
        "kat" => "ka",
        "khm" => "km",
        "kor" => "ko",
        "lat" => "la",
        "lav" => "lv",
        "lit" => "lt",
        "mal" => "ml",
        "mar" => "mr",
        "mkd" => "mk",
        "mya" => "my",
        "nep" => "ne",
        "nld" => "nl",
        "nob" => "nb",
        "ori" => "or",
        "pan" => "pa",
        "pes" | "fas" => "fa",
        "pol" => "pl",
        "por" => "pt",
        "ron" => "ro",
        "rus" => "ru",
        "sin" => "si",
        "slk" => "sk",
        "slv" => "sl",
        "sna" => "sn",
        "spa" => "es",
        "srp" => "sr",
        "swe" => "sv",
        "tam" => "ta",
        "tel" => "te",
        "tgl" => "tl",
        "tha" => "th",
        "tuk" => "tk",
        "tur" => "tr",
        "ukr" => "uk",
        "urd" => "ur",
        "uzb" => "uz",
        "vie" => "vi",
        "yid" => "yi",
        "zul" => "zu",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_says_its_language() {
        for (tag, language) in [
            ("de", Some("de")),
            ("de-AT", Some("de")),
            ("EN_us", Some("en")),
            ("deu", Some("de")),
            ("gsw-CH", Some("gsw")),
            ("", None),
            ("und", None),
            ("german", None),
            ("x", None),
            ("1a", None),
        ] {
            assert_eq!(primary(tag).as_deref(), language, "{tag}");
        }
    }

    #[test]
    fn a_text_tells_its_language_unless_it_is_too_short() {
        let german = "Wir begleiten mittelständische Unternehmen von der ersten Idee bis zum \
                      laufenden Betrieb ihrer Assistenten.";
        let english = "We accompany companies from the first idea to the daily operation of \
                       their assistants, and we stay for as long as they want us to.";
        assert_eq!(detect(german).as_deref(), Some("de"));
        assert_eq!(detect(english).as_deref(), Some("en"));
        assert_eq!(detect("Hallo Welt"), None);
        assert_eq!(
            detect("12345 67890 12345 67890 12345 67890 12345 67890"),
            None
        );
    }

    #[test]
    fn every_language_that_can_be_detected_has_a_legal_code() {
        for language in whatlang::Lang::all() {
            let code = short(language.code());
            assert_eq!(primary(code).as_deref(), Some(code));
        }
    }
}
