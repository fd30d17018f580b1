//! Lookups by the operating system: its hosts file, its search domains, its name servers.
//!
//! They block a thread, which nobody can stop: it comes back when the system gives up. So a name that
//! hangs has one thread at most, however often it is looked up, and all names of a process together
//! have a limited number, whatever becomes of those who asked.

use std::{io, net::SocketAddr, net::ToSocketAddrs, sync::Arc};

use tokio::{sync::Semaphore, task::spawn_blocking};

use super::{Lookup, LookupError};

/// How many lookups of a process may be under way. tokio has 512 threads for all that blocks: were
/// they all waiting for a name server, nobody could read a file.
const MOST: usize = 64;

static UNDER_WAY: Semaphore = Semaphore::const_new(MOST);

/// Returns lookups of one name by the operating system.
pub(super) fn lookup() -> Lookup {
    on_threads(|host, port| Ok((host, port).to_socket_addrs()?.collect()))
}

fn on_threads<F>(resolve: F) -> Lookup
where
    F: Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Clone + Send + Sync + 'static,
{
    let own = Arc::new(Semaphore::new(1));
    Arc::new(move |name| {
        let (own, resolve) = (own.clone(), resolve.clone());
        Box::pin(async move {
            let permits = (own.acquire_owned().await?, UNDER_WAY.acquire().await?);
            let looking_up = spawn_blocking(move || {
                // Until the thread is back, not until nobody waits for it any more.
                let _permits = permits;
                resolve(name.host(), name.port().unwrap_or_default())
            });
            Ok::<_, LookupError>(looking_up.await??)
        })
    })
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Mutex, mpsc},
        time::Duration,
    };

    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn a_lookup_that_hangs_has_one_thread_however_often_it_is_given_up() {
        let (begin, mut begun) = tokio::sync::mpsc::unbounded_channel();
        let (release, released) = mpsc::channel::<()>();
        let released = Arc::new(Mutex::new(released));
        let lookup = on_threads(move |_, _| {
            begin.send(()).unwrap();
            // Until it is released, or the test is over.
            let _ = released.lock().unwrap().recv();
            Ok(Vec::new())
        });
        let name: crate::Address = "greeter:80".parse().unwrap();
        for _ in 0..5 {
            let given_up = timeout(Duration::from_millis(20), lookup(name.clone())).await;
            assert!(given_up.is_err(), "it hangs");
        }
        timeout(SOON, begun.recv()).await.expect("in time");
        assert!(begun.try_recv().is_err(), "a second thread");
        // Both go on: the one that hung, and the next.
        release.send(()).unwrap();
        release.send(()).unwrap();
        let answered = timeout(SOON, lookup(name)).await.expect("in time");
        assert!(answered.unwrap().is_empty());
        assert!(begun.try_recv().is_ok() && begun.try_recv().is_err());
    }
}
