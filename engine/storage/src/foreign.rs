//! Files that are known, and are neither disks nor read as images: compressed ones, and images of other programs.

use std::path::Path;

use crate::disk::SECTOR;

/// A form of file that is known, and must be unpacked or converted before it can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// gzip-compressed.
    Gzip,
    /// xz-compressed.
    Xz,
    /// Zstandard-compressed.
    Zstd,
    /// bzip2-compressed.
    Bzip2,
    /// A ZIP archive.
    Zip,
    /// QEMU's image of old.
    Qed,
    /// Parallels' image.
    Parallels,
}

impl Foreign {
    /// What a file's first sector is the start of. LUKS is not here: an encrypted disk is a disk.
    pub fn of_head(head: &[u8]) -> Option<Foreign> {
        let marks: [(&[u8], Foreign); 8] = [
            (b"\x1F\x8B\x08", Foreign::Gzip),
            (b"\xFD7zXZ\0", Foreign::Xz),
            (b"\x28\xB5\x2F\xFD", Foreign::Zstd),
            (b"BZh", Foreign::Bzip2),
            (b"PK\x03\x04", Foreign::Zip),
            (b"QED\0", Foreign::Qed),
            (b"WithoutFreeSpace", Foreign::Parallels),
            (b"WithouFreSpacExt", Foreign::Parallels),
        ];
        let found = marks.into_iter().find(|(mark, _)| head.starts_with(mark)).map(|(_, form)| form);
        // Three letters are few: the first block's mark is looked for as well.
        let is_block = || head.get(4..).is_some_and(|rest| rest.starts_with(b"1AY&SY"));
        found.filter(|form| *form != Foreign::Bzip2 || is_block())
    }

    /// What a file with this first sector and of this length is. A disk has whole sectors, and a guest may write an
    /// archive straight to it: of archives, only files that end within a sector are meant.
    pub fn of_file(head: &[u8], length_bytes: u64) -> Option<Foreign> {
        Foreign::of_head(head).filter(|form| form.is_image() || !length_bytes.is_multiple_of(SECTOR))
    }

