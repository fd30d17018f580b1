//! The store, as the services of one etcd share it: one lock, held for one request at a time and
//! never while anything waits.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use tokio::sync::Notify;
use tonic::{Code, Status};

use crate::store::{Store, StreamId};

#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    /// The next lease expires at another time than before.
    deadline_moved: Notify,
}

#[derive(Debug)]
struct State {
    store: Store,
    /// Who reads which stream.
    readers: BTreeMap<StreamId, Arc<Notify>>,
    next_stream: u64,
    refusal: Option<Refusal>,
    /// Where clients reach it.
    addresses: Vec<String>,
}

/// What the next calls are told.
#[derive(Debug, Clone, Copy)]
struct Refusal {
    calls: usize,
    code: Code,
}

impl Shared {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                store: Store::new(),
                readers: BTreeMap::new(),
                next_stream: 0,
                refusal: None,
                addresses: Vec::new(),
            }),
            deadline_moved: Notify::new(),
        }
    }

    /// Does one thing to the store, at the time it is now, and wakes whoever has to know.
    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut Store, Instant) -> T) -> T {
        let mut state = self.lock();
        let deadline = state.store.next_deadline();
        let done = act(&mut state.store, tokio::time::Instant::now().into_std());
        for stream in state.store.take_woken() {
            if let Some(reader) = state.readers.get(&stream) {
                reader.notify_one();
            }
        }
        if state.store.next_deadline() != deadline {
            self.deadline_moved.notify_one();
        }
        done
    }

    /// Lets a call in, or refuses it on demand.
    pub(crate) fn admit(&self) -> Result<(), Status> {
        let mut state = self.lock();
        let Some(refusal) = &mut state.refusal else {
            return Ok(());
        };
        let code = refusal.code;
        refusal.calls -= 1;
        if refusal.calls == 0 {
            state.refusal = None;
        }
        Err(Status::new(code, "embedded etcd: refused on demand"))
    }

    pub(crate) fn refuse(&self, calls: usize, code: Code) {
        let refuses = calls > 0 && code != Code::Ok;
        self.lock().refusal = refuses.then_some(Refusal { calls, code });
    }

    /// Opens a watch stream. Its reader is notified when there may be something to read.
    pub(crate) fn open_stream(&self) -> (StreamId, Arc<Notify>) {
        let mut state = self.lock();
        let (stream, reader) = (StreamId(state.next_stream), Arc::new(Notify::new()));
        state.next_stream += 1;
        state.store.open_stream(stream);
        state.readers.insert(stream, reader.clone());
        (stream, reader)
    }

    pub(crate) fn close_stream(&self, stream: StreamId) {
        let mut state = self.lock();
        state.store.close_stream(stream);
        state.readers.remove(&stream);
    }

    pub(crate) fn addresses(&self) -> Vec<String> {
        self.lock().addresses.clone()
    }

    pub(crate) fn add_address(&self, address: String) {
        self.lock().addresses.push(address);
    }

    /// Ends leases when their time is over, for as long as it is polled.
    pub(crate) async fn expire_leases(&self) {
        loop {
            let deadline = self.with(|store, now| {
                store.expire(now);
                store.next_deadline()
            });
            let moved = self.deadline_moved.notified();
            match deadline {
                None => moved.await,
                Some(deadline) => tokio::select! {
                    () = moved => {}
                    () = tokio::time::sleep_until(deadline.into()) => {}
                },
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Requests are checked before they change anything: what a panic leaves is consistent.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
