//! Calls that are made again, as the retry policy of their method has it.

use std::{pin::pin, time::Duration};

use h2::RecvStream;
use http::{Response, StatusCode};
use tokio::time::{Instant, sleep};
use tonic::Code;

use super::Calls;
use crate::{
    CallError, CallErrorKind, Endpoint, RetryPolicy,
    ending::{Ending, code_of},
    request_head::RequestHead,
    retry::{Attempts, Failed, Pushback},
    service_config::Method,
    view::{Target, View},
};

/// What came of a call so far.
#[derive(Debug)]
pub(super) struct Course {
    /// Whether its request was complete before it was sent: others are sent once.
    pub(super) is_whole: bool,
    /// Where it was answered with an error, or refused. Hardly any call needs room for that.
    pub(super) tried: Vec<Endpoint>,
    /// Whether a server has said already that it did not process it.
    pub(super) was_refused: bool,
    /// Whether an attempt may have been processed, whatever becomes of those after it.
    may_be_processed: bool,
    attempts: Attempts,
}

impl Course {
    pub(super) fn new(is_whole: bool) -> Self {
        Self {
            is_whole,
            tried: Vec::new(),
            was_refused: false,
            may_be_processed: false,
            attempts: Attempts::default(),
        }
    }

    /// Returns the policy of the call, and whose it is, if it may be made again at all.
    fn policy<'a>(&self, head: &'a RequestHead) -> Option<(&'a Method, &'a RetryPolicy)> {
        let method = head.configured.as_deref().filter(|_| self.is_whole)?;
        Some((method, method.retry()?))
    }

    /// Returns what the call ends with, of which this is the last that it has met.
    pub(super) fn end(&self, error: CallError) -> CallError {
        match self.may_be_processed {
            true => error.after_others(),
            false => error,
        }
    }
}

impl Calls {
    /// Decides whether a call is made again that got this response, and when. Not if the response has begun:
    /// what the caller has seen of it may be other than that of the next.
    pub(super) fn again_after(
        &self,
        response: &Response<RecvStream>,
        course: &mut Course,
        head: &RequestHead,
        ending: &mut Ending,
        target: &Target,
    ) -> Option<Duration> {
        let (method, policy) = course.policy(head)?;
        // What is none of gRPC's, such as a proxy's, is no response however much of it comes.
        let is_all = response.body().is_end_stream() || response.status() != StatusCode::OK;
        let code = code_of(response.status(), response.headers()).filter(|_| is_all)?;
        ending.attempt_answered(code, Some(response.headers()));
        course.tried.push(target.endpoint.clone());
        course.may_be_processed = true;
        let pushback = Pushback::of(response.headers());
        self.next(course, head, method, policy, code, pushback)
    }

    /// Decides whether a call is made again that failed on the way, and when.
    pub(super) fn again_after_failure(
        &self,
        error: &CallError,
        course: &mut Course,
        head: &RequestHead,
        ending: &mut Ending,
    ) -> Option<Duration> {
        let (method, policy) = course.policy(head).filter(|_| error.may_pass())?;
        ending.attempt_failed(error);
        course.tried.extend(error.endpoint().cloned());
        course.may_be_processed |= error.kind() != CallErrorKind::Unsent;
        self.next(course, head, method, policy, error.code(), None)
    }

    fn next(
        &self,
        course: &mut Course,
        head: &RequestHead,
        method: &Method,
        policy: &RetryPolicy,
        code: Code,
        pushback: Option<Pushback>,
    ) -> Option<Duration> {
        let now = Instant::now().into_std();
        let end = head.deadline.of_headers();
        let failed = Failed {
            code,
            pushback,
            has_tokens: method.has_tokens(),
            time_left: end.map(|end| end.saturating_duration_since(now)),
            random: self.chance.draw().fraction(),
        };
        course.attempts.next(policy, failed)
    }

    /// Waits until a call is made again. It holds nothing meanwhile, and does not outlast the channel.
    pub(super) async fn wait_to_begin_again(
        &self,
        wait: Duration,
        course: &Course,
        head: &mut RequestHead,
        ending: &mut Ending,
    ) {
        let mut over = pin!(sleep(wait));
        loop {
            let changed = self.views.changed();
            if let View::Closed = &**self.views.load() {
                break;
            }
            tokio::select! {
                () = &mut over => break,
                () = changed => {}
            }
        }
        self.metrics.configured();
        head.attempts_before = course.attempts.made();
        ending.begin_again(head.configured.clone());
    }
}
