//! The names that the old appliance gave to the three categories of vSphere events.

use vsphere::Category;

/// The CloudEvents `type` of a category, as the appliance documents it.
pub fn type_of(category: Category) -> &'static str {
    match category {
        Category::Event => "com.vmware.event.router/event",
        Category::EventEx => "com.vmware.event.router/eventex",
        Category::ExtendedEvent => "com.vmware.event.router/extendedevent",
    }
}

/// The value of the extension `eventclass`: the last part of the `type`.
pub fn class_of(category: Category) -> &'static str {
    match category {
        Category::Event => "event",
        Category::EventEx => "eventex",
        Category::ExtendedEvent => "extendedevent",
    }
}
