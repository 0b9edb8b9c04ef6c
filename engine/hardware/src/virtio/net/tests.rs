//! The network card as a driver sees it, at one end of a cable.

use network::{Capacity, cable};

use super::*;
use crate::line::{Line, Messages};
use crate::memory::Memory;
use crate::net::checksum;
use crate::virtio::VirtioPci;
use crate::virtio::testing::Rig;

const MAC: Mac = Mac([0x52, 0x56, 1, 2, 3, 4]);

fn card() -> (Net, Arc<dyn Link>) {
    let (near, far) = cable(Capacity::default());
    (Net::new(MAC, near, Clock::manual(), Alarm::unconnected()), far)
}

fn start(refused: u64) -> (Rig<Net>, Arc<dyn Link>) {
    let (net, far) = card();
    (Rig::start(net, refused), far)
}

fn frame(length: usize) -> Vec<u8> {
    (0..length).map(|n| n as u8).collect()
}

fn received(far: &Arc<dyn Link>) -> Vec<Vec<u8>> {
    let mut frame = Vec::new();
    std::iter::from_fn(|| far.receive(&mut frame).then(|| frame.clone())).collect()
}

/// A header for a frame that is to be sent.
fn header(flags: u8, kind: u8, size: u16, start: u16, offset: u16) -> Vec<u8> {
    let words = [0, size, start, offset, 0].map(u16::to_le_bytes).concat();
    [&[flags, kind][..], &words].concat()
}

#[test]
fn frames_go_out_as_they_are() {
    let (mut rig, far) = start(0);
    let frame = frame(100);
    let head = rig.submit(1, &[&[0; 12], &frame], &[]);
    assert_eq!(received(&far), [frame]);
    assert_eq!((rig.queues[1].used(), rig.vectors()), (vec![(head, 0)], vec![2]));
    rig.submit(1, &[&[0; 11]], &[]);
    assert_eq!(rig.status() & 0x40, 0x40, "no header");
}

#[test]
fn a_full_cable_holds_the_driver_up_and_loses_nothing() {
    let (mut rig, far) = start(0);
    for n in 0..200u8 {
        rig.submit(1, &[&[0; 12], &[n; 1500]], &[]);
    }
    let mut all = received(&far);
    for _ in 0..200 {
        rig.device.with(Net::advance);
        all.extend(received(&far));
    }
    assert_eq!(all.len(), 200);
    assert!((0u8..).zip(&all).all(|(n, frame)| frame[0] == n));
    assert_eq!(rig.queues[1].used().len(), 200);
}

#[test]
fn frames_come_in_and_wait_for_buffers() {
    let (mut rig, far) = start(0);
    far.send(&frame(60));
    rig.device.with(Net::advance);
    assert!(rig.vectors().is_empty());
    let head = rig.submit(0, &[], &[1536]);
    assert_eq!(rig.queues[0].used(), [(head, 72)]);
    let written = rig.queues[0].written(head);
    assert_eq!((written[0], &written[10..12], &written[12..72]), (2, &[1, 0][..], &frame(60)[..]));
    assert_eq!(rig.vectors(), [1]);
}

#[test]
fn a_long_frame_is_spread_over_buffers() {
    let (mut rig, far) = start(0);
    rig.notify(0);
    let long = frame(4000);
    far.send(&long);
    rig.submit(0, &[], &[1536]);
    rig.submit(0, &[], &[1536]);
    assert!(rig.queues[0].used().is_empty(), "two buffers are not enough");
    rig.submit(0, &[], &[1536]);
    let used = rig.queues[0].used();
    assert_eq!(used.iter().map(|(_, length)| *length).collect::<Vec<_>>(), [1536, 1536, 940]);
    let bytes: Vec<u8> = used
        .iter()
        .flat_map(|(head, length)| rig.queues[0].written(*head)[..*length as usize].to_vec())
        .collect();
    assert_eq!((&bytes[10..12], &bytes[12..]), (&[3, 0][..], &long[..]));
}

#[test]
fn without_merging_a_frame_that_does_not_fit_is_lost() {
    let (mut rig, far) = start(feature::MERGE);
    far.send(&frame(600));
    far.send(&frame(64));
    let head = rig.submit(0, &[], &[512]);
    assert_eq!(rig.queues[0].used(), [(head, 76)]);
}

