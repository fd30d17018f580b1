//! How long a call may take.
//!
//! The caller's `grpc-timeout` covers all of a call: waiting for an endpoint, the response's
//! headers and its body. It is sent on as what remains of it. That of its method, where one is configured,
//! counts as the caller's, and the shorter one of both holds. The channel's own timeout ends with
//! the response headers and is *not* sent on: a server that knew it would cut streams that are
//! meant to stay open.

use std::time::{Duration, Instant};

use http::{HeaderName, HeaderValue};

/// The header by which a gRPC client tells how long it waits.
pub(crate) static GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// How long a call without a deadline waits for an endpoint: as long as gRPC gives a connection
/// attempt. A shorter one would fail calls while the first attempt is still under way.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What passes until a call is sent that does not wait: less than its way to the server differs by.
const AT_ONCE: Duration = Duration::from_micros(500);

/// How long a call may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    started: Instant,
    caller: Option<Instant>,
    channel: Option<Instant>,
}

/// How long a call waits for an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// To its deadline.
    Until(Instant),
    /// Until waiting is no longer reasonable, since it has no deadline.
    Patience(Instant),
    /// Until there is one, as its caller asked for.
    Forever,
}

impl Deadline {
    /// Reads the caller's `grpc-timeout`, of a call that starts `now`. One that is malformed, or that
    /// ends beyond what a clock can tell, counts as absent.
    pub(crate) fn new(
        caller: Option<&HeaderValue>,
        channel: Option<Duration>,
        now: Instant,
    ) -> Self {
        let caller = caller.and_then(parse);
        Self {
            started: now,
            caller: caller.and_then(|timeout| now.checked_add(timeout)),
            channel: channel.and_then(|timeout| now.checked_add(timeout)),
        }
    }

    /// Takes in that calls of this method have so long. Returns whether that is less than the caller gives it.
    pub(crate) fn shorten(&mut self, timeout: Duration) -> bool {
        let end = self.started.checked_add(timeout);
        let is_shorter = end.is_some_and(|end| self.caller.is_none_or(|caller| end < caller));
        if is_shorter {
            self.caller = end;
        }
        is_shorter
    }

    /// Returns until when the response headers must be there.
    pub(crate) fn of_headers(&self) -> Option<Instant> {
        match (self.caller, self.channel) {
            (Some(caller), Some(channel)) => Some(caller.min(channel)),
            (caller, channel) => caller.or(channel),
        }
    }

    /// Returns until when the response's body must have ended.
    pub(crate) fn of_body(&self) -> Option<Instant> {
        self.caller
    }

    /// Returns how long a call that begins to wait `now` waits. One that was handed back unsent,
    /// however late, begins anew.
    pub(crate) fn wait(&self, wait_for_ready: bool, now: Instant) -> Wait {
        match self.of_headers() {
            Some(end) => Wait::Until(end),
            None if wait_for_ready => Wait::Forever,
            None => Wait::Patience(now + PATIENCE),
        }
    }

    /// Returns the `grpc-timeout` to send on: what remains of the caller's.
    pub(crate) fn grpc_timeout(&self, now: Instant) -> Option<HeaderValue> {
        let mut timeout = format(self.caller?.saturating_duration_since(now));
        // Hardly two are alike: none is worth a place in the table of headers (RFC 7541, 7.1.3).
        timeout.set_sensitive(true);
        Some(timeout)
    }

    /// Returns the `grpc-timeout` to send on in place of the caller's own, if the call had to wait.
    pub(crate) fn changed_timeout(&self, now: Instant) -> Option<HeaderValue> {
        self.caller?;
        let waited = now.saturating_duration_since(self.started);
        (waited >= AT_ONCE)
            .then(|| self.grpc_timeout(now))
            .flatten()
    }

    /// Returns when the call started.
    pub(crate) fn start(&self) -> Instant {
        self.started
    }

    /// Returns how long after the call's start `at` is.
    pub(crate) fn since_start(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.started)
    }
}

