//! Who we are to etcd: the token that goes with each request, and how it is got.
//!
//! Nobody logs in before etcd has refused a request for want of a token. An etcd without users is
//! never asked, one whose users come later is when they do, and there is no clock that guesses when
//! a token ends. It costs one refused request, which is little beside the login itself, for which
//! etcd works for some 75 ms (bcrypt).
//!
//! ```text
//!   None ── refused ──> under way ──┬─ Ok: the token is another one ── refused ──> under way
//!                                   └─ Failed ── asked when its wait is over ────> under way
//! ```
//!
//! - One login at a time: whoever is refused meanwhile waits for its outcome.
//! - It is a task, so that it goes on when those who wait give up: a login that were begun anew
//!   instead would have etcd work on both, and an etcd with a queue of them would never be through.
//! - A login that fails is followed by a wait, during which all who ask get its error at once: a
//!   second after a refusal ([`REFUSED`]), a growing one with jitter after anything else
//!   ([`RETRY`]).
//! - A stream keeps the token that it was opened with, and outlives it.
//!
//! It never shows a password or a token. A login ends with [`close`](Auth::close), or when [`Auth`]
//! is dropped.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use etcd_client::AuthClient;
use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use http::HeaderValue;
use tokio::runtime::Handle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{EtcdError, Kind, bounded, bounded_by};
use crate::{Credentials, clock, retry::RETRY};

/// How long a login may take. etcd works on them side by side, so that of two hundred registries
/// that come at once each takes as long as all; much shorter, and none of them gets in. Longer, and
/// one that is lost on its way is waited for in vain.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(15);

/// How long a refused login answers for those who ask next. With none, a thousand publications that
/// etcd does not let in would have it work on a thousand passwords every ten seconds; a long one
/// delays those who ask again after the password was mended.
const REFUSED: Duration = Duration::from_secs(1);

/// Logs in, and keeps the token.
pub(super) struct Auth {
    credentials: Option<Credentials>,
    client: AuthClient,
    current: Current,
    /// Under way or over.
    last: Mutex<Option<Login>>,
    tasks: TaskTracker,
    closed: CancellationToken,
    runtime: Handle,
}

/// What a login comes to, for all who wait for it. When it is well, [`Current`] has the token.
type Login = Shared<BoxFuture<'static, Result<(), Failed>>>;

/// A login that failed, and until when that answers for those who ask.
#[derive(Debug, Clone)]
struct Failed {
    error: EtcdError,
    /// How many have failed in a row, refusals not counted.
    failures: u32,
    until: Instant,
}

/// The token of all requests; clones share it.
#[derive(Clone)]
pub(super) struct Current(Arc<ArcSwap<Token>>);

/// What a login brought. Each is another one, even where etcd, having no users, gave nothing.
#[derive(Default)]
pub(super) struct Token(Option<HeaderValue>);

impl Auth {
    /// `client` sends no token. Logins run where it is made.
    pub(super) fn new(credentials: Option<Credentials>, client: AuthClient) -> Self {
        Self {
            credentials,
            client,
            current: Current(Arc::default()),
            last: Mutex::new(None),
            tasks: TaskTracker::new(),
            closed: CancellationToken::new(),
            runtime: Handle::current(),
        }
    }

    pub(super) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Returns what signs requests with the token there is when they are sent.
    pub(super) fn current(&self) -> Current {
        self.current.clone()
    }

    /// Returns the token that a request will carry if it is sent now.
    pub(super) fn token(&self) -> Arc<Token> {
        self.current.0.load_full()
    }

    /// Returns whether there is somebody to log in as, and `token` is of no login.
    pub(super) fn has_yet_to(&self, token: &Token) -> bool {
        self.credentials.is_some() && token.0.is_none()
    }

    /// Gets a new token in the place of the one that was refused, unless somebody has got one
    /// meanwhile. It waits as long as for any request.
    ///
    /// # Cancel safety
    ///
    /// Cancelling it leaves the login to go on, and the next who asks waits for that one.
    pub(super) async fn log_in(&self, refused: &Arc<Token>) -> Result<(), EtcdError> {
        let Some(credentials) = &self.credentials else {
            return Err(EtcdError::no_credentials());
        };
        let Some(login) = self.login(refused, credentials)? else {
            return Ok(());
        };
        match bounded(login.map(Ok::<_, EtcdError>)).await {
            Ok(outcome) => outcome.map_err(|failed| failed.error),
            Err(late) => Err(late.in_login(credentials.user())),
        }
    }

