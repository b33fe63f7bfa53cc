//! Reads configuration once, at start, and reports every wrong variable at once by its name.
//! A value is never echoed: it may be a secret.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

use secrecy::SecretString;

/// Everything that is wrong with the configuration.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub struct SettingsError {
    /// `(variable, what is wrong and what to do)`, in the order they were read.
    pub problems: Vec<(String, String)>,
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the configuration has {} problem(s):",
            self.problems.len()
        )?;
        for (name, problem) in &self.problems {
            write!(f, "\n  {name}: {problem}")?;
        }
        Ok(())
    }
}

/// What was asked for: the code's own word on a variable, from which the reference of all variables is
/// written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The variable.
    pub name: String,
    /// Whether it has to be set.
    pub required: bool,
    /// What a legal value is, in words.
    pub rule: String,
}

/// The variables, what was found wrong with them so far, and which ones anybody wanted.
#[derive(Default)]
pub struct Settings {
    variables: BTreeMap<String, String>,
    unreadable: BTreeSet<String>,
    problems: Vec<(String, String)>,
    asked: Vec<Asked>,
    looked_at: RefCell<BTreeSet<String>>,
}

/// Without the values: some are secrets.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("problems", &self.problems)
            .field("asked", &self.asked)
            .finish_non_exhaustive()
    }
}

impl Settings {
    /// Takes the variables; an empty value counts as unset.
    pub fn new(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let variables = variables
            .into_iter()
            .filter(|(_, value)| !value.trim().is_empty())
            .collect();
        Self {
            variables,
            ..Self::default()
        }
    }

    /// Adds names of variables whose values are not UTF-8: a problem once they are asked for.
    #[must_use]
    pub fn with_unreadable(mut self, names: impl IntoIterator<Item = String>) -> Self {
        self.unreadable.extend(names);
        self
    }

    /// Notes a problem, once: a process of two roles may read a variable for each.
    pub fn problem(&mut self, name: &str, problem: impl Into<String>) {
        let noted = (name.to_owned(), problem.into());
        if !self.problems.contains(&noted) {
            self.problems.push(noted);
        }
    }

    /// The raw value, if set. It is not asked for by this: one that nobody asks for otherwise has to be
    /// described in the reference by hand.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.looked_at.borrow_mut().insert(name.to_owned());
        self.variables.get(name).map(|value| value.trim())
    }

    /// Whether it has a value, be it one that is no text.
    pub fn is_set(&self, name: &str) -> bool {
        self.get(name).is_some() || self.unreadable.contains(name)
    }

    /// What was asked for until now, each variable once.
    pub fn asked(&self) -> &[Asked] {
        &self.asked
    }

    /// Every name that was looked up until now, asked for or not.
    pub fn looked_at(&self) -> BTreeSet<String> {
        self.looked_at.borrow().clone()
    }

    fn ask(&mut self, name: &str, required: bool, rule: &str) {
        match self.asked.iter_mut().find(|asked| asked.name == name) {
            Some(asked) => asked.required |= required,
            None => self.asked.push(Asked {
                name: name.to_owned(),
                required,
                rule: rule.to_owned(),
            }),
        }
    }

    /// A value that must be there; `rule` says what a legal value is.
    pub fn required<T: FromStr>(&mut self, name: &str, rule: &str) -> Option<T> {
        self.ask(name, true, rule);
        if !self.is_set(name) {
            self.problem(name, format!("is required: set it to {rule}"));
            return None;
        }
        self.optional(name, rule)
    }

    /// A value that may be missing.
    pub fn optional<T: FromStr>(&mut self, name: &str, rule: &str) -> Option<T> {
        self.ask(name, false, rule);
        if self.unreadable.contains(name) {
            self.problem(name, "is not valid UTF-8");
            return None;
        }
        let parsed = self.get(name)?.parse().ok();
        if parsed.is_none() {
            self.problem(name, format!("is not valid: {rule}"));
        }
        parsed
    }

    /// A value with a default, held to `legal`.
    pub fn with_default<T: FromStr>(
        &mut self,
        name: &str,
        default: T,
        rule: &str,
        legal: impl FnOnce(&T) -> bool,
    ) -> T {
        match self.optional::<T>(name, rule) {
            Some(value) if legal(&value) => value,
            Some(_) => {
                self.problem(name, format!("is not valid: {rule}"));
                default
            }
            None => default,
        }
    }

    /// A secret that must be there.
    pub fn secret(&mut self, name: &str, rule: &str) -> Option<SecretString> {
        let secret = self.required::<String>(name, rule)?;
        self.hide(name, secret)
    }

    /// A secret that may be missing.
    pub fn optional_secret(&mut self, name: &str, rule: &str) -> Option<SecretString> {
        let secret = self.optional::<String>(name, rule)?;
        self.hide(name, secret)
    }

    /// Secrets are sent in headers and commands of protocols, where a line break would end them.
    fn hide(&mut self, name: &str, secret: String) -> Option<SecretString> {
        if secret.contains(char::is_control) {
            self.problem(
                name,
                "is not valid: it has a line break or a control character",
            );
            return None;
        }
        Some(SecretString::from(secret))
    }

    /// What was found wrong until now.
    pub fn problems(&self) -> &[(String, String)] {
        &self.problems
    }

    /// Whether something is wrong with a variable.
    pub fn has_problem(&self, name: &str) -> bool {
        self.problems.iter().any(|(noted, _)| noted == name)
    }

    /// Ends the reading: the value, or every problem.
    pub fn finish<T>(self, value: Option<T>) -> Result<T, SettingsError> {
        match value {
            Some(value) if self.problems.is_empty() => Ok(value),
            _ => Err(SettingsError {
                problems: self.problems,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_that_two_roles_find_is_told_once() {
        let mut settings = Settings::new([("HOURS".to_owned(), "many".to_owned())]);
        for _ in 0..2 {
            let hours = settings.with_default("HOURS", 24, "a number of hours", |_| true);
            assert_eq!(hours, 24);
        }
        let error = settings.finish(Some(())).unwrap_err();
        assert_eq!(error.problems.len(), 1);
    }
}
