//! Debian's installer as a source of a kernel with many drivers: its files, and what is in its initrd.

use std::path::PathBuf;
use std::process::Command;

/// The installer's kernel for 64-bit PCs, and its initrd unpacked; says what is skipped without it.
pub fn kernel_and_files() -> Option<(PathBuf, Archive)> {
    const FOLDER: &str = "/usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64";
    const PACKAGE: &str = "debian-installer-12-netboot-amd64";
    let kernel = crate::installed(&format!("{FOLDER}/linux"), PACKAGE)?;
    let initrd = crate::installed(&format!("{FOLDER}/initrd.gz"), PACKAGE)?;
    let unpacked = Command::new("gzip").arg("-dc").arg(initrd).output().expect("gzip runs");
    assert!(unpacked.status.success(), "the installer's initrd is damaged");
    Some((kernel, Archive(unpacked.stdout)))
}

/// A cpio archive in the "newc" format (Linux, Documentation/driver-api/early-userspace/buffer-format.rst).
pub struct Archive(Vec<u8>);

impl Archive {
    /// The content of the first file whose path ends with `end`.
    pub fn file(&self, end: &str) -> Option<&[u8]> {
        const HEADER: usize = 110;
        let mut at = 0;
        loop {
            let header = self.0.get(at..at + HEADER)?;
            let field = |n: usize| {
                let digits = std::str::from_utf8(&header[6 + 8 * n..14 + 8 * n]).ok()?;
                usize::from_str_radix(digits, 16).ok()
            };
            let (size, name_length) = (field(6)?, field(11)?);
            let name = self.0.get(at + HEADER..at + HEADER + name_length.checked_sub(1)?)?;
            let data = (at + HEADER + name_length).next_multiple_of(4);
            if name.ends_with(end.as_bytes()) {
                return self.0.get(data..data + size);
            }
            at = (data + size).next_multiple_of(4);
        }
    }
}
