//! What a machine may take of the host's disks and network at most, as its user sets it.

use serde::{Deserialize, Serialize};

use crate::profile::Size;

/// Upper bounds; `None` for as much as there is. Changed while the machine runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Throttles {
    /// Accesses of all its disks together, per second.
    pub disk_operations: Option<u32>,
    /// Data of all its disks together, read and written, per second.
    pub disk_bytes: Option<Size>,
    /// Network data, per second, in each direction.
    pub network_bytes: Option<Size>,
}

/// Why throttles cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ThrottlesError {
    /// Nothing would ever pass.
    #[error("a rate of 0 would stop the machine's {0} for good; write none for no limit")]
    Zero(&'static str),
}

impl Throttles {
    /// Whether a machine can have these.
    pub fn check(&self) -> Result<(), ThrottlesError> {
        let zero = |size: Option<Size>| size.is_some_and(|size| size.bytes() == 0);
        match self {
            Throttles { disk_operations: Some(0), .. } => Err(ThrottlesError::Zero("disks")),
            Throttles { disk_bytes, .. } if zero(*disk_bytes) => Err(ThrottlesError::Zero("disks")),
            Throttles { network_bytes, .. } if zero(*network_bytes) => Err(ThrottlesError::Zero("network")),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_of_zero_is_refused() {
        assert_eq!(Throttles::default().check(), Ok(()));
        assert!(Throttles { disk_operations: Some(0), ..Throttles::default() }.check().is_err());
        assert!(Throttles { network_bytes: Some(Size::mib(0)), ..Throttles::default() }.check().is_err());
        assert!(Throttles { disk_bytes: Some(Size::mib(1)), ..Throttles::default() }.check().is_ok());
    }
}
