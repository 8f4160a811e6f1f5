//! The target of a run: one of the testbed's servers, configured to answer as the workload
//! requires.

use std::sync::Arc;

use testbed::StartError;
use testbed::cert::{Certificate, Tls};
use testbed::eventbridge::{EventBus, EventBusOptions};
use testbed::openfaas::{Function, Gateway, GatewayOptions};
use testbed::sink::{Behavior, Sink, SinkOptions};
use testbed::vcenter::VCenter;
use testbed::verify::Verifier;

use crate::workload::{self, Shape, Workload};

/// A handle of the receiving server. Each receiver that must get every event has a verifier.
#[derive(Clone)]
pub struct Target {
    server: Server,
    verifiers: Vec<Arc<Verifier>>,
}

#[derive(Clone)]
enum Server {
    Http(Sink),
    Functions(Gateway),
    Bus(EventBus),
}

impl Target {
    /// Starts the target on this port; 0 means a free one.
    ///
    /// # Errors
    /// The port cannot be bound.
    pub async fn start(workload: &Workload, port: u16) -> Result<Target, StartError> {
        let settings = &workload.target;
        let receivers = settings.functions.max(1);
        let verifier = || Arc::new(Verifier::comparing(workload.form()));
        let verifiers: Vec<Arc<Verifier>> = (0..receivers).map(|_| verifier()).collect();
        let tls = settings.https.then_some(Certificate::Valid);
        let server = match settings.shape {
            Shape::Batched | Shape::Structured | Shape::Binary => {
                let options = SinkOptions { port, tls, ..SinkOptions::default() };
                Server::Http(Sink::start(options, Arc::clone(&verifiers[0])).await?)
            }
            Shape::Eventbridge => {
                let options = EventBusOptions { port, tls, ..EventBusOptions::default() };
                Server::Bus(EventBus::start(options, Arc::clone(&verifiers[0])).await?)
            }
            Shape::Openfaas => {
                let gateway =
                    Gateway::start(GatewayOptions { port, tls, ..GatewayOptions::default() }).await?;
                for (number, verifier) in verifiers.iter().enumerate() {
                    let function = Function::new(&name_of(number), "*");
                    gateway.deploy(Function { verifier: Some(Arc::clone(verifier)), ..function });
                }
                Server::Functions(gateway)
            }
        };
        let target = Target { server, verifiers };
        target.behave(settings);
        Ok(target)
    }

    /// Lets every receiver verify the events of these vCenters.
    pub fn watch(&self, vcenters: &[VCenter]) {
        for verifier in &self.verifiers {
            vcenters.iter().for_each(|vcenter| verifier.watch(vcenter));
        }
    }

    /// Sets delays and failures of the answers.
    fn behave(&self, settings: &workload::TargetSettings) {
        let delay = settings.delay;
        let failing = settings.errors.as_ref().map(|errors| (errors.share, errors.behavior()));
        match &self.server {
            Server::Http(sink) => {
                sink.set(Behavior::latency(delay));
                if let Some((share, behavior)) = failing {
                    sink.fail(share, behavior);
                }
            }
            Server::Functions(gateway) => {
                for number in 0..self.verifiers.len() {
                    let name = name_of(number);
                    gateway.set(&name, Behavior { latency: delay, ..Behavior::status(200) });
                    if let Some((share, behavior)) = &failing {
                        gateway.fail(&name, *share, behavior.clone());
                    }
                }
            }
            Server::Bus(bus) => {
                bus.set(Behavior { latency: delay, ..Behavior::status(200) });
                if let Some((share, behavior)) = failing {
                    bus.fail(share, behavior);
                }
            }
        }
    }

    pub fn url(&self) -> String {
        match &self.server {
            Server::Http(sink) => sink.url(),
            Server::Functions(gateway) => gateway.url(),
            Server::Bus(bus) => bus.url(),
        }
    }

    pub fn tls(&self) -> Option<Tls> {
        match &self.server {
            Server::Http(sink) => sink.tls(),
            Server::Functions(gateway) => gateway.tls(),
            Server::Bus(bus) => bus.tls(),
        }
    }

    /// One for each receiver.
    pub fn verifiers(&self) -> &[Arc<Verifier>] {
        &self.verifiers
    }

    /// Closes the port.
    pub async fn outage(&self) {
        match &self.server {
            Server::Http(sink) => sink.outage().await,
            Server::Functions(gateway) => gateway.outage().await,
            Server::Bus(bus) => bus.outage().await,
        }
    }

    /// Opens the port again.
    ///
    /// # Errors
    /// Another program took the port meanwhile.
    pub async fn resume(&self) -> Result<(), StartError> {
        match &self.server {
            Server::Http(sink) => sink.resume().await,
            Server::Functions(gateway) => gateway.resume().await,
            Server::Bus(bus) => bus.resume().await,
        }
    }
}

fn name_of(number: usize) -> String {
    format!("load-{number}")
}
