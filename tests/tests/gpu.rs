//! Linux's own driver on virtio's GPU: what it draws is shown, and it hears when the monitor has another size.

use engine::profile::{DisplayAdapter, Paravirtual, Profile, Size};
use machine_tests::linux::{Linux, VIRTIO};
use machine_tests::{Guest, SOFT};

/// Seconds a Linux guest has; many tests share the host.
const PATIENCE: u64 = 900;
const SIZE: (u32, u32) = (1024, 768);
const OTHER: (u32, u32) = (1000, 700);

/// Fills the framebuffer, and tells each mode that its monitor prefers.
const SCRIPT: &str = "
until [ -e /dev/fb0 ]; do sleep 1; done
echo framebuffer $(cat /sys/class/graphics/fb0/name) $(cat /sys/class/graphics/fb0/virtual_size)
cat /picture > /dev/fb0
echo drawn
while sleep 1; do
  read mode < /sys/class/drm/card0-Virtual-1/modes
  [ \"$mode\" = \"$last\" ] || echo \"mode $mode.\"
  last=$mode
done
";

/// The colour of a pixel, 0x00RRGGBB: no two lines and no two columns are alike.
fn colour(x: u32, y: u32) -> u32 {
    ((x * 0x0001_0203) ^ (y * 0x0051_0305)) & 0x00FF_FFFF
}

#[test]
fn linux_draws_on_the_gpu_and_follows_the_size_of_its_monitor() {
    let modules = ["drm", "drm_kms_helper", "drm_shmem_helper", "virtio_dma_buf", "virtio-gpu"];
    let modules: Vec<&str> = VIRTIO.into_iter().chain(modules).collect();
    let picture: Vec<u8> =
        (0..SIZE.1).flat_map(|y| (0..SIZE.0).flat_map(move |x| colour(x, y).to_le_bytes())).collect();
    let Some(linux) = Linux::of("amd64", &modules, SCRIPT, &[("picture", 0o100_644, &picture)]) else {
        return;
    };
    let mut profile = Profile::new("gpu");
    profile.display = DisplayAdapter::VirtioGpu;
    profile.paravirtual = Paravirtual::NONE;
    profile.memory = Size::mib(256);
    linux.boot_in(&mut profile, "vt.global_cursor_default=0");
    let guest = Guest::start(profile, SOFT);
    let session = guest.session();
    guest.wait_until(PATIENCE, "the driver", || session.takes_size());
    guest.wait_until(PATIENCE, "the picture", || guest.serial().contains("drawn"));
    let shows = |(width, height): (u32, u32)| {
        let frame = session.frame();
        let expected = (0..height).flat_map(|y| (0..width).map(move |x| colour(x, y)));
        (frame.width, frame.height) == (width, height)
            && frame.pixels.iter().map(|pixel| pixel & 0x00FF_FFFF).eq(expected)
    };
    guest.wait_until(PATIENCE, "the picture on the screen", || shows(SIZE));
    assert!(guest.serial().contains("framebuffer virtio_gpudrmfb 1024,768"), "{}", guest.serial());
    guest.wait_until(PATIENCE, "its mode", || guest.serial().contains("mode 1024x768."));
    session.resize_screen(OTHER.0, OTHER.1);
    guest.wait_until(PATIENCE, "the other mode", || guest.serial().contains("mode 1000x700."));
    guest.wait_until(PATIENCE, "the part of the picture that fits", || shows(OTHER));
    assert!(!guest.serial().contains("*ERROR*"), "{}", guest.serial());
}
