//! The calls of the client: one method for each call of vSphere's API.
//!
//! The client can be shared behind an `Arc`. Several calls may be in flight at a time, each on a
//! connection of its own.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use uuid::Uuid;

use crate::limits::{CONTROL_BYTES_MAX, PAGE_BYTES_MAX};
use crate::source::vcenter::settings::Protocol;
use vsphere::api::call::{Argument, Call, Members, event_filter, property_filter};
use vsphere::api::envelope::{envelope, is_sendable};
use vsphere::api::{
    About, Element, EventFilterSpec, EventInfo, EventPosition, FaultKind, MoRef, ServiceContent, Update,
    Version, json, parse_us,
};
use vsphere::decode::salvage;
use vsphere::{PageBody, Wire};

use super::answer::{json_page, malformed, property_of, response, soap_page};
use super::error::CallError;
use super::transport::{HttpAnswer, Options, Transport};

/// A client of one vCenter with at most one session.
pub struct Client {
    transport: Transport,
    protocol: Protocol,
    spoken: RwLock<Spoken>,
}

/// A page as it arrived.
#[derive(Debug)]
pub struct PageRead {
    /// `None` if the collector has no more events.
    pub page: Option<PageBody>,
    /// The longest time without a byte of the answer.
    pub silence: Duration,
    /// The time from the first byte of the answer to the last.
    pub transfer: Duration,
}

/// The negotiated protocol. Before [`Client::open`] it is the oldest one, which every vCenter
/// understands.
#[derive(Clone, Debug)]
struct Spoken {
    wire: Wire,
    version: Arc<Version>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The session is left out: while it lives it is worth as much as the password.
        f.debug_struct("Client").field("spoken", &self.spoken()).finish_non_exhaustive()
    }
}

impl Client {
    /// A client that has sent nothing yet.
    pub fn new(options: &Options) -> Result<Client, CallError> {
        let spoken = Spoken { wire: Wire::Soap, version: Arc::default() };
        let transport = Transport::new(options)?;
        Ok(Client { transport, protocol: options.protocol, spoken: RwLock::new(spoken) })
    }

    /// The version that is sent with each call.
    pub fn version(&self) -> Arc<Version> {
        self.spoken().version
    }

    /// The protocol of the calls.
    pub fn wire(&self) -> Wire {
        self.spoken().wire
    }

