//! A partitioned disk with FAT16 or FAT32 and long names. Source: Microsoft, *FAT: General Overview of On-Disk
//! Format*, version 1.03.

use std::collections::HashSet;
use std::sync::Arc;

use super::mapped::MappedDisk;
use super::names::{Moment, short_name};
use super::scan::{Folder, Tree};
use crate::disk::SECTOR;
use crate::fields::{put_le16, put_le32};

/// The partition starts on the second track: what every system knows to read.
const START: u64 = 63;
const HEADS: u64 = 255;
const TRACK: u64 = 63;
/// Fewer clusters make FAT12, more make FAT32.
const FAT16_MIN: u64 = 4085;
const FAT16_MAX: u64 = 65_524;
/// What is run when it is booted: INT 18h, upon which a BIOS tries the next drive; else HLT for ever.
const NOT_BOOTABLE: [u8; 5] = [0xCD, 0x18, 0xF4, 0xEB, 0xFD];
/// Bytes of a directory entry.
const ENTRY: usize = 32;

/// Where everything lies, in sectors from the start of the partition.
struct Layout {
    is_32: bool,
    cluster_bytes: u64,
    clusters: u64,
    reserved: u64,
    fat_sectors: u64,
    /// Entries of FAT16's root, which lies before the clusters.
    root_entries: u64,
}

impl Layout {
    fn new(tree: &Tree, folders: &[Vec<u8>]) -> Result<Layout, String> {
        let needed = |cluster_bytes: u64, is_32: bool| -> u64 {
            let root_apart = usize::from(!is_32);
            let folders = folders.iter().skip(root_apart).map(|bytes| (bytes.len() as u64).max(1));
            let files = tree.files.iter().map(|file| file.identity.length_bytes);
            folders.chain(files).map(|bytes| bytes.div_ceil(cluster_bytes)).sum()
        };
        let root_entries = ((folders[0].len() / ENTRY) as u64).next_multiple_of(16).max(512);
        let sizes = (11..=15).map(|bits| 1u64 << bits);
        let fits = |size: &u64| needed(*size, false) <= FAT16_MAX;
        let small = sizes.clone().find(fits).filter(|_| root_entries <= 0xFFF0);
        let (is_32, cluster_bytes) = match small {
            Some(size) => (false, size),
            // A table of 16 MiB at most.
            None => {
                let fits = |size: &u64| needed(*size, true) <= 4 << 20;
                (true, sizes.skip(1).find(fits).ok_or("it holds too much for FAT32")?)
            }
        };
        let fewest = if is_32 { FAT16_MAX + 16 } else { FAT16_MIN + 16 };
        let clusters = needed(cluster_bytes, is_32).max(fewest);
        let entry_bytes = if is_32 { 4 } else { 2 };
        Ok(Layout {
            is_32,
            cluster_bytes,
            clusters,
            reserved: if is_32 { 32 } else { 1 },
            fat_sectors: ((clusters + 2) * entry_bytes).div_ceil(SECTOR),
            root_entries: if is_32 { 0 } else { root_entries },
        })
    }

    fn root(&self) -> u64 {
        self.reserved + 2 * self.fat_sectors
    }

    fn data(&self) -> u64 {
        self.root() + self.root_entries * ENTRY as u64 / SECTOR
    }

    fn sectors(&self) -> u64 {
        self.data() + self.clusters * self.cluster_bytes / SECTOR
    }

    /// Where a cluster lies on the disk, in bytes.
    fn place(&self, cluster: u32) -> u64 {
        (START + self.data()) * SECTOR + u64::from(cluster - 2) * self.cluster_bytes
    }
}

/// Makes the disk.
pub fn build(tree: Tree) -> Result<MappedDisk, String> {
    // Entries name clusters, which are known when all lengths are: entries are made twice.
    let nowhere = Chains { folders: vec![0; tree.folders.len()], files: vec![0; tree.files.len()] };
    let folders: Vec<Vec<u8>> = (0..tree.folders.len()).map(|n| entries(&tree, n, &nowhere)).collect();
    let layout = Layout::new(&tree, &folders)?;
    let mut fat = Fat::new(&layout);
    let lengths = folders.iter().map(|bytes| (bytes.len() as u64).max(1)).enumerate();
    let chains = Chains {
        folders: lengths
            .map(|(n, bytes)| if n == 0 && !layout.is_32 { 0 } else { fat.chain(bytes) })
            .collect(),
        files: tree.files.iter().map(|file| fat.chain(file.identity.length_bytes)).collect(),
    };
    let contents: Vec<Vec<u8>> = (0..tree.folders.len()).map(|n| entries(&tree, n, &chains)).collect();
    let length_bytes = (START + layout.sectors()).next_multiple_of(HEADS * TRACK) * SECTOR;
    let mut disk = MappedDisk::new(length_bytes, tree.files, tree.skipped);
    disk.put(0, partition_table(&layout));
    let start = START * SECTOR;
    let boot = boot_sector(&layout, &tree.label, chains.folders[0]);
    if layout.is_32 {
        disk.put(start + SECTOR, file_system_information());
        disk.put(start + 6 * SECTOR, boot.clone());
        disk.put(start + 7 * SECTOR, file_system_information());
    }
    disk.put(start, boot);
    let table: Arc<[u8]> = fat.bytes.into();
    disk.put(start + layout.reserved * SECTOR, table.clone());
    disk.put(start + (layout.reserved + layout.fat_sectors) * SECTOR, table);
    for (n, bytes) in contents.into_iter().enumerate() {
        let place = match chains.folders[n] {
            0 => start + layout.root() * SECTOR,
            cluster => layout.place(cluster),
        };
        disk.put(place, bytes);
    }
    for (n, cluster) in chains.files.iter().enumerate().filter(|(_, cluster)| **cluster != 0) {
        disk.put_file(layout.place(*cluster), n);
    }
    Ok(disk)
}

