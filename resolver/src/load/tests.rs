use super::*;

const SECOND: Duration = Duration::from_secs(1);
const MILLI: Duration = Duration::from_millis(1);

/// An endpoint, and the time.
struct Fixture {
    load: Arc<Load>,
    now: Instant,
}

impl Fixture {
    fn new() -> Self {
        Self {
            load: Arc::default(),
            now: tokio::time::Instant::now().into_std(),
        }
    }

    /// Makes a call that takes so long.
    fn call(&mut self, took: Duration, is_success: bool) {
        let burden = Burden::new(self.load.clone(), self.now);
        self.now += took;
        burden.ended(is_success, self.now);
    }

    fn latency(&self) -> Duration {
        self.load.latency().expect("it has answered")
    }
}

#[track_caller]
fn assert_about(value: f64, expected: f64) {
    assert!((value - expected).abs() < 0.01, "{value}, not {expected}");
}

#[test]
fn nothing_is_known_of_who_was_never_called() {
    let load = Load::default();
    assert_eq!(
        (load.calls_in_flight(), load.latency(), load.last_call()),
        (0, None, None)
    );
    assert_eq!(load.success_rate(), 1.0);
}

#[test]
fn a_call_is_in_flight_until_it_is_dropped_whether_it_was_answered_or_not() {
    let mut it = Fixture::new();
    let mut one = Burden::new(it.load.clone(), it.now);
    it.now += SECOND;
    let other = Burden::new(it.load.clone(), it.now);
    assert_eq!(it.load.calls_in_flight(), 2);
    assert_eq!(it.load.last_call(), Some(it.now));
    one.answered(it.now);
    assert_eq!(it.load.calls_in_flight(), 2);
    one.ended(true, it.now);
    drop(other);
    assert_eq!(it.load.calls_in_flight(), 0);
    // What was given up says nothing.
    assert_eq!(it.latency(), SECOND);
    assert_eq!(it.load.success_rate(), 1.0);
}

#[test]
fn how_long_a_stream_goes_on_is_no_latency() {
    let mut it = Fixture::new();
    let mut stream = Burden::new(it.load.clone(), it.now);
    it.now += MILLI;
    stream.answered(it.now);
    it.now += 1_000 * SECOND;
    stream.ended(true, it.now);
    assert_eq!(it.latency(), MILLI);
}

#[test]
fn a_slow_answer_among_many_hardly_counts_and_slow_ones_are_known_soon() {
    let mut it = Fixture::new();
    for _ in 0..1_000 {
        it.call(2 * MILLI, true);
    }
    // A stall, of which all calls in flight tell at once.
    let stalled: Vec<_> = (0..20)
        .map(|_| Burden::new(it.load.clone(), it.now))
        .collect();
    it.now += 200 * MILLI;
    for burden in stalled {
        burden.ended(true, it.now);
    }
    assert!(it.latency() < 50 * MILLI, "{:?}", it.latency());
    it.now += 3 * SECOND;
    it.call(2 * MILLI, true);
    assert!(it.latency() < 4 * MILLI, "{:?}", it.latency());
    // One that is slow from now on.
    let start = it.now;
    while it.latency() < 10 * MILLI {
        it.call(20 * MILLI, true);
    }
    assert!(it.now - start < SECOND, "{:?}", it.now - start);
}

#[test]
fn what_it_was_like_loses_its_weight_with_time_in_however_many_answers() {
    let mut it = Fixture::new();
    it.call(100 * MILLI, true);
    // After the time of the decay 1/e of what is more than the new one is left.
    it.now += 990 * MILLI;
    it.call(10 * MILLI, true);
    assert_about(it.latency().as_secs_f64(), 0.010 + 0.090 / 1f64.exp());
    let mut other = Fixture::new();
    other.call(100 * MILLI, true);
    for _ in 0..100 {
        other.call(10 * MILLI, true);
    }
    let (one, other) = (it.latency().as_secs_f64(), other.latency().as_secs_f64());
    assert!((one - other).abs() < 0.000_1, "{one} {other}");
}

#[test]
fn a_fast_failure_makes_no_fast_server_and_a_slow_one_a_slow_server() {
    let mut it = Fixture::new();
    it.call(MILLI, false);
    assert_eq!(it.load.latency(), None);
    it.call(10 * MILLI, true);
    it.now += 30 * SECOND;
    it.call(Duration::ZERO, false);
    assert_eq!(it.latency(), 10 * MILLI);
    it.now += 30 * SECOND;
    it.call(SECOND, false);
    assert!(it.latency() > 900 * MILLI, "{:?}", it.latency());
}

#[test]
fn who_fails_all_calls_at_once_is_known_after_a_few() {
    let mut it = Fixture::new();
    for _ in 0..1_000 {
        it.call(Duration::ZERO, true);
    }
    for _ in 0..6 {
        it.call(Duration::ZERO, false);
    }
    assert!(it.load.failing() > 0.05, "{}", it.load.failing());
    for _ in 0..300 {
        it.call(Duration::ZERO, false);
    }
    assert!(it.load.success_rate() < 0.05);
}

#[test]
fn what_was_long_ago_hardly_counts() {
    let mut it = Fixture::new();
    for _ in 0..300 {
        it.call(Duration::ZERO, false);
    }
    it.now += 50 * SECOND;
    it.call(Duration::ZERO, true);
    assert_about(it.load.success_rate(), 1.0);
}

#[test]
fn a_clock_that_stands_still_or_goes_back_does_no_harm() {
    let mut it = Fixture::new();
    it.call(Duration::ZERO, true);
    assert_eq!(it.latency(), Duration::from_nanos(1));
    let burden = Burden::new(it.load.clone(), it.now + SECOND);
    burden.ended(true, it.now);
    it.call(MILLI, true);
    assert!(it.latency() <= MILLI);
}

#[test]
fn calls_that_end_together_on_many_threads_are_all_counted() {
    let load = Arc::<Load>::default();
    let now = tokio::time::Instant::now().into_std();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..1_000 {
                    Burden::new(load.clone(), now).ended(false, now);
                }
            });
        }
    });
    assert_eq!(load.calls_in_flight(), 0);
    // 0.99 to the power of 4,000.
    assert!(load.success_rate() < 1e-10, "{}", load.success_rate());
}
