use std::sync::Arc;

use super::*;
use crate::alarm::Alarms;
use crate::device::Device;
use crate::line::{Line, Messages};
use crate::memory::Memory;
use crate::sound::testing::Studio;
use crate::virtio::VirtioPci;
use crate::virtio::testing::Rig as Driver;

const MS: u64 = 1_000_000;
const RATE_44100: u8 = 6;

struct Rig {
    driver: Driver<Sound>,
    studio: Studio,
    clock: Clock,
    alarms: Arc<Alarms>,
}

impl Rig {
    fn new() -> Rig {
        let (studio, source) = Studio::new();
        let (clock, alarms) = (Clock::manual(), Alarms::new(|| {}));
        let driver = Driver::start(Sound::new(source, clock.clone(), alarms.alarm()), 0);
        Rig { driver, studio, clock, alarms }
    }

    /// A control request; its answer.
    fn ask(&mut self, request: &[u8], room: u32) -> Vec<u8> {
        let head = self.driver.submit(CONTROL, &[request], &[room]);
        let used = self.driver.queues[0].used();
        assert_eq!(used.len(), 1);
        let mut answer = self.driver.queues[0].written(head);
        answer.truncate(used[0].1 as usize);
        answer
    }

    /// A request of a code and a stream; its status.
    fn tell(&mut self, code: u32, stream: u32) -> u32 {
        let answer = self.ask(&[code, stream].map(u32::to_le_bytes).concat(), 4);
        u32::from_le_bytes(answer.try_into().unwrap())
    }

    fn set(&mut self, stream: u32, channels: u8, format: u8, rate: u8) -> u32 {
        let mut bytes = [request::SET_PARAMETERS, stream, 8192, 2048, 0].map(u32::to_le_bytes).concat();
        bytes.extend([channels, format, rate, 0]);
        u32::from_le_bytes(self.ask(&bytes, 4).try_into().unwrap())
    }

    fn wait(&mut self, ns: u64) {
        let end = self.clock.now() + ns;
        while let Some(next) = self.alarms.next().filter(|next| *next <= end) {
            self.clock.set(next.max(self.clock.now()));
            self.alarms.take_due(next);
            self.driver.device.advance();
            self.studio.mixer.mix(self.clock.now());
        }
        self.clock.set(end);
    }
}

#[test]
fn it_tells_what_it_has() {
    let mut rig = Rig::new();
    assert_eq!(rig.driver.config::<12>(0), [2, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0]);
    let answer = rig.ask(&[0x100, 0, 2, 32].map(u32::to_le_bytes).concat(), 4 + 64);
    assert_eq!((answer.len(), &answer[..4]), (68, &[0, 0x80, 0, 0][..]));
    assert_eq!(answer[4 + 24..4 + 27], [0, 1, 2], "the first is heard, in one or two channels");
    assert_eq!(answer[36 + 24], 1, "the second records");
    assert_eq!(
        rig.ask(&[0x200, 1, 1, 24].map(u32::to_le_bytes).concat(), 28)[4..12],
        [1, 0, 0, 0, 1, 2, 3, 4]
    );
    assert_eq!(rig.ask(&[1, 0, 1, 24].map(u32::to_le_bytes).concat(), 28)[20], 1, "plugged in");
    for wrong in [[0x100, 1, 2, 32], [0x100, u32::MAX, 2, 32], [0x100, 0, 1, 8], [0x100, 0, 1, 1 << 30]] {
        assert_eq!(rig.ask(&wrong.map(u32::to_le_bytes).concat(), 4), [1, 0x80, 0, 0], "{wrong:?}");
    }
}

#[test]
fn a_tone_is_played_and_buffers_come_back_as_they_have_sounded() {
    let mut rig = Rig::new();
    assert_eq!(rig.set(0, 2, request::format::S16, RATE_44100), status::OK);
    assert_eq!(rig.tell(request::PREPARE, 0), status::OK);
    let piece = 441 * 5;
    let samples: Vec<u8> = (0..10 * piece)
        .flat_map(|n| {
            let angle = f64::from(n) * 500.0 / 44_100.0 * std::f64::consts::TAU;
            let [low, high] = ((angle.sin() * 20_000.0) as i16).to_le_bytes();
            [low, high, low, high]
        })
        .collect();
    let mut pieces = samples.chunks(4 * piece as usize);
    for _ in 0..3 {
        rig.driver.submit(TRANSMIT, &[&[0; 4], pieces.next().unwrap()], &[8]);
    }
    rig.wait(100 * MS);
    assert!(rig.driver.queues[2].used().is_empty(), "not started yet");
    assert_eq!(rig.tell(request::START, 0), status::OK);
    rig.wait(49 * MS);
    assert!(rig.driver.queues[2].used().is_empty());
    let mut back = 0;
    for _ in 0..15 {
        rig.wait(50 * MS);
        for (head, written) in rig.driver.queues[2].used() {
            assert_eq!(written, 8);
            assert_eq!(rig.driver.queues[2].written(head), [0, 0x80, 0, 0, 0, 0, 0, 0]);
            back += 1;
            if let Some(piece) = pieces.next() {
                rig.driver.submit(TRANSMIT, &[&[0; 4], piece], &[8]);
            }
        }
    }
    assert_eq!(back, 10);
    let tone = rig.studio.tone(&rig.clock);
    assert!((tone.hz - 500.0).abs() < 0.5 && (tone.length_ms - 500.0).abs() < 4.0, "{tone:?}");
    assert!((tone.start_ms - 100.0).abs() < 5.0, "{tone:?}");
    assert_eq!((rig.tell(request::STOP, 0), rig.alarms.next()), (status::OK, None));
}