/// First cluster of everything; 0 for what has none.
struct Chains {
    folders: Vec<u32>,
    files: Vec<u32>,
}

/// The file allocation table; every chain is in one piece.
struct Fat {
    bytes: Vec<u8>,
    is_32: bool,
    cluster_bytes: u64,
    next: u32,
}

impl Fat {
    fn new(layout: &Layout) -> Fat {
        let bytes = vec![0; (layout.fat_sectors * SECTOR) as usize];
        let mut fat = Fat { bytes, is_32: layout.is_32, cluster_bytes: layout.cluster_bytes, next: 2 };
        // The medium's byte; and: closed in order, without errors.
        fat.set(0, 0x0FFF_FFF8);
        fat.set(1, 0x0FFF_FFFF);
        fat
    }

    fn set(&mut self, cluster: u32, value: u32) {
        let cluster = cluster as usize;
        if self.is_32 {
            put_le32(&mut self.bytes, cluster * 4, value);
        } else {
            put_le16(&mut self.bytes, cluster * 2, value as u16);
        }
    }

    /// A chain for so many bytes; its first cluster, or 0 for none.
    fn chain(&mut self, bytes: u64) -> u32 {
        let count = bytes.div_ceil(self.cluster_bytes) as u32;
        let first = self.next;
        for cluster in first..first + count {
            let is_last = cluster + 1 == first + count;
            self.set(cluster, if is_last { 0x0FFF_FFFF } else { cluster + 1 });
        }
        self.next += count;
        if count == 0 { 0 } else { first }
    }
}

/// The entries of a folder.
fn entries(tree: &Tree, index: usize, chains: &Chains) -> Vec<u8> {
    let folder = &tree.folders[index];
    let mut bytes = Vec::new();
    let mut taken = HashSet::new();
    if index == 0 {
        bytes.extend(entry(&label(&tree.label), 0x08, 0, 0, folder.modified_s));
    } else {
        bytes.extend(entry(b".          ", 0x10, chains.folders[index], 0, folder.modified_s));
        // The root is named as cluster 0, whatever its own is.
        let parent = if folder.parent == 0 { 0 } else { chains.folders[folder.parent] };
        bytes.extend(entry(b"..         ", 0x10, parent, 0, folder.modified_s));
    }
    let mut add = |name: &str, attributes: u8, cluster: u32, length: u32, modified_s: i64| {
        let ((stem, extension), is_exact) = short_name(name, &mut taken);
        let mut short = [b' '; 11];
        short[..stem.len()].copy_from_slice(stem.as_bytes());
        short[8..8 + extension.len()].copy_from_slice(extension.as_bytes());
        if !is_exact {
            bytes.extend(long_entries(name, &short));
        }
        bytes.extend(entry(&short, attributes, cluster, length, modified_s));
    };
    for n in &folder.folders {
        let Folder { name, modified_s, .. } = &tree.folders[*n];
        add(name, 0x11, chains.folders[*n], 0, *modified_s);
    }
    for n in &folder.files {
        let file = &tree.files[*n];
        let length = file.identity.length_bytes as u32;
        add(&file.name, 0x21, chains.files[*n], length, file.identity.modified_s());
    }
    bytes
}

fn entry(name: &[u8; 11], attributes: u8, cluster: u32, length: u32, modified_s: i64) -> [u8; ENTRY] {
    let mut entry = [0; ENTRY];
    entry[..11].copy_from_slice(name);
    entry[11] = attributes;
    let (time, date) = Moment::of(modified_s).fat();
    put_le16(&mut entry, 14, time);
    put_le16(&mut entry, 16, date);
    put_le16(&mut entry, 18, date);
    put_le16(&mut entry, 20, (cluster >> 16) as u16);
    put_le16(&mut entry, 22, time);
    put_le16(&mut entry, 24, date);
    put_le16(&mut entry, 26, cluster as u16);
    put_le32(&mut entry, 28, length);
    entry
}

