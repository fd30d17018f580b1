//! The show: does what the script says, and tells what is seen.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{bail, ensure};
use switchboard::{Channel, ChannelState, Registry};
use tokio::{
    sync::watch,
    time::{Instant, Interval, MissedTickBehavior},
};

use crate::{
    caller::Caller,
    place::Place,
    rates::Rates,
    screen::Screen,
    script::{Incident, Lost, SERVERS, Scene, Script, Sight},
    serve::NAME,
    tally::{Call, Tally},
    words,
};

/// How often it looks, and draws.
const FRAME: Duration = Duration::from_millis(100);

/// How often it writes a line, where it cannot draw.
const LINE: Duration = Duration::from_secs(2);

/// How long it may take. It takes about 12 s.
const LIMIT: Duration = Duration::from_secs(18);

/// The servers, the caller, and what is known of both.
pub(crate) struct Show {
    places: [Place; SERVERS],
    addresses: [String; SERVERS],
    channel: Channel,
    state: watch::Receiver<Arc<ChannelState>>,
    caller: Caller,
    script: Script,
    seen: [Sight; SERVERS],
    tally: Tally,
    rates: Rates,
    screen: Screen,
    start: Instant,
    line: Instant,
}

impl Show {
    /// Starts the servers.
    pub(crate) fn start(
        etcd: SocketAddr,
        registry: &Registry,
        start: Instant,
    ) -> anyhow::Result<Self> {
        let mut places = Vec::new();
        for _ in 0..SERVERS {
            places.push(Place::take(etcd)?);
        }
        let Ok(mut places): Result<[Place; SERVERS], _> = places.try_into() else {
            unreachable!("as many as were taken");
        };
        for place in &mut places {
            place.start()?;
        }
        let addresses = places.each_ref().map(|place| place.address().to_string());
        let channel = registry.dial(NAME).connect_lazy()?;
        Ok(Self {
            caller: Caller::new(channel.clone(), addresses.clone()),
            places,
            addresses,
            state: channel.watch_state(),
            channel,
            script: Script::new(),
            seen: Default::default(),
            tally: Tally::new(),
            rates: Rates::default(),
            screen: Screen::new(),
            start,
            line: start,
        })
    }

    /// Plays to the end, or until `stop` is ready.
    pub(crate) async fn play(&mut self, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
        let mut stop = std::pin::pin!(stop);
        let mut frames = frames();
        self.tell(Scene::Opening)?;
        loop {
            let calls = self.script.scene() != Scene::Opening;
            let during = self.script.scene().incident();
            let call = tokio::select! {
                () = &mut stop => {
                    self.screen.tell("         stopped early")?;
                    break;
                }
                call = self.caller.ended(during), if calls => Some(call),
                Ok(()) = self.state.changed() => None,
                _ = frames.tick() => None,
            };
            match call {
                Some(call) => self.ended(call),
                None if self.frame()? => break,
                None => {}
            }
        }
        while let Some(call) = self.caller.next_in_flight().await {
            self.ended(call);
        }
        Ok(())
    }

    /// Tells what came of the calls. Returns whether that is well.
    pub(crate) fn sum_up(&mut self) -> io::Result<bool> {
        self.screen
            .tell(format!("\n{}\n", words::summary(&self.tally)))?;
        self.screen.stress(&words::verdict(&self.tally))?;
        Ok(self.tally.verdict().is_well())
    }

    /// Ends the servers; returns what they said on standard error.
    pub(crate) async fn end(self) -> anyhow::Result<String> {
        drop(self.caller);
        self.channel.close().await;
        let mut said = String::new();
        for place in self.places {
            said += &place.end().await?;
        }
        Ok(said)
    }

    /// Looks, goes on with the script, and draws. Returns whether that was all.
    fn frame(&mut self) -> anyhow::Result<bool> {
        let now = Instant::now();
        self.look()?;
        match self.script.step(now, &self.seen) {
            Ok(Some(Scene::Over)) => return Ok(true),
            Ok(Some(scene)) => self.begin(scene, now)?,
            Ok(None) => {}
            Err(Lost(server)) => bail!("{} ended by itself", words::server(server)),
        }
        let scene = self.script.scene();
        ensure!(
            now < self.start + LIMIT,
            "not at its end within {LIMIT:?}, but at {scene:?}"
        );
        self.draw(now)?;
        Ok(false)
    }

    /// Sees how the servers are.
    fn look(&mut self) -> io::Result<()> {
        let state = self.state.borrow_and_update().clone();
        for ((sight, place), address) in self
            .seen
            .iter_mut()
            .zip(&mut self.places)
            .zip(&self.addresses)
        {
            sight.runs = place.runs()?;
            let mut endpoints = state.endpoints.iter();
            let endpoint = endpoints.find(|it| it.addresses[0].to_string() == *address);
            sight.condition = endpoint.map(|it| it.condition);
        }
        Ok(())
    }

    /// Does what a scene begins with.
    fn begin(&mut self, scene: Scene, now: Instant) -> anyhow::Result<()> {
        match scene {
            Scene::Calm { after: None, .. } => self.caller.begin(),
            Scene::Calm { after: Some(_), .. } => {}
            Scene::Struck(incident) => {
                let server = &self.places[incident.server()];
                match incident {
                    Incident::Restart => server.stop()?,
                    Incident::Crash => {
                        self.tally.kill(incident.server());
                        server.kill()?;
                    }
                }
            }
            Scene::Avoided(Incident::Crash) => self.tally.notice(now),
            Scene::Returning(incident, _) => self.places[incident.server()].start()?,
            Scene::Avoided(Incident::Restart) | Scene::Opening | Scene::Over => {}
        }
        Ok(self.tell(scene)?)
    }

    /// Counts a call that has ended.
    fn ended(&mut self, mut call: Call) {
        // One that was in flight when it happened belongs there too.
        call.during = call.during.or(self.script.scene().incident());
        self.tally.add(&call);
        if let (Some(server), None) = (call.server, &call.failure) {
            let answered = &mut self.seen[server].answered;
            *answered = (*answered).max(Some(call.began));
            if let Scene::Returning(incident, start) = self.script.scene()
                && incident.server() == server
                && call.began > start
            {
                self.tally.call_again(incident, call.began - start);
            }
        }
    }

    fn tell(&mut self, scene: Scene) -> io::Result<()> {
        let Some(text) = words::scene(scene) else {
            return Ok(());
        };
        let elapsed = self.start.elapsed().as_secs_f64();
        self.screen.tell(format!("{elapsed:5.1} s  {text}"))
    }

    fn draw(&mut self, now: Instant) -> io::Result<()> {
        let calls = self.tally.servers.each_ref().map(|server| server.calls);
        self.rates.note(now, calls);
        let rates = self.rates.per_second();
        if self.screen.is_terminal() {
            let table = words::table(&self.seen, &rates, &self.tally);
            self.screen.draw(&format!("\n{table}"))
        } else if now >= self.line + LINE {
            self.line = now;
            self.screen.tell(words::line(&self.seen, &rates))
        } else {
            Ok(())
        }
    }
}

fn frames() -> Interval {
    let mut frames = tokio::time::interval(FRAME);
    frames.set_missed_tick_behavior(MissedTickBehavior::Delay);
    frames
}
