//! Workload mixes: the share of each class of events.
//!
//! A mix lists templates and weights. [`slots`] spreads the weights over a table, and the hash of
//! an event's index picks a slot.

use serde::{Deserialize, Serialize};

/// Slots of the table that a hash picks a template from: a weight is exact to 1/4096.
pub(crate) const MIX_SLOTS: usize = 4096;

/// The weights of the event classes. The named mixes are workloads that operators know.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Mix {
    /// The average of a day: tasks, power, migrations, logins, alarms, EventEx.
    #[default]
    Steady,
    /// All virtual machines power on at once.
    BootStorm,
    /// DRS rebalances a cluster.
    DrsStorm,
    /// A threshold that is crossed again and again.
    AlarmFlood,
    /// A monitoring tool that logs in and out for every request.
    LoginStorm,
    /// Mostly `EventEx` with its arguments.
    EventExHeavy,
    /// Failed `TaskEvent`s of about 3 KB each.
    LargeTasks,
    /// Template names (class, or `EventEx` type id) and their weights.
    Custom(Vec<(String, u32)>),
}

impl Mix {
    /// The mixes that have a name.
    pub const NAMED: [Mix; 7] = [
        Mix::Steady,
        Mix::BootStorm,
        Mix::DrsStorm,
        Mix::AlarmFlood,
        Mix::LoginStorm,
        Mix::EventExHeavy,
        Mix::LargeTasks,
    ];

    fn weights(&self) -> Vec<(&str, u32)> {
        match self {
            Mix::Steady => vec![
                ("TaskEvent", 8),
                ("VmStartingEvent", 12),
                ("VmPoweredOnEvent", 12),
                ("DrsVmPoweredOnEvent", 4),
                ("VmStoppingEvent", 9),
                ("VmPoweredOffEvent", 9),
                ("VmGuestRebootEvent", 2),
                ("VmBeingHotMigratedEvent", 3),
                ("DrsVmMigratedEvent", 3),
                ("VmResourceReallocatedEvent", 2),
                ("VmReconfiguredEvent", 2),
                ("VmMacAssignedEvent", 1),
                ("UserLoginSessionEvent", 11),
                ("UserLogoutSessionEvent", 10),
                ("BadUsernameSessionEvent", 2),
                ("AlarmStatusChangedEvent", 3),
                ("AlarmActionTriggeredEvent", 1),
                ("com.vmware.sso.LoginSuccess", 3),
                ("com.vmware.cis.tagging.attach", 1),
                ("esx.problem.vob.vsan.lsom.devicerepair", 1),
                ("com.vmware.vc.HA.ClusterFailoverActionCompletedEvent", 1),
                ("com.example.backup.job.finished", 1),
                ("GeneralUserEvent", 1),
                ("HostConnectionLostEvent", 1),
                ("EnteredMaintenanceModeEvent", 1),
                ("ScheduledTaskCompletedEvent", 1),
            ],
            Mix::BootStorm => vec![
                ("TaskEvent", 25),
                ("VmStartingEvent", 30),
                ("VmPoweredOnEvent", 15),
                ("DrsVmPoweredOnEvent", 15),
                ("VmMacAssignedEvent", 10),
                ("VmReconfiguredEvent", 5),
            ],
            Mix::DrsStorm => vec![
                ("VmBeingHotMigratedEvent", 40),
                ("DrsVmMigratedEvent", 40),
                ("VmResourceReallocatedEvent", 15),
                ("TaskEvent", 5),
            ],
            Mix::AlarmFlood => vec![
                ("AlarmStatusChangedEvent", 50),
                ("AlarmActionTriggeredEvent", 25),
                ("AlarmSnmpCompletedEvent", 25),
            ],
            Mix::LoginStorm => vec![
                ("UserLoginSessionEvent", 48),
                ("UserLogoutSessionEvent", 47),
                ("BadUsernameSessionEvent", 5),
            ],
            Mix::EventExHeavy => vec![
                ("com.vmware.sso.LoginSuccess", 40),
                ("com.vmware.cis.tagging.attach", 20),
                ("esx.problem.vob.vsan.lsom.devicerepair", 15),
                ("com.vmware.vc.HA.ClusterFailoverActionCompletedEvent", 15),
                ("com.example.backup.job.finished", 10),
            ],
            Mix::LargeTasks => vec![("TaskEvent:large", 90), ("TaskEvent", 10)],
            Mix::Custom(list) => list.iter().map(|(name, weight)| (name.as_str(), *weight)).collect(),
        }
    }
}

/// The mix names a template that does not exist, or has no weight.
#[derive(Debug, thiserror::Error)]
#[error("mix of events: {0}")]
pub struct MixError(String);

/// The number of a template for each slot.
///
/// # Errors
/// A name is unknown, or there is no weight.
pub(crate) fn slots(mix: &Mix, templates: &[&str]) -> Result<Vec<u8>, MixError> {
    let weights = mix.weights();
    let total: u64 = weights.iter().map(|(_, weight)| u64::from(*weight)).sum();
    if total == 0 {
        return Err(MixError("no weight; give at least one class a weight above 0".into()));
    }
    let mut slots = Vec::with_capacity(MIX_SLOTS);
    let mut reached = 0u64;
    for (name, weight) in weights {
        let Some(found) = templates.iter().position(|template| *template == name) else {
            return Err(MixError(format!("no template for `{name}`")));
        };
        reached += u64::from(weight);
        let until = (reached * MIX_SLOTS as u64 / total) as usize;
        slots.resize(until, found as u8);
    }
    Ok(slots)
}
