//! Which frames the card takes: addresses, groups, VLANs (SDM §3.2.2 and §13.5).

use network::Mac;
use serde::{Deserialize, Serialize};

use super::chip::rctl;

/// Receive addresses there are.
const ADDRESSES: usize = 16;
/// The high register of an address: the address is valid.
const ADDRESS_VALID: u32 = 1 << 31;

/// The filter's tables.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Filter {
    /// Low and high register of each address, in turn.
    pub addresses: Vec<u32>,
    /// One bit for each hash of a group's address.
    pub groups: Vec<u32>,
    /// One bit for each VLAN.
    pub vlans: Vec<u32>,
}

impl Filter {
    /// Takes what is sent to `mac`, as after reset: the address comes from the EEPROM.
    pub fn new(mac: Mac) -> Filter {
        let mut addresses = vec![0; 2 * ADDRESSES];
        let [a, b, c, d, e, f] = mac.0;
        addresses[0] = u32::from_le_bytes([a, b, c, d]);
        addresses[1] = u32::from_le_bytes([e, f, 0, 0]) | ADDRESS_VALID;
        Filter { addresses, groups: vec![0; 128], vlans: vec![0; 128] }
    }

    /// Whether a saved state has the right shape.
    pub fn is_valid(&self) -> bool {
        (self.addresses.len(), self.groups.len(), self.vlans.len()) == (2 * ADDRESSES, 128, 128)
    }

    /// Whether a frame to `to` is taken under RCTL's bits.
    pub fn takes(&self, to: Mac, control: u32) -> bool {
        let is = |bit: u32| control & bit != 0;
        if to == Mac::BROADCAST && is(rctl::BROADCAST) {
            return true;
        }
        let promiscuous = if to.is_group() { rctl::ALL_GROUPS } else { rctl::PROMISCUOUS };
        is(promiscuous) || self.has_address(to) || to.is_group() && self.has_group(to, control)
    }

    fn has_address(&self, to: Mac) -> bool {
        self.addresses.as_chunks::<2>().0.iter().any(|[low, high]| {
            let ([a, b, c, d], [e, f, ..]) = (low.to_le_bytes(), high.to_le_bytes());
            high & ADDRESS_VALID != 0 && to.0 == [a, b, c, d, e, f]
        })
    }

    /// The hash is twelve bits of the address's last two bytes; which ones, RCTL says.
    fn has_group(&self, to: Mac, control: u32) -> bool {
        let shift = [4, 3, 2, 0][(control >> rctl::GROUP_OFFSET_SHIFT & 3) as usize];
        let hash = usize::from(u16::from_le_bytes([to.0[4], to.0[5]]) >> shift & 0xFFF);
        self.groups[hash / 32] >> (hash % 32) & 1 != 0
    }

    /// Whether frames of this VLAN are taken.
    pub fn takes_vlan(&self, tag: u16) -> bool {
        let vlan = usize::from(tag & 0xFFF);
        self.vlans[vlan / 32] >> (vlan % 32) & 1 != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Mac = Mac([0x52, 0x56, 0, 0x11, 0x22, 0x33]);
    const OTHER: Mac = Mac([0x52, 0x56, 0, 0x11, 0x22, 0x34]);
    const GROUP: Mac = Mac([0x01, 0x00, 0x5E, 0x00, 0x00, 0xFB]);

    #[test]
    fn its_own_address_and_what_rctl_opens() {
        let filter = Filter::new(OWN);
        assert!(filter.takes(OWN, 0));
        for (to, bit) in
            [(OTHER, rctl::PROMISCUOUS), (Mac::BROADCAST, rctl::BROADCAST), (GROUP, rctl::ALL_GROUPS)]
        {
            assert!(!filter.takes(to, 0) && filter.takes(to, bit), "{to}");
        }
        assert!(!filter.takes(GROUP, rctl::PROMISCUOUS), "unicasts only");
    }

    #[test]
    fn groups_by_hash() {
        // SDM §13.5.1: offset 0 uses bits 47 to 36 of the address, offset 3 bits 43 to 32.
        for (offset, hash) in [(0, 0xFB0), (3, 0xB00)] {
            let mut filter = Filter::new(OWN);
            let control = offset << rctl::GROUP_OFFSET_SHIFT;
            assert!(!filter.takes(GROUP, control));
            filter.groups[hash / 32] |= 1 << (hash % 32);
            assert!(filter.takes(GROUP, control), "{offset}");
        }
    }

    #[test]
    fn vlans_by_number() {
        let mut filter = Filter::new(OWN);
        filter.vlans[3] = 1 << 4;
        assert!(filter.takes_vlan(100) && filter.takes_vlan(0xE000 | 100) && !filter.takes_vlan(101));
    }
}
