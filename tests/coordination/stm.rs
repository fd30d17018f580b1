//! To read and write several keys as if nobody else did.

use std::sync::{Mutex, MutexGuard};

use switchboard::coordination::{Stm, StmError, StmTransaction};
use tokio::task::JoinSet;

use crate::{
    on_both,
    server::{Server, delete, put, put_all, soon},
};

on_both! {
    transfers_keep_the_sum,
    no_update_is_lost,
    all_is_read_at_one_revision,
    two_who_rely_on_each_other_do_not_both_go,
    who_only_reads_is_told_what_was_so_at_once,
    who_writes_without_reading_notices_others,
    who_reads_nothing_depends_on_nothing,
    a_key_that_comes_or_goes_is_noticed,
    what_was_written_is_read_before_it_is_in_etcd,
    an_attempt_after_a_conflict_asks_nothing_anew,
    who_aborts_writes_nothing,
    bad_keys_write_nothing,
    what_is_too_much_for_etcd_is_refused_before,
}

const ADA: &str = "/shop/accounts/ada";
const BOB: &str = "/shop/accounts/bob";

/// What each run of a closure has seen.
pub(crate) struct Seen<T>(Mutex<Vec<T>>);

impl<T> Default for Seen<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Seen<T> {
    pub(crate) fn add(&self, seen: T) {
        self.all().push(seen);
    }

    pub(crate) fn runs(&self) -> usize {
        self.all().len()
    }

    pub(crate) fn all(&self) -> MutexGuard<'_, Vec<T>> {
        self.0.lock().unwrap()
    }
}

pub(crate) async fn stm(etcd: &Server) -> Stm {
    Stm::new(&etcd.registry().await)
}

pub(crate) async fn number(tx: &mut StmTransaction, key: &str) -> Result<i64, StmError> {
    let value = tx.get(key).await?;
    Ok(value.map_or(0, |value| {
        String::from_utf8(value).unwrap().parse().unwrap()
    }))
}

pub(crate) async fn increment(stm: &Stm, key: &str) -> Result<i64, StmError> {
    stm.run(|mut tx| async move {
        let next = number(&mut tx, key).await? + 1;
        tx.put(key, next.to_string())?;
        Ok(next)
    })
    .await
}

pub(crate) async fn value(etcd: &Server, key: &str) -> i64 {
    let value = etcd.value(key).await.unwrap();
    String::from_utf8(value).unwrap().parse().unwrap()
}

async fn transfers_keep_the_sum(etcd: &mut Server) {
    let registry = etcd.registry().await;
    put_all(&registry, &[(ADA, b"100"), (BOB, b"100")]).await;
    let mut tasks = JoinSet::new();
    for task in 0..8 {
        let stm = stm(etcd).await;
        let (from, to) = if task % 2 == 0 {
            (ADA, BOB)
        } else {
            (BOB, ADA)
        };
        tasks.spawn(async move {
            for amount in 1..=10 {
                let transfer = |mut tx: StmTransaction| async move {
                    let (has, gets) = (number(&mut tx, from).await?, number(&mut tx, to).await?);
                    assert_eq!(has + gets, 200, "at one revision");
                    tx.put(from, (has - amount - task).to_string())?;
                    tx.put(to, (gets + amount + task).to_string())
                };
                stm.run(transfer).await.unwrap();
            }
        });
    }
    soon(tasks.join_all()).await;
    let (ada, bob) = (value(etcd, ADA).await, value(etcd, BOB).await);
    assert_eq!(ada + bob, 200);
    // Each task has moved 55, and ten times its number.
    assert_eq!(ada, 100 - 10 * (2 + 4 + 6) + 10 * (1 + 3 + 5 + 7));
}

async fn no_update_is_lost(etcd: &mut Server) {
    let mut tasks = JoinSet::new();
    for _ in 0..6 {
        let stm = stm(etcd).await;
        tasks.spawn(async move {
            for _ in 0..15 {
                increment(&stm, "/counter").await.unwrap();
            }
        });
    }
    soon(tasks.join_all()).await;
    assert_eq!(value(etcd, "/counter").await, 6 * 15);
}

async fn all_is_read_at_one_revision(etcd: &mut Server) {
    let other = etcd.registry().await;
    put_all(&other, &[("/a", b"1"), ("/b", b"1")]).await;
    let (stm, seen, other) = (stm(etcd).await, &Seen::default(), &other);
    let run = stm.run(|mut tx| async move {
        let a = number(&mut tx, "/a").await?;
        if seen.runs() == 0 {
            put_all(other, &[("/a", b"2"), ("/b", b"2")]).await;
        }
        let b = number(&mut tx, "/b").await?;
        seen.add((a, b, number(&mut tx, "/a").await?));
        tx.put("/c", (a + b).to_string())
    });
    soon(run).await.unwrap();
    assert_eq!(*seen.all(), [(1, 1, 1), (2, 2, 2)]);
    assert_eq!(value(etcd, "/c").await, 4);
}

