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
//!
//! An address with an `audience` needs a token for it (OIDC): that of `auth.tokenFile`, which the
//! client reads again when Kubernetes replaces it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::Failure;
use super::kubernetes::{AddressResolver, Addressable};
use super::target::{Target, TargetOptions};
use crate::limits::{ADDRESS_AGE_MAX, ADDRESS_CHECK_PAUSE, EXCERPT_BYTES_MAX};
use crate::net::settings::Auth;
use crate::outside;
use crate::processor::client::target_failure;
use crate::processor::token::audiences;

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
    /// The address that the target was made of.
    address: Addressable,
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
        let (target, address) = match (found, &*state) {
            (Ok(found), _) => found,
            (Err(failure), None) => return Err(failure),
            (Err(failure), Some(known)) => {
                let object = self.resolver.object();
                tracing::warn!(object, reason = failure.reason, "keeping the address found in Kubernetes");
                (Arc::clone(&known.target), known.address.clone())
            }
        };
        let now = Instant::now();
        let doubted_at =
            state.as_ref().and_then(|known| if known.is_doubtful { Some(now) } else { known.doubted_at });
        *state = Some(KnownAddress {
            target: Arc::clone(&target),
            address,
            looked_up_at: now,
            is_doubtful: false,
            doubted_at,
        });
        Ok(target)
    }

    async fn look_up(&self) -> Result<(Arc<Target>, Addressable), Failure> {
        let address = self.resolver.address().await?;
        let object = self.resolver.object();
        let old = match &*self.state() {
            Some(known) if known.address == address => return Ok((Arc::clone(&known.target), address)),
            known => known.as_ref().map(|known| known.target.shown.clone()),
        };
        let failure = |reason: String| target_failure(format!("{object}: {reason}"));
        self.check_token(&address).map_err(failure)?;
        let target = Target::new(&address.url, &self.options_for(&address));
        let target = target.map_err(|error| failure(error.to_string()))?;
        let new = &target.shown;
        match old {
            None => tracing::info!(object, address = new, "found the address in Kubernetes"),
            Some(old) => tracing::info!(object, address = new, old, "the address in Kubernetes has changed"),
        }
        Ok((Arc::new(target), address))
    }

    /// The options of the connection to `address`, with its roots.
    fn options_for(&self, address: &Addressable) -> TargetOptions {
        let mut options = self.options.clone();
        if let Some(of_address) = &address.ca_certs {
            let tls = &mut options.http.tls;
            tls.ca_certs = Some(match tls.ca_certs.take() {
                None => of_address.clone(),
                Some(configured) => format!("{configured}\n{of_address}"),
            });
        }
        options
    }

    /// Checks that there is a token if the address requires one. A token for another audience only
    /// causes a warning, since the target decides.
    fn check_token(&self, address: &Addressable) -> Result<(), String> {
        let Some(audience) = &address.audience else { return Ok(()) };
        let is_auth = |(name, _): &(String, _)| name.eq_ignore_ascii_case("authorization");
        if self.options.headers.iter().any(is_auth) {
            return Ok(());
        }
        let shown = outside::text(audience, EXCERPT_BYTES_MAX);
        let Auth::Bearer { token } = &self.options.auth else {
            return Err(format!(
                "it accepts only requests with a token for the audience `{shown}`; project such a service account token into the pod, and name its file in `auth.tokenFile`"
            ));
        };
        let own = token.read().ok().and_then(|token| audiences(&token));
        if own.is_some_and(|own| !own.contains(audience)) {
            let object = self.resolver.object();
            tracing::warn!(object, audience = shown, "the token is not for the audience of the target");
        }
        Ok(())
    }

    /// Adds the audience to the reason of a refused token, unless a rotation explains it.
    pub fn explain(&self, failure: &mut Failure) {
        if failure.status == Some(401)
            && !failure.is_certain
            && let Some(known) = &*self.state()
            && let Some(audience) = &known.address.audience
        {
            let audience = outside::text(audience, EXCERPT_BYTES_MAX);
            failure.reason += &format!("; the token in `auth` must be for the audience `{audience}`");
        }
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
