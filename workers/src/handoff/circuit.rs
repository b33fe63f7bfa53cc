//! When a provider that fails is left alone. Pure: the database's time comes in, a decision goes out.
//!
//! ```text
//!            FAILURES different handoffs failed in a row
//!   closed ────────────────────────────────────────────────▶ open, until a time
//!     ▲  ▲                429: until its Retry-After ─────────▶  │
//!     │  └──────────────── any success ──────────────────────────┤
//!     │                                                          ▼ the time has come: the next one is the probe,
//!     └── the probe succeeded ─── probing ◀───────────────────────  and the others wait on
//!                                    │ it failed: open again, twice as long
//!                                    │ nobody heard of it again: the next one is the probe
//! ```
//! One handoff alone never opens a circuit, so that its attempts keep to their schedule.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use store::handoffs::Circuit;

/// Different handoffs that fail without a success in between until their provider is left alone: few enough
/// that an outage burns few attempts, and more than come together by chance.
pub const FAILURES: usize = 5;
/// How long the provider is left alone at first. Doubled with each probe that fails.
pub const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// The longest pause: that long after a provider is back, people hear of a lead at the latest.
pub const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// The longest that a provider's `Retry-After` is taken at its word.
pub const LONGEST_RETRY_AFTER: Duration = Duration::from_hours(1);
/// For so long a probe is waited for. It takes as long as an attempt may, at worst ([`super::deliver`]).
pub const PROBE: Duration = Duration::from_secs(50);
/// Whoever waits looks again after this at the latest: a probe most often takes a second.
pub const LOOK_AGAIN: Duration = Duration::from_secs(15);
/// Over so long those that wait are spread, by chance.
pub const SPREAD: Duration = Duration::from_secs(5);

/// Whether an attempt may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// As ever.
    Go,
    /// As the only one, to find out.
    Probe,
    /// Not before this long from now.
    Wait(Duration),
}

/// What an attempt found out about its provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// It answers, whatever it says.
    Answers,
    /// It failed, or nothing was heard of it.
    Fails,
    /// It wants to be left alone for so long.
    PutsOff(Duration),
}

/// Whether an attempt may begin now. A probe is noted: everybody else waits for it.
pub fn admit(circuit: &mut Circuit, now: DateTime<Utc>) -> Admission {
    match circuit.open_until {
        None => Admission::Go,
        Some(until) if until <= now => {
            circuit.open_until = Some(after(now, PROBE));
            Admission::Probe
        }
        Some(until) => Admission::Wait((until - now).to_std().unwrap_or_default()),
    }
}

/// Adds what an attempt found out. Returns whether the circuit is another one than before.
pub fn add(
    circuit: &mut Circuit,
    handoff: &str,
    was_probe: bool,
    finding: Finding,
    now: DateTime<Utc>,
) -> bool {
    let before = circuit.clone();
    match finding {
        Finding::Answers => *circuit = Circuit::default(),
        Finding::PutsOff(wait) => {
            let until = after(now, wait.min(LONGEST_RETRY_AFTER));
            // A probe's own time is over: what the provider says stands.
            let known = circuit.open_until.filter(|_| !was_probe);
            circuit.open_until = known.max(Some(until));
        }
        Finding::Fails if was_probe => {
            circuit.failed_probes = circuit.failed_probes.saturating_add(1);
            circuit.open_until = Some(after(now, pause(circuit.failed_probes)));
        }
        // Begun before it was opened: nothing new.
        Finding::Fails if circuit.open_until.is_some() => {}
        Finding::Fails => {
            if !circuit.failed_handoffs.iter().any(|known| known == handoff) {
                circuit.failed_handoffs.push(handoff.to_owned());
            }
            if circuit.failed_handoffs.len() >= FAILURES {
                circuit.open_until = Some(after(now, pause(circuit.failed_probes)));
            }
        }
    }
    *circuit != before
}

/// The pause after so many probes have failed.
fn pause(failed_probes: i32) -> Duration {
    let doublings = u32::try_from(failed_probes).unwrap_or_default().min(16);
    FIRST_PAUSE
        .saturating_mul(1 << doublings)
        .min(LONGEST_PAUSE)
}

