//! A guest gone wild on every board there is: a short run of the fuzzer. `examples/board_fuzz.rs` runs longer.

#[path = "wild/mod.rs"]
mod wild;

use std::collections::{BTreeMap, HashSet};

#[test]
fn nothing_a_guest_does_breaks_a_device() {
    let mut devices = HashSet::new();
    let (mut accesses, mut done) = (0, BTreeMap::new());
    for seed in 1..=20 {
        let played = wild::play(seed, 150);
        devices.extend(played.devices);
        accesses += played.accesses;
        for (what, count) in played.done {
            *done.entry(what).or_insert(0) += count;
        }
    }
    assert!(accesses > 20_000, "the guest was wild: {accesses} accesses");
    for device in [
        "ide",
        "ahci",
        "floppy",
        "e1000",
        "virtio-net",
        "virtio-disk0",
        "virtio-sound",
        "ac97",
        "sb16",
        "ne2000",
        "virtio-gpu",
        "vmware",
        "hpet",
    ] {
        assert!(devices.contains(device), "{device} was there: {devices:?}");
    }
    for what in [
        "AHCI lists done",
        "IDE commands done",
        "IDE transfers by DMA",
        "floppy commands done",
        "frames sent",
    ]
    .into_iter()
    .chain([
        "frames received",
        "interrupts",
        "virtio rings used",
        "AC'97 buffers ended",
        "GPU commands done",
        "NE2000 frames",
        "calls answered",
        "HPET levels",
    ]) {
        assert!(done.get(what).is_some_and(|count| *count > 0), "{what}: {done:?}");
    }
}
