//! The settings of a processor, by its `type`. The settings that every processor has are in
//! [`DeliveryPolicy`].

use crate::config::Group;
use crate::config::declare::*;
use crate::pipeline::deliver::settings::DeliveryPolicy;
use crate::processor::cloudevents::settings::CloudEventsConfig;
use crate::processor::eventbridge::settings::EventBridgeConfig;
use crate::processor::openfaas::settings::OpenFaasConfig;

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

kinds! {
    #[derive(Clone, Debug, PartialEq)]
    pub enum ProcessorKind, unknown ProcessorKind::Blackhole; {
        /// any CloudEvents target over HTTP: Knative, webhooks
        CloudEvents(CloudEventsConfig) = "cloudevents";
        /// the functions of an OpenFaaS gateway
        OpenFaas(OpenFaasConfig) = "openfaas";
        /// AWS EventBridge
        EventBridge(EventBridgeConfig) = "eventbridge", changed [EVENTBRIDGE_ORDERING];
        /// stdout, one JSON event per line
        Console = "console", described "Writes events to stdout, one JSON event per line.";
        /// accepts every event and drops it
        Blackhole = "blackhole", described "Accepts every event and drops it, for measurements.";
    }
}
