//! `HANDOFF_RETRY_BACKOFF_SECONDS`: stored with the jobs by whoever opens a handoff, the API as well as
//! the workers.

use crate::settings::Settings;

/// Seconds to wait after the first, second, … failed attempt (seed 000).
const DEFAULT: [i32; 3] = [1, 3, 9];

/// Reads the variable.
pub fn read_waits(settings: &mut Settings) -> Vec<i32> {
    const VARIABLE: &str = "HANDOFF_RETRY_BACKOFF_SECONDS";
    let rule = "1 to 20 numbers of seconds from 1 to 86400, comma-separated";
    let Some(text) = settings.optional::<String>(VARIABLE, rule) else {
        return DEFAULT.to_vec();
    };
    let waits: Result<Vec<i32>, _> = text.split(',').map(|wait| wait.trim().parse()).collect();
    match waits {
        Ok(waits)
            if (1..=20).contains(&waits.len())
                && waits.iter().all(|wait| (1..=86_400).contains(wait)) =>
        {
            waits
        }
        _ => {
            settings.problem(VARIABLE, format!("is not valid: {rule}"));
            DEFAULT.to_vec()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_read_and_what_is_no_schedule_is_refused() {
        let read = |text: &str| {
            let variable = ("HANDOFF_RETRY_BACKOFF_SECONDS".to_owned(), text.to_owned());
            let mut settings = Settings::new([variable]);
            let waits = read_waits(&mut settings);
            settings.finish(Some(waits)).ok()
        };
        assert_eq!(read(""), Some(vec![1, 3, 9]));
        assert_eq!(read("2, 4"), Some(vec![2, 4]));
        for wrong in ["0", "1,,2", "1;2", "-1", "86401", "soon"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
