//! The settings of a processor, by its `type`, and the registry of all types. The settings that
//! every processor has are in [`DeliveryPolicy`].

use crate::config::Group;
use crate::config::declare::*;
use crate::pipeline::deliver::settings::DeliveryPolicy;
use crate::processor::settings::KindSettings;

/// No order by default, unlike other processors.
const EVENTBRIDGE_ORDERING: Field = DeliveryPolicy::BLOCK.field("ordering").or("none");

settings! {
    /// A processor has a `name`, a `type`, the fields of that type, and the delivery settings in
    /// this table.
    #[derive(Clone, Debug, PartialEq)]
    pub struct ProcessorConfig in "processors" {
        /// Name in logs, metrics and the state. The state belongs to the name: after a rename, the
        /// router does not use the old position or spool.
        pub name: String = key("name", NAME).required();
        /// Kind of the processor.
        pub kind: ProcessorKind =
            key("type", ProcessorKind::WORDS).required().also(&["provider"]);
        pub delivery: DeliveryPolicy;
    }
    variants ProcessorKind;
}

/// Declares [`ProcessorKind`] from one line for each kind: its meaning, its settings and its word.
macro_rules! registry {
    ($(
        $(#[doc = $doc:literal])*
        $variant:ident($settings:ty) = $word:literal $(, changed [$($changed:expr),+])?;
    )+) => {
        kinds! {
            #[derive(Clone, Debug, PartialEq)]
            pub enum ProcessorKind, unknown ProcessorKind::Blackhole(defaults()); {
                $(
                    $(#[doc = $doc])*
                    $variant($settings) = $word $(, changed [$($changed),+])?;
                )+
            }
        }

        impl ProcessorKind {
            /// The `type` in a configuration.
            pub(crate) fn word(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => $word,)+
                }
            }

            pub(crate) fn settings(&self) -> &dyn KindSettings {
                match self {
                    $(Self::$variant(settings) => settings,)+
                }
            }

            pub(crate) fn settings_mut(&mut self) -> &mut dyn KindSettings {
                match self {
                    $(Self::$variant(settings) => settings,)+
                }
            }
        }
    };
}

registry! {
    /// any CloudEvents target over HTTP: Knative, webhooks
    CloudEvents(crate::processor::cloudevents::settings::CloudEventsConfig) = "cloudevents";
    /// any HTTP endpoint, with requests rendered from templates: chats, tickets, alerts
    Http(crate::processor::http::settings::HttpConfig) = "http";
    /// the functions of an OpenFaaS gateway
    OpenFaas(crate::processor::openfaas::settings::OpenFaasConfig) = "openfaas";
    /// AWS EventBridge
    EventBridge(crate::processor::eventbridge::settings::EventBridgeConfig) = "eventbridge", changed [EVENTBRIDGE_ORDERING];
    /// a stream of NATS JetStream
    Nats(crate::processor::nats::settings::NatsConfig) = "nats";
    /// a file, one JSON event per line, rotated by size and age
    File(crate::processor::file::settings::FileConfig) = "file";
    /// stdout, one JSON event per line
    Console(crate::processor::console::ConsoleConfig) = "console";
    /// accepts every event and drops it
    Blackhole(crate::processor::blackhole::BlackholeConfig) = "blackhole";
}
