//! The exchange of frames between whoever draws and whoever shows: neither waits for the other.
//!
//! Three slots: the one shown, the one published since, the one being filled. A reader holds on to a
//! slot by its `Arc`; only then does the writer make a new one, so there are never more slots than
//! three and the readers' own.

use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};

use crate::frame::Frame;
use crate::picture::Picture;
use crate::scanout::render;

type Waker = Box<dyn Fn() + Send + Sync>;

struct Shared {
    newest: ArcSwap<Frame>,
    waker: ArcSwapOption<Waker>,
}

/// A new exchange, showing an empty frame.
pub fn exchange() -> (FrameWriter, FrameReader) {
    let shared =
        Arc::new(Shared { newest: ArcSwap::from_pointee(Frame::default()), waker: ArcSwapOption::empty() });
    let writer = FrameWriter { shared: shared.clone(), canvas: Frame::default(), slots: Vec::new() };
    (writer, FrameReader { shared })
}

/// The drawing end.
pub struct FrameWriter {
    shared: Arc<Shared>,
    /// What was drawn last: the scan-out compares with it.
    canvas: Frame,
    /// Slots given out before, to be filled again once nobody looks at them.
    slots: Vec<Arc<Frame>>,
}

impl FrameWriter {
    /// Draws `picture`, and publishes it when it differs from the frame before. Says whether it did.
    pub fn show(&mut self, picture: &Picture) -> bool {
        let changed = render(picture, &mut self.canvas);
        if changed {
            self.publish();
        }
        changed
    }

    /// The frame drawn last.
    pub fn frame(&self) -> &Frame {
        &self.canvas
    }

    fn publish(&mut self) {
        let mut slot = self.free_slot();
        let frame = Arc::get_mut(&mut slot).expect("a free slot has one owner");
        frame.clone_from(&self.canvas);
        self.slots.push(slot.clone());
        self.shared.newest.store(slot);
        if let Some(waker) = &*self.shared.waker.load() {
            waker();
        }
    }

    /// A slot nobody looks at; those that readers still hold are left to them.
    fn free_slot(&mut self) -> Arc<Frame> {
        let free = self.slots.iter_mut().position(|slot| Arc::get_mut(slot).is_some());
        let slot = free.map(|at| self.slots.swap_remove(at)).unwrap_or_default();
        if self.slots.len() > 2 {
            self.slots.remove(0);
        }
        slot
    }
}

/// The showing end. Clones look at the same frames.
#[derive(Clone)]
pub struct FrameReader {
    shared: Arc<Shared>,
}

impl FrameReader {
    /// The newest frame.
    pub fn latest(&self) -> Arc<Frame> {
        self.shared.newest.load_full()
    }

    /// The newest frame, when it is another than the one with `serial`.
    pub fn newer_than(&self, serial: u64) -> Option<Arc<Frame>> {
        let newest = self.shared.newest.load();
        (newest.serial != serial).then(|| Arc::clone(&newest))
    }

    /// Calls `waker` in the drawing thread after each new frame, instead of any earlier one.
    pub fn set_waker(&self, waker: impl Fn() + Send + Sync + 'static) {
        self.shared.waker.store(Some(Arc::new(Box::new(waker))));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::picture::Pixels;

    fn one_pixel(colour: u32) -> Picture {
        Picture::Pixels(Pixels {
            width: 1,
            height: 1,
            repeat_lines: 1,
            repeat_columns: 1,
            colours: vec![colour],
        })
    }

    #[test]
    fn the_reader_gets_the_newest_and_is_woken_only_for_what_differs() {
        let (mut writer, reader) = exchange();
        let woken = Arc::new(AtomicU32::new(0));
        let counter = woken.clone();
        reader.set_waker(move || {
            counter.fetch_add(1, Ordering::Relaxed);
        });
        for colour in [1, 2, 2, 3] {
            writer.show(&one_pixel(colour));
        }
        assert_eq!(woken.load(Ordering::Relaxed), 3);
        let frame = reader.clone().latest();
        assert_eq!((frame.pixels[0], frame.serial), (3, 3));
        assert!(reader.newer_than(3).is_none());
        assert!(reader.newer_than(2).is_some());
    }

    #[test]
    fn a_held_frame_never_changes_and_slots_stay_few() {
        let (mut writer, reader) = exchange();
        writer.show(&one_pixel(7));
        let held = reader.latest();
        let mut more = Vec::new();
        for colour in 8..100 {
            writer.show(&one_pixel(colour));
            if colour < 20 {
                more.push(reader.latest());
            }
            assert!(writer.slots.len() <= 3);
        }
        assert_eq!(held.pixels[0], 7);
        assert_eq!(more[5].pixels[0], 13);
        assert_eq!(reader.latest().pixels[0], 99);
    }

    #[test]
    fn readers_in_other_threads_see_whole_frames_in_order() {
        let (mut writer, reader) = exchange();
        let watcher = std::thread::spawn(move || {
            let mut last = 0;
            while last < 500 {
                let frame = reader.latest();
                assert!(frame.serial >= last);
                assert!(frame.pixels.windows(2).all(|pair| pair[0] == pair[1]), "a torn frame");
                last = frame.serial;
            }
        });
        for colour in 1..=500 {
            let pixels = Pixels {
                width: 64,
                height: 8,
                repeat_lines: 1,
                repeat_columns: 1,
                colours: vec![colour; 512],
            };
            writer.show(&Picture::Pixels(pixels));
        }
        watcher.join().unwrap();
    }
}
