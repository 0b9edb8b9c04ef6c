//! The AHCI controller of machines whose disks are serial ATA, with everything plugged in.

use hardware::ahci::AhciController;
use hardware::firmware::boot::BootDevice;
use hardware::layout::pci;
use hardware::{Shared, shared};

use super::media::Media;
use super::paravirtual::Slots;

/// Takes disks and CD out of `media`; gives the controller and what to boot, in order.
pub fn assemble(slots: &Slots, media: &mut Media) -> (Shared<AhciController>, Vec<BootDevice>) {
    const FITS: &str = "the profile was checked: there are ports for all drives";
    let (slot, _) = pci::AHCI;
    let line = slots.tally.line("ahci", slots.interrupts.line(slot, 1));
    let mut ahci = AhciController::new(line, slots.wiring.memory.clone());
    let disks = media.disks.drain(..).enumerate();
    let last = disks.map(|(port, disk)| ahci.plug_disk(port, disk).map(|_| port).expect(FITS)).count();
    ahci.plug_optical(last, media.cdrom.take()).expect(FITS);
    let bootable = (0..=last as u8).map(|port| BootDevice::Ahci(slot, port)).collect();
    let ahci = shared(ahci);
    AhciController::connect(&ahci, &slots.wiring.bus);
    (ahci, bootable)
}
