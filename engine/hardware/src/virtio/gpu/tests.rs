use super::command::kind;
use super::*;
use crate::line::{Line, Messages};
use crate::virtio::VirtioPci;
use crate::virtio::testing::Rig;

const OK: u32 = Answer::Done as u32;
const MOST_BYTES: u64 = 1 << 20;
/// Guest memory for pictures, away from the rings.
const PICTURE: u64 = 0x8_0000;

fn rig() -> Rig<Gpu> {
    Rig::start(Gpu::new(MOST_BYTES), 0)
}

fn request(kind: u32, words: &[u32]) -> Vec<u8> {
    let header = [kind, 0, 0, 0, 0, 0];
    header.iter().chain(words).flat_map(|word| word.to_le_bytes()).collect()
}

/// Sends a command with `words` after its header; gives the answer.
fn says(rig: &mut Rig<Gpu>, kind: u32, words: &[u32]) -> Vec<u32> {
    let head = rig.submit(0, &[&request(kind, words)], &[1200]);
    let [(used, written)] = rig.queues[0].used()[..] else { panic!("{kind:#x} was not answered") };
    assert_eq!(used, head);
    let answer = rig.queues[0].written(head);
    answer[..written as usize].as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word)).collect()
}

fn ends(rig: &mut Rig<Gpu>, kind: u32, words: &[u32]) -> u32 {
    says(rig, kind, words)[0]
}

/// Picture 7 of 4 by 2 pixels in `format`, with memory in two pieces behind it.
fn with_picture(format: u32) -> Rig<Gpu> {
    let mut rig = rig();
    assert_eq!(ends(&mut rig, kind::CREATE, &[7, format, 4, 2]), OK);
    let [low, far] = [PICTURE as u32, PICTURE as u32 + 0x1000];
    assert_eq!(ends(&mut rig, kind::ATTACH, &[7, 2, low, 0, 20, 0, far, 0, 12, 0]), OK);
    let bytes: Vec<u8> = (0..32).collect();
    rig.memory.dma_write(PICTURE, &bytes[..20]);
    rig.memory.dma_write(PICTURE + 0x1000, &bytes[20..]);
    rig
}

fn pixels(rig: &Rig<Gpu>) -> Option<(u32, u32, Vec<u32>)> {
    match rig.device.kind().scan()? {
        Picture::Pixels(pixels) => Some((pixels.width, pixels.height, pixels.colours)),
        other => panic!("{other:?}"),
    }
}

fn touched(rig: &mut Rig<Gpu>) -> bool {
    rig.device.with(|gpu, _| Ok(gpu.touched())).unwrap()
}

