//! The calls of the simulated vCenter.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Fake, Mishap, envelope, fault, no_connection};
use crate::source::vcenter::api::{EventApi, Waker};
use crate::source::vcenter::client::{CallError, PageRead};
use vsphere::api::{About, EventFilterSpec, EventInfo, EventPosition, FaultKind, MoRef, Update};
use vsphere::{PageBody, Wire};

/// Marks the collector as spoiled when dropped, unless the read succeeded: after a failed or
/// abandoned read it must not be read again.
struct Spoil<'a> {
    fake: &'a Fake,
    collector: &'a MoRef,
    armed: bool,
}

impl Drop for Spoil<'_> {
    fn drop(&mut self) {
        if let Some(collector) =
            self.fake.world().collectors.get_mut(&self.collector.id).filter(|_| self.armed)
        {
            collector.spoiled = true;
        }
    }
}

impl EventApi for Fake {
    fn wire(&self) -> Wire {
        Wire::Soap
    }

    async fn open(&self) -> Result<About, CallError> {
        self.call("open", |world| {
            Ok(About {
                full_name: "fake".to_string(),
                api_version: "8.0.3.0".to_string(),
                api_type: "VirtualCenter".to_string(),
                instance_uuid: Some(world.instance),
            })
        })
        .await
    }

    async fn login(&self, _: &str, password: &str) -> Result<(), CallError> {
        let password = password.to_string();
        self.call("Login", move |world| {
            let right = world.password == password;
            world.logins.push((Instant::now(), right));
            if !right {
                return Err(fault("Login", FaultKind::InvalidLogin));
            }
            world.sessions += 1;
            world.session = Some(world.sessions);
            Ok(())
        })
        .await
    }

    async fn logout(&self) -> Result<(), CallError> {
        self.call("Logout", |world| {
            world.authenticated("Logout")?;
            if !world.collectors.is_empty() && !world.leaky {
                world.violations.push(format!("logged out with {} collectors", world.collectors.len()));
            }
            world.kill_session();
            world.logged_out = true;
            Ok(())
        })
        .await
    }

    async fn current_time_us(&self) -> Result<i64, CallError> {
        self.call("CurrentTime", |world| Ok(world.vcenter_now_us())).await
    }

    async fn create_collector(&self, spec: &EventFilterSpec) -> Result<MoRef, CallError> {
        self.call("CreateCollectorForEvents", |world| world.create(spec)).await
    }

    async fn read_next(
        &self,
        collector: &MoRef,
        events: u32,
        silence_max: Duration,
    ) -> Result<PageRead, CallError> {
        let method = "ReadNextEvents";
        let mut spoil = Spoil { fake: self, collector, armed: true };
        let asked = Instant::now();
        let answer = self.call(method, |world| world.read(collector, events as usize));
        let page = tokio::time::timeout(silence_max, answer)
            .await
            .unwrap_or(Err(CallError::Timeout { method, after: silence_max }));
        let page = self.world().sicken(page);
        let silence = asked.elapsed();
        let transfer = match &page {
            Ok(Some(page)) => self.carry(page.bytes.len()).await,
            _ => Ok(Duration::ZERO),
        };
        let answer = page.and_then(|page| Ok(PageRead { page, silence, transfer: transfer? }));
        // After the refusal of a single event, the client may read on.
        spoil.armed = match &answer {
            Ok(_) | Err(CallError::Connect { .. }) => false,
            Err(error) => events > 1 || error.fault() != Some(FaultKind::Other),
        };
        answer
    }

    async fn query(&self, spec: &EventFilterSpec) -> Result<Option<PageBody>, CallError> {
        self.call("QueryEvents", |world| {
            world.authenticated("QueryEvents")?;
            let (begin_us, end_us) = (spec.begin_us.unwrap_or(i64::MIN), spec.end_us.unwrap_or(i64::MAX));
            // The newest events, at most the requested number.
            let events: Vec<_> = world
                .visible(begin_us, end_us)
                .rev()
                .map(|(_, event)| event)
                .filter(|event| event.readable)
                .take(spec.max_count.unwrap_or(1_000) as usize)
                .collect();
            if events.len() > world.query_max {
                return Err(CallError::TooLarge { method: "QueryEvents", limit: 64 << 20 });
            }
            Ok((!events.is_empty()).then(|| envelope("QueryEvents", &events)))
        })
        .await
    }

    async fn destroy_collector(&self, collector: &MoRef) -> Result<(), CallError> {
        self.call("DestroyCollector", |world| {
            world.authenticated("DestroyCollector")?;
            world.collectors.remove(&collector.id);
            Ok(())
        })
        .await
    }

    async fn latest_event(&self) -> Result<Option<EventPosition>, CallError> {
        self.call("latestEvent", |world| {
            world.authenticated("RetrievePropertiesEx")?;
            Ok(world.latest().filter(|_| world.tells_latest))
        })
        .await
    }

    async fn event_info(&self) -> Result<Vec<EventInfo>, CallError> {
        self.call("eventInfo", |world| {
            world.authenticated("RetrievePropertiesEx")?;
            Ok(world.event_info.clone())
        })
        .await
    }

    async fn create_waker(&self, spec: &EventFilterSpec) -> Result<Waker, CallError> {
        self.call("CreateFilter", |world| {
            if !world.wakes {
                return Err(fault("CreateFilter", FaultKind::Other));
            }
            let collector = world.create(spec)?;
            Ok(Waker { collector, property_collector: MoRef::new("PropertyCollector", "p") })
        })
        .await
    }

    async fn wait(&self, _: &Waker, version: &str, max_wait: Duration) -> Result<Option<Update>, CallError> {
        let deadline = Instant::now() + max_wait;
        match self.begin("WaitForUpdatesEx").await {
            Some(Mishap::Fault(kind)) => return Err(fault("WaitForUpdatesEx", kind)),
            Some(Mishap::NoConnection) => return Err(no_connection()),
            _ => {}
        }
        loop {
            {
                let world = self.world();
                if world.away {
                    return Err(no_connection());
                }
                world.authenticated("WaitForUpdatesEx")?;
                let latest = world
                    .visible(i64::MIN, i64::MAX)
                    .rev()
                    .find(|(_, event)| event.readable && event.key >= 0);
                let event =
                    latest.map(|(_, event)| EventPosition { key: event.key, created_us: event.created_us });
                let now =
                    event.map_or("none".to_string(), |event| format!("{}@{}", event.key, event.created_us));
                if !world.frozen && now != version && (version.is_empty() || !world.wakes_blind) {
                    return Ok(Some(Update { version: now, latest: event }));
                }
            }
            if Instant::now() >= deadline {
                return match self.world().frozen {
                    true => Err(CallError::Timeout { method: "WaitForUpdatesEx", after: max_wait }),
                    false => Ok(None),
                };
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    async fn destroy_waker(&self, waker: &Waker) -> Result<(), CallError> {
        self.destroy_collector(&waker.collector).await
    }
}
