//! The settings of an OpenFaaS gateway.

use std::sync::Arc;
use std::time::Duration;

use super::OpenFaas;
use crate::cloudevents::Envelope;
use crate::config::declare::*;
use crate::config::scalar;
use crate::net::settings::{Auth, BasicAuthKeys, HttpClient, warn_clear_text};
use crate::outside;
use crate::processor::Processor;
use crate::processor::cloudevents::settings::warn_one_by_one;
use crate::processor::settings::{KindSettings, MakeError};

settings! {
    /// Invokes each function whose annotation `topic` matches the subject of the event. Each
    /// function is a destination of its own.
    #[derive(Clone, Debug, PartialEq)]
    pub struct OpenFaasConfig in "openfaas" {
        /// URL of the gateway.
        pub gateway: String = key("gateway", HTTP_URL).required().also(&["address", "url"]);
        /// Credentials for the gateway.
        pub auth: Auth = key("auth", maybe::<BasicAuthKeys>());
        /// Also sends `auth` with invocations. The gateway passes it on to the function.
        pub auth_on_invoke: bool = key("authOnInvoke", FLAG).or("false");
        /// Invokes functions through the gateway's queue. An event counts as delivered when the
        /// gateway has queued it, whether or not the function succeeds later. The annotation
        /// `async` of a function, "true" or "false", overrides this.
        pub asynchronous: bool = key("async", FLAG).or("false");
        /// `X-Callback-Url` of asynchronous invocations.
        pub callback_url: Option<String> = key("callbackUrl", HTTP_URL);
        /// `Content-Type` of an invocation; empty (`''`) sends none, like the old router.
        pub content_type: Option<String> =
            key("contentType", TEXT_OR_EMPTY).or("application/cloudevents+json").none("");
        /// Annotation that lists the topics of a function, separated by commas. A topic is a
        /// subject such as `VmPoweredOnEvent`; `*` stands for any characters. With `extensions:
        /// {severity: true}` or `{category: true}` a topic can also be `severity:error`,
        /// `severity:warning`, `severity:info` or `severity:user`: vCenter's category of the event.
        pub topic_annotation: String = key("topicAnnotation", TEXT).or("topic");
        /// Namespaces of the gateway to look for functions in. Default: all.
        pub namespaces: Vec<String> = key("namespaces", FieldType::List(&TEXT));
        /// Time between two listings of functions.
        pub refresh_interval: Duration = key("refreshInterval", duration(SECOND, HOUR)).or("10s");
        /// Time for which events wait for a function that the gateway no longer lists, since a
        /// redeploy looks like a removal. After a start, events wait this long for the functions of
        /// the last run.
        pub vanished_grace: Duration = key("vanishedGrace", duration(0, DAY)).or("1m");
        pub http: HttpClient, changed [HttpClient::BLOCK.field("timeout").or("1m")];
    }
    check check_openfaas;
}

impl OpenFaasConfig {
    /// A gateway with every other setting at its default.
    pub fn new(gateway: impl Into<String>) -> Self {
        OpenFaasConfig { gateway: gateway.into(), ..defaults() }
    }
}

impl KindSettings for OpenFaasConfig {
    fn make(&self, envelope: Envelope) -> Result<Arc<dyn Processor>, MakeError> {
        Ok(Arc::new(OpenFaas::new(self, envelope)?))
    }

    fn shown(&self) -> String {
        outside::readable(&self.gateway)
    }

    fn selects(&self) -> bool {
        true
    }
}

fn check_openfaas(found: &CheckedMap, problems: &mut Problems) {
    let has_auth = found.maybe_block("auth").is_some();
    warn_clear_text(found.text("gateway"), has_auth, found, "gateway", problems);
    warn_one_by_one(found, problems);
    if !scalar::is_header_value(found.text("contentType")) {
        let message = "has characters that a header cannot contain";
        problems.error(found.line_of("contentType"), &found.path_of("contentType"), message);
    }
    if found.is_given("authOnInvoke") && !has_auth {
        let (line, path) = (found.line_of("authOnInvoke"), found.path_of("authOnInvoke"));
        problems.warn(line, &path, "has no effect without `auth`");
    }
}