#[test]
fn a_driver_learns_which_monitor_there_is() {
    let mut rig = rig();
    assert_eq!(rig.config::<16>(0), [0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    let told = says(&mut rig, kind::DISPLAY_INFO, &[]);
    assert_eq!((told[0], told.len()), (Answer::DisplayInfo as u32, 6 + 6 * 16));
    assert_eq!((&told[6..12], &told[12..]), (&[0, 0, 1024, 768, 1, 0][..], &[0; 90][..]));
    let told = says(&mut rig, kind::EDID, &[0, 0]);
    let size = told[6];
    let bytes: Vec<u8> = told[8..].iter().flat_map(|word| word.to_le_bytes()).collect();
    assert_eq!((told[0], size, bytes.len()), (Answer::Edid as u32, 128, 1024));
    assert_eq!(bytes[..128], edid::of((1024, 768)));
    assert_eq!(ends(&mut rig, kind::EDID, &[1, 0]), Answer::NoSuchScanout as u32);
}

#[test]
fn another_size_is_told_until_the_driver_has_seen_it() {
    let mut rig = rig();
    let resize = |rig: &mut Rig<Gpu>, width, height| {
        rig.device.with(|gpu, io| {
            gpu.resize(width, height, io);
            Ok(())
        });
    };
    resize(&mut rig, 1024, 768);
    assert!(rig.vectors().is_empty(), "nothing has changed");
    resize(&mut rig, 1000, 700);
    assert_eq!((rig.vectors(), rig.config::<1>(0)), (vec![0], [1]));
    rig.write(0x2004, crate::Width::Dword, 1);
    assert_eq!(rig.config::<1>(0), [0]);
    assert_eq!(says(&mut rig, kind::DISPLAY_INFO, &[])[8..10], [1000, 700]);
    resize(&mut rig, 0, u32::MAX);
    assert_eq!(says(&mut rig, kind::DISPLAY_INFO, &[])[8..10], [320, 4095]);
}

#[test]
fn a_picture_is_fetched_shown_and_taken_away() {
    let mut rig = with_picture(1);
    assert_eq!(pixels(&rig), None);
    assert_eq!(ends(&mut rig, kind::SET_SCANOUT, &[0, 0, 4, 2, 0, 7]), OK);
    assert_eq!(pixels(&rig), Some((4, 2, vec![0; 8])));
    assert!(touched(&mut rig) && !touched(&mut rig));
    assert_eq!(ends(&mut rig, kind::TRANSFER, &[0, 0, 4, 2, 0, 0, 7, 0]), OK);
    assert!(!touched(&mut rig), "not before it is flushed");
    assert_eq!(ends(&mut rig, kind::FLUSH, &[0, 0, 4, 2, 7, 0]), OK);
    assert!(touched(&mut rig));
    let all: Vec<u32> = (0..8).map(|n| 0x02_0100 + n * 0x04_0404).collect();
    assert_eq!(pixels(&rig), Some((4, 2, all.clone())));
    // A part of it, from where it lies in memory, and a part shown.
    rig.memory.dma_write(PICTURE + 0x1000, &[0xAA; 12]);
    assert_eq!(ends(&mut rig, kind::TRANSFER, &[2, 1, 1, 1, 24, 0, 7, 0]), OK);
    assert_eq!(ends(&mut rig, kind::SET_SCANOUT, &[1, 1, 3, 1, 0, 7]), OK);
    assert_eq!(pixels(&rig), Some((3, 1, vec![all[5], 0xAA_AAAA, all[7]])));
    assert_eq!(ends(&mut rig, kind::SET_SCANOUT, &[0, 0, 0, 0, 0, 0]), OK);
    assert_eq!((pixels(&rig), touched(&mut rig)), (None, true));
    assert_eq!(ends(&mut rig, kind::SET_SCANOUT, &[0, 0, 4, 2, 0, 7]), OK);
    assert_eq!(ends(&mut rig, kind::UNREFERENCE, &[7, 0]), OK);
    assert_eq!(pixels(&rig), None, "what is gone is not shown");
}

#[test]
fn every_format_says_where_its_colours_are() {
    for (format, colour) in [
        (1, 0x0302_0100),
        (2, 0xFF02_0100),
        (3, 0x0001_0203),
        (4, 0xFF01_0203),
        (67, 0x0300_0102),
        (68, 0xFF03_0201),
        (121, 0x0003_0201),
        (134, 0xFF00_0102),
    ] {
        let mut rig = with_picture(format);
        assert_eq!(ends(&mut rig, kind::TRANSFER, &[0, 0, 4, 2, 0, 0, 7, 0]), OK);
        assert_eq!(rig.device.kind().state.resources[0].pixels[0], colour, "format {format}");
    }
}

#[test]
fn a_fence_is_told_with_the_answer() {
    let mut rig = rig();
    let mut bytes = request(kind::DISPLAY_INFO, &[]);
    bytes[4] = 1;
    bytes[8..21].copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 0, 0, 3]);
    let head = rig.submit(0, &[&bytes], &[24 + 384]);
    assert_eq!(rig.queues[0].written(head)[4..21], bytes[4..21]);
    assert_eq!(rig.vectors(), [1]);
}

