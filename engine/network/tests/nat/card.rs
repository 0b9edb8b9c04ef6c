//! A network card for smoltcp's TCP/IP: the other end of a cable.

use std::sync::Arc;
use std::time::Duration;

use network::Link;
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant as Time;

/// The card.
pub struct Card {
    /// Its cable.
    pub link: Arc<dyn Link>,
    longest_frame: usize,
}

impl Card {
    /// A card that takes and sends frames of up to `longest_frame` bytes.
    pub fn new(link: Arc<dyn Link>, longest_frame: usize) -> Card {
        link.accept_frames(longest_frame);
        Card { link, longest_frame }
    }
}

pub struct Received(Vec<u8>);
pub struct ToSend<'a>(&'a dyn Link);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for ToSend<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let mut frame = vec![0; length];
        let result = f(&mut frame);
        // A card waits for room; the NAT always makes some.
        while !self.0.offer(&frame) {
            std::thread::sleep(Duration::from_micros(50));
        }
        result
    }
}

impl Device for Card {
    type RxToken<'a> = Received;
    type TxToken<'a> = ToSend<'a>;

    fn receive(&mut self, _now: Time) -> Option<(Received, ToSend<'_>)> {
        let mut frame = Vec::new();
        self.link.receive(&mut frame).then(|| (Received(frame), ToSend(&*self.link)))
    }

    fn transmit(&mut self, _now: Time) -> Option<ToSend<'_>> {
        Some(ToSend(&*self.link))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.longest_frame;
        capabilities
    }
}
