//! The hours in which people work: what visitors are promised (seed 000, Business Hours Detection).

use std::{collections::BTreeSet, fs::File, io::Read, path::Path};

use chrono::NaiveDate;
use chrono_tz::Tz;
use store::{
    business_hours::{BusinessHours, Day},
    settings::Settings,
};

/// The most bytes of a file of holidays: thousands of them.
const LARGEST_FILE: u64 = 64 * 1024;
const DAYS_RULE: &str = "days and ranges of days such as mon-fri or sun-thu,sat";
const HOLIDAYS_RULE: &str = "dates such as 2026-12-25, comma-separated, or the path of a file with one on \
     each line, in which '#' begins a remark";

/// Reads the variables of the business hours.
pub(super) fn read(settings: &mut Settings) -> Option<BusinessHours> {
    let timezone = settings.required::<Tz>(
        "BUSINESS_HOURS_TIMEZONE",
        "a time zone of the IANA database, such as Europe/Madrid",
    );
    let start = settings.with_default("BUSINESS_HOURS_START", 9, "an hour from 0 to 23", |start| {
        *start < 24
    });
    let end = settings.with_default(
        "BUSINESS_HOURS_END",
        18,
        "an hour up to 24, after BUSINESS_HOURS_START",
        |end| *end <= 24,
    );
    let cutoff = settings.with_default(
        "BUSINESS_HOURS_SAME_DAY_CUTOFF",
        16,
        "an hour from 0 to BUSINESS_HOURS_END",
        |cutoff| *cutoff <= 24,
    );
    // The defaults as well (seed 000): hours that nobody has set are not promised to anybody.
    if end <= start {
        settings.problem(
            "BUSINESS_HOURS_END",
            "is 18 unless it is set, and has to be after BUSINESS_HOURS_START",
        );
    } else if cutoff > end {
        settings.problem(
            "BUSINESS_HOURS_SAME_DAY_CUTOFF",
            "is 16 unless it is set, and must not be after BUSINESS_HOURS_END",
        );
    }
    let days = days(settings);
    let holidays = holidays(settings);
    BusinessHours::new(timezone?, (start, end), cutoff, days?, holidays?).ok()
}

fn days(settings: &mut Settings) -> Option<BTreeSet<Day>> {
    const VARIABLE: &str = "BUSINESS_DAYS";
    let text = settings.with_default(VARIABLE, "mon-fri".to_owned(), DAYS_RULE, |_| true);
    let days = parse_days(&text);
    if days.is_none() {
        settings.problem(VARIABLE, format!("is not valid: {DAYS_RULE}"));
    }
    days
}

fn parse_days(text: &str) -> Option<BTreeSet<Day>> {
    let mut days = BTreeSet::new();
    for range in text.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (day(first)?, day(last)?);
        // Over the end of the week as well: sat-mon.
        let from_first = Day::ALL.iter().cycle().skip_while(|day| **day != first);
        let length = (last as usize + 7 - first as usize) % 7 + 1;
        days.extend(from_first.take(length));
    }
    Some(days)
}

/// By the first three letters or the whole name, in English.
fn day(name: &str) -> Option<Day> {
    const NAMES: [&str; 7] = [
        "monday",
        "tuesday",
        "wednesday",
        "thursday",
        "friday",
        "saturday",
        "sunday",
    ];
    let name = name.trim().to_ascii_lowercase();
    let position = NAMES
        .iter()
        .position(|whole| *whole == name || whole[..3] == name)?;
    Day::ALL.get(position).copied()
}

fn holidays(settings: &mut Settings) -> Option<BTreeSet<NaiveDate>> {
    const VARIABLE: &str = "BUSINESS_HOLIDAYS";
    let Some(text) = settings.optional::<String>(VARIABLE, HOLIDAYS_RULE) else {
        return Some(BTreeSet::new());
    };
    let read = if text.starts_with(|first: char| first.is_ascii_digit()) && !text.contains('/') {
        dates(text.split(','))
            .map_err(|number| format!("is not valid at its date {number}: {HOLIDAYS_RULE}"))
    } else {
        file(Path::new(&text))
    };
    match read {
        Ok(holidays) => Some(holidays),
        Err(problem) => {
            settings.problem(VARIABLE, problem);
            None
        }
    }
}

/// The dates of a file. It is named by its problem only, as every value is.
fn file(path: &Path) -> Result<BTreeSet<NaiveDate>, String> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| {
        let mut file = file.take(LARGEST_FILE + 1);
        file.read_to_string(&mut text)
    });
    match read {
        Err(error) => {
            return Err(format!(
                "is neither dates nor a file that can be read: {error}"
            ));
        }
        Ok(size) if size as u64 > LARGEST_FILE => {
            return Err(format!(
                "is a file of more than {} KiB",
                LARGEST_FILE / 1024
            ));
        }
        Ok(_) => {}
    }
    let lines = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or(line));
    dates(lines).map_err(|number| format!("is a file with no date on line {number}"))
}

