//! The task that watches a server's health over one connection.
//!
//! It does what its [`Watch`] decides, and tells what has changed. It ends when there is nothing more to
//! ask, when the connection is over, of which others tell, or when it is given up.

use std::{error::Error, sync::Arc};

use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout_at},
};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tonic::{Code, Status};

use super::{
    Asked,
    client::Answers,
    watch::{Event, Step, Verdict, Watch},
};
use crate::{
    Backoff, CallError, Endpoint,
    error::chain,
    transport::{Reservation, Transport},
};

/// The watch on a server's health over one connection, given up by being dropped.
#[derive(Debug)]
pub(crate) struct Watching {
    /// Few: the watch tells changes only, and is given up if there are too many.
    pub(crate) verdicts: mpsc::UnboundedReceiver<Verdict>,
    _task: AbortOnDropHandle<()>,
}

impl Watching {
    pub(super) fn start(
        asked: Asked,
        endpoint: Endpoint,
        transport: Transport,
        backoff: Backoff,
        rng: fastrand::Rng,
        tasks: &TaskTracker,
    ) -> Self {
        let (teller, verdicts) = mpsc::unbounded_channel();
        let task = Task {
            asked,
            endpoint,
            transport,
            backoff,
            rng,
            verdicts: teller,
        };
        Self {
            verdicts,
            _task: AbortOnDropHandle::new(tasks.spawn(task.run())),
        }
    }
}

struct Task {
    asked: Asked,
    endpoint: Endpoint,
    transport: Transport,
    backoff: Backoff,
    rng: fastrand::Rng,
    verdicts: mpsc::UnboundedSender<Verdict>,
}

impl Task {
    async fn run(mut self) {
        let Asked {
            service,
            answer_timeout,
            ..
        } = self.asked.clone();
        let now = Instant::now().into_std();
        let mut watch = Watch::new(service, answer_timeout, self.backoff, now);
        if let Some(reservation) = self.transport.reserve() {
            tokio::select! {
                () = self.watch(&mut watch, &reservation) => return,
                () = reservation.is_in_the_way() => {}
            }
        }
        let (channel, endpoint) = (self.channel(), &self.endpoint);
        tracing::warn!(
            name: "health_unwatched", service = channel, %endpoint,
            "endpoint allows one stream at a time: its health is not watched, and it counts as healthy"
        );
        self.tell(watch.no_room());
    }

    async fn watch(&mut self, watch: &mut Watch, reservation: &Arc<Reservation>) {
        let mut answers = None;
        loop {
            let event = match watch.step() {
                Step::Ask { .. } if !reservation.is_allowed() => Some(Event::Broken(
                    "the server allows no more streams".to_owned(),
                )),
                Step::Ask { until } => {
                    let answers = answers.insert(self.answers(reservation.clone()));
                    let answer = timeout_at(Instant::from_std(until), answers.next()).await;
                    answer.map_or(Some(Event::Elapsed), event)
                }
                Step::Listen { until } => {
                    let Some(answers) = &mut answers else {
                        return;
                    };
                    let next = answers.next();
                    match until {
                        Some(until) => {
                            let answer = timeout_at(Instant::from_std(until), next).await;
                            answer.map_or(Some(Event::Elapsed), event)
                        }
                        None => event(next.await),
                    }
                }
                Step::WaitUntil(until) => {
                    answers = None;
                    sleep_until(Instant::from_std(until)).await;
                    Some(Event::Elapsed)
                }
                Step::End => return,
            };
            let Some(event) = event else {
                return;
            };
            if event == Event::Unimplemented {
                let (channel, endpoint) = (self.channel(), &self.endpoint);
                tracing::warn!(
                    name: "health_unimplemented", service = channel, %endpoint,
                    "endpoint has no health service, and counts as healthy"
                );
            }
            let now = Instant::now().into_std();
            if let Some(verdict) = watch.handle(event, now, &mut self.rng) {
                self.tell(verdict);
            }
        }
    }

    fn answers(&self, reservation: Arc<Reservation>) -> Answers {
        let (endpoint, transport) = (self.endpoint.clone(), self.transport.clone());
        Answers::new(endpoint, transport, reservation, self.asked.service.clone())
    }

    fn channel(&self) -> &str {
        self.asked.channel.as_deref().unwrap_or_default()
    }

    fn tell(&self, verdict: Verdict) {
        // Whoever has given up the watch has dropped the receiver first.
        let _ = self.verdicts.send(verdict);
    }
}

/// Returns what the next answer is to the watch; `None` if the connection is over.
fn event(answer: Result<Option<i32>, Status>) -> Option<Event> {
    Some(match answer {
        Ok(Some(status)) => Event::Answered(status),
        Ok(None) => Event::Ended,
        Err(status) => return broken(&status),
    })
}

fn broken(status: &Status) -> Option<Event> {
    let is_answered = causes(status).all(|it| !it.is::<CallError>());
    if is_answered {
        return Some(match status.code() {
            Code::Unimplemented => Event::Unimplemented,
            code => Event::Broken(format!("{code:?}: {}", status.message())),
        });
    }
    // No stream without an error of h2's is lost but with its connection.
    let error = causes(status).find_map(|it| it.downcast_ref::<h2::Error>())?;
    let is_of_connection = error.is_io() || error.is_go_away();
    (!is_of_connection).then(|| Event::Broken(chain(error)))
}

fn causes(status: &Status) -> impl Iterator<Item = &(dyn Error + 'static)> {
    std::iter::successors(status.source(), |it| (**it).source())
}
