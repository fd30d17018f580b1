//! An etcd that answers logins as it is told, and a clock that is paused.

use std::sync::atomic::{AtomicUsize, Ordering};

use etcd_client::{Channel, Client};
use tokio::time::{sleep, timeout};
use tower::util::BoxCloneSyncService;

use super::*;

/// How an etcd answers logins.
#[derive(Clone, Copy)]
enum Answer {
    TokenAfter(Duration),
    Refusal,
    Failure,
    Never,
}

/// One who logs in to such an etcd, and how often etcd was asked.
fn auth(answer: Answer) -> (Auth, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let logins = asked.clone();
    let service = tower::service_fn(move |_request: http::Request<tonic::body::Body>| {
        logins.fetch_add(1, Ordering::Relaxed);
        async move {
            let status = match answer {
                Answer::TokenAfter(wait) => {
                    sleep(wait).await;
                    // A frame with an AuthenticateResponse: its field 2 is the token.
                    let frame = "\0\0\0\0\x07\x12\x05token".to_owned();
                    let mut response = http::Response::new(tonic::body::Body::new(frame));
                    let grpc = HeaderValue::from_static("application/grpc");
                    response.headers_mut().insert("content-type", grpc);
                    let ok = HeaderValue::from_static("0");
                    response.headers_mut().insert("grpc-status", ok);
                    return Ok::<_, tower::BoxError>(response);
                }
                Answer::Refusal => tonic::Status::permission_denied("no"),
                Answer::Failure => tonic::Status::unavailable("no leader"),
                Answer::Never => std::future::pending().await,
            };
            Ok(status.into_http())
        }
    });
    let channel = Channel::Custom(BoxCloneSyncService::new(service));
    let client = Client::from_channel(channel, None).now_or_never();
    let client = client.expect("nothing is sent").expect("a client");
    let credentials = Credentials::new("shop", "s3cret").expect("credentials");
    (Auth::new(Some(credentials), client.auth_client()), asked)
}

/// Asks until it is logged in, as publications do; returns what it was told meanwhile.
async fn ask_until_in(auth: &Auth) -> Vec<String> {
    let (refused, mut told) = (auth.token(), Vec::new());
    while let Err(error) = auth.log_in(&refused).await {
        told.push(error.to_string());
        assert!(told.len() < 100, "{told:?}");
        sleep(Duration::from_millis(100)).await;
    }
    told
}