#[test]
fn the_cable_can_be_pulled() {
    let (mut rig, far) = start(0);
    assert_eq!(rig.config::<8>(0), [0x52, 0x56, 1, 2, 3, 4, 1, 0]);
    far.set_up(false);
    rig.device.with(Net::advance);
    assert_eq!(rig.config::<2>(6), [0, 0]);
    assert_eq!(rig.vectors(), [0]);
}

/// A TCP packet over IPv4 with `payload` bytes, its checksum left to the card.
fn tcp(payload: usize) -> Vec<u8> {
    let mut packet = vec![0; 14 + 20 + 20 + payload];
    packet[12..14].copy_from_slice(&[8, 0]);
    let length = (packet.len() - 14) as u16;
    packet[14] = 0x45;
    packet[16..18].copy_from_slice(&length.to_be_bytes());
    packet[23] = 6;
    packet[26..34].copy_from_slice(&[10, 0, 2, 15, 10, 0, 2, 2]);
    packet[38..42].copy_from_slice(&1000u32.to_be_bytes());
    packet[46] = 0x50;
    packet[47] = 0x18; // ACK, PSH
    packet[54..].iter_mut().enumerate().for_each(|(n, byte)| *byte = n as u8);
    let pseudo = checksum::pseudo_header(&packet[26..34], 6, packet.len() - 34);
    let sum = checksum::fold(pseudo);
    packet[50..52].copy_from_slice(&sum.to_be_bytes());
    packet
}

fn tcp_is_right(packet: &[u8]) -> bool {
    let pseudo = checksum::pseudo_header(&packet[26..34], 6, packet.len() - 34);
    checksum::fold(pseudo + checksum::sum(&packet[34..])) == 0xFFFF
}

#[test]
fn checksums_are_put_in() {
    let (mut rig, far) = start(0);
    rig.submit(1, &[&header(1, 0, 0, 34, 16), &tcp(101)], &[]);
    let sent = received(&far).remove(0);
    assert!(tcp_is_right(&sent), "{sent:?}");
    rig.submit(1, &[&header(1, 0, 0, 0xFFFF, 0xFFFF), &tcp(1)], &[]);
    assert_eq!(received(&far), [tcp(1)], "a checksum of nothing goes nowhere");
}

#[test]
fn long_packets_are_cut_for_a_cable_of_short_frames() {
    let (mut rig, far) = start(0);
    rig.submit(1, &[&header(1, 1, 1460, 34, 16), &tcp(4000)], &[]);
    let sent = received(&far);
    let lengths: Vec<usize> = sent.iter().map(|frame| frame.len() - 54).collect();
    assert_eq!(lengths, [1460, 1460, 1080]);
    assert!(sent.iter().all(|frame| tcp_is_right(frame)));
    assert!(sent.iter().all(|frame| checksum::fold(checksum::sum(&frame[14..34])) == 0xFFFF));
    let numbers: Vec<u32> =
        sent.iter().map(|frame| u32::from_be_bytes(frame[38..42].try_into().unwrap())).collect();
    assert_eq!(numbers, [1000, 2460, 3920]);
    assert_eq!(sent.iter().map(|frame| frame[47]).collect::<Vec<_>>(), [0x10, 0x10, 0x18]);

    far.accept_frames(LONGEST_FRAME);
    rig.submit(1, &[&header(1, 1, 1460, 34, 16), &tcp(4000)], &[]);
    let sent = received(&far);
    assert_eq!((sent.len(), sent[0].len(), tcp_is_right(&sent[0])), (1, 4054, true));
}

#[test]
fn a_long_packet_that_comes_in_says_how_it_would_be_cut() {
    let (mut rig, far) = start(0);
    for _ in 0..4 {
        rig.submit(0, &[], &[1536]);
    }
    far.send(&tcp(3000));
    rig.device.with(Net::advance);
    let first = rig.queues[0].used()[0].0;
    let header = rig.queues[0].written(first);
    assert_eq!(header[..6], [2, 1, 54, 0, 0xB4, 5], "1460 bytes a segment");
}

#[test]
fn contract() {
    crate::contract::check(|| {
        let memory = Memory::new(1 << 20, 0).unwrap();
        VirtioPci::new("net", card().0, memory, Line::unconnected(), Messages::unconnected())
    });
}
