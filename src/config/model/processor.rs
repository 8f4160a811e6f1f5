//! The configuration of a processor: the address of a target and how to reach it. The settings that
//! every processor has are in [`DeliveryPolicy`].

use std::time::Duration;

use super::{Auth, ClientTls, DeliveryPolicy};
use crate::config::Secret;

/// A destination of events.
#[derive(Clone, Debug, PartialEq)]
pub struct ProcessorConfig {
    /// The name in logs, metrics and the checkpoint. A renamed processor is a new one.
    pub name: String,
    pub kind: ProcessorKind,
    pub delivery: DeliveryPolicy,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ProcessorKind {
    CloudEvents(CloudEventsConfig),
    OpenFaas(OpenFaasConfig),
    EventBridge(EventBridgeConfig),
    /// Writes one JSON event per line to stdout.
    Console,
    /// Accepts every event and drops it.
    Blackhole,
}

/// Any CloudEvents target over HTTP.
#[derive(Clone, PartialEq)]
pub struct CloudEventsConfig {
    /// Empty if `reference` is given. If the URL is a secret, its name for messages.
    pub url: String,
    /// The URL, if it is a secret; none.
    pub secret_url: Option<Secret>,
    /// The Kubernetes object whose address is the URL; none.
    pub reference: Option<Reference>,
    /// [`ContentMode::Structured`].
    pub mode: ContentMode,
    pub auth: Auth,
    /// Additional headers, whose values may be secrets; none.
    pub headers: Vec<(String, Secret)>,
    pub http: HttpClient,
}

/// A Kubernetes object, named as in Knative's destinations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Such as `eventing.knative.dev/v1`.
    pub api_version: String,
    /// Such as `Broker`.
    pub kind: String,
    pub name: String,
    /// `None` for the namespace of the pod.
    pub namespace: Option<String>,
}

/// The three content modes of the CloudEvents HTTP binding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ContentMode {
    #[default]
    Structured,
    Binary,
    Batched,
}

/// The settings that all processors over HTTP share.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpClient {
    pub tls: ClientTls,
    /// Time for a request, to the last byte of its answer; 30 s (OpenFaaS: 1 min).
    pub timeout: Duration,
    /// Time for TCP and TLS; 10 s.
    pub connect_timeout: Duration,
    /// [`Proxy::Environment`].
    pub proxy: Proxy,
    /// For a proxy that speaks TLS; the system's roots.
    pub proxy_tls: ClientTls,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Proxy {
    /// As `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` say.
    #[default]
    Environment,
    /// No proxy, even if the environment names one.
    Direct,
    /// This proxy; `auth` is never [`Auth::Bearer`].
    Url { url: String, auth: Auth },
}

/// An OpenFaaS gateway. Each function whose annotation names topics is a destination of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenFaasConfig {
    /// The gateway's URL without a trailing slash.
    pub gateway: String,
    /// For the gateway's own API; [`Auth::None`].
    pub auth: Auth,
    /// Also sends `auth` with invocations, so that functions see it; false.
    pub auth_on_invoke: bool,
    /// Uses `/async-function/` instead of `/function/`, unless a function's annotation says
    /// otherwise; false.
    pub asynchronous: bool,
    /// `X-Callback-Url` of asynchronous invocations; none.
    pub callback_url: Option<String>,
    /// `Content-Type` of an invocation; `None` sends none, like the old router;
    /// `application/cloudevents+json`.
    pub content_type: Option<String>,
    /// The annotation that lists the topics of a function, separated by commas; `topic`.
    pub topic_annotation: String,
    /// Namespaces to look in, empty for all of the gateway's; all.
    pub namespaces: Vec<String>,
    /// Time between two listings of functions; 10 s.
    pub refresh_interval: Duration,
    /// Time for which events wait for a function that is no longer listed, since a redeploy looks
    /// like a removal; 1 min.
    pub vanished_grace: Duration,
    pub http: HttpClient,
}

/// AWS EventBridge.
#[derive(Clone, Debug, PartialEq)]
pub struct EventBridgeConfig {
    pub region: String,
    pub auth: AwsAuth,
    /// A role to assume with `auth`; none.
    pub assume_role: Option<AssumeRole>,
    /// Endpoint to use instead of AWS's own, such as `http://127.0.0.1:5000`; none.
    pub endpoint: Option<String>,
    /// At least one.
    pub buses: Vec<EventBus>,
    /// Time between two readings of the rules; 5 min.
    pub refresh_interval: Duration,
    /// The largest size of an entry, and of all entries in a request, by AWS's formula; 256 KiB.
    pub entry_bytes_max: usize,
    pub http: HttpClient,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AwsAuth {
    /// AWS's default chain: environment, profile, web identity, container and instance roles.
    #[default]
    DefaultChain,
    AccessKey {
        access_key_id: String,
        secret_access_key: Secret,
        session_token: Option<Secret>,
    },
    /// A profile of the AWS configuration files.
    Profile(String),
}

/// STS AssumeRole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssumeRole {
    pub role_arn: String,
    pub external_id: Option<String>,
    /// `event-router`.
    pub session_name: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventBus {
    /// Name or ARN; `default`.
    pub name: String,
    /// Names or ARNs of the rules whose patterns select events; empty for all rules of the bus.
    pub rules: Vec<String>,
    /// Sends every event, and reads no rules; false.
    pub forward_all: bool,
}
