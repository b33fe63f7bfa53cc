use super::*;
use crate::bus::Wake;

const DOLLAR: Usd = Usd::from_cents(100);

fn state(bus: &Bus) -> State {
    State::new(bus.subscribe())
}

fn spent(month: Usd, ends_in: Duration) -> Spent {
    Spent {
        since: NaiveDate::from_ymd_opt(2026, 11, 1).unwrap(),
        ends_in,
        today: Usd::ZERO,
        month,
        reserved: Usd::ZERO,
    }
}

/// A read that has ended.
fn ended(state: &mut State, spent: Spent) {
    let now = Instant::now();
    state.under_way = false;
    state.not_before = Some(now + SHORTEST_PAUSE);
    state.last = Some((now, spent));
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

const NOTHING: (bool, bool) = (false, false);
const WAIT: (bool, bool) = (true, false);
const READ: (bool, bool) = (false, true);

#[tokio::test(start_paused = true)]
async fn the_sums_are_read_once_and_again_after_turns_have_moved() {
    let bus = Bus::new("test");
    let mut state = state(&bus);
    assert_eq!(state.next(Instant::now(), false), READ);
    assert_eq!(state.next(Instant::now(), false), WAIT);
    ended(&mut state, spent(DOLLAR, Duration::from_hours(1)));
    tokio::time::advance(Duration::from_mins(10)).await;
    assert_eq!(state.next(Instant::now(), false), NOTHING);
    bus.jobs_ready("knowledge");
    assert_eq!(state.next(Instant::now(), false), NOTHING);
    turns_moved(&bus);
    assert_eq!(state.next(Instant::now(), false), READ);
}

#[tokio::test(start_paused = true)]
async fn a_wake_up_during_a_pause_is_not_forgotten() {
    let bus = Bus::new("test");
    let mut state = state(&bus);
    assert_eq!(state.next(Instant::now(), false), READ);
    ended(&mut state, spent(DOLLAR, Duration::from_hours(1)));
    turns_moved(&bus);
    assert_eq!(state.next(Instant::now(), false), NOTHING);
    tokio::time::advance(SHORTEST_PAUSE).await;
    assert_eq!(state.next(Instant::now(), false), READ);
}

#[tokio::test(start_paused = true)]
async fn a_scrape_does_not_wake_a_database_that_sleeps() {
    let bus = Bus::new("test");
    let mut state = state(&bus);
    assert_eq!(state.next(Instant::now(), true), READ);
    ended(&mut state, spent(DOLLAR, Duration::from_hours(1)));
    tokio::time::advance(SHORTEST_PAUSE).await;
    turns_moved(&bus);
    assert_eq!(state.next(Instant::now(), true), NOTHING);
    assert_eq!(state.next(Instant::now(), false), READ);
}

#[tokio::test(start_paused = true)]
async fn many_calls_are_one_look_a_minute() {
    let bus = Bus::new("test");
    let mut state = state(&bus);
    assert!(state.glance(Instant::now()));
    ended(&mut state, spent(DOLLAR, Duration::from_hours(1)));
    for _ in 0..59 {
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!state.glance(Instant::now()));
    }
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(state.glance(Instant::now()));
}

#[tokio::test(start_paused = true)]
async fn a_month_that_has_ended_costs_nothing_any_more() {
    let bus = Bus::new("test");
    let mut state = state(&bus);
    assert_eq!(state.month(Instant::now()), None);
    ended(&mut state, spent(DOLLAR, Duration::from_hours(1)));
    tokio::time::advance(Duration::from_secs(3_599)).await;
    assert_eq!(state.month(Instant::now()), Some(DOLLAR));
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(state.month(Instant::now()), Some(Usd::ZERO));
}

#[tokio::test]
async fn a_month_is_warned_of_once_from_eighty_percent_on() {
    let bus = Bus::new("test");
    let mut state = state(&bus);
    let at = |cents| spent(Usd::from_cents(cents), Duration::from_hours(1));
    assert!(!state.becomes_near(at(79), DOLLAR));
    assert!(state.becomes_near(at(80), DOLLAR));
    assert!(!state.becomes_near(at(200), DOLLAR));
    let december = Spent {
        since: NaiveDate::from_ymd_opt(2026, 12, 1).unwrap(),
        ..at(80)
    };
    assert!(state.becomes_near(december, DOLLAR));
}
