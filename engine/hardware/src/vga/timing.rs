//! Where the beam is: retrace, display enable and the frame count, derived from guest time and the CRTC.

use crate::clock::{Nanoseconds, ticks_at};
use crate::vga::Vga;

/// The shape of one frame in dots and lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Dots per second.
    pub dot_hz: u64,
    /// Dots per line, shown or not.
    pub line_dots: u32,
    /// Dots shown per line.
    pub shown_dots: u32,
    /// Lines per frame, shown or not.
    pub lines: u32,
    /// Lines shown per frame.
    pub shown_lines: u32,
    /// First line of vertical retrace.
    pub retrace_start: u32,
    /// One past its last line.
    pub retrace_end: u32,
}

/// 640x480 at 60 Hz (VESA DMT 04h): what a monitor sees while the CRTC is not what makes the picture.
const STANDARD: Timing = Timing {
    dot_hz: 25_175_000,
    line_dots: 800,
    shown_dots: 640,
    lines: 525,
    shown_lines: 480,
    retrace_start: 490,
    retrace_end: 492,
};

/// The beam at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beam {
    /// Frames since power-on, had the timing always been this one.
    pub frame: u64,
    /// Whether the beam is in vertical retrace.
    pub vertical_retrace: bool,
    /// Whether it draws a part of the picture.
    pub shows: bool,
}

impl Timing {
    /// The timing the registers ask for.
    pub fn of(vga: &Vga) -> Timing {
        let crtc = &vga.crtc;
        let (columns, lines) = (crtc.horizontal_total(), crtc.vertical_total());
        // Fewer is no monitor's mode, but a CRTC nobody has programmed.
        if vga.vbe.packed() || columns < 40 || lines < 100 {
            return STANDARD;
        }
        let dots = vga.sequencer.dots_per_character();
        let dot_hz = if vga.misc_output >> 2 & 3 == 1 { 28_322_000 } else { 25_175_000 };
        let retrace_start = crtc.retrace_start().min(lines - 2);
        Timing {
            dot_hz: if vga.sequencer.half_dot_clock() { dot_hz / 2 } else { dot_hz },
            line_dots: columns * dots,
            shown_dots: crtc.columns().min(columns - 1) * dots,
            lines,
            shown_lines: crtc.lines().min(lines - 1),
            retrace_start,
            retrace_end: (retrace_start + crtc.retrace_lines()).min(lines),
        }
    }

    /// The beam at guest time `now`.
    pub fn beam(&self, now: Nanoseconds) -> Beam {
        let dots = ticks_at(now, self.dot_hz);
        let frame_dots = u64::from(self.line_dots) * u64::from(self.lines);
        let (frame, inside) = (dots / frame_dots, dots % frame_dots);
        let line = (inside / u64::from(self.line_dots)) as u32;
        let dot = (inside % u64::from(self.line_dots)) as u32;
        Beam {
            frame,
            vertical_retrace: (self.retrace_start..self.retrace_end).contains(&line),
            shows: line < self.shown_lines && dot < self.shown_dots,
        }
    }
}

impl Beam {
    /// The cursor shows for 8 frames of 16.
    pub fn cursor_lit(&self) -> bool {
        self.frame & 8 == 0
    }

    /// Blinking characters show for 16 frames of 32.
    pub fn characters_lit(&self) -> bool {
        self.frame & 16 == 0
    }
}