/// Asks every 10 ms for that long, which is never waited for.
async fn ask_for(auth: &Auth, span: Duration) {
    let (refused, begun) = (auth.token(), clock::now());
    while clock::now() < begun + span {
        let before = clock::now();
        auth.log_in(&refused).await.unwrap_err();
        assert_eq!(clock::now(), before);
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn those_who_give_up_leave_their_login_to_those_who_ask_next() {
    let (auth, asked) = auth(Answer::TokenAfter(Duration::from_secs(14)));
    let begun = clock::now();
    let (one, other) = tokio::join!(ask_until_in(&auth), ask_until_in(&auth));
    assert_eq!(clock::now() - begun, Duration::from_secs(14));
    for told in [one, other] {
        assert_eq!(told[0], "etcd: login as shop: no answer in 2 s");
        assert_eq!(told.len(), 6, "{told:?}");
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_login_goes_on_with_nobody_waiting_and_its_token_is_replaced_when_it_is_refused() {
    let (auth, asked) = auth(Answer::TokenAfter(Duration::from_secs(5)));
    let refused = auth.token();
    auth.log_in(&refused).await.unwrap_err();
    sleep(Duration::from_secs(4)).await;
    assert!(auth.token().0.is_some(), "the token has come");
    auth.log_in(&refused).await.unwrap();
    assert_eq!(asked.load(Ordering::Relaxed), 1);

    ask_until_in(&auth).await;
    assert_eq!(asked.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn a_login_that_is_lost_is_given_up_after_its_time() {
    let (auth, asked) = auth(Answer::Never);
    let (refused, begun) = (auth.token(), clock::now());
    let mut told = Vec::new();
    for _ in 0..8 {
        told.push(auth.log_in(&refused).await.unwrap_err().to_string());
    }
    assert_eq!(told[6], "etcd: login as shop: no answer in 2 s");
    assert_eq!(told[7], "etcd: login as shop: no answer in 15 s");
    assert_eq!(clock::now() - begun, LOGIN_TIMEOUT);
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    sleep(Duration::from_millis(200)).await;
    auth.log_in(&refused).await.unwrap_err();
    assert_eq!(asked.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn logins_that_fail_are_few_however_many_ask() {
    let (failing, asked) = auth(Answer::Failure);
    ask_for(&failing, Duration::from_secs(60)).await;
    // Seven or so until they are 5 s apart, and then one in 4 to 6 s.
    let asked = asked.load(Ordering::Relaxed);
    assert!((15..=25).contains(&asked), "{asked} logins in a minute");

    let (refused, asked) = auth(Answer::Refusal);
    ask_for(&refused, Duration::from_secs(60)).await;
    let asked = asked.load(Ordering::Relaxed);
    assert!((55..=60).contains(&asked), "{asked} logins in a minute");
}

#[tokio::test(start_paused = true)]
async fn closing_ends_a_login_that_is_under_way_and_those_begun_after() {
    let (auth, _asked) = auth(Answer::Never);
    let refused = auth.token();
    auth.log_in(&refused).await.unwrap_err();
    let closed = timeout(Duration::from_millis(1), auth.close()).await;
    closed.expect("nothing is waited for");
    sleep(Duration::from_secs(1)).await;
    let asked = timeout(Duration::from_millis(1), auth.log_in(&refused)).await;
    let error = asked.expect("nothing is waited for").unwrap_err();
    assert_eq!(
        error.to_string(),
        "etcd: login as shop: interrupted, since the registry is closed"
    );
}

fn failed(kind: Kind, before: u32, now: Instant) -> Failed {
    Failed::new(EtcdError::new(kind, "no"), before, now, 0.5)
}

#[test]
fn logins_that_fail_are_further_and_further_apart() {
    let now = clock::now();
    let (mut failures, mut waits) = (0, Vec::new());
    for _ in 0..20 {
        let failed = failed(Kind::Other, failures, now);
        let wait = failed.until - now;
        let early = now + wait - Duration::from_millis(1);
        let error = failed.clone().failures_once_waited(early).unwrap_err();
        assert_eq!(error.to_string(), "etcd: no");
        failures = failed.failures_once_waited(now + wait).unwrap();
        waits.push(wait);
    }
    assert_eq!(failures, 20);
    assert_eq!(
        (waits[0], waits[1]),
        (Duration::from_millis(100), Duration::from_millis(160))
    );
    assert!(waits.is_sorted(), "{waits:?}");
    assert_eq!(waits[19], RETRY.cap);
}

#[test]
fn those_that_fail_together_do_not_return_together() {
    let now = clock::now();
    let wait = |random| {
        let error = EtcdError::new(Kind::Other, "no");
        Failed::new(error, 30, now, random).until - now
    };
    assert_eq!(wait(0.0), Duration::from_secs(4));
    assert_eq!(wait(1.0), Duration::from_secs(6));
}

#[test]
fn a_refusal_answers_for_a_second_however_many_failed_before() {
    let now = clock::now();
    for before in [0, 30] {
        let failed = failed(Kind::Denied, before, now);
        assert_eq!(failed.until - now, REFUSED);
        assert_eq!(failed.failures_once_waited(now + REFUSED).unwrap(), 0);
    }
}

#[test]
fn a_token_is_sent_and_not_shown() {
    let current = Current(Arc::default());
    let mut request = http::Request::new(());
    current.sign(&mut request);
    assert!(request.headers().is_empty());

    current
        .0
        .store(Arc::new(Token::new("s3cret.7").ok().unwrap()));
    current.sign(&mut request);
    assert_eq!(request.headers()["token"], "s3cret.7");
    assert!(!format!("{request:?}").contains("s3cret"), "{request:?}");
}