async fn two_who_rely_on_each_other_do_not_both_go(etcd: &mut Server) {
    /// Goes off call, if somebody else is on call.
    async fn leave(tx: &mut StmTransaction, who: &str, other: &str) -> Result<bool, StmError> {
        let is_on_call = tx.get(other).await?.is_some();
        if is_on_call {
            tx.delete(who)?;
        }
        Ok(is_on_call)
    }
    let (one, two) = (stm(etcd).await, stm(etcd).await);
    put_all(&etcd.registry().await, &[(ADA, b"on"), (BOB, b"on")]).await;
    let (seen, two) = (&Seen::default(), &two);
    let ada = one.run(|mut tx| async move {
        let leaves = leave(&mut tx, ADA, BOB).await?;
        seen.add(leaves);
        if seen.runs() == 1 {
            let bob = two.run(|mut tx| async move { leave(&mut tx, BOB, ADA).await });
            assert!(leaves && soon(bob).await.unwrap(), "both may, each alone");
        }
        Ok::<_, StmError>(leaves)
    });
    assert!(!soon(ada).await.unwrap());
    assert_eq!(*seen.all(), [true, false]);
    assert!(etcd.value(ADA).await.is_some() && etcd.value(BOB).await.is_none());
}

async fn who_only_reads_is_told_what_was_so_at_once(etcd: &mut Server) {
    let other = etcd.registry().await;
    put_all(&other, &[("/a", b"1"), ("/b", b"1")]).await;
    let (stm, seen, other) = (stm(etcd).await, &Seen::default(), &other);
    let before = etcd.revision().await;
    let read = stm.run(|mut tx| async move {
        let a = number(&mut tx, "/a").await?;
        seen.add(a);
        if seen.runs() == 1 {
            put(other, "/a", "2").await;
        }
        Ok::<_, StmError>((a, number(&mut tx, "/b").await?))
    });
    assert_eq!(soon(read).await.unwrap(), (2, 1));
    assert_eq!(*seen.all(), [1, 2]);
    assert_eq!(etcd.revision().await, before + 1, "it has written nothing");
}

async fn who_writes_without_reading_notices_others(etcd: &mut Server) {
    let other = etcd.registry().await;
    let (stm, seen, other) = (stm(etcd).await, &Seen::default(), &other);
    let write = stm.run(|mut tx| async move {
        let a = number(&mut tx, "/a").await?;
        seen.add(a);
        if seen.runs() == 1 {
            put(other, "/b", "theirs").await;
        }
        tx.put("/b", format!("ours, {a}"))
    });
    soon(write).await.unwrap();
    assert_eq!(seen.runs(), 2);
    assert_eq!(etcd.value("/b").await.unwrap(), b"ours, 0");
}

async fn who_reads_nothing_depends_on_nothing(etcd: &mut Server) {
    let other = etcd.registry().await;
    let before = etcd.revision().await;
    let (stm, mut runs, other) = (stm(etcd).await, 0, &other);
    let write = stm.run(|mut tx| {
        runs += 1;
        async move {
            put(other, "/a", "theirs").await;
            tx.put("/a", "ours")?;
            tx.put("/b", "ours")
        }
    });
    soon(write).await.unwrap();
    assert_eq!(runs, 1);
    assert_eq!(etcd.value("/a").await.unwrap(), b"ours");
    assert_eq!(etcd.revision().await, before + 2, "both at one revision");
    // And one that does nothing asks nobody.
    let nothing = stm.run(|_tx| async move { Ok::<_, StmError>(7) });
    assert_eq!(soon(nothing).await.unwrap(), 7);
}

async fn a_key_that_comes_or_goes_is_noticed(etcd: &mut Server) {
    let other = etcd.registry().await;
    let (stm, seen, other) = (stm(etcd).await, &Seen::default(), &other);
    let run = stm.run(|mut tx| async move {
        seen.add(tx.get("/a").await?.is_some());
        match seen.runs() {
            1 => drop(put(other, "/a", "1").await),
            2 => delete(other, "/a").await,
            _ => {}
        }
        tx.put("/b", "2")
    });
    soon(run).await.unwrap();
    assert_eq!(*seen.all(), [false, true, false]);
}

