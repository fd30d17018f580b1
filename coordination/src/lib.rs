//! What etcd is used for beside discovery, on the connection and the lease of a
//! [`Registry`](switchboard_registry::Registry).
//!
//! | | |
//! |---|---|
//! | [`Config`] | a value that all replicas share, and that changes on all of them while they run |
//! | [`Topic`] | messages to whoever listens, each once and in order |
//! | [`Progress`] | how far a job is, and who waits for that |
//! | [`Conditions`] | to go when a set of keys holds a set of values |
//! | [`Lock`] | one at a time, over all processes |
//! | [`RwLock`] | many who read, or one who writes, over all processes |
//! | [`Election`] | one leader at a time, over all processes, and who that is |
//! | [`Queue`], [`PriorityQueue`] | what many push and many pop, each item at most once |
//! | [`WorkQueue`] | what many push and many work on, each item at least once |
//! | [`Barrier`] | to wait until somebody lets all go |
//! | [`DoubleBarrier`] | to begin together and to end together |
//! | [`Members`] | who is alive, who joins and who leaves |
//! | [`Stm`] | to read and write several keys as if nobody else did |
//!
//! Each is one file, or one file and a folder; what has states is decided by a type without a clock
//! or a connection. Keys lie under `/switchboard/`, except where the caller names them, and Go's
//! `PriorityQueue` adds some beside those.

mod barrier;
mod conditions;
mod config;
mod double_barrier;
mod election;
mod entry;
mod failure;
mod guard;
mod line;
mod lock;
mod members;
mod moment;
mod progress;
mod queue;
mod rw_lock;
mod stm;
mod topic;
mod work_queue;

pub use barrier::{Barrier, BarrierError};
pub use conditions::{Conditions, ConditionsError, Met};
pub use config::{Config, ConfigBuilder, ConfigError, ConfigState, InvalidConfig};
pub use double_barrier::{DoubleBarrier, EnterError, Inside, InvalidDoubleBarrier, LeaveError};
pub use election::{
    Election, ElectionError, Leader, Leadership, ObserveError, Observer, ProclaimError,
};
pub use entry::Lost;
pub use failure::Failure;
pub use lock::{Lock, LockError, LockGuard};
pub use members::{Member, MemberChange, Members, MembersError, Membership};
pub use progress::{InvalidPercent, Percent, Progress, ProgressError, ProgressReporter};
pub use queue::{Item, PopError, PriorityQueue, PushError, Pushed, Queue};
pub use rw_lock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use stm::{Stm, StmError, StmTransaction};
pub use topic::{Message, SendError, Sent, Start, SubscribeError, Subscription, Topic, TopicError};
pub use work_queue::{AckError, Claim, ClaimError, WorkQueue};
