//! Every format in both directions against `qemu-img`, and images that it left in odd states.

use std::path::{Path, PathBuf};
use std::process::Command;

use storage::job::{self, NewDisk};
use storage::{Access, Disk, Format, Image, OpenError};

/// Not a multiple of any cluster, block or grain.
const LENGTH: usize = (9 << 20) + 3 * 512;

fn run(tool: &str, arguments: &str, folder: &Path) -> (bool, String) {
    let output = Command::new(tool).args(arguments.split_whitespace()).current_dir(folder).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// Runs `qemu-img`, which must succeed.
fn qemu_img(arguments: &str, folder: &Path) -> String {
    let (is_good, text) = run("qemu-img", arguments, folder);
    assert!(is_good, "qemu-img {arguments}: {text}");
    text
}

fn is_missing() -> bool {
    let is_missing =
        ["qemu-img", "qemu-io"].iter().any(|tool| Command::new(tool).arg("--version").output().is_err());
    if is_missing {
        println!("skipped: qemu-img or qemu-io is not installed");
    }
    is_missing
}

/// Data with holes: every third piece of 37 KiB is zeros.
fn content() -> Vec<u8> {
    let mut bytes = vec![0; LENGTH];
    let mut value = 1u32;
    for (n, piece) in bytes.chunks_mut(37 << 10).enumerate() {
        for byte in piece.iter_mut().filter(|_| n % 3 != 2) {
            value = value.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // Half of it compresses.
            *byte = if n % 2 == 0 { (value >> 24) as u8 } else { (n % 250) as u8 };
        }
    }
    bytes
}

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    /// A folder with the content in `raw.img`.
    fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("raw.img"), content()).unwrap();
        Place { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn qemu_img(&self, arguments: &str) -> String {
        qemu_img(arguments, self.folder.path())
    }

    fn qemu_io(&self, arguments: &[&str]) -> String {
        let output =
            Command::new("qemu-io").args(arguments).current_dir(self.folder.path()).output().unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }

    /// What we read of an image, cut to the content's length.
    fn read(&self, name: &str) -> Vec<u8> {
        let mut image = Image::open(&self.path(name), Access::ReadOnly).unwrap();
        let mut bytes = vec![0; image.length_bytes() as usize];
        // In pieces that are aligned to nothing.
        for (n, piece) in bytes.chunks_mut(100_001).enumerate() {
            image.read_at(n as u64 * 100_001, piece).unwrap();
        }
        assert!(image.check(&mut |_, _| true).unwrap().is_sound(), "{name}");
        bytes.truncate(LENGTH);
        bytes
    }

    fn write(&self, name: &str, offset: u64, bytes: &[u8]) {
        let mut image = Image::open(&self.path(name), Access::ReadWrite).unwrap();
        image.write_at(offset, bytes).unwrap();
        image.flush().unwrap();
    }
}

/// Images as `qemu-img` makes them: a name, and the options of `convert`.
const MADE: [(&str, &str); 22] = [
    ("v3.qcow2", "-O qcow2"),
    ("v2.qcow2", "-O qcow2 -o compat=0.10"),
    ("small.qcow2", "-O qcow2 -o cluster_size=512"),
    ("large.qcow2", "-O qcow2 -o cluster_size=2M"),
    ("zlib.qcow2", "-c -O qcow2"),
    ("zlib-4k.qcow2", "-c -O qcow2 -o cluster_size=4k"),
    ("zstd.qcow2", "-c -O qcow2 -o compression_type=zstd"),
    ("lazy.qcow2", "-O qcow2 -o lazy_refcounts=on"),
    ("narrow.qcow2", "-O qcow2 -o refcount_bits=1"),
    ("wide.qcow2", "-O qcow2 -o refcount_bits=64"),
    ("pre.qcow2", "-O qcow2 -o preallocation=metadata"),
    ("dynamic.vdi", "-O vdi"),
    ("static.vdi", "-O vdi -o static=on"),
    ("dynamic.vhd", "-O vpc"),
    ("exact.vhd", "-O vpc -o force_size=on"),
    ("fixed.vhd", "-O vpc -o subformat=fixed,force_size=on"),
    ("dynamic.vhdx", "-O vhdx -o block_size=1M"),
    ("fixed.vhdx", "-O vhdx -o subformat=fixed"),
    ("sparse.vmdk", "-O vmdk"),
    ("flat.vmdk", "-O vmdk -o subformat=monolithicFlat"),
    ("split.vmdk", "-O vmdk -o subformat=twoGbMaxExtentSparse"),
    ("stream.vmdk", "-O vmdk -o subformat=streamOptimized"),
];