/// Reads at most eight digits and a unit, as the gRPC protocol has it; anything else is `None`.
fn parse(value: &HeaderValue) -> Option<Duration> {
    let (unit, digits) = value.as_bytes().split_last()?;
    if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits
        .iter()
        .fold(0, |number, digit| number * 10 + u64::from(digit - b'0'));
    Some(match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

/// Writes a timeout in the finest unit that leaves eight digits, rounded up: the server must not
/// give up before the caller does.
fn format(timeout: Duration) -> HeaderValue {
    const UNITS: [(u128, char); 6] = [
        (1, 'n'),
        (1_000, 'u'),
        (1_000_000, 'm'),
        (1_000_000_000, 'S'),
        (60_000_000_000, 'M'),
        (3_600_000_000_000, 'H'),
    ];
    let text = UNITS
        .iter()
        .map(|(nanos, unit)| (timeout.as_nanos().div_ceil(*nanos), unit))
        .find(|(number, _)| *number < 100_000_000)
        .map_or_else(
            || "99999999H".to_owned(),
            |(number, unit)| format!("{number}{unit}"),
        );
    HeaderValue::try_from(text).expect("digits and a letter are a header value")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &str) -> Option<Duration> {
        parse(&HeaderValue::from_str(text).unwrap())
    }

    #[test]
    fn every_unit_is_read() {
        for (text, seconds) in [("2H", 7200.0), ("3M", 180.0), ("4S", 4.0), ("5m", 0.005)] {
            assert_eq!(
                parsed(text),
                Some(Duration::from_secs_f64(seconds)),
                "{text}"
            );
        }
        assert_eq!(parsed("6u"), Some(Duration::from_micros(6)));
        assert_eq!(parsed("7n"), Some(Duration::from_nanos(7)));
        assert_eq!(
            parsed("99999999H"),
            Some(Duration::from_secs(99_999_999 * 3600))
        );
    }

    #[test]
    fn what_the_protocol_does_not_allow_is_no_timeout() {
        for text in [
            "",
            "S",
            "1",
            "123456789S",
            "+1S",
            "-1S",
            "1.5S",
            "1 S",
            "1s",
            "1SS",
            " 1S",
        ] {
            assert_eq!(parsed(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_callers_timeout_covers_the_body_and_the_channels_does_not() {
        let now = tokio::time::Instant::now().into_std();
        let after = |seconds| Some(now + Duration::from_secs(seconds));
        let deadline = |header: Option<&'static str>, channel: Option<u64>| {
            let header = header.map(HeaderValue::from_static);
            let deadline = Deadline::new(header.as_ref(), channel.map(Duration::from_secs), now);
            (
                deadline.of_headers(),
                deadline.of_body(),
                deadline.grpc_timeout(now).is_some(),
            )
        };
        assert_eq!(deadline(None, None), (None, None, false));
        assert_eq!(deadline(None, Some(5)), (after(5), None, false));
        assert_eq!(deadline(Some("9S"), None), (after(9), after(9), true));
        assert_eq!(deadline(Some("9S"), Some(5)), (after(5), after(9), true));
        assert_eq!(deadline(Some("2S"), Some(5)), (after(2), after(2), true));
        assert_eq!(deadline(Some("nonsense"), Some(5)), (after(5), None, false));
    }

    #[test]
    fn only_a_call_without_a_deadline_is_patient_and_that_from_when_it_begins_to_wait() {
        let now = tokio::time::Instant::now().into_std();
        let timeout = Duration::from_secs(5);
        let later = now + Duration::from_secs(60);
        let bounded = Deadline::new(None, Some(timeout), now);
        let unbounded = Deadline::new(None, None, now);
        for wait_for_ready in [false, true] {
            let wait = bounded.wait(wait_for_ready, later);
            assert_eq!(wait, Wait::Until(now + timeout));
        }
        assert_eq!(
            unbounded.wait(false, later),
            Wait::Patience(later + PATIENCE)
        );
        assert_eq!(unbounded.wait(true, later), Wait::Forever);
    }

    #[test]
    fn what_is_sent_on_is_what_remains() {
        let now = tokio::time::Instant::now().into_std();
        let deadline = Deadline::new(Some(&HeaderValue::from_static("1S")), None, now);
        let later = now + Duration::from_millis(250);
        assert_eq!(deadline.grpc_timeout(later).unwrap(), "750000u");
        assert_eq!(deadline.changed_timeout(later).unwrap(), "750000u");
        assert_eq!(deadline.changed_timeout(now), None);
        assert_eq!(
            deadline.grpc_timeout(now + Duration::from_secs(2)).unwrap(),
            "0n"
        );
    }

    #[test]
    fn the_shorter_one_of_the_callers_timeout_and_its_methods_counts() {
        let now = tokio::time::Instant::now().into_std();
        let after = |seconds| Some(now + Duration::from_secs(seconds));
        for (caller, method, is_shorter, end) in [
            (None, 5, true, after(5)),
            (Some("9S"), 5, true, after(5)),
            (Some("5S"), 5, false, after(5)),
            (Some("2S"), 5, false, after(2)),
            (None, u64::MAX, false, None),
        ] {
            let caller = caller.map(HeaderValue::from_static);
            let mut deadline = Deadline::new(caller.as_ref(), None, now);
            assert_eq!(deadline.shorten(Duration::from_secs(method)), is_shorter);
            assert_eq!(deadline.of_headers(), end, "{caller:?}");
            assert_eq!(deadline.of_body(), end, "{caller:?}");
        }
    }

    proptest! {
        #[test]
        fn a_written_timeout_reads_as_itself_or_hardly_more(nanos in any::<u64>()) {
            let timeout = Duration::from_nanos(nanos);
            let read = parse(&format(timeout)).unwrap();
            prop_assert!(read >= timeout);
            prop_assert!(read - timeout <= timeout / 10_000, "{timeout:?} became {read:?}");
        }
    }
}
