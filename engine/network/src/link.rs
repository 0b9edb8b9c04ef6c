//! One end of an Ethernet cable, as whoever plugs it in holds it.

use std::sync::Arc;

/// Bytes of an Ethernet header: two addresses and a type.
pub const ETHERNET_HEADER: usize = 14;
/// Longest frame of a standard Ethernet, without its frame check sequence (IEEE 802.3 §3.2.7).
pub const STANDARD_FRAME: usize = ETHERNET_HEADER + 1500;
/// Longest frame any link carries: an IPv4 packet of full length, not cut into segments.
pub const LONGEST_FRAME: usize = ETHERNET_HEADER + 65_535;

/// Bytes of a VLAN tag, which comes on top of any length (IEEE 802.1Q).
pub const VLAN_TAG: usize = 4;

/// Called, from any thread and with no lock of the link held, when there is a reason to look at a link. It
/// must not block, and not take a device's lock: the caller may hold one.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// One end of an Ethernet cable: frames in, frames out, without frame check sequences.
///
/// Nothing here blocks, and nothing grows: queues are bounded. A sender that can wait uses
/// [`Link::offer`] and tries again when its waker is called; one that cannot uses [`Link::send`], which
/// counts what it drops.
///
/// The waker is called when a frame comes into an empty queue, when there is room again after a refused
/// offer, and when the cable is plugged or unplugged or the far end takes longer or shorter frames. Whoever
/// leaves frames waiting (no room in its ring) looks again by itself.
pub trait Link: Send + Sync {
    /// Hands a frame over; false if there is no room for it now. On an unplugged cable a frame is
    /// taken and lost, as on a real one; so is one that is too short or too long for the link.
    fn offer(&self, frame: &[u8]) -> bool;

    /// Hands a frame over, or drops and counts it.
    fn send(&self, frame: &[u8]);

    /// Takes the next frame into `frame`, whose old content is gone; false if none waits.
    fn receive(&self, frame: &mut Vec<u8>) -> bool;

    /// Whether a frame waits.
    fn has_frame(&self) -> bool;

    /// The longest frame the far end takes, in bytes: [`STANDARD_FRAME`], or more if it takes TCP segments
    /// that are not cut to the wire's size (their checksums are right for the whole).
    fn longest_frame(&self) -> usize;

    /// Says how long the frames are that this end takes; [`STANDARD_FRAME`] unless it says otherwise.
    fn accept_frames(&self, longest: usize);

    /// Whether the cable is plugged in.
    fn is_up(&self) -> bool;

    /// Plugs the cable in or out. Frames on their way are lost when it is pulled.
    fn set_up(&self, up: bool);

    /// Calls `waker` from now on.
    fn set_waker(&self, waker: Waker);

    /// What has passed so far, as this end sees it.
    fn counts(&self) -> Counts;
}

/// What has passed over a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// From this end to the far one.
    pub sent: Flow,
    /// From the far end to this one.
    pub received: Flow,
}

/// One direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Flow {
    /// Frames that were handed over.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Frames that were lost: no room, an unplugged cable, a bad line, an impossible length.
    pub dropped: u64,
}
