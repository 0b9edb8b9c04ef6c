//! Every virtio device against a driver gone wild, for as long as you like:
//! `cargo run --release -p hardware --example virtio_fuzz [seconds] [first seed]`.

use std::time::{Duration, Instant};

#[path = "../tests/virtio/wild_driver.rs"]
mod wild_driver;

fn main() {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<u64>().expect("a number"));
    let longest = Duration::from_secs(arguments.next().unwrap_or(60));
    let first = arguments.next().unwrap_or(1_000);
    let each = longest / wild_driver::DEVICES.len() as u32;
    for device in wild_driver::DEVICES {
        let begun = Instant::now();
        let (mut seed, mut report) = (first, wild_driver::Report::default());
        while begun.elapsed() < each {
            report = report + (device.storm)(seed);
            seed += 1;
        }
        println!("{}: seeds {first} to {}: {report:?}", device.name, seed - 1);
    }
}
