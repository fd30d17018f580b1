//! Channels inside TLS: whom they trust, what they say when they do not, and what counts when.

#![cfg(feature = "tls")]

mod support;

#[allow(unreachable_pub, reason = "it is written as `support` is")]
#[path = "support/secured.rs"]
mod secured;

use std::{path::PathBuf, time::Duration};

use secured::{Conduct, Settings, Site};
use support::*;
use switchboard_resolver::{
    BuildError, Channel, ChannelBuilder, Condition, ConnectError, Endpoint, Security, Tls, Update,
};
use switchboard_test_support::{Authority, Certified};
use tempfile::TempDir;
use tokio_rustls::rustls::version;
use tonic::Code;

const ADDRESS: &str = "greeter.test:443";

fn to(site: &Site, tls: Tls) -> ChannelBuilder {
    let builder = Channel::balance([ADDRESS]).expect("an address");
    builder.name("greeter").connector(site.connector()).tls(tls)
}

/// Why the channel cannot connect, as calls are told.
async fn refusal(site: &Site, tls: Tls) -> String {
    let error = to(site, tls).connect().await.expect_err("it is refused");
    let ConnectError::Unavailable(error) = error else {
        panic!("{error:?}")
    };
    let status: tonic::Status = tonic::Status::from_error(Box::new(error));
    assert_eq!(status.code(), Code::Unavailable);
    status.message().to_owned()
}

/// Files in PEM, as an operator has them.
struct Files {
    _folder: TempDir,
    ca: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

impl Files {
    fn new(authority: &Authority, identity: &Certified) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = |name| folder.path().join(name);
        let files = Self {
            ca: path("ca.pem"),
            certificate: path("client.pem"),
            key: path("client.key"),
            _folder: folder,
        };
        std::fs::write(&files.ca, authority.pem()).expect("a file");
        identity.write(&files.certificate, &files.key);
        files
    }

    fn tls(&self) -> Tls {
        Tls::new()
            .ca_file(&self.ca)
            .identity_files(&self.certificate, &self.key)
    }
}

#[tokio::test(start_paused = true)]
async fn c32_a_server_of_a_trusted_ca_is_called_with_the_scheme_https() {
    let authority = Authority::new("CA");
    for version in [&version::TLS12, &version::TLS13] {
        let settings = Settings {
            version,
            ..Settings::new(authority.certify(&["greeter.test"]))
        };
        let site = Site::new(settings.serve());
        let channel = to(&site, Tls::new().ca_pem(authority.pem()));
        let channel = within(SOON, channel.connect()).await.unwrap();
        let reply = client(&channel).say_hello(hello("header:scheme")).await;
        assert_eq!(reply.unwrap().get_ref().message, "https");
        assert_eq!(site.dials(), [ADDRESS]);
    }
}

#[tokio::test(start_paused = true)]
async fn c32_streams_pass_through_tls_whole() {
    let authority = Authority::new("CA");
    let site = Site::new(Settings::new(authority.certify(&["greeter.test"])).serve());
    let channel = to(&site, Tls::new().ca_pem(authority.pem()))
        .connect_lazy()
        .unwrap();
    let request = switchboard_proto::HellosRequest {
        name: "Ada".repeat(10_000),
        count: 300,
        interval_ms: 0,
    };
    let mut replies = client(&channel)
        .say_hellos(request)
        .await
        .unwrap()
        .into_inner();
    let mut bytes = 0;
    while let Some(reply) = replies.message().await.unwrap() {
        bytes += reply.message.len();
    }
    assert_eq!(bytes, 300 * (30_000 + "Hello, !".len()));
}

