//! Cuts endings off words.

/// Endings, the longer of two that fit first.
const ENDINGS: [&str; 25] = [
    "ization", "isation", "ational", "ations", "ation", "ition", "ement", "ment", "ness", "ingly",
    "edly", "ing", "ed", "er", "or", "ion", "ally", "ly", "able", "ible", "ance", "ence", "al",
    "ity", "ive",
];

/// Cuts the commonest English endings, so that `backups`, `backup` and `backing` meet. Crude on
/// purpose: it only has to treat a question and its answer the same way. `word` is in lower case.
pub(super) fn stem(word: &str) -> String {
    let mut stem = singular(word);
    for ending in ENDINGS {
        if let Some(rest) = stem.strip_suffix(ending)
            && may_lose(rest, ending)
        {
            stem.truncate(rest.len());
            break;
        }
    }
    undouble(&mut stem);
    // `pricing` and `price`, `policies` and `policy`.
    if length(&stem) >= 4 && stem.ends_with(['e', 'y']) {
        stem.pop();
    }
    stem
}

/// Without the ending of a plural.
fn singular(word: &str) -> String {
    if length(word) > 4
        && let Some(rest) = word.strip_suffix("ies")
    {
        return format!("{rest}y");
    }
    let ends_with = |endings: &[&str]| endings.iter().any(|ending| word.ends_with(ending));
    let is_plural = length(word) > 3 && word.ends_with('s') && !ends_with(&["ss", "us", "is"]);
    let cut = if ends_with(&["sses", "shes", "ches", "xes", "zes"]) {
        2
    } else {
        usize::from(is_plural)
    };
    word[..word.len() - cut].to_owned()
}

/// Whether enough is left of a word without its ending to be one.
fn may_lose(rest: &str, ending: &str) -> bool {
    match ending {
        "ing" | "ed" => length(rest) >= 3 && rest.contains(['a', 'e', 'i', 'o', 'u', 'y']),
        "ion" => length(rest) >= 4 && rest.ends_with(['s', 't']),
        _ => length(rest) >= 4,
    }
}

/// `run` out of `runn(ing)`, `travel` out of `travell(ing)`.
fn undouble(stem: &mut String) {
    let mut signs = stem.chars().rev();
    let (last, before) = (signs.next(), signs.next());
    let Some(last) = last.filter(|_| last == before) else {
        return;
    };
    let is_doubled = match last {
        'a' | 'e' | 'i' | 'o' | 'u' | 's' => false,
        'l' => length(stem) >= 5,
        _ => length(stem) >= 4,
    };
    if is_doubled {
        stem.pop();
    }
}

fn length(word: &str) -> usize {
    word.chars().count()
}

#[cfg(test)]
mod tests {
    use super::stem;

    #[test]
    fn forms_of_a_word_meet() {
        for forms in [
            &["backup", "backups"][..],
            &["price", "prices", "pricing", "priced"],
            &["policy", "policies"],
            &["run", "running", "runnings"],
            &["deploy", "deployed", "deploying", "deployment"],
            &["travel", "travelling", "travels"],
            &["match", "matches", "matching"],
            &["configuration", "configurations"],
            &["install", "installing", "installation"],
            &["day", "days"],
        ] {
            let stems: Vec<String> = forms.iter().map(|word| stem(word)).collect();
            assert!(
                stems.iter().all(|one| *one == stems[0]),
                "{forms:?}: {stems:?}"
            );
        }
    }

    #[test]
    fn words_that_only_look_like_forms_are_left_alone() {
        for word in ["class", "status", "basis", "thing", "red", "bed", "ion"] {
            assert_eq!(stem(word), word);
        }
        // Any script, and what is hardly a word.
        for word in ["größe", "日本語", "s", "e", "ss", "ll", "1204"] {
            assert!(!stem(word).is_empty(), "{word}");
        }
    }
}