    /// Whether it is an image of a disk.
    pub fn is_image(self) -> bool {
        matches!(self, Foreign::Qed | Foreign::Parallels)
    }

    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Foreign::Gzip => "a file compressed with gzip",
            Foreign::Xz => "a file compressed with xz",
            Foreign::Zstd => "a file compressed with zstd",
            Foreign::Bzip2 => "a file compressed with bzip2",
            Foreign::Zip => "a ZIP archive",
            Foreign::Qed => "a QED disk image",
            Foreign::Parallels => "a Parallels disk image",
        }
    }

    /// How something usable is made of the file at `path`.
    pub fn advice(self, path: &Path) -> String {
        let path = path.display();
        let tool = match self {
            Foreign::Gzip => "gunzip -k",
            Foreign::Xz => "unxz -k",
            Foreign::Zstd => "unzstd",
            Foreign::Bzip2 => "bunzip2 -k",
            Foreign::Zip => "unzip",
            Foreign::Qed | Foreign::Parallels => {
                return format!("Convert it first: qemu-img convert -O qcow2 '{path}' disk.qcow2");
            }
        };
        format!("Unpack it first: {tool} '{path}'")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{self, NewDisk};
    use crate::{Access, Disk, DiskError, Format, Image, OpenError, RawDisk, identify};

    const MARKS: [(&[u8], &str); 8] = [
        (b"\x1F\x8B\x08\0", "gunzip"),
        (b"\xFD7zXZ\0", "unxz"),
        (b"\x28\xB5\x2F\xFD", "unzstd"),
        (b"BZh91AY&SY", "bunzip2"),
        (b"PK\x03\x04", "unzip"),
        (b"QED\0", "qemu-img convert"),
        (b"WithoutFreeSpace", "qemu-img convert"),
        (b"WithouFreSpacExt", "qemu-img convert"),
    ];

    /// A mebibyte that starts with `mark`; an archive is a bit longer.
    fn file(path: &Path, mark: &[u8]) {
        let is_archive = Foreign::of_head(&[mark, &[0; 16]].concat()).is_some_and(|form| !form.is_image());
        let mut bytes = vec![0; (1 << 20) + if is_archive { 100 } else { 0 }];
        bytes[..mark.len()].copy_from_slice(mark);
        std::fs::write(path, bytes).unwrap();
    }

    #[test]
    fn they_are_not_taken_for_raw_disks() {
        let folder = tempfile::tempdir().unwrap();
        let (path, new) = (folder.path().join("disk.img"), folder.path().join("new.qcow2"));
        for (mark, tool) in MARKS {
            file(&path, mark);
            let converted =
                job::convert(&path, &new, &NewDisk::new(Format::Qcow2, 0), &mut |_, _| true).unwrap_err();
            let told = [
                Image::open(&path, Access::ReadWrite).map(drop).unwrap_err().to_string(),
                job::info(&path).unwrap_err().to_string(),
                identify(&path).unwrap_err().to_string(),
                converted.to_string(),
            ];
            for error in told {
                assert!(error.contains("disk.img") && error.contains(tool), "{error}");
            }
            assert!(!new.exists());
        }
        for mark in [b"LUKS\xBA\xBE".as_slice(), b"BZhello", b"QEDx", &[0x1F, 0x8B, 0]] {
            file(&path, mark);
            assert_eq!(Image::open(&path, Access::ReadWrite).unwrap().format(), Format::Raw, "{mark:?}");
        }
    }

    #[test]
    fn a_file_that_is_said_to_be_raw_may_start_with_anything() {
        let folder = tempfile::tempdir().unwrap();
        let (base, top) = (folder.path().join("base.img"), folder.path().join("top.qcow2"));
        file(&base, b"");
        job::create(&top, &NewDisk::over(&base)).unwrap();
        file(&base, b"QED\0");
        let mut head = [0; 4];
        Image::open(&top, Access::ReadOnly).unwrap().read_at(0, &mut head).unwrap();
        assert_eq!(&head, b"QED\0");
    }

    #[test]
    fn a_guest_cannot_make_its_raw_disk_one_that_is_not_opened_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let mut raw = RawDisk::create(&path("raw"), 1 << 20).unwrap();
        for (mark, tool) in MARKS {
            if tool == "qemu-img convert" {
                assert!(matches!(raw.write_at(0, mark), Err(DiskError::Disguise(_))), "{mark:?}");
            } else {
                raw.write_at(0, mark).unwrap();
            }
            raw.write_at(512, mark).unwrap();
            drop(raw);
            assert_eq!(Image::open(&path("raw"), Access::ReadOnly).unwrap().format(), Format::Raw);
            raw = RawDisk::open(&path("raw"), Access::ReadWrite).unwrap();
        }
        drop(raw);
        // Images of other formats are told by their own marks, whatever a guest writes.
        for (format, is_fixed) in [(Format::Qcow2, false), (Format::Vhd, true)] {
            let new = NewDisk { is_fixed, ..NewDisk::new(format, 1 << 20) };
            job::create(&path(format.word()), &new).unwrap();
            for (mark, _) in MARKS {
                let mut image = Image::open(&path(format.word()), Access::ReadWrite).unwrap();
                image.write_at(0, mark).unwrap();
                drop(image);
                assert!(identify(&path(format.word())).is_ok(), "{format} {mark:?}");
            }
        }
        // A copy would not be opened either.
        let copied =
            job::convert(&path("qcow2"), &path("copy"), &NewDisk::new(Format::Raw, 1 << 20), &mut |_, _| {
                true
            });
        assert!(copied.unwrap_err().to_string().contains("a Parallels disk image"));
        assert!(matches!(Image::open(&path("copy"), Access::ReadOnly), Err(OpenError::Missing { .. })));
    }
}
