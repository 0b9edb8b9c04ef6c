//! Every virtio device against a driver gone wild: a short run of the fuzzer. `examples/virtio_fuzz.rs` runs longer.

#[path = "virtio/wild_driver.rs"]
mod wild_driver;

#[test]
fn no_ring_content_breaks_a_device() {
    for device in wild_driver::DEVICES {
        let report =
            (1..=12).fold(wild_driver::Report::default(), |report, seed| report + (device.storm)(seed));
        let name = device.name;
        assert!(report.given_back > 0, "{name}: some chains are good: {report:?}");
        assert!(report.failures > 0, "{name}: some drivers are found out: {report:?}");
    }
}
