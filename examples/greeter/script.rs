//! What happens when: the course of the show.
//!
//! ```text
//! Opening -> Calm -> Struck -> Avoided -> Returning -> Calm -> ... -> Over
//! ```
//!
//! `Struck` to `Returning` are passed once for each incident. It is told the time and what was
//! seen, and says which scene begins; it starts and ends nothing itself.

use std::time::Duration;

use switchboard::Condition;
use tokio::time::Instant;

/// How many servers there are.
pub(crate) const SERVERS: usize = 3;

/// How long calls go on undisturbed, before, between and after the incidents: enough of them to
/// tell what is usual, and for a reader to follow.
const CALM: Duration = Duration::from_secs(2);

/// What befalls a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Incident {
    /// It is asked to end, and started again.
    Restart,
    /// It is killed, and started again once it is gone from etcd.
    Crash,
}

impl Incident {
    /// All of them, in the order of the show.
    pub(crate) const ALL: [Self; 2] = [Self::Restart, Self::Crash];

    /// Returns which server it befalls.
    pub(crate) fn server(self) -> usize {
        match self {
            Self::Restart => 0,
            Self::Crash => 1,
        }
    }

    fn next(after: Option<Self>) -> Option<Self> {
        match after {
            None => Some(Self::Restart),
            Some(Self::Restart) => Some(Self::Crash),
            Some(Self::Crash) => None,
        }
    }
}

/// Where the show is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scene {
    /// The servers start.
    Opening,
    /// All goes its usual way, until it is time for the next incident, or for the end.
    Calm {
        since: Instant,
        /// What it is the calm after.
        after: Option<Incident>,
    },
    /// It has begun, and the channel does not know yet.
    Struck(Incident),
    /// The channel calls the other servers.
    Avoided(Incident),
    /// The server was started again at that time, and has not been called yet.
    Returning(Incident, Instant),
    /// That was all.
    Over,
}

impl Scene {
    /// Returns the incident that the caller is in the middle of.
    pub(crate) fn incident(self) -> Option<Incident> {
        match self {
            Self::Struck(incident) | Self::Avoided(incident) | Self::Returning(incident, _) => {
                Some(incident)
            }
            Self::Opening | Self::Calm { .. } | Self::Over => None,
        }
    }
}

/// What can be seen of one server.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sight {
    /// Whether its process runs.
    pub(crate) runs: bool,
    /// How the channel has it; `None` where etcd does not name it.
    pub(crate) condition: Option<Condition>,
    /// When the youngest of the calls that it answered was begun.
    pub(crate) answered: Option<Instant>,
}

impl Sight {
    fn is_ready(&self) -> bool {
        self.condition == Some(Condition::Ready)
    }

    /// Whether nothing is left of it, neither a process nor a record in etcd.
    fn is_gone(&self) -> bool {
        !self.runs && self.condition.is_none()
    }

    fn has_answered_since(&self, start: Instant) -> bool {
        self.answered.is_some_and(|begun| begun > start)
    }
}

/// A server that should run has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lost(pub(crate) usize);

/// The course of the show.
#[derive(Debug)]
pub(crate) struct Script(Scene);

impl Script {
    pub(crate) fn new() -> Self {
        Self(Scene::Opening)
    }

    pub(crate) fn scene(&self) -> Scene {
        self.0
    }

    /// Goes on by at most one scene, and returns the one that begins.
    pub(crate) fn step(
        &mut self,
        now: Instant,
        seen: &[Sight; SERVERS],
    ) -> Result<Option<Scene>, Lost> {
        let befallen = self.0.incident().map(Incident::server);
        let is_lost = |server: &usize| !seen[*server].runs && befallen != Some(*server);
        if let Some(server) = (0..SERVERS).find(is_lost) {
            return Err(Lost(server));
        }
        let scene = match self.0 {
            Scene::Opening if seen.iter().all(Sight::is_ready) => Scene::Calm {
                since: now,
                after: None,
            },
            Scene::Calm { since, after } if now >= since + CALM => {
                Incident::next(after).map_or(Scene::Over, Scene::Struck)
            }
            Scene::Struck(incident) if !seen[incident.server()].is_ready() => {
                Scene::Avoided(incident)
            }
            Scene::Avoided(incident) if seen[incident.server()].is_gone() => {
                Scene::Returning(incident, now)
            }
            Scene::Returning(incident, start)
                if seen[incident.server()].has_answered_since(start) =>
            {
                Scene::Calm {
                    since: now,
                    after: Some(incident),
                }
            }
            _ => return Ok(None),
        };
        self.0 = scene;
        Ok(Some(scene))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READY: Sight = Sight {
        runs: true,
        condition: Some(Condition::Ready),
        answered: None,
    };

    #[tokio::test(start_paused = true)]
    async fn each_incident_waits_for_what_the_channel_makes_of_it() {
        let start = Instant::now();
        let mut script = Script::new();
        let mut seen = [
            READY,
            READY,
            Sight {
                runs: true,
                ..Sight::default()
            },
        ];
        assert_eq!(script.step(start, &seen), Ok(None), "one is not ready yet");
        seen[2] = READY;
        let mut now = start;
        let calm = |since, after| Scene::Calm { since, after };
        assert_eq!(script.step(now, &seen), Ok(Some(calm(now, None))));
        for incident in Incident::ALL {
            let server = incident.server();
            assert_eq!(script.step(now + CALM / 2, &seen), Ok(None), "it is calm");
            now += CALM;
            assert_eq!(script.step(now, &seen), Ok(Some(Scene::Struck(incident))));
            assert_eq!(script.step(now, &seen), Ok(None), "it is still called");
            seen[server].condition = Some(Condition::Draining);
            assert_eq!(script.step(now, &seen), Ok(Some(Scene::Avoided(incident))));
            seen[server].condition = None;
            assert_eq!(script.step(now, &seen), Ok(None), "its process runs");
            seen[server].runs = false;
            let returning = Scene::Returning(incident, now);
            assert_eq!(script.step(now, &seen), Ok(Some(returning)));
            seen[server] = Sight {
                answered: Some(now),
                ..READY
            };
            assert_eq!(
                script.step(now, &seen),
                Ok(None),
                "that was its predecessor's answer"
            );
            seen[server].answered = Some(now + Duration::from_millis(1));
            let after = Some(incident);
            assert_eq!(script.step(now, &seen), Ok(Some(calm(now, after))));
        }
        assert_eq!(script.step(now + CALM, &seen), Ok(Some(Scene::Over)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_ends_out_of_turn_stops_the_show() {
        let now = Instant::now();
        let mut seen = [READY; SERVERS];
        seen[2].runs = false;
        assert_eq!(Script::new().step(now, &seen), Err(Lost(2)));
        let mut script = Script(Scene::Avoided(Incident::Crash));
        assert_eq!(script.step(now, &seen), Err(Lost(2)));
        seen[2].runs = true;
        seen[Incident::Crash.server()].runs = false;
        assert_eq!(script.step(now, &seen), Ok(None), "that one is meant to");
    }
}