#[test]
fn what_qemu_img_makes_is_read() {
    if is_missing() {
        return;
    }
    let place = Place::new();
    for (name, options) in MADE {
        place.qemu_img(&format!("convert -f raw {options} raw.img {name}"));
        assert!(place.read(name) == content(), "{name} differs");
        let info = job::info(&place.path(name)).unwrap();
        assert!(info.length_bytes >= LENGTH as u64, "{info:?}");
        assert!(name.ends_with(info.format.word()), "{info:?}");
    }
    place.qemu_img("convert -f raw -O vmdk -o subformat=twoGbMaxExtentFlat raw.img split-flat.vmdk");
    assert!(place.read("split-flat.vmdk") == content());
}

#[test]
fn what_qemu_img_makes_is_written_and_stays_sound() {
    if is_missing() {
        return;
    }
    let place = Place::new();
    let patch: Vec<u8> = (0..300_000u32).map(|n| (n % 241) as u8).collect();
    for (name, options) in MADE.iter().filter(|(name, _)| !name.contains("vmdk") && !name.contains("vhdx")) {
        place.qemu_img(&format!("convert -f raw {options} raw.img {name}"));
        let mut expected = content();
        for offset in [0, 1_234_567, 5_000_000, LENGTH - patch.len()] {
            place.write(name, offset as u64, &patch);
            expected[offset..offset + patch.len()].copy_from_slice(&patch);
        }
        let mut image = Image::open(&place.path(name), Access::ReadWrite).unwrap();
        image.write_zeros(3_000_001, 1_000_003).unwrap();
        expected[3_000_001..4_000_004].fill(0);
        image.flush().unwrap();
        drop(image);
        assert!(place.read(name) == expected, "{name} differs");
        let format = if name.ends_with("vhd") { "vpc" } else { name.rsplit('.').next().unwrap() };
        if format != "vpc" {
            place.qemu_img(&format!("check -f {format} {name}"));
        }
        place.qemu_img(&format!("convert -f {format} -O raw {name} back.img"));
        assert!(std::fs::read(place.path("back.img")).unwrap()[..LENGTH] == expected, "{name} differs there");
    }
}

#[test]
fn what_we_make_is_read_by_qemu_img() {
    if is_missing() {
        return;
    }
    let place = Place::new();
    for (format, word, is_fixed) in [
        (Format::Raw, "raw", false),
        (Format::Qcow2, "qcow2", false),
        (Format::Vdi, "vdi", false),
        (Format::Vdi, "vdi", true),
        (Format::Vhd, "vpc", false),
        (Format::Vhd, "vpc", true),
    ] {
        let name = format!("made-{is_fixed}.{format}");
        let new = NewDisk { format, length_bytes: None, is_fixed, backing: None };
        let mut last = 0;
        job::convert(&place.path("raw.img"), &place.path(&name), &new, &mut |done, total| {
            assert!(done >= last && total == LENGTH as u64);
            last = done;
            true
        })
        .unwrap();
        assert_eq!(last, LENGTH as u64);
        place.qemu_img(&format!("compare -f raw -F {word} raw.img {name}"));
        if !matches!(format, Format::Raw | Format::Vhd) {
            place.qemu_img(&format!("check -f {word} {name}"));
        }
        let info = place.qemu_img(&format!("info -f {word} --output=json {name}"));
        assert!(info.contains(&format!("\"virtual-size\": {LENGTH}")), "{info}");
        // Written there, read here.
        place.qemu_io(&[
            "-f",
            word,
            "-c",
            "write -P 0x5A 65536 1000000",
            &place.path(&name).to_string_lossy(),
        ]);
        let mut expected = content();
        expected[65536..1_065_536].fill(0x5A);
        assert!(place.read(&name) == expected, "{name} differs");
    }
}

