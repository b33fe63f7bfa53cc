//! A promise in words.

use chrono::{Datelike, NaiveDate};
use chrono_tz::Tz;

use crate::phrases::Language;

const WEEKDAYS: [[&str; 7]; 4] = [
    [
        "Monday",
        "Tuesday",
        "Wednesday",
        "Thursday",
        "Friday",
        "Saturday",
        "Sunday",
    ],
    [
        "Montag",
        "Dienstag",
        "Mittwoch",
        "Donnerstag",
        "Freitag",
        "Samstag",
        "Sonntag",
    ],
    [
        "lunes",
        "martes",
        "miércoles",
        "jueves",
        "viernes",
        "sábado",
        "domingo",
    ],
    [
        "lundi", "mardi", "mercredi", "jeudi", "vendredi", "samedi", "dimanche",
    ],
];

const MONTHS: [[&str; 12]; 4] = [
    [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ],
    [
        "Januar",
        "Februar",
        "März",
        "April",
        "Mai",
        "Juni",
        "Juli",
        "August",
        "September",
        "Oktober",
        "November",
        "Dezember",
    ],
    [
        "enero",
        "febrero",
        "marzo",
        "abril",
        "mayo",
        "junio",
        "julio",
        "agosto",
        "septiembre",
        "octubre",
        "noviembre",
        "diciembre",
    ],
    [
        "janvier",
        "février",
        "mars",
        "avril",
        "mai",
        "juin",
        "juillet",
        "août",
        "septembre",
        "octobre",
        "novembre",
        "décembre",
    ],
];

/// A reply on `date`, by `hour` (1–24) of the clock of `zone`. The date is always named, and the zone:
/// what is today there is not so everywhere, and the text is read again later.
pub(super) fn promise(
    language: Language,
    is_today: bool,
    date: NaiveDate,
    hour: u8,
    zone: Tz,
) -> String {
    let (day, time) = (day(language, date), time(language, hour));
    match (language, is_today) {
        (Language::English, true) => {
            format!("We will get back to you today, {day}, by {time} (time zone {zone}).")
        }
        (Language::English, false) => {
            format!("We will get back to you on {day}, by {time} (time zone {zone}).")
        }
        (Language::German, true) => {
            format!("Wir melden uns heute, {day}, bis {time} bei Ihnen (Zeitzone {zone}).")
        }
        (Language::German, false) => {
            format!("Wir melden uns am {day}, bis {time} bei Ihnen (Zeitzone {zone}).")
        }
        (Language::Spanish, true) => {
            format!("Le responderemos hoy, {day}, antes de {time} (zona horaria {zone}).")
        }
        (Language::Spanish, false) => {
            format!("Le responderemos el {day}, antes de {time} (zona horaria {zone}).")
        }
        (Language::French, true) => {
            format!(
                "Nous vous répondrons aujourd'hui, {day}, avant {time} (fuseau horaire {zone})."
            )
        }
        (Language::French, false) => {
            format!("Nous vous répondrons le {day}, avant {time} (fuseau horaire {zone}).")
        }
    }
}

fn day(language: Language, date: NaiveDate) -> String {
    let names = match language {
        Language::English => 0,
        Language::German => 1,
        Language::Spanish => 2,
        Language::French => 3,
    };
    let weekday = WEEKDAYS[names][date.weekday().num_days_from_monday() as usize];
    let (day, month) = (date.day(), MONTHS[names][date.month0() as usize]);
    match language {
        Language::English => format!("{weekday}, {day} {month}"),
        Language::German => format!("{weekday}, {day}. {month}"),
        Language::Spanish => format!("{weekday} {day} de {month}"),
        Language::French if day == 1 => format!("{weekday} 1er {month}"),
        Language::French => format!("{weekday} {day} {month}"),
    }
}

/// As it follows *by*, *bis*, *antes de*, *avant*.
fn time(language: Language, hour: u8) -> String {
    match (language, hour) {
        (Language::English, 24) => "midnight".to_owned(),
        (Language::English, 12) => "noon".to_owned(),
        (Language::English, ..12) => format!("{hour} am"),
        (Language::English, _) => format!("{} pm", hour - 12),
        (Language::German, _) => format!("{hour} Uhr"),
        (Language::Spanish, 24) => "medianoche".to_owned(),
        (Language::Spanish, 1) => "la 1:00".to_owned(),
        (Language::Spanish, _) => format!("las {hour}:00"),
        (Language::French, 24) => "minuit".to_owned(),
        (Language::French, 12) => "midi".to_owned(),
        (Language::French, _) => format!("{hour} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_day_is_said_as_it_is_in_each_language() {
        let said = |hour| Language::ALL.map(|language| time(language, hour));
        assert_eq!(said(1), ["1 am", "1 Uhr", "la 1:00", "1 h"]);
        assert_eq!(said(12), ["noon", "12 Uhr", "las 12:00", "midi"]);
        assert_eq!(said(18), ["6 pm", "18 Uhr", "las 18:00", "18 h"]);
        assert_eq!(said(24), ["midnight", "24 Uhr", "medianoche", "minuit"]);
    }

    #[test]
    fn a_promise_names_its_day_in_each_language() {
        let said = |is_today, date: &str| {
            let date = date.parse().unwrap();
            Language::ALL.map(|language| promise(language, is_today, date, 18, Tz::Europe__Madrid))
        };
        assert_eq!(
            said(true, "2026-11-24"),
            [
                "We will get back to you today, Tuesday, 24 November, by 6 pm (time zone Europe/Madrid).",
                "Wir melden uns heute, Dienstag, 24. November, bis 18 Uhr bei Ihnen (Zeitzone Europe/Madrid).",
                "Le responderemos hoy, martes 24 de noviembre, antes de las 18:00 (zona horaria Europe/Madrid).",
                "Nous vous répondrons aujourd'hui, mardi 24 novembre, avant 18 h (fuseau horaire Europe/Madrid).",
            ]
        );
        assert_eq!(
            said(false, "2027-03-01"),
            [
                "We will get back to you on Monday, 1 March, by 6 pm (time zone Europe/Madrid).",
                "Wir melden uns am Montag, 1. März, bis 18 Uhr bei Ihnen (Zeitzone Europe/Madrid).",
                "Le responderemos el lunes 1 de marzo, antes de las 18:00 (zona horaria Europe/Madrid).",
                "Nous vous répondrons le lundi 1er mars, avant 18 h (fuseau horaire Europe/Madrid).",
            ]
        );
    }
}