async fn what_was_written_is_read_before_it_is_in_etcd(etcd: &mut Server) {
    let other = etcd.registry().await;
    put_all(&other, &[("/a", b"1"), ("/gone", b"1")]).await;
    let stm = stm(etcd).await;
    let run = stm.run(|mut tx| async move {
        assert_eq!(number(&mut tx, "/a").await?, 1);
        tx.put("/a", "2")?;
        assert_eq!(number(&mut tx, "/a").await?, 2);
        tx.put("/a", "3")?;
        assert_eq!(number(&mut tx, "/a/").await?, 3, "the same key");
        tx.delete("/gone")?;
        assert_eq!(tx.get("/gone").await?, None);
        tx.put("/made", "1")?;
        tx.delete("/made")
    });
    soon(run).await.unwrap();
    assert_eq!(value(etcd, "/a").await, 3);
    assert_eq!(etcd.value("/gone").await, None);
    assert_eq!(etcd.value("/made").await, None);
}

/// What the commit that failed has brought is used: what has changed since is noticed by the next one.
async fn an_attempt_after_a_conflict_asks_nothing_anew(etcd: &mut Server) {
    let other = etcd.registry().await;
    let (stm, seen, other) = (stm(etcd).await, &Seen::default(), &other);
    let run = stm.run(|mut tx| async move {
        let runs = seen.runs();
        if runs == 1 {
            put(other, "/a", "2").await;
        }
        seen.add(number(&mut tx, "/a").await?);
        if runs == 0 {
            put(other, "/a", "1").await;
        }
        tx.put("/b", "1")
    });
    soon(run).await.unwrap();
    assert_eq!(*seen.all(), [0, 1, 2]);
}

async fn who_aborts_writes_nothing(etcd: &mut Server) {
    #[derive(Debug)]
    enum Refused {
        Poor,
        Stm(StmError),
    }
    impl From<StmError> for Refused {
        fn from(error: StmError) -> Self {
            Self::Stm(error)
        }
    }
    let stm = stm(etcd).await;
    put(&etcd.registry().await, ADA, "5").await;
    let before = etcd.revision().await;
    let pay = async |amount: i64| {
        let pay = stm.run(|mut tx| async move {
            let left = number(&mut tx, ADA).await? - amount;
            tx.put(ADA, left.to_string())?;
            tx.put(BOB, amount.to_string())?;
            match left {
                0.. => Ok(left),
                _ => Err(Refused::Poor),
            }
        });
        soon(pay).await
    };
    assert!(matches!(pay(6).await, Err(Refused::Poor)));
    assert_eq!(etcd.revision().await, before);
    assert_eq!(pay(5).await.unwrap(), 0);
    // The error of another one has not become its own.
    let refused = stm.run(|mut tx| async move { Ok::<_, Refused>(tx.put("", "1")?) });
    assert!(matches!(refused.await, Err(Refused::Stm(StmError::Key(_)))));
}

async fn bad_keys_write_nothing(etcd: &mut Server) {
    let stm = stm(etcd).await;
    let before = etcd.revision().await;
    for key in ["", "/", "/a//b", "/a\n"] {
        let read = stm.run(|mut tx| async move {
            tx.put("/a", "1")?;
            tx.get(key).await
        });
        assert!(matches!(soon(read).await, Err(StmError::Key(_))), "{key:?}");
        // Nor if the closure makes nothing of it.
        let write = stm.run(|mut tx| async move {
            let (put, delete) = (tx.put(key, "1"), tx.delete(key));
            assert!(put.is_err() && delete.is_err());
            assert!(tx.put("/a", "1").is_err() && tx.get("/a").await.is_err());
            Ok::<_, StmError>(())
        });
        assert!(matches!(soon(write).await, Err(StmError::Key(_))));
    }
    let server = "/microservices/greeter/1";
    let write = stm.run(|mut tx| async move { tx.put(server, "no server") });
    let error = soon(write).await.unwrap_err();
    assert!(error.to_string().contains("clients of kratos"), "{error}");
    let read = stm.run(|mut tx| async move { tx.get(server).await });
    assert_eq!(soon(read).await.unwrap(), None);
    assert_eq!(etcd.revision().await, before);
}

async fn what_is_too_much_for_etcd_is_refused_before(etcd: &mut Server) {
    let stm = stm(etcd).await;
    let before = etcd.revision().await;
    let keys = async |keys: u32| {
        let write = stm.run(|mut tx| async move {
            number(&mut tx, "/0").await?;
            (0..keys).try_for_each(|key| tx.put(format!("/{key}"), "1"))
        });
        soon(write).await
    };
    let error = keys(129).await.unwrap_err();
    assert!(matches!(error, StmError::TooManyKeys), "{error:?}");
    let bytes = async |bytes: usize| {
        let write = stm.run(|mut tx| async move { tx.put("/large", vec![0; bytes]) });
        soon(write).await
    };
    let error = bytes(3 << 19).await.unwrap_err();
    assert!(matches!(error, StmError::TooLarge(_)), "{error:?}");
    assert_eq!(etcd.revision().await, before);
    // What is not too much, by a little, etcd takes.
    keys(128).await.unwrap();
    bytes((3 << 19) - 256).await.unwrap();
    assert_eq!(etcd.revision().await, before + 2);
}
