//! The settings of a source, by its `type`.

use super::vcenter::settings::Vcenter;
use crate::config::declare::*;

settings! {
    /// A source has a `name`, a `type` and the fields of that type.
    #[derive(Clone, Debug, PartialEq)]
    pub struct SourceConfig in "sources" {
        /// Name in logs, metrics and the state. The state belongs to the name: after a rename, the
        /// router does not use the old position or spool.
        pub name: String = key("name", NAME).required();
        /// Kind of the source.
        pub kind: SourceKind = key("type", SourceKind::WORDS).required().also(&["provider"]);
    }
    variants SourceKind;
}

kinds! {
    #[derive(Clone, Debug, PartialEq)]
    pub enum SourceKind, unknown SourceKind::Vcenter(defaults()); {
        /// a vCenter
        Vcenter(Vcenter) = "vcenter";
    }
}
