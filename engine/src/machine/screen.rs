//! The thread that turns what the video adapters scan out into frames, at most 60 times a second.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use display::exchange::{FrameReader, FrameWriter, exchange};
use display::{Frame, Picture, text};
use hardware::Shared;
use hardware::vga::VgaCard;
use hardware::virtio::{Gpu, VirtioPci};
use parking_lot::Mutex;

/// Time between two looks at video memory.
const REFRESH: Duration = Duration::from_nanos(16_666_667);

/// The guest's monitor: the newest frame, and the newest text.
pub struct Screen {
    vga: Shared<VgaCard>,
    /// Shown instead while it shows something.
    gpu: Option<Shared<VirtioPci<Gpu>>>,
    writer: Mutex<FrameWriter>,
    reader: FrameReader,
    closed: AtomicBool,
}

impl Screen {
    /// A monitor on `vga`, and on `gpu` when that shows something; `waker` is called after each new frame.
    pub fn start(
        vga: Shared<VgaCard>,
        gpu: Option<Shared<VirtioPci<Gpu>>>,
        waker: Option<Arc<dyn Fn() + Send + Sync>>,
    ) -> Arc<Screen> {
        let (writer, reader) = exchange();
        if let Some(waker) = waker {
            reader.set_waker(move || waker());
        }
        let (writer, closed) = (Mutex::new(writer), AtomicBool::new(false));
        let screen = Arc::new(Screen { vga, gpu, writer, reader, closed });
        let weak = Arc::downgrade(&screen);
        let body = move || refresh(&weak);
        thread::Builder::new().name("screen".into()).spawn(body).expect("the host has room for a thread");
        screen
    }

    /// The newest frame.
    pub fn frame(&self) -> Arc<Frame> {
        self.reader.latest()
    }

    /// The characters on the screen now, in text modes.
    pub fn text(&self) -> Option<String> {
        text::screen_text(&self.picture())
    }

    /// Looks at video memory now, as at the end of a run.
    pub fn update(&self) {
        let picture = self.picture();
        self.writer.lock().show(&picture);
    }

    /// Ends its thread: nothing changes any more.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    fn picture(&self) -> Picture {
        let from_gpu = self.gpu.as_ref().and_then(|gpu| gpu.lock().kind().scan());
        from_gpu.unwrap_or_else(|| self.vga.lock().scan())
    }

    /// Whether the picture may have changed since this was last asked.
    fn touched(&self) -> bool {
        let gpu = |gpu: &Shared<VirtioPci<Gpu>>| gpu.lock().with(|gpu, _| Ok(gpu.touched()));
        let by_gpu = self.gpu.as_ref().and_then(gpu).unwrap_or(false);
        self.vga.lock().touched() || by_gpu
    }
}

fn refresh(screen: &Weak<Screen>) {
    while let Some(screen) = screen.upgrade().filter(|screen| !screen.closed.load(Ordering::Relaxed)) {
        if screen.touched() {
            screen.update();
        }
        drop(screen);
        thread::sleep(REFRESH);
    }
}
