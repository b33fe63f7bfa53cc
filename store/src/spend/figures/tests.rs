use super::*;
use crate::bus::Wake;

const DOLLAR: Usd = Usd::from_cents(100);
const SECOND: Duration = Duration::from_secs(1);

const NOTHING: (bool, bool) = (false, false);
const WAIT: (bool, bool) = (true, false);
const READ: (bool, bool) = (false, true);

fn state(bus: &Bus) -> State {
    State::new(bus.subscribe())
}

fn spent(month: Usd) -> Spent {
    Spent {
        since: NaiveDate::from_ymd_opt(2026, 11, 1).unwrap(),
        ends_in: Duration::from_hours(1),
        today: Usd::ZERO,
        month,
        reserved: Usd::ZERO,
    }
}

/// A read that has ended.
fn ended(state: &mut State, at: Instant) {
    state.under_way = false;
    state.not_before = Some(at + SHORTEST_PAUSE);
    state.last = Some((at, spent(DOLLAR)));
}

fn turns_moved(bus: &Bus) {
    let mut wake = Wake::default();
    let turn = crate::ids::TurnKey {
        session_id: "s1".parse().unwrap(),
        turn: 1,
    };
    wake.turns.insert(turn);
    bus.publish(&wake);
}

#[test]
fn the_sums_are_read_once_and_again_after_turns_have_moved() {
    let bus = Bus::new("test");
    let mut state = state(&bus);
    let now = Instant::now();
    assert_eq!(state.next(now, false), READ);
    assert_eq!(state.next(now, false), WAIT);
    ended(&mut state, now);
    let later = now + Duration::from_mins(10);
    assert_eq!(state.next(later, false), NOTHING);
    bus.jobs_ready("knowledge");
    assert_eq!(state.next(later, false), NOTHING);
    turns_moved(&bus);
    assert_eq!(state.next(later, false), READ);
}

#[test]
fn a_wake_up_during_a_pause_is_not_forgotten() {
    let bus = Bus::new("test");
    let mut state = state(&bus);
    let now = Instant::now();
    assert_eq!(state.next(now, false), READ);
    ended(&mut state, now);
    turns_moved(&bus);
    assert_eq!(state.next(now, false), NOTHING);
    assert_eq!(state.next(now + SHORTEST_PAUSE, false), READ);
}

#[test]
fn a_scrape_does_not_wake_a_database_that_sleeps() {
    let bus = Bus::new("test");
    let mut state = state(&bus);
    let now = Instant::now();
    assert_eq!(state.next(now, true), READ);
    ended(&mut state, now);
    turns_moved(&bus);
    let later = now + SHORTEST_PAUSE;
    assert_eq!(state.next(later, true), NOTHING);
    assert_eq!(state.next(later, false), READ);
}

#[test]
fn many_calls_are_one_look_a_minute() {
    let bus = Bus::new("test");
    let mut state = state(&bus);
    let now = Instant::now();
    assert!(state.glance(now));
    ended(&mut state, now);
    for second in 1..60 {
        assert!(!state.glance(now + SECOND * second));
    }
    assert!(state.glance(now + GLANCE_PAUSE));
}

#[test]
fn a_month_that_has_ended_costs_nothing_any_more() {
    let bus = Bus::new("test");
    let mut state = state(&bus);
    let now = Instant::now();
    assert_eq!(state.month(now), None);
    ended(&mut state, now);
    let end = now + Duration::from_hours(1);
    assert_eq!(state.month(end - SECOND), Some(DOLLAR));
    assert_eq!(state.month(end), Some(Usd::ZERO));
}

#[test]
fn a_month_is_warned_of_once_from_eighty_percent_on() {
    let bus = Bus::new("test");
    let mut state = state(&bus);
    let at = |cents| spent(Usd::from_cents(cents));
    assert!(!state.becomes_near(at(79), DOLLAR));
    assert!(state.becomes_near(at(80), DOLLAR));
    assert!(!state.becomes_near(at(200), DOLLAR));
    let december = Spent {
        since: NaiveDate::from_ymd_opt(2026, 12, 1).unwrap(),
        ..at(80)
    };
    assert!(state.becomes_near(december, DOLLAR));
}
