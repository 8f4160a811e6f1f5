//! The appliance's words for the three shapes of a vSphere event.

use crate::event::Category;

/// The CloudEvents `type`, as the appliance documents it.
pub fn type_of(category: Category) -> &'static str {
    match category {
        Category::Event => "com.vmware.event.router/event",
        Category::EventEx => "com.vmware.event.router/eventex",
        Category::ExtendedEvent => "com.vmware.event.router/extendedevent",
    }
}

/// The last word of the `type`, and the value of the extension `eventclass`.
pub fn class_of(category: Category) -> &'static str {
    match category {
        Category::Event => "event",
        Category::EventEx => "eventex",
        Category::ExtendedEvent => "extendedevent",
    }
}