#[test]
fn chains_of_images_in_both_directions() {
    if is_missing() {
        return;
    }
    let place = Place::new();
    // From qemu-img: raw <- qcow2 <- longer qcow2.
    place.qemu_img("create -f qcow2 -b raw.img -F raw one.qcow2");
    place.qemu_img("create -f qcow2 -b one.qcow2 -F qcow2 two.qcow2 12M");
    place.qemu_io(&[
        "-f",
        "qcow2",
        "-c",
        "write -P 0x11 100k 200k",
        &place.path("one.qcow2").to_string_lossy(),
    ]);
    let mut expected = content();
    expected[102_400..307_200].fill(0x11);
    assert!(place.read("two.qcow2") == expected);
    // From us, over every format, the last one in another folder.
    std::fs::create_dir(place.path("sub")).unwrap();
    place.write("two.qcow2", 4096, &[0x22; 512]);
    expected[4096..4608].fill(0x22);
    job::create(&place.path("sub/three.qcow2"), &NewDisk::over(Path::new("../two.qcow2"))).unwrap();
    place.write("sub/three.qcow2", 1_000_000, &[0x33; 512]);
    expected[1_000_000..1_000_512].fill(0x33);
    assert!(place.read("sub/three.qcow2") == expected);
    place.qemu_img("convert -O raw sub/three.qcow2 back.img");
    assert!(std::fs::read(place.path("back.img")).unwrap()[..LENGTH] == expected);
    for (name, options) in [
        ("base.vdi", "-O vdi"),
        ("base.vmdk", "-O vmdk"),
        ("base.vhd", "-O vpc -o force_size=on"),
        ("base.vhdx", "-O vhdx"),
    ] {
        place.qemu_img(&format!("convert -f raw {options} raw.img {name}"));
        job::create(&place.path(&format!("over-{name}.qcow2")), &NewDisk::over(Path::new(name))).unwrap();
        place.write(&format!("over-{name}.qcow2"), 70_000, &[0x44; 100]);
        let mut expected = content();
        expected[70_000..70_100].fill(0x44);
        assert!(place.read(&format!("over-{name}.qcow2")) == expected, "{name}");
        place.qemu_img(&format!("convert -O raw over-{name}.qcow2 back.img"));
        assert!(std::fs::read(place.path("back.img")).unwrap()[..LENGTH] == expected, "{name}");
    }
    // What the overlay holds goes into its backing file.
    job::merge(&place.path("sub/three.qcow2"), &mut |_, _| true).unwrap();
    assert!(
        place.read("two.qcow2") == {
            let mut merged = content();
            merged[102_400..307_200].fill(0x11);
            merged[4096..4608].fill(0x22);
            merged[1_000_000..1_000_512].fill(0x33);
            merged
        }
    );
    place.qemu_img("check two.qcow2");
}

#[test]
fn parents_of_vmdk_are_read() {
    if is_missing() {
        return;
    }
    let place = Place::new();
    place.qemu_img("convert -f raw -O vmdk raw.img parent.vmdk");
    place.qemu_img("create -f vmdk -b parent.vmdk -F vmdk child.vmdk");
    place.qemu_io(&["-f", "vmdk", "-c", "write -P 0x66 1M 64k", &place.path("child.vmdk").to_string_lossy()]);
    let mut expected = content();
    expected[1 << 20..(1 << 20) + (64 << 10)].fill(0x66);
    assert!(place.read("child.vmdk") == expected);
}

