//! The environment variables: the one place that reads them.

use std::ffi::OsString;

use store::settings::Settings;

/// The process's variables. One that is not UTF-8 is a problem only if somebody asks for it.
pub(crate) fn settings() -> Settings {
    from(std::env::vars_os(), [])
}

/// The same with some values given on the command line, which win.
pub(crate) fn settings_with(
    overrides: impl IntoIterator<Item = (&'static str, String)>,
) -> Settings {
    from(std::env::vars_os(), overrides)
}

fn from(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
    overrides: impl IntoIterator<Item = (&'static str, String)>,
) -> Settings {
    let mut readable = Vec::new();
    let mut unreadable = Vec::new();
    for (name, value) in variables {
        // All names of ours are ASCII: another one is nothing to us.
        let Ok(name) = name.into_string() else {
            continue;
        };
        match value.into_string() {
            Ok(value) => readable.push((name, value)),
            Err(_) => unreadable.push(name),
        }
    }
    // The last value of a name counts.
    let overrides = overrides
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value));
    Settings::new(readable.into_iter().chain(overrides)).with_unreadable(unreadable)
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    fn os(bytes: &[u8]) -> OsString {
        OsString::from_vec(bytes.to_vec())
    }

    #[test]
    fn a_variable_that_is_not_utf_8_is_named_when_it_is_asked_for() {
        let variables = [
            (os(b"PORT"), os(b"80\xff")),
            (os(b"SOMEBODY_ELSES"), os(b"\xff")),
            (os(b"NAME\xff"), os(b"x")),
            (os(b"HOST"), os(b"h")),
        ];
        let mut settings = from(variables, [("HOST", "given".to_owned())]);
        assert_eq!(settings.get("HOST"), Some("given"));
        assert_eq!(settings.optional::<u16>("PORT", "a port"), None);
        let error = settings.finish(Some(())).unwrap_err();
        assert_eq!(
            error.problems,
            [("PORT".to_owned(), "is not valid UTF-8".to_owned())]
        );
    }
}