fn after(now: DateTime<Utc>, wait: Duration) -> DateTime<Utc> {
    let wait = TimeDelta::from_std(wait).unwrap_or(TimeDelta::MAX);
    now.checked_add_signed(wait)
        .unwrap_or(DateTime::<Utc>::MAX_UTC)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn at(milliseconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(1_700_000_000_000 + milliseconds).unwrap()
    }

    fn opened(now: DateTime<Utc>) -> Circuit {
        let mut circuit = Circuit::default();
        for handoff in ["a", "b", "c", "d", "e"] {
            add(&mut circuit, handoff, false, Finding::Fails, now);
        }
        circuit
    }

    #[test]
    fn the_fifth_handoff_in_a_row_opens_the_circuit_and_one_after_the_pause_is_the_probe() {
        let mut circuit = opened(at(0));
        assert_eq!(
            admit(&mut circuit, at(500)),
            Admission::Wait(Duration::from_millis(1_500))
        );
        assert_eq!(admit(&mut circuit, at(2_000)), Admission::Probe);
        assert_eq!(admit(&mut circuit, at(2_000)), Admission::Wait(PROBE));
        add(&mut circuit, "a", true, Finding::Answers, at(2_100));
        assert_eq!(circuit, Circuit::default());
    }

    #[test]
    fn a_probe_that_nobody_hears_of_again_is_followed_by_another() {
        let mut circuit = opened(at(0));
        assert_eq!(admit(&mut circuit, at(2_000)), Admission::Probe);
        let later = at(2_000) + TimeDelta::from_std(PROBE).unwrap();
        assert_eq!(admit(&mut circuit, later), Admission::Probe);
    }

    #[test]
    fn the_pause_doubles_with_each_probe_that_fails_up_to_a_minute() {
        let mut circuit = opened(at(0));
        let mut now = at(0);
        let mut pauses = Vec::new();
        for _ in 0..7 {
            let until = circuit.open_until.unwrap();
            pauses.push((until - now).num_seconds());
            now = until;
            assert_eq!(admit(&mut circuit, now), Admission::Probe);
            add(&mut circuit, "a", true, Finding::Fails, now);
        }
        assert_eq!(pauses, [2, 4, 8, 16, 32, 60, 60]);
    }

    #[test]
    fn a_provider_that_says_when_is_asked_then_and_by_one() {
        let mut circuit = Circuit::default();
        let puts_off = Finding::PutsOff(Duration::from_secs(30));
        assert!(add(&mut circuit, "a", false, puts_off, at(0)));
        assert_eq!(
            admit(&mut circuit, at(0)),
            Admission::Wait(Duration::from_secs(30))
        );
        assert_eq!(admit(&mut circuit, at(30_000)), Admission::Probe);
        // The probe hears of a shorter time than it was given.
        let shortly = Finding::PutsOff(Duration::from_secs(1));
        add(&mut circuit, "a", true, shortly, at(30_100));
        assert_eq!(circuit.open_until, Some(at(31_100)));
        let endless = Finding::PutsOff(Duration::MAX);
        add(&mut circuit, "a", true, endless, at(31_100));
        let hour = TimeDelta::from_std(LONGEST_RETRY_AFTER).unwrap();
        assert_eq!(circuit.open_until, Some(at(31_100) + hour));
    }

    proptest! {
        #[test]
        fn one_handoff_alone_never_opens_it(failures in 1..200_usize) {
            let mut circuit = Circuit::default();
            for n in 0..failures {
                add(&mut circuit, "a", false, Finding::Fails, at(i64::try_from(n).unwrap()));
                prop_assert_eq!(admit(&mut circuit, at(0)), Admission::Go);
            }
        }

        /// Any handoffs begin and end at any times; `None` as an outcome: its worker died.
        #[test]
        fn at_most_one_is_let_through_at_a_time_while_it_is_open_and_a_success_always_closes_it(
            steps in vec((0..20_000_i64, 0..12_usize, prop::option::of(any::<bool>())), 1..200),
        ) {
            let mut circuit = Circuit::default();
            let mut now = 0;
            let mut running: Vec<(usize, bool)> = Vec::new();
            let mut probing_until = None;
            for (pause, handoff, outcome) in steps {
                now += pause;
                let was_open = circuit.open_until.is_some();
                if let Some(place) = running.iter().position(|(running, _)| *running == handoff) {
                    let (_, probe) = running.swap_remove(place);
                    let finding = match outcome {
                        None => continue,
                        Some(true) => Finding::Answers,
                        Some(false) => Finding::Fails,
                    };
                    if probe {
                        probing_until = None;
                    }
                    add(&mut circuit, &handoff.to_string(), probe, finding, at(now));
                    if finding == Finding::Answers {
                        prop_assert_eq!(&circuit, &Circuit::default());
                    }
                } else {
                    match admit(&mut circuit, at(now)) {
                        Admission::Go => {
                            prop_assert!(!was_open);
                            running.push((handoff, false));
                        }
                        Admission::Probe => {
                            prop_assert!(was_open);
                            prop_assert!(probing_until.is_none_or(|until| until <= at(now)));
                            probing_until = circuit.open_until;
                            running.push((handoff, true));
                        }
                        Admission::Wait(wait) => {
                            prop_assert!(was_open && wait > Duration::ZERO);
                            prop_assert!(wait <= LONGEST_PAUSE.max(PROBE));
                        }
                    }
                }
                prop_assert!(circuit.failed_handoffs.len() <= FAILURES);
            }
        }
    }
}