#[test]
fn loops_and_what_is_missing_are_told() {
    if is_missing() {
        return;
    }
    let place = Place::new();
    place.qemu_img("create -f qcow2 a.qcow2 1M");
    place.qemu_img("create -f qcow2 -b a.qcow2 -F qcow2 b.qcow2");
    place.qemu_img("rebase -u -f qcow2 -b b.qcow2 -F qcow2 a.qcow2");
    let open =
        |name: &str| Image::open(&place.path(name), Access::ReadOnly).map(|_| ()).unwrap_err().to_string();
    assert!(open("a.qcow2").contains("based on itself"), "{}", open("a.qcow2"));
    place.qemu_img("rebase -u -f qcow2 -b none.img -F raw a.qcow2");
    assert!(open("b.qcow2").contains("none.img does not exist"), "{}", open("b.qcow2"));
    place.qemu_img("rebase -u -f qcow2 -b /dev/zero -F raw a.qcow2");
    assert!(open("a.qcow2").contains("neither a file"), "{}", open("a.qcow2"));
}

#[test]
fn what_is_not_supported_is_said() {
    if is_missing() {
        return;
    }
    let place = Place::new();
    for (options, word) in
        [("-o extended_l2=on", "subclusters"), ("-o data_file=data.raw", "external data file")]
    {
        place.qemu_img(&format!("create -f qcow2 {options} odd.qcow2 1M"));
        let error = Image::open(&place.path("odd.qcow2"), Access::ReadOnly).map(|_| ()).unwrap_err();
        assert!(
            matches!(error, OpenError::Unsupported { .. }) && error.to_string().contains(word),
            "{error}"
        );
    }
    // The header's crypt_method, in a plain image: making a real one takes long.
    place.qemu_img("create -f qcow2 odd.qcow2 1M");
    let mut bytes = std::fs::read(place.path("odd.qcow2")).unwrap();
    bytes[35] = 2;
    std::fs::write(place.path("odd.qcow2"), bytes).unwrap();
    let error = Image::open(&place.path("odd.qcow2"), Access::ReadOnly).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("encryption"), "{error}");
    place.qemu_img("create -f vmdk read.vmdk 1M");
    let error = Image::open(&place.path("read.vmdk"), Access::ReadWrite).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("--backing"), "{error}");
}

#[test]
fn internal_snapshots_are_kept() {
    if is_missing() {
        return;
    }
    let place = Place::new();
    place.qemu_img("convert -f raw -O qcow2 -o cluster_size=4k raw.img snap.qcow2");
    place.qemu_img("snapshot -c before snap.qcow2");
    place.write("snap.qcow2", 0, &[0x77; 3 << 20]);
    let mut image = Image::open(&place.path("snap.qcow2"), Access::ReadWrite).unwrap();
    image.discard(4 << 20, 1 << 20).unwrap();
    drop(image);
    place.qemu_img("check snap.qcow2");
    let mut expected = content();
    expected[..3 << 20].fill(0x77);
    expected[4 << 20..5 << 20].fill(0);
    assert!(place.read("snap.qcow2") == expected);
    place.qemu_img("snapshot -a before snap.qcow2");
    assert!(place.read("snap.qcow2") == content());
}

#[test]
fn what_qemu_left_in_the_middle_of_its_work_is_mended() {
    if is_missing() {
        return;
    }
    let place = Place::new();
    place.qemu_img("create -f qcow2 -o lazy_refcounts=on,cluster_size=4k dirty.qcow2 8M");
    let path = place.path("dirty.qcow2").to_string_lossy().into_owned();
    place.qemu_io(&["-f", "qcow2", "-c", "write -P 0x41 0 3M", "-c", "flush", "-c", "abort", &path]);
    assert!(
        job::info(&place.path("dirty.qcow2")).unwrap().notes.iter().any(|note| note.contains("not closed"))
    );
    place.write("dirty.qcow2", 6 << 20, &[0x42; 4096]);
    place.qemu_img("check dirty.qcow2");
    let bytes = place.read("dirty.qcow2");
    assert_eq!((bytes[0], bytes[(3 << 20) - 1], bytes[3 << 20], bytes[6 << 20]), (0x41, 0x41, 0, 0x42));
    // A VHDX whose log holds what its tables do not yet.
    place.qemu_img("create -f vhdx -o block_size=1M dirty.vhdx 8M");
    let path = place.path("dirty.vhdx").to_string_lossy().into_owned();
    place.qemu_io(&["-f", "vhdx", "-c", "write -P 0x43 1M 2M", "-c", "flush", "-c", "abort", &path]);
    let bytes = place.read("dirty.vhdx");
    assert_eq!(
        (bytes[(1 << 20) - 1], bytes[1 << 20], bytes[(3 << 20) - 1], bytes[3 << 20]),
        (0, 0x43, 0x43, 0)
    );
}

