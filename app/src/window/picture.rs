//! The guest's picture in the window: a texture that is filled only when the frame has changed, and
//! where it is put, in whole physical pixels.

use egui::{Color32, ColorImage, Context, Pos2, Rect, TextureHandle, TextureOptions, Vec2, pos2, vec2};

use display::Frame;

/// How the picture is scaled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scaling {
    /// The largest whole factor that fits; sharp.
    #[default]
    Integer,
    /// As large as fits.
    Fit,
    /// One guest pixel is one pixel of the screen.
    OneToOne,
}

/// All of them, in the menu's order.
pub const SCALINGS: [Scaling; 3] = [Scaling::Integer, Scaling::Fit, Scaling::OneToOne];

impl Scaling {
    /// What the menu says.
    pub fn text(self) -> &'static str {
        match self {
            Scaling::Integer => "Whole factor",
            Scaling::Fit => "Fit",
            Scaling::OneToOne => "1:1",
        }
    }

    /// What it means.
    pub fn tooltip(self) -> &'static str {
        match self {
            Scaling::Integer => "The largest whole multiple that fits: every guest pixel has the same size",
            Scaling::Fit => "As large as fits",
            Scaling::OneToOne => "One guest pixel is one pixel of this screen",
        }
    }
}

/// Where a picture of `size` guest pixels goes in `area`, in points; whole physical pixels, centred.
pub fn place(scaling: Scaling, size: Vec2, area: Rect, pixels_per_point: f32) -> Rect {
    let room = area.size() * pixels_per_point;
    let fit = (room.x / size.x).min(room.y / size.y).max(f32::MIN_POSITIVE);
    let factor = match scaling {
        Scaling::Integer if fit >= 1.0 => fit.floor(),
        Scaling::Integer | Scaling::Fit => fit,
        Scaling::OneToOne => 1.0,
    };
    let shown = (size * factor).round();
    let origin = area.min.to_vec2() * pixels_per_point;
    let left = |room: f32, shown: f32| ((room - shown) / 2.0).max(0.0);
    let at = (origin + vec2(left(room.x, shown.x), left(room.y, shown.y))).round();
    Rect::from_min_size(Pos2::ZERO + at / pixels_per_point, shown / pixels_per_point)
}

/// Pixels stay sharp when they are made larger; on cards, where they are made smaller, they blend.
const SHARP: TextureOptions =
    TextureOptions { minification: egui::TextureFilter::Linear, ..TextureOptions::NEAREST };

/// A frame as a texture.
#[derive(Default)]
pub struct Picture {
    texture: Option<TextureHandle>,
    serial: Option<u64>,
    size: [usize; 2],
    remembered: Option<Frame>,
}

impl Picture {
    /// Shows this frame, which some earlier run left, until there is a newer one.
    pub fn remember(&mut self, frame: Frame) {
        self.remembered = Some(frame);
    }

    /// Makes a texture of what was remembered.
    pub fn recall(&mut self, ctx: &Context, name: &str) {
        if let Some(frame) = self.remembered.take() {
            self.update(ctx, name, &frame);
            self.restart();
        }
    }

    /// Takes over the frame if it is another than the last one. A frame of no size changes nothing.
    pub fn update(&mut self, ctx: &Context, name: &str, frame: &Frame) {
        let size = [frame.width as usize, frame.height as usize];
        if self.serial == Some(frame.serial) && self.size == size || size[0] * size[1] == 0 {
            return;
        }
        let colour = |pixel: &u32| {
            let [_, red, green, blue] = pixel.to_be_bytes();
            Color32::from_rgb(red, green, blue)
        };
        let mut pixels: Vec<Color32> = frame.pixels.iter().map(colour).collect();
        pixels.resize(size[0] * size[1], Color32::BLACK);
        let image = ColorImage::new(size, pixels);
        match &mut self.texture {
            Some(texture) => texture.set(image, SHARP),
            None => self.texture = Some(ctx.load_texture(name, image, SHARP)),
        }
        self.serial = Some(frame.serial);
        self.size = size;
    }

    /// The next frame is taken over whatever its serial number: another machine begins to count anew.
    pub fn restart(&mut self) {
        self.serial = None;
    }

    /// Guest pixels, when there is a picture.
    pub fn size(&self) -> Option<Vec2> {
        self.texture.as_ref().map(|_| vec2(self.size[0] as f32, self.size[1] as f32))
    }

    /// Draws it; `dim` for a machine that is off.
    pub fn paint(&self, painter: &egui::Painter, rect: Rect, dim: bool) {
        let Some(texture) = &self.texture else { return };
        let tint = if dim { Color32::from_gray(0x60) } else { Color32::WHITE };
        painter.image(texture.id(), rect, Rect::from_min_max(pos2(0.0, 0.0), pos2(1.0, 1.0)), tint);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn area(width: f32, height: f32) -> Rect {
        Rect::from_min_size(pos2(10.0, 20.0), vec2(width, height))
    }

    #[test]
    fn a_whole_factor_is_the_largest_that_fits_and_centred() {
        let rect = place(Scaling::Integer, vec2(320.0, 200.0), area(1000.0, 700.0), 1.0);
        assert_eq!(rect, Rect::from_min_size(pos2(30.0, 70.0), vec2(960.0, 600.0)));
    }

    #[test]
    fn a_picture_larger_than_the_area_is_made_smaller_except_one_to_one() {
        let rect = place(Scaling::Integer, vec2(720.0, 400.0), area(360.0, 300.0), 1.0);
        assert_eq!(rect.size(), vec2(360.0, 200.0));
        let rect = place(Scaling::OneToOne, vec2(720.0, 400.0), area(360.0, 300.0), 1.0);
        assert_eq!(rect, Rect::from_min_size(pos2(10.0, 20.0), vec2(720.0, 400.0)));
    }

    #[test]
    fn sizes_count_in_physical_pixels() {
        let rect = place(Scaling::OneToOne, vec2(720.0, 400.0), area(1000.0, 800.0), 2.0);
        assert_eq!(rect.size(), vec2(360.0, 200.0));
        let rect = place(Scaling::Integer, vec2(720.0, 400.0), area(500.0, 300.0), 2.0);
        assert_eq!(rect.size(), vec2(360.0, 200.0), "1000 physical pixels hold 720 once");
        let rect = place(Scaling::Fit, vec2(720.0, 400.0), area(501.0, 300.0), 2.0);
        assert_eq!((rect.size() * 2.0).x, 1002.0);
    }

    #[test]
    fn a_texture_is_filled_only_when_the_frame_changes() {
        let ctx = Context::default();
        let mut picture = Picture::default();
        picture.update(&ctx, "x", &Frame::default());
        assert_eq!(picture.size(), None);
        let mut frame = Frame { width: 2, height: 1, pixels: vec![0, 1], serial: 7 };
        picture.update(&ctx, "x", &frame);
        let filled = ctx.tex_manager().write().take_delta().set.len();
        picture.update(&ctx, "x", &frame);
        assert_eq!(ctx.tex_manager().write().take_delta().set.len(), 0);
        frame.serial = 8;
        picture.update(&ctx, "x", &frame);
        assert!(filled >= 1 && ctx.tex_manager().write().take_delta().set.len() == 1);
    }
}