#[test]
fn what_cannot_be_is_refused() {
    use Answer::{InvalidParameter, NoSuchResource, NoSuchScanout, OutOfMemory, Unspecified};
    let mut rig = with_picture(1);
    let ram_end = 1 << 20;
    for (kind, words, answer) in [
        (0x0108, &[0, 0][..], Unspecified),
        (0, &[], Unspecified),
        (kind::CREATE, &[8, 1, 4][..], Unspecified), // too short
        (kind::CREATE, &[0, 1, 4, 2], NoSuchResource),
        (kind::CREATE, &[7, 1, 4, 2], NoSuchResource), // there is one
        (kind::CREATE, &[8, 5, 4, 2], InvalidParameter),
        (kind::CREATE, &[8, 1, 0, 2], InvalidParameter),
        (kind::CREATE, &[8, 1, 512, 512], OutOfMemory), // with the first one
        (kind::CREATE, &[8, 1, u32::MAX, u32::MAX], OutOfMemory),
        (kind::CREATE, &[8, 1, 0x8000_0000, 0x8000_0000], OutOfMemory),
        (kind::UNREFERENCE, &[8, 0], NoSuchResource),
        (kind::SET_SCANOUT, &[0, 0, 4, 2, 1, 7], NoSuchScanout),
        (kind::SET_SCANOUT, &[0, 0, 4, 2, 0, 8], NoSuchResource),
        (kind::SET_SCANOUT, &[0, 0, 4, 3, 0, 7], InvalidParameter),
        (kind::SET_SCANOUT, &[0, 0, 0, 2, 0, 7], InvalidParameter),
        (kind::SET_SCANOUT, &[u32::MAX, 0, 2, 2, 0, 7], InvalidParameter),
        (kind::FLUSH, &[0, 0, 4, 2, 8, 0], NoSuchResource),
        (kind::FLUSH, &[4, 0, 1, 1, 7, 0], InvalidParameter),
        (kind::TRANSFER, &[0, 0, 4, 2, 0, 0, 8, 0], NoSuchResource),
        (kind::TRANSFER, &[0, 0, 4, 2, 1, 0, 7, 0], InvalidParameter),
        (kind::TRANSFER, &[0, 0, 4, 2, u32::MAX, u32::MAX, 7, 0], InvalidParameter),
        (kind::TRANSFER, &[0, u32::MAX, 4, 2, 0, 0, 7, 0], InvalidParameter),
        (kind::ATTACH, &[7, 1, 0, 0, 16, 0], Unspecified), // it has memory
        (kind::ATTACH, &[8, 1, 0, 0, 16, 0], NoSuchResource),
        (kind::DETACH, &[7, 0], Answer::Done),
        (kind::DETACH, &[7, 0], Unspecified),
        (kind::TRANSFER, &[0, 0, 4, 2, 0, 0, 7, 0], Unspecified), // it has none
        (kind::ATTACH, &[7, 2, 0, 0, 16, 0], InvalidParameter),   // an entry is missing
        (kind::ATTACH, &[7, u32::MAX, 0, 0, 16, 0], OutOfMemory),
        (kind::ATTACH, &[7, 1, ram_end - 8, 0, 16, 0], InvalidParameter),
        (kind::ATTACH, &[7, 1, 0, 0xFFFF_FFFF, 16, 0], InvalidParameter),
        (kind::ATTACH, &[7, 1, ram_end - 8, 0, 8, 0], Answer::Done),
    ] {
        assert_eq!(ends(&mut rig, kind, words), answer as u32, "{kind:#x} {words:?}");
    }
    assert_eq!(rig.status() & 0x40, 0, "it goes on");
}

#[test]
fn a_command_without_header_or_room_for_an_answer_is_a_violation() {
    for (readable, writable) in [(&[0; 8][..], 24), (&request(kind::DISPLAY_INFO, &[])[..], 16)] {
        let mut rig = rig();
        rig.submit(0, &[readable], &[writable]);
        assert_eq!(rig.status() & 0x40, 0x40);
    }
    let mut rig = rig();
    rig.submit(1, &[&request(kind::DISPLAY_INFO, &[])], &[]);
    assert_eq!(rig.status() & 0x40, 0x40, "the cursor's queue knows two commands");
}