    /// Ends a login that is under way, and all that are begun from now on.
    pub(super) async fn close(&self) {
        self.closed.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Returns the login to wait for: none where there is another token already.
    fn login(
        &self,
        refused: &Arc<Token>,
        credentials: &Credentials,
    ) -> Result<Option<Login>, EtcdError> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = last.as_ref().map(|login| login.clone().now_or_never());
        // Looked at after the outcome: a login that is over has brought its token before.
        if !Arc::ptr_eq(&self.token(), refused) {
            return Ok(None);
        }
        let failures = match outcome {
            Some(None) => return Ok(last.clone()),
            Some(Some(Err(failed))) => failed.failures_once_waited(clock::now())?,
            Some(Some(Ok(()))) | None => 0,
        };
        let login = self.begin(credentials.clone(), failures);
        *last = Some(login.clone());
        Ok(Some(login))
    }

    /// Begins a login, after so many in a row that failed.
    fn begin(&self, credentials: Credentials, failures: u32) -> Login {
        let (client, current, closed) = (
            self.client.clone(),
            self.current.clone(),
            self.closed.clone(),
        );
        let login = async move {
            let answer = bounded_by(LOGIN_TIMEOUT, authenticate(client, &credentials));
            let answer = closed.run_until_cancelled(answer).await;
            match answer.unwrap_or_else(|| Err(interrupted())) {
                Ok(token) => {
                    current.0.store(Arc::new(token));
                    let user = credentials.user();
                    tracing::debug!(name: "logged_in", user, "logged in to etcd");
                    Ok(())
                }
                Err(error) => {
                    let error = error.in_login(credentials.user());
                    Err(Failed::new(error, failures, clock::now(), fastrand::f64()))
                }
            }
        };
        let login = self.tasks.spawn_on(login, &self.runtime);
        let outcome = login.map(move |joined| {
            joined.unwrap_or_else(|error| match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_cancelled) => {
                    let (now, random) = (clock::now(), fastrand::f64());
                    Err(Failed::new(interrupted(), failures, now, random))
                }
            })
        });
        outcome.boxed().shared()
    }
}

impl Drop for Auth {
    fn drop(&mut self) {
        self.closed.cancel();
    }
}

async fn authenticate(
    mut client: AuthClient,
    credentials: &Credentials,
) -> Result<Token, EtcdError> {
    let password = credentials.password().await?;
    let user = credentials.user().to_owned();
    let answer = client.authenticate(user, password).await;
    match answer.map_err(EtcdError::from) {
        Ok(answer) => Token::new(answer.token()),
        Err(error) if error.kind == Kind::NoUsers => Ok(Token::default()),
        Err(error) => Err(error),
    }
}

fn interrupted() -> EtcdError {
    EtcdError::new(Kind::Other, "interrupted, since the registry is closed")
}

impl Failed {
    /// A login that fails now, after `before` others in a row. `random` is uniform in 0..1.
    fn new(error: EtcdError, before: u32, now: Instant, random: f64) -> Self {
        let (failures, wait) = match error.kind {
            Kind::Denied => (0, REFUSED),
            _ => {
                let failures = before.saturating_add(1);
                (failures, RETRY.delay(failures, random))
            }
        };
        Self {
            error,
            failures,
            until: now + wait,
        }
    }

    /// Returns how many have failed, when there may be another one.
    ///
    /// # Errors
    ///
    /// It is too early, and this is what the last one failed with.
    fn failures_once_waited(self, now: Instant) -> Result<u32, EtcdError> {
        if now < self.until {
            return Err(self.error);
        }
        Ok(self.failures)
    }
}

impl Current {
    /// Puts the token, if there is one, into a request.
    pub(super) fn sign<B>(&self, request: &mut http::Request<B>) {
        if let Token(Some(token)) = &**self.0.load() {
            request.headers_mut().insert("token", token.clone());
        }
    }
}

impl Token {
    fn new(text: &str) -> Result<Self, EtcdError> {
        let mut token = HeaderValue::from_str(text).map_err(|_| {
            let message = "token: not one (expected: visible ASCII characters)";
            EtcdError::new(Kind::Other, message)
        })?;
        // It opens etcd as the password does: kept out of Debug, and out of HPACK's tables.
        token.set_sensitive(true);
        Ok(Self(Some(token)))
    }
}

#[cfg(test)]
mod tests;