    fn spoken(&self) -> Spoken {
        self.spoken.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn speak(&self, wire: Wire, version: Version) {
        let spoken = Spoken { wire, version: Arc::new(version) };
        *self.spoken.write().unwrap_or_else(PoisonError::into_inner) = spoken;
    }

    /// Negotiates the protocol and the version, and reads the server's description. Needs no
    /// session. Called before each login, since the vCenter may have been upgraded.
    pub async fn open(&self) -> Result<ServiceContent, CallError> {
        match self.protocol {
            Protocol::Soap => self.open_soap().await,
            Protocol::ViJson => {
                let version = self.hello().await?.unwrap_or_else(Version::oldest_json);
                self.open_json(version).await
            }
            Protocol::Auto => match self.negotiate().await {
                Ok(Some(content)) => Ok(content),
                // SOAP would fail in the same way.
                Err(error @ (CallError::Connect { .. } | CallError::Tls { .. })) => Err(error),
                Ok(None) => self.open_soap().await,
                Err(error) => {
                    tracing::debug!(%error, "this server does not speak VI/JSON; using SOAP");
                    self.open_soap().await
                }
            },
        }
    }

    /// Opens VI/JSON if the server offers it.
    async fn negotiate(&self) -> Result<Option<ServiceContent>, CallError> {
        match self.hello().await? {
            Some(version) => self.open_json(version).await.map(Some),
            None => Ok(None),
        }
    }

    /// The newest release of VI/JSON that both sides know; `None` if the server does not negotiate.
    async fn hello(&self) -> Result<Option<Version>, CallError> {
        let method = "hello";
        let body = json::hello(Version::json_releases());
        let answer = self.transport.post_api(method, "/api/vcenter/system?action=hello", body).await?;
        match (answer.status.as_u16(), json::release(&answer.body)) {
            (200, Some(release)) if release.is_empty() => Err(malformed(
                method,
                "this vCenter speaks no release of VI/JSON that the router knows; configure `protocol: soap`",
            )),
            (200, Some(release)) => Ok(Some(Version::chosen(release))),
            (404, _) => Ok(None),
            (status, _) => Err(CallError::foreign(method, status, &answer.body, false)),
        }
    }

    async fn open_json(&self, version: Version) -> Result<ServiceContent, CallError> {
        self.speak(Wire::ViJson, version);
        self.retrieve_service_content().await
    }

    async fn open_soap(&self) -> Result<ServiceContent, CallError> {
        let method = "vimServiceVersions.xml";
        let answer = self.transport.get(method, "/vimServiceVersions.xml", CONTROL_BYTES_MAX).await?;
        let listed = match answer.status.as_u16() {
            200 => Element::parse(&answer.body).ok().and_then(|root| Version::negotiate(&root)),
            // Servers before 4.0 and simulators have no such file.
            404 => None,
            status => return Err(CallError::foreign(method, status, &answer.body, false)),
        };
        self.speak(Wire::Soap, listed.clone().unwrap_or_default());
        let content = self.retrieve_service_content().await?;
        if listed.is_none() {
            self.speak(Wire::Soap, Version::for_api(&content.about.api_version));
        }
        Ok(content)
    }

    async fn retrieve_service_content(&self) -> Result<ServiceContent, CallError> {
        let method = "RetrieveServiceContent";
        let content =
            self.value(Call::new(method, &MoRef::new("ServiceInstance", "ServiceInstance")), method).await?;
        let moref = |name: &str| {
            content
                .child(name)
                .and_then(MoRef::of)
                .ok_or_else(|| malformed(method, format_args!("no `{name}`: is this a vCenter?")))
        };
        let about =
            content.child("about").ok_or_else(|| malformed(method, "no `about`: is this a vCenter?"))?;
        Ok(ServiceContent {
            root_folder: moref("rootFolder")?,
            property_collector: moref("propertyCollector")?,
            session_manager: moref("sessionManager")?,
            event_manager: moref("eventManager")?,
            about: About {
                full_name: about.text_of("fullName").to_string(),
                api_version: about.text_of("apiVersion").to_string(),
                api_type: about.text_of("apiType").to_string(),
                instance_uuid: Uuid::try_parse(about.text_of("instanceUuid")).ok(),
            },
        })
    }

    /// Logs in. Every later call carries the session.
    pub async fn login(&self, manager: &MoRef, username: &str, password: &str) -> Result<(), CallError> {
        let method = "Login";
        if self.wire() == Wire::Soap && (!is_sendable(username) || !is_sendable(password)) {
            return Err(CallError::Setup(
                "`username` or `password` holds a control character, which SOAP cannot carry".to_string(),
            ));
        }
        self.transport.forget_session();
        // A fixed locale: the texts of events, and functions that read them, must not depend on the
        // machine.
        let call = Call::new(method, manager)
            .text("userName", username)
            .text("password", password)
            .text("locale", "en_US");
        self.value(call, method).await.map(drop)
    }

    /// Ends the session.
    pub async fn logout(&self, manager: &MoRef) -> Result<(), CallError> {
        let method = "Logout";
        let ended = self.control(Call::new(method, manager), method, self.transport.call_timeout()).await;
        self.transport.forget_session();
        ended.map(drop)
    }

    /// vCenter's time, microseconds since 1970 UTC.
    pub async fn current_time_us(&self) -> Result<i64, CallError> {
        let method = "CurrentTime";
        let value =
            self.value(Call::new(method, &MoRef::new("ServiceInstance", "ServiceInstance")), method).await?;
        parse_us(&value.text).ok_or_else(|| malformed(method, "not a time"))
    }

    /// Creates an EventHistoryCollector, positioned before its oldest event.
    pub async fn create_collector_for_events(
        &self,
        content: &ServiceContent,
        spec: &EventFilterSpec,
    ) -> Result<MoRef, CallError> {
        let method = "CreateCollectorForEvents";
        let filter = event_filter(spec, &content.root_folder, &self.version());
        let call = Call::new(method, &content.event_manager).with("filter", filter);
        self.moref(call, method).await
    }

    /// Sets the size of latestPage, 1 to 1,000 events. Called before the first read.
    pub async fn set_collector_page_size(&self, collector: &MoRef, events: u32) -> Result<(), CallError> {
        let method = "SetCollectorPageSize";
        let call = Call::new(method, collector).number("maxCount", events);
        self.control(call, method, self.transport.call_timeout()).await.map(drop)
    }

    /// Reads the next events of a collector, up to 1,000. Times out after `silence_max` without a
    /// byte. Moves the server's cursor, so the collector is useless after an error.
    pub async fn read_next_events(
        &self,
        collector: &MoRef,
        events: u32,
        silence_max: Duration,
    ) -> Result<PageRead, CallError> {
        let method = "ReadNextEvents";
        let call = Call::new(method, collector).number("maxCount", events);
        self.page(call, method, silence_max).await
    }

    /// Reads the events of a filter. If there are more than `spec.max_count` or vCenter's own
    /// limit, it returns the newest ones.
    pub async fn query_events(
        &self,
        content: &ServiceContent,
        spec: &EventFilterSpec,
    ) -> Result<Option<PageBody>, CallError> {
        let method = "QueryEvents";
        let filter = event_filter(spec, &content.root_folder, &self.version());
        let call = Call::new(method, &content.event_manager).with("filter", filter);
        Ok(self.page(call, method, self.transport.call_timeout()).await?.page)
    }

    /// Destroys a collector. A missing one is no error.
    pub async fn destroy_collector(&self, collector: &MoRef) -> Result<(), CallError> {
        self.destroy("DestroyCollector", collector).await
    }

    /// `EventManager.latestEvent`; `None` if there is no event or the server lacks the property.
    ///
    /// Key and time are salvaged from an event that is not well-formed. Otherwise the watchdog
    /// would be blind until the next event.
    pub async fn latest_event(&self, content: &ServiceContent) -> Result<Option<EventPosition>, CallError> {
        let path = "latestEvent";
        let call = retrieve(content, &content.event_manager, path);
        let (wire, answer) = self.send(&call, self.transport.call_timeout(), CONTROL_BYTES_MAX).await?;
        match property_of(response(call.method, wire, &answer), path) {
            Err(error @ CallError::Malformed { .. }) => {
                salvage::position(wire, &answer.body).map(Some).ok_or(error)
            }
            value => Ok(value?.as_ref().and_then(EventPosition::of)),
        }
    }

    /// The event classes and type ids that this vCenter knows.
    pub async fn event_info(&self, content: &ServiceContent) -> Result<Vec<EventInfo>, CallError> {
        let value = self.property(content, &content.event_manager, "description.eventInfo").await?;
        let entries = value.iter().flat_map(|value| value.children("EventDescriptionEventDetail"));
        Ok(entries
            .map(|entry| EventInfo {
                key: entry.text_of("key").to_string(),
                description: entry.text_of("description").to_string(),
                category: entry.text_of("category").to_string(),
                full_format: entry.text_of("fullFormat").to_string(),
            })
            .collect())
    }

    /// One property of one object; `None` if it is unset or the server lacks it.
    pub async fn property(
        &self,
        content: &ServiceContent,
        object: &MoRef,
        path: &str,
    ) -> Result<Option<Element>, CallError> {
        let call = retrieve(content, object, path);
        let (wire, answer) = self.send(&call, self.transport.call_timeout(), CONTROL_BYTES_MAX).await?;
        property_of(response(call.method, wire, &answer), path)
    }

    /// Creates a PropertyCollector for this session alone. On a shared one, destroying a filter
    /// could disturb other users.
    pub async fn create_property_collector(&self, content: &ServiceContent) -> Result<MoRef, CallError> {
        let method = "CreatePropertyCollector";
        self.moref(Call::new(method, &content.property_collector), method).await
    }

    /// Watches `paths` of one object.
    pub async fn create_filter(
        &self,
        property_collector: &MoRef,
        object: &MoRef,
        paths: &[&str],
    ) -> Result<MoRef, CallError> {
        let method = "CreateFilter";
        let call = Call::new(method, property_collector)
            .with("spec", property_filter(object, paths))
            .with("partialUpdates", Argument::Flag(false));
        self.moref(call, method).await
    }

    /// Waits until the watched properties differ from `version` ("" the first time), for at most
    /// `max_wait` (whole seconds). Returns `None` after that time. The call's time-out is
    /// `max_wait` plus that of a normal call.
    pub async fn wait_for_updates(
        &self,
        property_collector: &MoRef,
        version: &str,
        max_wait: Duration,
    ) -> Result<Option<Update>, CallError> {
        let method = "WaitForUpdatesEx";
        let seconds = u32::try_from(max_wait.as_secs()).unwrap_or(u32::MAX);
        let options = Members(vec![("maxWaitSeconds", Argument::Number(seconds))]);
        let call = Call::new(method, property_collector)
            .text("version", version)
            .with("options", Argument::Object("WaitOptions", options));
        let answer = self.control(call, method, max_wait + self.transport.call_timeout()).await?;
        let Some(update) = answer.child("returnval") else { return Ok(None) };
        let changes = update
            .children("filterSet")
            .flat_map(|filter| filter.children("objectSet"))
            .flat_map(|object| object.children("changeSet"))
            .filter_map(|change| change.child("val"));
        // latestPage is unordered.
        let latest = changes
            .flat_map(|value| value.children("Event"))
            .filter_map(EventPosition::of)
            .max_by_key(|event| (event.created_us, event.key));
        Ok(Some(Update { version: update.text_of("version").to_string(), latest }))
    }

    /// Ends a wait in flight, which then fails with [`FaultKind::RequestCanceled`].
    pub async fn cancel_wait_for_updates(&self, property_collector: &MoRef) -> Result<(), CallError> {
        let method = "CancelWaitForUpdates";
        self.control(Call::new(method, property_collector), method, self.transport.call_timeout())
            .await
            .map(drop)
    }

    /// Destroys a PropertyFilter. A missing one is no error.
    pub async fn destroy_property_filter(&self, filter: &MoRef) -> Result<(), CallError> {
        self.destroy("DestroyPropertyFilter", filter).await
    }

    /// Destroys a PropertyCollector and its filters. A missing one is no error.
    pub async fn destroy_property_collector(&self, property_collector: &MoRef) -> Result<(), CallError> {
        self.destroy("DestroyPropertyCollector", property_collector).await
    }

    async fn destroy(&self, method: &'static str, object: &MoRef) -> Result<(), CallError> {
        match self.control(Call::new(method, object), method, self.transport.call_timeout()).await {
            Err(error) if error.fault() == Some(FaultKind::ManagedObjectNotFound) => Ok(()),
            ended => ended.map(drop),
        }
    }

    async fn moref(&self, call: Call, method: &'static str) -> Result<MoRef, CallError> {
        MoRef::of(&self.value(call, method).await?).ok_or_else(|| malformed(method, "an empty reference"))
    }

    /// The `returnval` of a call that has one.
    async fn value(&self, call: Call, method: &'static str) -> Result<Element, CallError> {
        let answer = self.control(call, method, self.transport.call_timeout()).await?;
        answer
            .children
            .into_iter()
            .find(|child| child.name == "returnval")
            .ok_or_else(|| malformed(method, "no returnval"))
    }

    /// A call's `…Response` element.
    async fn control(
        &self,
        call: Call,
        method: &'static str,
        timeout: Duration,
    ) -> Result<Element, CallError> {
        let (wire, answer) = self.send(&call, timeout, CONTROL_BYTES_MAX).await?;
        response(method, wire, &answer)
    }

    /// Sends `call` in the negotiated protocol. Returns the protocol as well, since another login
    /// may change it meanwhile.
    async fn send(
        &self,
        call: &Call,
        timeout: Duration,
        limit: usize,
    ) -> Result<(Wire, HttpAnswer), CallError> {
        let Spoken { wire, version } = self.spoken();
        let sent = match wire {
            Wire::Soap => {
                let action = version.soap_action();
                self.transport.post(call.method, &action, envelope(call), timeout, limit).await
            }
            Wire::ViJson => {
                let (release, arguments) = (version.as_str(), json::body(call));
                self.transport.post_json(release, &call.this, call.method, arguments, timeout, limit).await
            }
        };
        Ok((wire, sent?))
    }

    /// Makes a call whose answer is a page. Checks only the size and the two ends of the page.
    async fn page(
        &self,
        call: Call,
        method: &'static str,
        silence_max: Duration,
    ) -> Result<PageRead, CallError> {
        let (wire, answer) = self.send(&call, silence_max, PAGE_BYTES_MAX).await?;
        let (silence, transfer) = (answer.silence, answer.transfer);
        let page = match wire {
            Wire::Soap => soap_page(method, answer)?,
            Wire::ViJson => json_page(method, answer)?,
        };
        Ok(PageRead { page: page.map(|bytes| PageBody { wire, bytes }), silence, transfer })
    }
}

/// The call that reads one property of one object.
fn retrieve(content: &ServiceContent, object: &MoRef, path: &str) -> Call {
    Call::new("RetrievePropertiesEx", &content.property_collector)
        .with("specSet", Argument::List(vec![property_filter(object, &[path])]))
        .with("options", Argument::Object("RetrieveOptions", Members::default()))
}
