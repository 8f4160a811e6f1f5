//! The calls that reading events needs, as a trait. In production the client implements it, in
//! tests a simulated vCenter does.

use std::future::Future;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use crate::source::vcenter::client::{CallError, Client, PageRead};
use vsphere::api::{
    About, EventFilterSpec, EventInfo, EventPosition, FaultKind, MoRef, ServiceContent, Update,
};
use vsphere::{PageBody, Wire};

/// The server's objects behind the waker: a collector, and the PropertyCollector that watches its
/// latestPage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waker {
    pub collector: MoRef,
    pub property_collector: MoRef,
}

/// A vCenter with at most one session. Several calls may be in flight at a time. Every call ends by
/// itself, at the latest by its time-out.
pub trait EventApi: Send + Sync + 'static {
    /// The form of the API that [`EventApi::open`] has negotiated.
    fn wire(&self) -> Wire;
    /// Negotiates the API version and reads the server's description. Needs no session.
    fn open(&self) -> impl Future<Output = Result<About, CallError>> + Send;
    fn login(&self, username: &str, password: &str) -> impl Future<Output = Result<(), CallError>> + Send;
    fn logout(&self) -> impl Future<Output = Result<(), CallError>> + Send;
    /// vCenter's time, microseconds since 1970 UTC. Some servers answer without a session, so a
    /// success does not prove that there is one.
    fn current_time_us(&self) -> impl Future<Output = Result<i64, CallError>> + Send;
    fn create_collector(
        &self,
        spec: &EventFilterSpec,
    ) -> impl Future<Output = Result<MoRef, CallError>> + Send;
    /// Reads the next page. Times out after `silence_max` without a byte. Not idempotent.
    fn read_next(
        &self,
        collector: &MoRef,
        events: u32,
        silence_max: Duration,
    ) -> impl Future<Output = Result<PageRead, CallError>> + Send;
    /// The newest `spec.max_count` events of `spec`.
    fn query(
        &self,
        spec: &EventFilterSpec,
    ) -> impl Future<Output = Result<Option<PageBody>, CallError>> + Send;
    fn destroy_collector(&self, collector: &MoRef) -> impl Future<Output = Result<(), CallError>> + Send;
    /// vCenter's latest event; `None` if the server does not report it. Fails without a session.
    fn latest_event(&self) -> impl Future<Output = Result<Option<EventPosition>, CallError>> + Send;
    /// The event types that vCenter knows.
    fn event_info(&self) -> impl Future<Output = Result<Vec<EventInfo>, CallError>> + Send;
    /// Watches the newest event of `spec`.
    fn create_waker(&self, spec: &EventFilterSpec) -> impl Future<Output = Result<Waker, CallError>> + Send;
    /// Waits until the newest event differs from the one at `version`, for at most `max_wait`.
    fn wait(
        &self,
        waker: &Waker,
        version: &str,
        max_wait: Duration,
    ) -> impl Future<Output = Result<Option<Update>, CallError>> + Send;
    fn destroy_waker(&self, waker: &Waker) -> impl Future<Output = Result<(), CallError>> + Send;
}

/// The client of a real vCenter.
#[derive(Debug)]
pub struct ClientApi {
    client: Client,
    content: RwLock<Option<Arc<ServiceContent>>>,
}

impl ClientApi {
    pub fn new(client: Client) -> Self {
        ClientApi { client, content: RwLock::new(None) }
    }

    fn content(&self) -> Result<Arc<ServiceContent>, CallError> {
        let content = self.content.read().unwrap_or_else(PoisonError::into_inner).clone();
        content.ok_or_else(|| CallError::Setup("the vCenter has not been asked what it is".to_string()))
    }
}

impl EventApi for ClientApi {
    fn wire(&self) -> Wire {
        self.client.wire()
    }

    async fn open(&self) -> Result<About, CallError> {
        let content = self.client.open().await?;
        let about = content.about.clone();
        *self.content.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(content));
        Ok(about)
    }

    async fn login(&self, username: &str, password: &str) -> Result<(), CallError> {
        self.client.login(&self.content()?.session_manager, username, password).await
    }

    async fn logout(&self) -> Result<(), CallError> {
        self.client.logout(&self.content()?.session_manager).await
    }

    async fn current_time_us(&self) -> Result<i64, CallError> {
        self.client.current_time_us().await
    }

    async fn create_collector(&self, spec: &EventFilterSpec) -> Result<MoRef, CallError> {
        self.client.create_collector_for_events(&*self.content()?, spec).await
    }

    async fn read_next(
        &self,
        collector: &MoRef,
        events: u32,
        silence_max: Duration,
    ) -> Result<PageRead, CallError> {
        self.client.read_next_events(collector, events, silence_max).await
    }

    async fn query(&self, spec: &EventFilterSpec) -> Result<Option<PageBody>, CallError> {
        self.client.query_events(&*self.content()?, spec).await
    }

    async fn destroy_collector(&self, collector: &MoRef) -> Result<(), CallError> {
        self.client.destroy_collector(collector).await
    }

    async fn latest_event(&self) -> Result<Option<EventPosition>, CallError> {
        self.client.latest_event(&*self.content()?).await
    }

    async fn event_info(&self) -> Result<Vec<EventInfo>, CallError> {
        self.client.event_info(&*self.content()?).await
    }

    async fn create_waker(&self, spec: &EventFilterSpec) -> Result<Waker, CallError> {
        let content = self.content()?;
        let collector = self.client.create_collector_for_events(&content, spec).await?;
        // `maxCount` in the filter exists since 6.5, and some servers only respect the page size.
        // So both are set.
        match self.client.set_collector_page_size(&collector, 1).await {
            Err(error) if matches!(error.fault(), None | Some(FaultKind::NotAuthenticated)) => {
                return Err(error);
            }
            _ => {}
        }
        let watched = async {
            let property_collector = self.client.create_property_collector(&content).await?;
            self.client.create_filter(&property_collector, &collector, &["latestPage"]).await?;
            Ok(property_collector)
        };
        match watched.await {
            Ok(property_collector) => Ok(Waker { collector, property_collector }),
            Err(error) => {
                // The first error is the one to report.
                let _ = self.client.destroy_collector(&collector).await;
                Err(error)
            }
        }
    }

    async fn wait(
        &self,
        waker: &Waker,
        version: &str,
        max_wait: Duration,
    ) -> Result<Option<Update>, CallError> {
        self.client.wait_for_updates(&waker.property_collector, version, max_wait).await
    }

    async fn destroy_waker(&self, waker: &Waker) -> Result<(), CallError> {
        // The server may still be busy with a wait whose connection was dropped. Some servers
        // return a fault if there is none.
        let _ = self.client.cancel_wait_for_updates(&waker.property_collector).await;
        let watching = self.client.destroy_property_collector(&waker.property_collector).await;
        self.client.destroy_collector(&waker.collector).await?;
        watching
    }
}