#[test]
fn every_format_is_heard_alike() {
    use request::format::*;
    let half: [(u8, &[u8]); 6] = [
        (S8, &[0x40]),
        (U8, &[0xC0]),
        (S16, &[0, 0x40]),
        (U16, &[0, 0xC0]),
        (S32, &[0, 0, 0, 0x40]),
        (FLOAT, &[0, 0, 0, 0x3F]),
    ];
    for (format, bytes) in half {
        for channels in 1..=2 {
            let mut rig = Rig::new();
            assert_eq!(rig.set(0, channels, format, 7), status::OK);
            rig.tell(request::PREPARE, 0);
            rig.driver.submit(TRANSMIT, &[&[0; 4], &bytes.repeat(480 * usize::from(channels))], &[8]);
            rig.tell(request::START, 0);
            rig.wait(30 * MS);
            let heard = rig.studio.heard(&rig.clock);
            let loud: Vec<_> = heard.iter().filter(|sample| **sample == [0.5; 2]).collect();
            assert_eq!(loud.len(), 480, "format {format}, {channels} channels");
        }
    }
}

#[test]
fn recording_brings_silence_in_time_and_release_gives_all_back() {
    let mut rig = Rig::new();
    rig.set(1, 1, request::format::U8, 1);
    rig.tell(request::PREPARE, 1);
    let first = rig.driver.submit(RECEIVE, &[&[1, 0, 0, 0]], &[80, 8]);
    let second = rig.driver.submit(RECEIVE, &[&[1, 0, 0, 0]], &[800, 8]);
    rig.tell(request::START, 1);
    rig.wait(20 * MS);
    assert_eq!(rig.driver.queues[3].used(), [(first, 88)]);
    assert_eq!(rig.driver.queues[3].written(first)[..82], [&[0x80; 80][..], &[0, 0x80]].concat());
    assert_eq!(rig.tell(request::RELEASE, 1), status::BAD_MESSAGE, "it runs");
    rig.tell(request::STOP, 1);
    assert_eq!(rig.tell(request::RELEASE, 1), status::OK);
    assert_eq!(rig.driver.queues[3].used(), [(second, 8)]);
}

#[test]
fn what_cannot_be_is_refused_and_the_order_is_kept() {
    let mut rig = Rig::new();
    assert_eq!(rig.tell(request::START, 0), status::BAD_MESSAGE);
    assert_eq!(rig.tell(request::PREPARE, 2), status::BAD_MESSAGE);
    assert_eq!(rig.tell(0x999, 0), status::NOT_SUPPORTED);
    assert_eq!(rig.set(0, 3, request::format::S16, 7), status::NOT_SUPPORTED);
    assert_eq!(rig.set(0, 2, 60, 7), status::NOT_SUPPORTED);
    assert_eq!(rig.set(0, 2, request::format::S16, 14), status::NOT_SUPPORTED);
    let head = rig.driver.submit(TRANSMIT, &[&[0; 8]], &[8]);
    assert_eq!(rig.driver.queues[2].used(), [(head, 8)]);
    assert_eq!(rig.driver.queues[2].written(head)[..4], [3, 0x80, 0, 0], "no stream takes it");
    rig.driver.submit(TRANSMIT, &[&[0; 2]], &[8]);
    assert_eq!(rig.driver.status() & 0x40, 0x40, "a buffer without a header breaks the rules");
}

#[test]
fn contract() {
    crate::contract::check(|| {
        let memory = Memory::new(1 << 20, 0).unwrap();
        let sound = Sound::new(Studio::new().1, Clock::manual(), Alarm::unconnected());
        VirtioPci::new("virtio-sound", sound, memory, Line::unconnected(), Messages::unconnected())
    });
}
