//! A small root file system for Linux, as the kernel unpacks it: a cpio archive in the "newc" format
//! (Documentation/driver-api/early-userspace/buffer-format.rst of Linux).

/// An archive in the making.
#[derive(Default)]
pub struct Initramfs {
    bytes: Vec<u8>,
    entries: u32,
}

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;

impl Initramfs {
    /// Busybox as /bin/busybox, mount points, and `init` as the script /init, which /bin/busybox runs.
    pub fn with_busybox(busybox: &[u8], init: &str) -> Vec<u8> {
        let mut archive = Initramfs::default();
        for directory in ["bin", "dev", "proc", "sys", "tmp"] {
            archive.add(directory, DIRECTORY, &[]);
        }
        archive.add("bin/busybox", PROGRAM, busybox);
        archive.add("init", PROGRAM, format!("#!/bin/busybox sh\n{init}").as_bytes());
        archive.finish()
    }

    /// Adds a file or directory.
    pub fn add(&mut self, name: &str, mode: u32, data: &[u8]) {
        self.entries += 1;
        // inode, mode, user, group, links, time, size, device, device of a node, length of the name, checksum
        let size = data.len() as u32;
        let fields = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name.len() as u32 + 1, 0];
        self.bytes.extend(b"070701");
        self.bytes.extend(fields.iter().flat_map(|field| format!("{field:08x}").into_bytes()));
        self.bytes.extend(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(data);
        self.pad();
    }

    /// The whole archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, &[]);
        self.bytes
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_and_data_are_aligned_and_the_trailer_is_last() {
        let mut archive = Initramfs::default();
        archive.add("a", PROGRAM, b"12345");
        let bytes = archive.finish();
        assert_eq!(bytes.len() % 4, 0);
        assert_eq!(&bytes[..14], b"07070100000001");
        assert_eq!(&bytes[110..112], b"a\0");
        assert_eq!(&bytes[112..120], b"12345\0\0\0");
        assert_eq!(&bytes[120..126], b"070701");
        assert!(bytes[120..].windows(10).any(|name| name == b"TRAILER!!!"));
    }
}