#[test]
fn lengths_are_changed_as_qemu_img_understands() {
    if is_missing() {
        return;
    }
    let place = Place::new();
    for format in [Format::Raw, Format::Qcow2, Format::Vdi] {
        let name = format!("sized.{format}");
        job::create(&place.path(&name), &NewDisk::new(format, 5 << 20)).unwrap();
        place.write(&name, 0, &[1; 5 << 20]);
        job::resize(&place.path(&name), 40 << 30, false).unwrap();
        assert_eq!(Image::open(&place.path(&name), Access::ReadOnly).unwrap().length_bytes(), 40 << 30);
        place.write(&name, (40 << 30) - 512, &[2; 512]);
        let info = place.qemu_img(&format!("info --output=json -f {format} {name}"));
        assert!(info.contains("\"virtual-size\": 42949672960"), "{info}");
        if format != Format::Raw {
            place.qemu_img(&format!("check -f {format} {name}"));
        }
        assert!(matches!(
            job::resize(&place.path(&name), 1 << 20, false),
            Err(job::JobError::WouldCut { .. })
        ));
    }
    job::resize(&place.path("sized.qcow2"), 1 << 20, true).unwrap();
    place.qemu_img("check sized.qcow2");
    // From 40 GiB to 4 TiB, the first-level table moves.
    job::resize(&place.path("sized.qcow2"), 16 << 40, false).unwrap();
    place.write("sized.qcow2", (16 << 40) - 512, &[3; 512]);
    place.qemu_img("check sized.qcow2");
}

#[test]
fn disks_of_two_tebibytes_cost_nothing() {
    if is_missing() {
        return;
    }
    let place = Place::new();
    let length = 2u64 << 40;
    for (format, word, length) in
        [(Format::Qcow2, "qcow2", length), (Format::Vdi, "vdi", length), (Format::Vhd, "vpc", 2040 << 30)]
    {
        let name = format!("big.{format}");
        job::create(&place.path(&name), &NewDisk::new(format, length)).unwrap();
        place.write(&name, length - 512, &[9; 512]);
        let info = job::info(&place.path(&name)).unwrap();
        assert!(info.allocated_bytes < 32 << 20 && info.length_bytes == length, "{info:?}");
        if word != "vpc" {
            place.qemu_img(&format!("check -f {word} {name}"));
        }
        let path = place.path(&name).to_string_lossy().into_owned();
        let read = place.qemu_io(&["-f", word, "-c", &format!("read -P 9 {} 512", length - 512), &path]);
        assert!(!read.contains("failed") && read.contains("read 512"), "{read}");
        // And converted in a moment.
        let new = NewDisk { length_bytes: None, ..NewDisk::new(Format::Qcow2, 0) };
        job::convert(&place.path(&name), &place.path(&format!("{word}.qcow2")), &new, &mut |_, _| true)
            .unwrap();
        let mut copy = Image::open(&place.path(&format!("{word}.qcow2")), Access::ReadOnly).unwrap();
        let mut last = [0; 512];
        copy.read_at(length - 512, &mut last).unwrap();
        assert_eq!(last, [9; 512]);
    }
}

#[test]
fn a_cancelled_conversion_leaves_nothing() {
    let place = Place::new();
    let new = NewDisk { length_bytes: None, ..NewDisk::new(Format::Qcow2, 0) };
    let to = place.path("half.qcow2");
    let done = job::convert(&place.path("raw.img"), &to, &new, &mut |done, _| done < 3 << 20);
    assert!(matches!(done, Err(job::JobError::Cancelled)));
    assert_eq!(std::fs::read_dir(place.folder.path()).unwrap().count(), 1);
}
