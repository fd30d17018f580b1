//! Reads the spellings of a target.

use std::str::FromStr;

use switchboard_resolver::{Address, Security};

use super::{
    Addresses, Choice, DirectTarget, DnsTarget, EtcdTarget, PartialPlace, ServiceTarget, Target,
    TargetError, UnixTarget, escape, parameters::Parameters,
};
use crate::{Layout, ServiceName};

const ETCD: &str = "etcd://host:port,.../service or etcd:///service";
const NOBODY: &str = "etcd://host:port,.../service; without a service nobody is called, and parameters choose nobody";
const ETCDS: &str = "etcds://host:port,.../service; the default registry has its own setting";
const GO_ZERO: &str = "etcd:///host:port,...?key=service, without layout and namespace";
const DISCOVERY: &str = "discovery:///service, without layout, namespace and key";
const URLS: &str = "http://host:port,... or https://host:port,... without a path; etcd://host:port,.../service names a service";
const DNS: &str =
    "dns:///host:port, one, without parameters of etcd; the system knows its name servers";
const UNIX: &str = "unix:/path or unix:///path, without parameters of etcd; '?', '#' and '@' in a path are %3F, %23 and %40";
const DIRECT: &str = "direct:///host:port,..., without parameters of etcd";

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        if text.contains('@') {
            return Err(TargetError::UserInfo);
        }
        if text.contains('#') {
            return Err(TargetError::Fragment);
        }
        let (place, query) = match text.split_once('?') {
            Some((place, query)) => (place, Some(query)),
            None => (text, None),
        };
        // `unix:/run/x` has a scheme too; the port of a host is never followed by its `/` at once.
        match place.split_once(":/") {
            None => bare(place, Parameters::parse(query)?),
            Some(("etcd", rest)) => etcd(Security::Plaintext, rest, Parameters::parse(query)?),
            Some(("etcds", rest)) => etcd(Security::Tls, rest, Parameters::parse(query)?),
            Some(("discovery", rest)) => discovery(rest, Parameters::parse(query)?),
            Some(("direct", rest)) => direct(rest, Parameters::parse(query)?),
            Some(("http", _)) => urls(
                "http://",
                Security::Plaintext,
                place,
                Parameters::parse(query)?,
            ),
            Some(("https", _)) => urls("https://", Security::Tls, place, Parameters::parse(query)?),
            Some(("dns", rest)) => dns(rest, Parameters::parse(query)?),
            Some(("unix", rest)) => unix(rest, Parameters::parse(query)?),
            Some((scheme, _)) => Err(TargetError::Scheme(scheme.to_owned())),
        }
    }
}

/// `h1:2379,h2:2379`, and all that may follow the endpoints of an `etcd://` target.
fn bare(rest: &str, parameters: Parameters) -> Result<Target, TargetError> {
    match rest.split('/').next() {
        None | Some("") => Err(TargetError::NoEndpoint),
        Some(word) if word == rest && !word.contains([':', ',', '%']) => {
            Err(TargetError::Word(word.to_owned()))
        }
        Some(_) => etcd(Security::Plaintext, &format!("/{rest}"), parameters),
    }
}

/// `http://h1:2379,http://h2:2379`, as etcd and its tools have it.
fn urls(
    scheme: &str,
    security: Security,
    list: &str,
    parameters: Parameters,
) -> Result<Target, TargetError> {
    let host = |url: &'_ str| -> String {
        let url = url.trim();
        let url = url.strip_prefix(scheme).unwrap_or(url);
        url.strip_suffix('/').unwrap_or(url).to_owned()
    };
    let hosts = list.split(',').map(host).collect::<Vec<_>>().join(",");
    if hosts.contains('/') {
        return Err(TargetError::Form(URLS));
    }
    etcd(security, &format!("/{hosts}"), parameters)
}