/// The entries of a long name, last part first.
fn long_entries(name: &str, short: &[u8; 11]) -> Vec<u8> {
    let sum = short.iter().fold(0u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte));
    // What other systems do not allow in names.
    let allowed = |c: char| if "\"*/:<>?\\|".contains(c) || c < ' ' { '_' } else { c };
    let mut units: Vec<u16> = name.chars().map(allowed).collect::<String>().encode_utf16().collect();
    if !units.len().is_multiple_of(13) {
        units.push(0);
        units.resize(units.len().next_multiple_of(13), 0xFFFF);
    }
    let parts = units.len() / 13;
    let mut bytes = Vec::with_capacity(parts * ENTRY);
    for (n, part) in units.chunks(13).enumerate().rev() {
        let mut entry = [0; ENTRY];
        entry[0] = (n + 1) as u8 | if n + 1 == parts { 0x40 } else { 0 };
        entry[11] = 0x0F;
        entry[13] = sum;
        for (unit, at) in part.iter().zip([1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30]) {
            put_le16(&mut entry, at, *unit);
        }
        bytes.extend(entry);
    }
    bytes
}

fn label(name: &str) -> [u8; 11] {
    let mut label = [b' '; 11];
    let letters = name.bytes().map(|byte| byte.to_ascii_uppercase());
    let letters = letters.filter(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(byte));
    label.iter_mut().zip(letters).for_each(|(to, byte)| *to = byte);
    if label == [b' '; 11] { *b"VITRINE    " } else { label }
}

fn partition_table(layout: &Layout) -> Vec<u8> {
    let mut sector = vec![0; SECTOR as usize];
    sector[..5].copy_from_slice(&NOT_BOOTABLE);
    let last = START + layout.sectors() - 1;
    let entry = &mut sector[446..462];
    entry[1..4].copy_from_slice(&chs(START));
    entry[4] = match layout.is_32 {
        true => 0x0C,
        false if layout.sectors() < 65_536 => 0x04,
        false => 0x06,
    };
    entry[5..8].copy_from_slice(&chs(last));
    put_le32(entry, 8, START as u32);
    put_le32(entry, 12, layout.sectors() as u32);
    put_le32(&mut sector, 440, serial(layout));
    sector[510..].copy_from_slice(&[0x55, 0xAA]);
    sector
}

/// A sector as head, sector, cylinder; the last one that can be said for all beyond.
fn chs(sector: u64) -> [u8; 3] {
    let cylinder = sector / (HEADS * TRACK);
    if cylinder > 1023 {
        return [254, 0xFF, 0xFF];
    }
    let (head, number) = (sector / TRACK % HEADS, sector % TRACK + 1);
    [head as u8, number as u8 | (cylinder >> 2) as u8 & 0xC0, cylinder as u8]
}

fn serial(layout: &Layout) -> u32 {
    0x5649_5452 ^ layout.clusters as u32
}

fn boot_sector(layout: &Layout, name: &str, root: u32) -> Vec<u8> {
    let mut sector = vec![0; SECTOR as usize];
    sector[..11].copy_from_slice(b"\xEB\x58\x90VITRINE ");
    sector[0x5A..0x5F].copy_from_slice(&NOT_BOOTABLE);
    put_le16(&mut sector, 11, SECTOR as u16);
    sector[13] = (layout.cluster_bytes / SECTOR) as u8;
    put_le16(&mut sector, 14, layout.reserved as u16);
    sector[16] = 2;
    put_le16(&mut sector, 17, layout.root_entries as u16);
    let sectors = layout.sectors();
    match u16::try_from(sectors) {
        Ok(short) if !layout.is_32 => put_le16(&mut sector, 19, short),
        _ => put_le32(&mut sector, 32, sectors as u32),
    }
    sector[21] = 0xF8;
    put_le16(&mut sector, 24, TRACK as u16);
    put_le16(&mut sector, 26, HEADS as u16);
    put_le32(&mut sector, 28, START as u32);
    let at = if layout.is_32 {
        put_le32(&mut sector, 36, layout.fat_sectors as u32);
        put_le32(&mut sector, 44, root);
        put_le16(&mut sector, 48, 1);
        put_le16(&mut sector, 50, 6);
        64
    } else {
        put_le16(&mut sector, 22, layout.fat_sectors as u16);
        36
    };
    sector[at] = 0x80;
    sector[at + 2] = 0x29;
    put_le32(&mut sector, at + 3, serial(layout));
    sector[at + 7..at + 18].copy_from_slice(&label(name));
    sector[at + 18..at + 26].copy_from_slice(if layout.is_32 { b"FAT32   " } else { b"FAT16   " });
    sector[510..].copy_from_slice(&[0x55, 0xAA]);
    sector
}

/// FAT32's FSInfo: nothing is known of free clusters.
fn file_system_information() -> Vec<u8> {
    let mut sector = vec![0; SECTOR as usize];
    sector[..4].copy_from_slice(b"RRaA");
    sector[484..488].copy_from_slice(b"rrAa");
    put_le32(&mut sector, 488, u32::MAX);
    put_le32(&mut sector, 492, u32::MAX);
    sector[510..].copy_from_slice(&[0x55, 0xAA]);
    sector
}
