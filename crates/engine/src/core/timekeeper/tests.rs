use super::*;

/// Both clocks, each moved by hand.
struct Clocks(Mutex<(Timestamp, Duration)>);

impl Clock for Clocks {
    fn now(&self) -> Timestamp {
        self.0.lock().unwrap().0
    }

    fn monotonic(&self) -> Duration {
        self.0.lock().unwrap().1
    }
}

struct Bench {
    clocks: Arc<Clocks>,
    keeper: Timekeeper,
}

const DAY: SignedDuration = SignedDuration::from_hours(24);

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

impl Bench {
    fn new() -> Self {
        Self::starting(at("2026-11-26T12:00:00Z"))
    }

    fn starting(wall: Timestamp) -> Self {
        let clocks = Arc::new(Clocks(Mutex::new((wall, Duration::from_secs(1000)))));
        let keeper = Timekeeper::new(clocks.clone(), Duration::from_hours(24));
        Self { clocks, keeper }
    }

    fn pass(&self, seconds: u64) {
        let mut clocks = self.clocks.0.lock().unwrap();
        clocks.0 += SignedDuration::from_secs(seconds.cast_signed());
        clocks.1 += Duration::from_secs(seconds);
    }

    fn jump(&self, by: SignedDuration) {
        self.clocks.0.lock().unwrap().0 += by;
    }
}

#[test]
fn time_is_that_of_the_wall_clock_while_both_agree_however_long_it_passes() {
    let bench = Bench::new();
    for _ in 0..50 {
        bench.pass(86_400 * 9);
        assert_eq!(bench.keeper.now(), bench.clocks.now());
    }
    assert_eq!((bench.keeper.steps(), bench.keeper.status().jumps), (0, 0));
}

#[test]
fn a_jump_below_a_day_is_followed_and_one_of_a_day_is_held_either_way() {
    for sign in [1, -1] {
        let bench = Bench::new();
        bench.jump((DAY - SignedDuration::from_secs(1)) * sign);
        assert_eq!(bench.keeper.now(), bench.clocks.now());
        assert_eq!(bench.keeper.steps(), 1);
        let before = bench.keeper.now();
        bench.jump(DAY * sign);
        assert_eq!(bench.keeper.now(), before);
        bench.pass(10);
        assert_eq!(bench.keeper.now(), before + SignedDuration::from_secs(10));
        assert!(bench.keeper.status().is_held);
        assert_eq!(bench.keeper.steps(), 1, "nothing that goes by it stepped");
        // Not nearly back is not back.
        bench.jump(-SignedDuration::from_mins(5) * sign);
        assert!(bench.keeper.now() == bench.clocks.now() && !bench.keeper.status().is_held);
        assert_eq!(bench.keeper.status().jumps, 1);
    }
}

#[test]
fn slow_readings_and_slewing_are_no_steps() {
    let bench = Bench::new();
    for _ in 0..100 {
        bench.pass(60);
        bench.jump(SignedDuration::from_millis(900));
        bench.keeper.now();
    }
    assert_eq!(bench.keeper.steps(), 0);
    assert_eq!(bench.keeper.now(), bench.clocks.now());
}

#[test]
fn a_start_goes_on_from_the_noted_moment_when_the_clock_is_a_day_away_from_it() {
    let noted = at("2026-11-26T12:00:00Z");
    for (shown, is_held) in [
        ("2026-11-27T11:59:59Z", false),
        ("2026-11-27T12:00:00Z", true),
        ("2026-11-25T12:00:01Z", false),
        ("2026-11-25T12:00:00Z", true),
        ("1970-01-01T00:00:07Z", true),
        ("2027-06-14T12:00:00Z", true),
    ] {
        let bench = Bench::starting(at(shown));
        bench.keeper.resume(noted);
        assert_eq!(bench.keeper.status().is_held, is_held, "{shown}");
        let expected = if is_held { noted } else { at(shown) };
        assert_eq!(bench.keeper.now(), expected, "{shown}");
        if !is_held {
            continue;
        }
        // Corrected, it is believed without a word.
        bench.pass(30);
        bench.clocks.0.lock().unwrap().0 = at("2026-11-26T18:00:00Z");
        assert_eq!(bench.keeper.now(), at("2026-11-26T18:00:00Z"), "{shown}");
        assert!(!bench.keeper.status().is_held);
    }
}

#[test]
fn the_operators_word_makes_the_wall_clock_the_time() {
    let bench = Bench::new();
    bench.jump(DAY * 200);
    assert_ne!(bench.keeper.now(), bench.clocks.now());
    bench.keeper.believe();
    assert_eq!(bench.keeper.now(), bench.clocks.now());
    assert!(!bench.keeper.status().is_held && bench.keeper.steps() == 1);
    bench.pass(1);
    assert_eq!(bench.keeper.now(), bench.clocks.now());
}

#[test]
fn without_a_tolerance_the_wall_clock_is_believed_whatever_it_shows() {
    let clocks = Arc::new(Clocks(Mutex::new((
        at("2026-11-26T12:00:00Z"),
        Duration::ZERO,
    ))));
    let keeper = Timekeeper::new(clocks.clone(), Duration::ZERO);
    for moment in ["2036-01-01T00:00:00Z", "1970-01-01T00:00:00Z"] {
        clocks.0.lock().unwrap().0 = at(moment);
        assert_eq!(keeper.now(), at(moment));
    }
    assert_eq!(keeper.steps(), 2);
}

#[test]
fn a_clock_at_the_end_of_time_breaks_nothing() {
    let bench = Bench::starting(Timestamp::MAX);
    bench.clocks.0.lock().unwrap().1 = Duration::MAX;
    assert_eq!(bench.keeper.now(), Timestamp::MAX);
    bench.clocks.0.lock().unwrap().0 = Timestamp::MIN;
    assert_eq!(bench.keeper.now(), Timestamp::MAX);
}
