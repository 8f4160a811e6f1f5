//! The settings of a source, by its `type`.

use super::SourceType;
use super::vcenter::settings::Vcenter;
use super::webhook::settings::Webhook;
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

/// Declares the kinds of sources, one a line. `unknown` is the kind that stands in for a wrong
/// `type`, which was reported.
macro_rules! sources {
    (unknown $unknown:ident; $($(#[doc = $doc:literal])* $variant:ident($settings:ty) = $word:literal;)+) => {
        kinds! {
            #[derive(Clone, Debug, PartialEq)]
            pub enum SourceKind, unknown SourceKind::$unknown(defaults()); {
                $($(#[doc = $doc])* $variant($settings) = $word;)+
            }
        }

        impl SourceKind {
            /// The settings, as the rest of the router sees them.
            pub fn as_type(&self) -> &dyn SourceType {
                match self {
                    $(SourceKind::$variant(settings) => settings,)+
                }
            }

            /// The word in `type`.
            pub fn word(&self) -> &'static str {
                match self {
                    $(SourceKind::$variant(_) => $word,)+
                }
            }
        }
    };
}

sources! {
    unknown Vcenter;
    /// a vCenter
    Vcenter(Vcenter) = "vcenter";
    /// a listener for CloudEvents and JSON over HTTP
    Webhook(Webhook) = "webhook";
}

impl SourceKind {
    /// The settings of a vCenter; `None` for another kind.
    pub fn vcenter(&self) -> Option<&Vcenter> {
        match self {
            SourceKind::Vcenter(vcenter) => Some(vcenter),
            _ => None,
        }
    }
}