/// Dates, some of which may be blank; or the number of the first that is none, from 1.
fn dates<'t>(texts: impl Iterator<Item = &'t str>) -> Result<BTreeSet<NaiveDate>, usize> {
    let texts = texts.map(str::trim).zip(1..);
    texts
        .filter(|(text, _)| !text.is_empty())
        .map(|(text, number)| NaiveDate::parse_from_str(text, "%Y-%m-%d").map_err(|_| number))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use serde_json::{Value, json};

    use super::*;

    /// The hours as JSON, or the names of the variables that are wrong.
    fn read_with(variables: &[(&str, &str)]) -> Result<Value, Vec<String>> {
        let variables = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let mut settings = Settings::new(variables);
        let hours = read(&mut settings);
        match settings.finish(hours) {
            Ok(hours) => Ok(serde_json::to_value(hours).unwrap()),
            Err(error) => Err(error.problems.into_iter().map(|(name, _)| name).collect()),
        }
    }

    const ZONE: (&str, &str) = ("BUSINESS_HOURS_TIMEZONE", "Europe/Madrid");

    #[test]
    fn the_defaults_are_those_of_seed_000() {
        assert_eq!(
            read_with(&[ZONE]),
            Ok(json!({
                "timezone": "Europe/Madrid", "start": 9, "end": 18, "same_day_cutoff": 16,
                "days": ["mon", "tue", "wed", "thu", "fri"], "holidays": []
            }))
        );
    }

    #[test]
    fn what_can_not_be_worked_is_refused_by_name() {
        let wrong = |variables: &[(&str, &str)]| read_with(&[&[ZONE], variables].concat());
        for (name, value) in [
            ("BUSINESS_HOURS_TIMEZONE", "Mars/Olympus"),
            ("BUSINESS_HOURS_START", "24"),
            ("BUSINESS_HOURS_START", "-1"),
            ("BUSINESS_HOURS_END", "9"),
            ("BUSINESS_HOURS_END", "0"),
            ("BUSINESS_HOURS_END", "25"),
            ("BUSINESS_HOURS_SAME_DAY_CUTOFF", "19"),
            ("BUSINESS_DAYS", "weekdays"),
            ("BUSINESS_DAYS", "mon-"),
            ("BUSINESS_DAYS", "mon,,tue"),
            ("BUSINESS_HOLIDAYS", "2026-02-30"),
            ("BUSINESS_HOLIDAYS", "2026-12-25;2026-12-26"),
            ("BUSINESS_HOLIDAYS", "no/such/file"),
        ] {
            assert_eq!(
                wrong(&[(name, value)]),
                Err(vec![name.to_owned()]),
                "{name}={value}"
            );
        }
        assert_eq!(read_with(&[]), Err(vec![ZONE.0.to_owned()]));
    }

    #[test]
    fn a_default_is_held_to_the_rule_that_a_neighbour_changes() {
        for (neighbour, value, refused) in [
            ("BUSINESS_HOURS_START", "18", "BUSINESS_HOURS_END"),
            ("BUSINESS_HOURS_START", "20", "BUSINESS_HOURS_END"),
            ("BUSINESS_HOURS_END", "12", "BUSINESS_HOURS_SAME_DAY_CUTOFF"),
        ] {
            let read = read_with(&[ZONE, (neighbour, value)]);
            assert_eq!(read, Err(vec![refused.to_owned()]), "{neighbour}={value}");
        }
        assert!(read_with(&[ZONE, ("BUSINESS_HOURS_START", "17")]).is_ok());
        assert!(read_with(&[ZONE, ("BUSINESS_HOURS_END", "16")]).is_ok());
    }

    #[test]
    fn days_are_listed_and_ranged_over_the_end_of_the_week_too() {
        let days = |text| parse_days(text).map(|days| days.into_iter().collect::<Vec<_>>());
        assert_eq!(days("Mon"), Some(vec![Day::Mon]));
        assert_eq!(days("sat-mon"), Some(vec![Day::Mon, Day::Sat, Day::Sun]));
        assert_eq!(
            days("sunday - tue, thu"),
            Some(vec![Day::Mon, Day::Tue, Day::Thu, Day::Sun])
        );
        assert_eq!(days("tue-mon"), Some(Day::ALL.to_vec()));
    }

    #[test]
    fn holidays_are_dates_or_a_file_of_them() {
        let holidays = |text: &str| {
            let hours = read_with(&[ZONE, ("BUSINESS_HOLIDAYS", text)]);
            hours.map(|hours| hours["holidays"].clone())
        };
        let two = json!(["2026-12-25", "2027-01-01"]);
        assert_eq!(holidays("2027-01-01, 2026-12-25,"), Ok(two.clone()));
        let mut file = tempfile::NamedTempFile::new().unwrap();
        write!(
            file,
            "# Bank holidays\n2026-12-25 # Christmas\r\n\n2027-01-01"
        )
        .unwrap();
        assert_eq!(holidays(file.path().to_str().unwrap()), Ok(two));
        write!(file, "\n25.12.2027").unwrap();
        assert!(holidays(file.path().to_str().unwrap()).is_err());
        write!(file, "\n#{}", "x".repeat(64 * 1024)).unwrap();
        assert!(holidays(file.path().to_str().unwrap()).is_err());
    }
}
