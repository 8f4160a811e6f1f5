//! The reasons for which a push source refuses a request.

/// The reason why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushRefusal {
    /// It has a wrong path or method.
    WrongPlace,
    /// Its credentials or its signature are wrong.
    Unauthorized,
    /// Its body is no event.
    Invalid,
    /// Its content type is not understood.
    UnknownType,
    /// It is larger than the limits allow.
    TooLarge,
    /// Its body took too long to arrive, or broke off.
    Incomplete,
    /// Too many events come in a second.
    RateLimited,
    /// The inbox or the memory has no room.
    NoRoom,
    /// The router is stopping.
    Stopping,
}

impl PushRefusal {
    pub const ALL: [PushRefusal; 9] = [
        PushRefusal::WrongPlace,
        PushRefusal::Unauthorized,
        PushRefusal::Invalid,
        PushRefusal::UnknownType,
        PushRefusal::TooLarge,
        PushRefusal::Incomplete,
        PushRefusal::RateLimited,
        PushRefusal::NoRoom,
        PushRefusal::Stopping,
    ];

    /// The value of the metric label `outcome`.
    pub fn as_str(self) -> &'static str {
        match self {
            PushRefusal::WrongPlace => "wrong_place",
            PushRefusal::Unauthorized => "unauthorized",
            PushRefusal::Invalid => "invalid",
            PushRefusal::UnknownType => "unknown_type",
            PushRefusal::TooLarge => "too_large",
            PushRefusal::Incomplete => "incomplete",
            PushRefusal::RateLimited => "rate_limited",
            PushRefusal::NoRoom => "no_room",
            PushRefusal::Stopping => "stopping",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_counter() {
        for (index, refusal) in PushRefusal::ALL.into_iter().enumerate() {
            assert_eq!(refusal as usize, index);
        }
    }
}
