//! The services that there are: a list of keys, page by page, at one revision.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use switchboard_resolver::Cause;

use crate::{
    Layout, Registry, ServiceName, clock,
    etcd::{EtcdError, KeyPage, KeyRange, Kind, PageSize, Part},
    retry::RETRY,
};

/// Why the services cannot be listed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ServicesError {
    /// The layout lies at the root of etcd, where keys may be anybody's.
    #[error(
        "cannot list services in layout {0} (expected: one in a namespace; see Layout::in_namespace)"
    )]
    NoNamespace(Layout),
    /// etcd does not let us.
    #[error("etcd refuses to list the services")]
    Denied(#[source] Cause),
    /// etcd cannot be reached, or cannot answer.
    #[error("cannot list the services")]
    Unavailable(#[source] Cause),
}

/// How often a list begins anew whose revision was compacted while it was read: etcd compacts every
/// few minutes, and a list takes seconds.
const ATTEMPTS: usize = 3;

/// For how long it is begun anew where etcd, or the member of it that was asked, does not answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Lists the services under the prefix that they share.
pub(crate) async fn list(registry: &Registry) -> Result<Vec<ServiceName>, ServicesError> {
    let layout = registry.place.layout;
    let prefix = layout.shared_prefix(&registry.place.namespace);
    let range = KeyRange::Under(prefix.ok_or(ServicesError::NoNamespace(layout))?);
    let (mut attempts, mut size) = (1, PageSize::default());
    let (mut failures, until) = (0, clock::now() + PATIENCE);
    loop {
        match pages(registry, layout, &range, size).await {
            Ok(services) => return Ok(services.into_iter().collect()),
            Err(error) if error.kind == Kind::Compacted && attempts < ATTEMPTS => attempts += 1,
            Err(error) if error.kind == Kind::Denied => {
                return Err(ServicesError::Denied(Arc::new(error)));
            }
            Err(error)
                if matches!(error.kind, Kind::Unsent | Kind::Other) && clock::now() < until =>
            {
                failures += 1;
                let wait = RETRY.delay(failures, fastrand::f64());
                clock::until(Some((clock::now() + wait).min(until))).await;
            }
            Err(error) => match size.smaller() {
                Some(smaller) if error.kind == Kind::TooLarge => size = smaller,
                _ => return Err(ServicesError::Unavailable(Arc::new(error))),
            },
        }
    }
}

async fn pages(
    registry: &Registry,
    layout: Layout,
    range: &KeyRange,
    size: PageSize,
) -> Result<BTreeSet<ServiceName>, EtcdError> {
    let etcd = &registry.shared.etcd;
    let part = if layout.has_shared_prefix() {
        Part::Whole
    } else {
        Part::KeysOnly
    };
    let (mut services, mut after, mut revision) = (BTreeSet::new(), None, 0);
    loop {
        let page = etcd.list(range, after.as_deref(), revision, size, part);
        let page = page.await?;
        let KeyPage { keys, more, .. } = page;
        if revision == 0 {
            revision = page.revision;
        }
        for kv in &keys {
            let behind = &kv.key[range.start().len()..];
            services.extend(layout.service_of(behind, &kv.value));
        }
        after = keys.into_iter().next_back().map(|kv| kv.key);
        if !more || after.is_none() {
            return Ok(services);
        }
    }
}