#[test]
fn the_cursor_lies_over_the_picture() {
    let mut rig = with_picture(1);
    ends(&mut rig, kind::SET_SCANOUT, &[0, 0, 4, 2, 0, 7]);
    assert_eq!(ends(&mut rig, kind::CREATE, &[9, 1, 2, 1]), OK);
    assert_eq!(ends(&mut rig, kind::ATTACH, &[9, 1, PICTURE as u32, 0, 8, 0]), OK);
    rig.memory.dma_write(PICTURE, &[0x30, 0x20, 0x10, 0xFF, 0, 0, 0, 0]);
    assert_eq!(ends(&mut rig, kind::TRANSFER, &[0, 0, 2, 1, 0, 0, 9, 0]), OK);
    let point = |rig: &mut Rig<Gpu>, kind, words: [u32; 8]| {
        let head = rig.submit(1, &[&request(kind, &words)], &[]);
        assert_eq!(rig.queues[1].used(), [(head, 0)]);
        pixels(rig).unwrap().2
    };
    touched(&mut rig);
    let black = vec![0; 8];
    let at = |n: usize| {
        let mut all = black.clone();
        all[n] = 0x10_2030;
        all
    };
    assert_eq!(point(&mut rig, kind::UPDATE_CURSOR, [0, 1, 1, 0, 9, 0, 0, 0]), at(5));
    assert!(touched(&mut rig));
    assert_eq!(point(&mut rig, kind::MOVE_CURSOR, [0, 2, 0, 0, 0, 0, 0, 0]), at(2));
    assert_eq!(point(&mut rig, kind::MOVE_CURSOR, [1, 0, 0, 0, 0, 0, 0, 0]), at(2), "another monitor's");
    assert_eq!(point(&mut rig, kind::MOVE_CURSOR, [0, u32::MAX, 0, 0, 0, 0, 0, 0]), black, "half outside");
    assert_eq!(ends(&mut rig, kind::UNREFERENCE, &[9, 0]), OK);
    assert_eq!(point(&mut rig, kind::MOVE_CURSOR, [0, 3, 1, 0, 0, 0, 0, 0]), at(7), "it has its own picture");
    assert_eq!(point(&mut rig, kind::UPDATE_CURSOR, [0, 0, 0, 0, 9, 0, 0, 0]), black, "hidden");
}

#[test]
fn a_saved_gpu_shows_the_same_and_an_impossible_one_is_refused() {
    let mut rig = with_picture(1);
    ends(&mut rig, kind::SET_SCANOUT, &[0, 0, 4, 2, 0, 7]);
    ends(&mut rig, kind::TRANSFER, &[0, 0, 4, 2, 0, 0, 7, 0]);
    let state = rig.device.kind().state();
    let mut other = Gpu::new(MOST_BYTES);
    other.set_state(state.clone()).unwrap();
    assert_eq!(other.scan(), rig.device.kind().scan());
    assert!(Gpu::new(16).set_state(state.clone()).is_err(), "too much for this one");
    let wrong = |change: fn(&mut State)| {
        let mut state = state.clone();
        change(&mut state);
        Gpu::new(MOST_BYTES).set_state(state).is_err()
    };
    assert!(wrong(|state| state.size.0 = 0));
    assert!(wrong(|state| state.resources[0].width = 5));
    assert!(wrong(|state| state.resources.clear()));
    assert!(wrong(|state| state.scanout.as_mut().unwrap().shown.y = 1));
}

/// Commands with small numbers meet each other in every order.
#[test]
fn commands_in_any_order_keep_its_bounds() {
    let mut rig = rig();
    let mut number = 1_u64;
    let mut below = |end: u32| {
        number = number.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
        (number >> 33) as u32 % end
    };
    for _ in 0..20_000 {
        let words: Vec<u32> =
            (0..12).map(|_| [below(4), below(200), u32::MAX, 1][below(4) as usize]).collect();
        if below(8) == 0 {
            let kind = [kind::UPDATE_CURSOR, kind::MOVE_CURSOR][below(2) as usize];
            rig.submit(1, &[&request(kind, &words)], &[]);
            rig.queues[1].used();
        } else {
            says(&mut rig, 0x0100 + below(11), &words);
        }
        let state = rig.device.kind().state();
        assert!(state.pixel_bytes() <= MOST_BYTES && state.entries() <= ENTRIES_MAX);
        rig.device.kind().scan();
    }
    assert_eq!(rig.status() & 0x40, 0);
}

#[test]
fn contract() {
    crate::contract::check(|| {
        let memory = Memory::new(1 << 20, 0).unwrap();
        VirtioPci::new("gpu", Gpu::new(MOST_BYTES), memory, Line::unconnected(), Messages::unconnected())
    });
}
