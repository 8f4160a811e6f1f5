//! A target whose address stands in the status of a Kubernetes object (`ref`).
//!
//! The address is looked up at the first delivery; until it is found, events wait. It can change
//! while the router runs: an ingress is renamed, a broker moves to another namespace or to HTTPS.
//! The address is therefore looked up again in two cases:
//!
//! - every [`ADDRESS_AGE_MAX`],
//! - as soon as the target fails in a way that a wrong address explains, but at most every
//!   [`ADDRESS_CHECK_PAUSE`], so that a broken target does not burden the API server.
//!
//! One request looks it up; the others use the last address meanwhile. If Kubernetes cannot be
//! asked, the last address stays in use.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::Failure;
use super::kubernetes::AddressResolver;
use super::target::{Target, TargetOptions};
use crate::limits::{ADDRESS_AGE_MAX, ADDRESS_CHECK_PAUSE};
use crate::net::target_uri;
use crate::processor::client::target_failure;

/// A target that Kubernetes knows the address of.
#[derive(Debug)]
pub struct ReferredTarget {
    resolver: AddressResolver,
    options: TargetOptions,
    /// Held during a lookup, so that requests that start together look up once.
    lookup: tokio::sync::Mutex<()>,
    known: Mutex<Option<KnownAddress>>,
}

#[derive(Debug)]
struct KnownAddress {
    target: Arc<Target>,
    looked_up_at: Instant,
    /// True if a failure since the last lookup suggests that the address has changed.
    is_doubtful: bool,
    /// The last lookup because of a failure.
    doubted_at: Option<Instant>,
}

impl KnownAddress {
    fn is_due(&self, now: Instant) -> bool {
        let age = |at| now.saturating_duration_since(at);
        age(self.looked_up_at) >= ADDRESS_AGE_MAX
            || (self.is_doubtful && self.doubted_at.is_none_or(|at| age(at) >= ADDRESS_CHECK_PAUSE))
    }
}

impl ReferredTarget {
    pub fn new(resolver: AddressResolver, options: TargetOptions) -> Self {
        let (lookup, known) = (tokio::sync::Mutex::default(), Mutex::default());
        ReferredTarget { resolver, options, lookup, known }
    }

    /// The target at the last known address.
    pub fn known(&self) -> Option<Arc<Target>> {
        self.state().as_ref().map(|known| Arc::clone(&known.target))
    }

    /// The target at the last known address, unless this request is to look it up again.
    pub fn current(&self) -> Option<Arc<Target>> {
        let state = self.state();
        let known = state.as_ref()?;
        let is_looked_up = self.lookup.try_lock().is_err();
        (is_looked_up || !known.is_due(Instant::now())).then(|| Arc::clone(&known.target))
    }

    /// Looks the address up. Without an answer the last known one stays in use.
    pub async fn find(&self) -> Result<Arc<Target>, Failure> {
        let _lookup = self.lookup.lock().await;
        // Another request may have looked it up meanwhile.
        if let Some(known) = &*self.state()
            && !known.is_due(Instant::now())
        {
            return Ok(Arc::clone(&known.target));
        }
        let found = self.look_up().await;
        let mut state = self.state();
        let target = match (found, &*state) {
            (Ok(target), _) => target,
            (Err(failure), None) => return Err(failure),
            (Err(failure), Some(known)) => {
                let object = self.resolver.object();
                tracing::warn!(object, reason = failure.reason, "keeping the address found in Kubernetes");
                Arc::clone(&known.target)
            }
        };
        let now = Instant::now();
        let doubted_at =
            state.as_ref().and_then(|known| if known.is_doubtful { Some(now) } else { known.doubted_at });
        let known = Arc::clone(&target);
        *state = Some(KnownAddress { target: known, looked_up_at: now, is_doubtful: false, doubted_at });
        Ok(target)
    }

    async fn look_up(&self) -> Result<Arc<Target>, Failure> {
        let url = self.resolver.url().await?;
        let object = self.resolver.object();
        let known = self.known();
        if let Some(known) = &known
            && target_uri(&url).is_ok_and(|uri| uri == known.uri)
        {
            return Ok(Arc::clone(known));
        }
        let target =
            Target::new(&url, &self.options).map_err(|error| target_failure(format!("{object}: {error}")))?;
        let new = &target.shown;
        match known {
            None => tracing::info!(object, address = new, "found the address in Kubernetes"),
            Some(known) => {
                let old = &known.shown;
                tracing::info!(object, address = new, old, "the address in Kubernetes has changed");
            }
        }
        Ok(Arc::new(target))
    }

    /// Notes a failed delivery. A wrong address explains no answer, a redirect, 404, 410, and the
    /// errors of a gateway that has lost its backend.
    pub fn failed(&self, failure: &Failure) {
        if matches!(failure.status, None | Some(300..=399 | 404 | 410 | 502..=504))
            && let Some(known) = &mut *self.state()
        {
            known.is_doubtful = true;
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, Option<KnownAddress>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