fn etcd(security: Security, rest: &str, parameters: Parameters) -> Result<Target, TargetError> {
    let (hosts, path) = authority_and_path(rest).ok_or(TargetError::Form(ETCD))?;
    if let Some(key) = parameters.key {
        let others = (parameters.layout, parameters.namespace);
        if !hosts.is_empty() || others != (None, None) {
            return Err(TargetError::Form(GO_ZERO));
        }
        return go_zero(security, path, key, parameters.choice);
    }
    let service = match path {
        "" => None,
        path => Some(escape::decode(path)?.parse()?),
    };
    let place = PartialPlace {
        namespace: parameters.namespace,
        layout: parameters.layout,
    };
    let choice = parameters.choice;
    if service.is_none() && choice != Choice::default() {
        return Err(TargetError::Form(NOBODY));
    }
    match (hosts, service, security) {
        ("", None, _) => Err(TargetError::NoEndpoint),
        ("", Some(_), Security::Tls) => Err(TargetError::Form(ETCDS)),
        ("", Some(service), Security::Plaintext) => Ok(Target::Service(ServiceTarget {
            service,
            place,
            choice,
        })),
        (hosts, service, security) => Ok(Target::Etcd(EtcdTarget {
            addresses: Addresses::parse(hosts)?,
            security,
            service,
            place,
            choice,
        })),
    }
}

/// The list is in the path, as go-zero has it (its `zrpc/resolver`).
fn go_zero(
    security: Security,
    path: &str,
    key: ServiceName,
    choice: Choice,
) -> Result<Target, TargetError> {
    Ok(Target::Etcd(EtcdTarget {
        addresses: Addresses::parse(path)?,
        security,
        service: Some(key),
        place: PartialPlace {
            namespace: None,
            layout: Some(Layout::go_zero()),
        },
        choice,
    }))
}

/// kratos' own spelling (its `transport/grpc/resolver/discovery`).
fn discovery(rest: &str, parameters: Parameters) -> Result<Target, TargetError> {
    let choice = parameters.choice_alone(DISCOVERY)?;
    let service = rest
        .strip_prefix("//")
        .ok_or(TargetError::Form(DISCOVERY))?;
    Ok(Target::Service(ServiceTarget {
        service: escape::decode(service)?.parse()?,
        place: PartialPlace {
            namespace: None,
            layout: Some(Layout::kratos()),
        },
        choice,
    }))
}

fn direct(rest: &str, parameters: Parameters) -> Result<Target, TargetError> {
    let choice = parameters.choice_without_etcd(DIRECT)?;
    let addresses = rest.strip_prefix("//").ok_or(TargetError::Form(DIRECT))?;
    Ok(Target::Direct(DirectTarget {
        addresses: Addresses::parse(addresses)?,
        choice,
    }))
}

/// One name: gRPC's own spelling, without a name server in it.
fn dns(rest: &str, parameters: Parameters) -> Result<Target, TargetError> {
    let choice = parameters.choice_without_etcd(DNS)?;
    let name = rest.strip_prefix("//").ok_or(TargetError::Form(DNS))?;
    let addresses = Addresses::parse(name)?;
    match addresses.as_slice() {
        [name] if !name.is_unspecified() => Ok(Target::Dns(DnsTarget {
            name: name.clone(),
            choice,
        })),
        _ => Err(TargetError::Form(DNS)),
    }
}

/// An absolute path, with or without an empty authority before it, as gRPC has both.
fn unix(rest: &str, parameters: Parameters) -> Result<Target, TargetError> {
    let choice = parameters.choice_without_etcd(UNIX)?;
    let path = match rest.strip_prefix("//") {
        Some(path) => path,
        None => rest,
    };
    // A second `/` would begin an authority.
    if path.starts_with('/') {
        return Err(TargetError::Form(UNIX));
    }
    let path = format!("/{}", escape::decode(path)?);
    Ok(Target::Unix(UnixTarget {
        address: Address::unix(path)?,
        choice,
    }))
}

/// Splits what follows `etcd:/`; `None` if that is not `/authority` or `/authority/path`.
fn authority_and_path(rest: &str) -> Option<(&str, &str)> {
    let rest = rest.strip_prefix('/')?;
    Some(rest.split_once('/').unwrap_or((rest, "")))
}
