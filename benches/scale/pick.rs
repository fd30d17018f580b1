//! One pick, as a call makes it: the view, the target in turn, a slot of its connection.
//!
//! These are the resolver's own parts, put together here as there. Those that are not public are taken in.

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;

use switchboard::{CallInfo, Candidate, Endpoint, Picker, Policy, RoundRobin};
use tonic::codegen::http::Request;

use self::slots::{Capacity, Slots, Vacancy};
use crate::{
    median::{median, sorted},
    report::Report,
};

#[allow(dead_code, unused_imports, reason = "a pick needs only a part")]
#[path = "../../resolver/src/transport/slots.rs"]
mod slots;

/// How many picks are timed together, and then ended untimed.
const TOGETHER: usize = 100;
const TIMES: usize = 5_000;

/// Where a call goes.
struct Target {
    slots: Arc<Slots>,
}

/// What all calls look at.
struct View {
    picker: Box<dyn Picker>,
    targets: Vec<Arc<Target>>,
}

/// What a call takes, and gives back.
struct Picked {
    _target: Arc<Target>,
    slots: Arc<Slots>,
}

impl Drop for Picked {
    fn drop(&mut self) {
        self.slots.give_back();
    }
}

pub(crate) fn run(rounds: usize, report: &mut Report) {
    for count in [10, 10_000] {
        let view = view(count);
        let times = (0..rounds).map(|_| time(&view)).collect();
        let case = format!("a pick, of {count} targets");
        report.figure(&case, Some(median(&sorted(times))), "ns", Some(100.0));
    }
}

/// Returns what a pick takes, in nanoseconds.
fn time(view: &ArcSwap<View>) -> f64 {
    let request = Request::new(());
    let call = CallInfo::of(&request);
    let mut picked = Vec::with_capacity(TOGETHER);
    let mut time = Duration::ZERO;
    for _ in 0..TIMES {
        let begin = Instant::now();
        picked.extend((0..TOGETHER).map(|_| pick(view, &call)));
        time += begin.elapsed();
        black_box(&picked);
        picked.clear();
    }
    time.as_secs_f64() * 1e9 / (TOGETHER * TIMES) as f64
}

fn view(count: usize) -> ArcSwap<View> {
    let vacancy = Arc::new(Vacancy::default());
    let targets = (0..count).map(|_| {
        let slots = Arc::new(Slots::new(200, Capacity::new(None, vacancy.clone())));
        Arc::new(Target { slots })
    });
    let candidate =
        |index| Candidate::new(Endpoint::new(format!("a:{}", index + 1).parse().unwrap()));
    let candidates: Vec<_> = (0..count).map(candidate).collect();
    ArcSwap::from_pointee(View {
        picker: RoundRobin.picker(&candidates, 0),
        targets: targets.collect(),
    })
}

fn pick(view: &ArcSwap<View>, call: &CallInfo<'_>) -> Option<Picked> {
    let view = view.load();
    let mut picked = None;
    let mut take = |index| {
        let target: &Arc<Target> = &view.targets[index];
        let is_taken = target.slots.take();
        picked = is_taken.then(|| Picked {
            _target: target.clone(),
            slots: target.slots.clone(),
        });
        is_taken
    };
    view.picker.pick(call, &mut take).unwrap();
    picked
}