#[tokio::test(start_paused = true)]
async fn c32_a_server_must_be_the_host_it_is_dialed_at_unless_a_name_is_set() {
    let authority = Authority::new("CA");
    let trusting = Tls::new().ca_pem(authority.pem());
    let site = Site::new(Settings::new(authority.certify(&["greeter", "10.0.0.1"])).serve());

    let message = refusal(&site, trusting.clone()).await;
    let expected = "the server's certificate is for DnsName(\"greeter\"), IpAddress(10.0.0.1) \
        (expected: one for greeter.test)";
    assert!(message.contains(expected), "{message}");

    let by_name = to(&site, trusting.clone().server_name("greeter"));
    within(SOON, by_name.connect()).await.unwrap();
    let by_address = Channel::balance(["10.0.0.1:443"]).unwrap().tls(trusting);
    let by_address = by_address.connector(site.connector());
    within(SOON, by_address.connect()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn c32_what_stands_in_the_way_of_tls_is_told() {
    let authority = Authority::new("CA");
    let other = Authority::new("other CA");
    let namesake = Authority::new("CA");
    let settings = || Settings::new(authority.certify(&["greeter.test"]));
    let trusting = || Tls::new().ca_pem(authority.pem());
    let stranger = other.certify(&["client"]);
    let strange = || trusting().identity_pem(&stranger.certificate, &stranger.key);
    let own = authority.certify(&["client"]);
    let ours = || trusting().identity_pem(&own.certificate, &own.key);
    let wants_certificates = || settings().with_client_ca(&authority);
    let in_tls_12 = || Settings {
        version: &version::TLS12,
        ..wants_certificates()
    };
    let with_protocols = |protocols| Settings {
        protocols,
        ..settings()
    };
    let expired = Settings::new(authority.certify_expired(&["greeter.test"]));
    for (conduct, tls, expected) in [
        (
            settings().serve(),
            Tls::new().ca_pem(other.pem()),
            "the server's certificate is of an unknown CA (expected: one of the text given)",
        ),
        (
            settings().serve(),
            Tls::new().ca_pem(namesake.pem()),
            "the server's certificate is of an unknown CA (expected: one of the text given)",
        ),
        (
            expired.serve(),
            trusting(),
            "the server's certificate is refused: certificate expired",
        ),
        (
            with_protocols(&[]).serve(),
            trusting(),
            "the server does not agree on HTTP/2 (expected: the protocol h2 by ALPN)",
        ),
        (
            with_protocols(&["http/1.1"]).serve(),
            trusting(),
            "the server does not agree on HTTP/2 (expected: the protocol h2 by ALPN)",
        ),
        (
            wants_certificates().serve(),
            trusting(),
            "the server refuses our certificate: none is set (it says: CertificateRequired)",
        ),
        (
            wants_certificates().serve(),
            strange(),
            "the server refuses our certificate: the one shown: the text given (it says: UnknownCA)",
        ),
        (
            settings().with_client_ca(&namesake).serve(),
            ours(),
            "the server refuses our certificate: the one shown: the text given (it says: ",
        ),
        (
            in_tls_12().serve(),
            trusting(),
            "the server refuses our certificate: none is set (it says: ",
        ),
        (
            in_tls_12().serve(),
            strange(),
            "the server refuses our certificate: the one shown: the text given (it says: UnknownCA)",
        ),
        (
            wants_certificates().hang_up(),
            ours(),
            "the server asked for a certificate, and then ended the connection: \
             the one shown: the text given (",
        ),
        (
            Conduct::Plaintext,
            trusting(),
            "the server's answer is not TLS (expected: TLS 1.2 or 1.3; it may speak plaintext)",
        ),
        (
            Conduct::Silence,
            trusting(),
            "connected, but no TLS handshake with the server within 20s",
        ),
    ] {
        let message = refusal(&Site::new(conduct), tls).await;
        let begin = format!("service greeter: endpoint {ADDRESS}: cannot connect: ");
        assert!(message.starts_with(&begin), "{message}");
        assert!(message.contains(expected), "{message}, not {expected}");
    }
}

#[tokio::test(start_paused = true)]
async fn c32_without_a_ca_of_its_own_a_channel_trusts_the_systems() {
    let authority = Authority::new("CA");
    let site = Site::new(Settings::new(authority.certify(&["greeter.test"])).serve());
    let error = to(&site, Tls::new())
        .connect()
        .await
        .unwrap_err()
        .to_string();
    // A machine may have none.
    let expected = [
        "unknown CA (expected: one of the system's)",
        "no CA certificates: the system's",
    ];
    assert!(expected.iter().any(|it| error.contains(it)), "{error}");
}

#[tokio::test(start_paused = true)]
async fn c32_a_client_certificate_is_shown_to_who_asks() {
    let authority = Authority::new("CA");
    let settings = Settings::new(authority.certify(&["greeter.test"]));
    let site = Site::new(settings.with_client_ca(&authority).serve());
    let files = Files::new(&authority, &authority.certify(&["client"]));
    let channel = within(SOON, to(&site, files.tls()).connect())
        .await
        .unwrap();
    assert_eq!(served_by(&channel).await, ADDRESS);
}

#[tokio::test(start_paused = true)]
async fn c32_renewed_files_count_from_the_next_connection_on() {
    let old = Authority::new("old CA");
    let new = Authority::new("new CA");
    let serve = |authority: &Authority| {
        let settings = Settings::new(authority.certify(&["greeter.test"]));
        settings.with_client_ca(authority).serve()
    };
    let site = Site::new(serve(&old));
    let files = Files::new(&old, &old.certify(&["client"]));
    let channel = to(&site, files.tls()).connect_lazy().unwrap();
    until_it_is(&channel, ADDRESS, Condition::Ready).await;

    site.becomes(serve(&new));
    until_last_error_is(&channel, "unknown CA").await;
    std::fs::write(&files.ca, new.pem()).unwrap();
    until_last_error_is(&channel, "the server refuses our certificate").await;
    new.certify(&["client"])
        .write(&files.certificate, &files.key);
    until_it_is(&channel, ADDRESS, Condition::Ready).await;
    assert_eq!(served_by(&channel).await, ADDRESS);
}

#[tokio::test(start_paused = true)]
async fn c32_a_file_that_goes_bad_fails_the_attempts_and_is_named() {
    let authority = Authority::new("CA");
    let site = Site::new(Settings::new(authority.certify(&["greeter.test"])).serve());
    let files = Files::new(&authority, &authority.certify(&["client"]));
    let channel = to(&site, files.tls()).connect_lazy().unwrap();
    until_it_is(&channel, ADDRESS, Condition::Ready).await;
    let dials = site.dials().len();

    std::fs::remove_file(&files.ca).unwrap();
    site.becomes(Conduct::Silence);
    let unreadable = format!("unreadable CA certificates: {}", files.ca.display());
    until_last_error_is(&channel, &unreadable).await;
    std::fs::write(&files.ca, "garbage").unwrap();
    let invalid = format!("invalid CA certificates: {}", files.ca.display());
    until_last_error_is(&channel, &invalid).await;
    assert_eq!(site.dials().len(), dials, "the server is left alone");

    site.becomes(Settings::new(authority.certify(&["greeter.test"])).serve());
    std::fs::write(&files.ca, authority.pem()).unwrap();
    until_it_is(&channel, ADDRESS, Condition::Ready).await;
}

async fn until_last_error_is(channel: &Channel, text: &str) {
    until(channel, |state| {
        let error = state.endpoints[0].last_error.as_deref();
        error.is_some_and(|error| error.contains(text))
    })
    .await;
}

#[tokio::test]
async fn c32_bad_settings_are_refused_at_once_and_each_says_what_is_wrong() {
    const NEEDED: &str =
        "a private key in PEM (PKCS#8, PKCS#1 or SEC1; RSA, ECDSA or Ed25519), not encrypted";
    let authority = Authority::new("CA");
    let identity = authority.certify(&["client"]);
    let key_of_another = authority.certify(&["other"]).key;
    let files = Files::new(&authority, &identity);
    let missing = files.ca.with_file_name("missing");
    let missing_text = missing.display();
    let trusting = || Tls::new().ca_pem(authority.pem());
    let certificate_broken_off = &identity.certificate[..200];
    for (tls, expected) in [
        (
            Tls::new().ca_file(&missing),
            format!("unreadable CA certificates: {missing_text} (expected: one or more certificates in PEM)"),
        ),
        (
            Tls::new().ca_pem(""),
            "invalid CA certificates: the text given (expected: one or more certificates in PEM)".into(),
        ),
        (
            Tls::new().ca_pem(certificate_broken_off),
            "invalid CA certificates: the text given (expected: one or more certificates in PEM)".into(),
        ),
        (
            Tls::new().ca_pem("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
            "invalid CA certificates: the text given (expected: one or more certificates in PEM)".into(),
        ),
        (
            Tls::new().ca_file(&files.key),
            format!("invalid CA certificates: {} (expected: one or more certificates in PEM)", files.key.display()),
        ),
        (
            trusting().identity_files(&missing, &files.key),
            format!("unreadable client certificate: {missing_text} (expected: one or more certificates in PEM)"),
        ),
        (
            trusting().identity_files(&files.certificate, &missing),
            format!("unreadable private key: {missing_text} (expected: {NEEDED})"),
        ),
        (
            trusting().identity_files(&files.certificate, &files.certificate),
            format!("invalid private key: {} (expected: {NEEDED})", files.certificate.display()),
        ),
        (
            trusting().identity_pem(&identity.certificate, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
            format!("invalid private key: the text given (expected: {NEEDED})"),
        ),
        (
            trusting().identity_pem(&identity.certificate, &key_of_another),
            "invalid private key: the text given (expected: the one of the certificate: the text given)".into(),
        ),
        (
            trusting().server_name("two words"),
            "invalid server name: \"two words\" (expected: a DNS name or an IP address)".into(),
        ),
        (
            trusting().server_name(""),
            "invalid server name: \"\" (expected: a DNS name or an IP address)".into(),
        ),
    ] {
        let site = Site::new(Conduct::Silence);
        let error = to(&site, tls.clone()).connect_lazy().unwrap_err();
        assert!(matches!(error, BuildError::Tls(_)), "{error:?}");
        assert_eq!(error.to_string(), expected);
        let error = to(&site, tls).connect().await.unwrap_err();
        assert_eq!(error.to_string(), expected);
        assert!(site.dials().is_empty());
    }
}

#[tokio::test]
async fn c32_no_key_is_shown_by_debug_nor_by_an_error() {
    let authority = Authority::new("CA");
    let identity = authority.certify(&["client"]);
    let secret = identity.key.lines().nth(1).unwrap();
    // A key that is broken in ways that parsers like to quote.
    let in_its_first_line = format!("-----BEGIN {secret}");
    let without_an_end = format!("-----BEGIN PRIVATE KEY-----\n{secret}");
    let unreadable = format!("-----BEGIN PRIVATE KEY-----\n{secret}!\n-----END PRIVATE KEY-----");
    for key in [
        &identity.key,
        &in_its_first_line,
        &without_an_end,
        &unreadable,
        secret,
    ] {
        let tls = Tls::new().ca_pem(authority.pem());
        let tls = tls.identity_pem(&identity.certificate, key);
        let swapped = Tls::new()
            .identity_pem(key, &identity.certificate)
            .ca_pem(key);
        for tls in [tls, swapped] {
            let builder = to(&Site::new(Conduct::Silence), tls.clone());
            let shown = format!("{tls:?} {builder:?}");
            let shown = format!("{shown} {:?}", builder.connect_lazy());
            assert!(!shown.contains(&secret[..8]), "{shown}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn c32_a_channel_dials_only_endpoints_of_its_own_kind() {
    let authority = Authority::new("CA");
    let endpoint =
        |address: &str, security| Endpoint::new(address.parse().unwrap()).with_security(security);
    let both = || {
        vec![
            endpoint("plain.test:80", Security::Plaintext),
            endpoint("secure.test:443", Security::Tls),
            // The same address, both ways.
            endpoint("both.test:443", Security::Tls),
            endpoint("both.test:443", Security::Plaintext),
        ]
    };
    let site = Site::new(Settings::new(authority.certify(&["secure.test", "both.test"])).serve());
    let (said, source) = source();
    let secure = builder(&Network::new(), source).connector(site.connector());
    let secure = secure
        .tls(Tls::new().ca_pem(authority.pem()))
        .reserve(without_reserve())
        .connect_lazy()
        .unwrap();
    said.endpoints(both());
    until_ready(&secure, &["both.test:443", "secure.test:443"]).await;
    let mut dials = site.dials();
    dials.sort();
    assert_eq!(dials, ["both.test:443", "secure.test:443"]);

    let network = Network::serving(&["plain.test:80", "both.test:443", "secure.test:443"]);
    let (said_plain, source) = support::source();
    let plain = builder(&network, source).reserve(without_reserve());
    let plain = plain.connect_lazy().unwrap();
    said_plain.endpoints(both());
    until_ready(&plain, &["both.test:443", "plain.test:80"]).await;
    assert!(network.dials("secure.test:443").is_empty());

    said.endpoints(vec![endpoint("plain.test:80", Security::Plaintext)]);
    until_ready(&secure, &[]).await;
    let message = call(&secure).await.unwrap_err().message().to_owned();
    let expected = "no endpoints inside TLS (this channel has TLS set, and 1 are in plaintext)";
    assert!(message.contains(expected), "{message}");
    said_plain.say(Update::Snapshot(vec![endpoint(
        "secure.test:443",
        Security::Tls,
    )]));
    until_ready(&plain, &[]).await;
    let message = call(&plain).await.unwrap_err().message().to_owned();
    let expected = "no endpoints in plaintext (this channel has no TLS set, and 1 are inside TLS)";
    assert!(message.contains(expected), "{message}");
}

#[tokio::test(start_paused = true)]
async fn c32_a_plaintext_call_has_the_scheme_http() {
    let site = Site::new(Conduct::Plaintext);
    let channel = Channel::balance([ADDRESS])
        .unwrap()
        .connector(site.connector());
    let channel = within(SOON, channel.connect()).await.unwrap();
    let reply = client(&channel).say_hello(hello("header:scheme")).await;
    assert_eq!(reply.unwrap().get_ref().message, "http");
}

#[tokio::test(start_paused = true)]
async fn c32_a_handshake_that_is_not_wanted_any_more_is_given_up() {
    let authority = Authority::new("CA");
    let site = Site::new(Conduct::Silence);
    let channel = to(&site, Tls::new().ca_pem(authority.pem()))
        .connect_lazy()
        .unwrap();
    until_it_is(&channel, ADDRESS, Condition::Connecting).await;
    within(Duration::from_secs(1), channel.close()).await;
}
