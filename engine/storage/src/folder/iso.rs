//! A CD: ISO 9660 with Joliet's names. Sources: ECMA-119 (2nd edition), Joliet Specification.
//!
//! Left out on purpose: Rock Ridge, El Torito. Below eight levels, strict readers of the first tree may stop.

use std::collections::HashSet;

use super::mapped::MappedDisk;
use super::names::{Moment, short_name};
use super::scan::Tree;
use crate::fields::{put_be16, put_be32, put_le16, put_le32};

/// Bytes of a logical block.
const BLOCK: u64 = 2048;
/// Longest name of Joliet, in characters.
const JOLIET_MAX: usize = 64;

/// The two trees of a CD.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Names {
    /// Capital letters, 8 and 3.
    Plain,
    /// UCS-2.
    Joliet,
}

/// One tree: its folders in the order of the path table, each with its block.
struct Hierarchy {
    names: Names,
    /// Folders of the scan, in order.
    order: Vec<usize>,
    /// Each folder's identifier, and each file's.
    folder_names: Vec<Vec<u8>>,
    file_names: Vec<Vec<u8>>,
    /// First block and length of each folder.
    places: Vec<(u32, u32)>,
}

/// Makes the disc.
pub fn build(tree: Tree) -> Result<MappedDisk, String> {
    let mut plain = Hierarchy::new(&tree, Names::Plain);
    let mut joliet = Hierarchy::new(&tree, Names::Joliet);
    let paths = [&plain, &joliet].map(|hierarchy| hierarchy.path_table(&tree, false).len() as u64);
    let mut next = 19;
    let mut take = |bytes: u64| -> Result<u32, String> {
        let first = next;
        next += bytes.div_ceil(BLOCK);
        u32::try_from(next).map(|_| first as u32).map_err(|_| "it holds too much for a CD".to_owned())
    };
    // Each path table twice: little-endian and big-endian.
    let mut tables = [[0; 2]; 2];
    for (table, bytes) in tables.iter_mut().zip(paths) {
        *table = [take(bytes)?, take(bytes)?];
    }
    for hierarchy in [&mut plain, &mut joliet] {
        for index in 0..tree.folders.len() {
            let bytes = hierarchy.folder(&tree, index, &[]).len() as u64;
            hierarchy.places[index] = (take(bytes)?, bytes as u32);
        }
    }
    let files: Vec<u32> =
        tree.files.iter().map(|file| take(file.identity.length_bytes)).collect::<Result<_, _>>()?;
    // A drive reads ahead: some blocks behind the last.
    let blocks = take(150 * BLOCK)? + 150;
    let mut disk = MappedDisk::new(u64::from(blocks) * BLOCK, tree.files.clone(), tree.skipped.clone());
    for (n, hierarchy) in [&plain, &joliet].into_iter().enumerate() {
        let volume = Volume { blocks, path_bytes: paths[n] as u32, tables: tables[n] };
        disk.put((16 + n as u64) * BLOCK, hierarchy.descriptor(&tree, &volume));
        for (big_endian, table) in [false, true].into_iter().zip(tables[n]) {
            disk.put(u64::from(table) * BLOCK, hierarchy.path_table(&tree, big_endian));
        }
        for index in 0..tree.folders.len() {
            let place = u64::from(hierarchy.places[index].0) * BLOCK;
            disk.put(place, hierarchy.folder(&tree, index, &files));
        }
    }
    disk.put(18 * BLOCK, &b"\xFFCD001\x01"[..]);
    for (n, block) in files.iter().enumerate() {
        disk.put_file(u64::from(*block) * BLOCK, n);
    }
    Ok(disk)
}

/// Where the tables of one tree lie.
struct Volume {
    blocks: u32,
    path_bytes: u32,
    tables: [u32; 2],
}

impl Hierarchy {
    fn new(tree: &Tree, names: Names) -> Hierarchy {
        let mut folder_names = vec![vec![0]; tree.folders.len()];
        let mut file_names = vec![Vec::new(); tree.files.len()];
        for folder in &tree.folders {
            let mut taken = HashSet::new();
            let mut taken_long = HashSet::new();
            for n in &folder.folders {
                folder_names[*n] = match names {
                    Names::Plain => plain_name(&tree.folders[*n].name, false, &mut taken),
                    Names::Joliet => joliet_name(&tree.folders[*n].name, false, &mut taken_long),
                };
            }
            for n in &folder.files {
                file_names[*n] = match names {
                    Names::Plain => plain_name(&tree.files[*n].name, true, &mut taken),
                    Names::Joliet => joliet_name(&tree.files[*n].name, true, &mut taken_long),
                };
            }
        }
        // Level by level, parents in order, then names (ECMA-119 6.9.1).
        let mut order = vec![0];
        let mut at = 0;
        while at < order.len() {
            let mut below = tree.folders[order[at]].folders.clone();
            below.sort_by(|a, b| folder_names[*a].cmp(&folder_names[*b]));
            order.extend(below);
            at += 1;
        }
        let places = vec![(0, 0); tree.folders.len()];
        Hierarchy { names, order, folder_names, file_names, places }
    }

    /// ECMA-119 9.4.
    fn path_table(&self, tree: &Tree, big_endian: bool) -> Vec<u8> {
        let mut number = vec![0u16; tree.folders.len()];
        self.order.iter().enumerate().for_each(|(n, folder)| number[*folder] = (n + 1) as u16);
        let mut table = Vec::new();
        for folder in &self.order {
            let name = &self.folder_names[*folder];
            let (block, parent) = (self.places[*folder].0, number[tree.folders[*folder].parent]);
            table.extend([name.len() as u8, 0]);
            if big_endian {
                table.extend(block.to_be_bytes());
                table.extend(parent.to_be_bytes());
            } else {
                table.extend(block.to_le_bytes());
                table.extend(parent.to_le_bytes());
            }
            table.extend(name);
            table.resize(table.len().next_multiple_of(2), 0);
        }
        table
    }

    /// The records of a folder; `files` are the files' blocks, or empty when only the length matters.
    fn folder(&self, tree: &Tree, index: usize, files: &[u32]) -> Vec<u8> {
        let folder = &tree.folders[index];
        let mut records = Vec::new();
        for n in &folder.folders {
            let (place, modified) = (self.places[*n], tree.folders[*n].modified_s);
            records.push((&self.folder_names[*n], record(&self.folder_names[*n], place, true, modified)));
        }
        for n in &folder.files {
            let identity = tree.files[*n].identity;
            let place = (files.get(*n).copied().unwrap_or(0), identity.length_bytes as u32);
            let bytes = record(&self.file_names[*n], place, false, identity.modified_s());
            records.push((&self.file_names[*n], bytes));
        }
        records.sort();
        let own = record(&[0], self.places[index], true, folder.modified_s);
        let parent = record(&[1], self.places[folder.parent], true, tree.folders[folder.parent].modified_s);
        let mut bytes = [own, parent].concat();
        for (_, record) in records {
            // No record crosses a block.
            if bytes.len() % BLOCK as usize + record.len() > BLOCK as usize {
                bytes.resize(bytes.len().next_multiple_of(BLOCK as usize), 0);
            }
            bytes.extend(record);
        }
        bytes.resize(bytes.len().next_multiple_of(BLOCK as usize), 0);
        bytes
    }

    /// The primary (ECMA-119 8.4) or supplementary (8.5) volume descriptor.
    fn descriptor(&self, tree: &Tree, volume: &Volume) -> Vec<u8> {
        let mut bytes = vec![0; BLOCK as usize];
        let is_joliet = self.names == Names::Joliet;
        bytes[0] = if is_joliet { 2 } else { 1 };
        bytes[1..7].copy_from_slice(b"CD001\x01");
        for (at, length) in
            [(8, 32), (190, 128), (318, 128), (446, 128), (574, 128), (702, 37), (739, 37), (776, 37)]
        {
            self.put_text(&mut bytes[at..at + length], "");
        }
        let label: String =
            tree.label.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        let label = if label.is_empty() { "VITRINE".to_owned() } else { label.to_ascii_uppercase() };
        self.put_text(&mut bytes[40..72], &label);
        put_both32(&mut bytes, 80, volume.blocks);
        if is_joliet {
            // UCS-2, level 3.
            bytes[88..91].copy_from_slice(b"%/E");
        }
        put_both16(&mut bytes, 120, 1);
        put_both16(&mut bytes, 124, 1);
        put_both16(&mut bytes, 128, BLOCK as u16);
        put_both32(&mut bytes, 132, volume.path_bytes);
        put_le32(&mut bytes, 140, volume.tables[0]);
        put_be32(&mut bytes, 148, volume.tables[1]);
        let root = record(&[0], self.places[0], true, tree.folders[0].modified_s);
        bytes[156..190].copy_from_slice(&root);
        let moment = Moment::of(tree.folders[0].modified_s);
        let date = format!(
            "{:04}{:02}{:02}{:02}{:02}{:02}00",
            moment.year, moment.month, moment.day, moment.hour, moment.minute, moment.second
        );
        for at in [813, 830] {
            bytes[at..at + 16].copy_from_slice(date.as_bytes());
        }
        // Neither expires nor has to wait.
        bytes[847..863].fill(b'0');
        bytes[864..880].fill(b'0');
        bytes[881] = 1;
        bytes
    }

    fn put_text(&self, field: &mut [u8], text: &str) {
        match self.names {
            Names::Plain => {
                field.fill(b' ');
                field.iter_mut().zip(text.bytes()).for_each(|(to, byte)| *to = byte);
            }
            Names::Joliet => {
                let units = text.encode_utf16().chain(std::iter::repeat(u16::from(b' ')));
                field.chunks_exact_mut(2).zip(units).for_each(|(to, unit)| put_be16(to, 0, unit));
            }
        }
    }
}

/// A directory record (ECMA-119 9.1).
fn record(name: &[u8], (block, length): (u32, u32), is_folder: bool, modified_s: i64) -> Vec<u8> {
    let size = (33 + name.len()).next_multiple_of(2);
    let mut record = vec![0; size];
    record[0] = size as u8;
    put_both32(&mut record, 2, block);
    put_both32(&mut record, 10, length);
    record[18..25].copy_from_slice(&Moment::of(modified_s).iso());
    record[25] = if is_folder { 2 } else { 0 };
    put_both16(&mut record, 28, 1);
    record[32] = name.len() as u8;
    record[33..33 + name.len()].copy_from_slice(name);
    record
}

/// Letters, digits and underscores, 8 and 3, with the version for files.
fn plain_name(name: &str, is_file: bool, taken: &mut HashSet<(String, String)>) -> Vec<u8> {
    // The shortener's tilde is no letter of ISO 9660; what it makes unlike stays so.
    let letters = |text: String| text.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    let upper: String =
        name.chars().map(|c| if c == '.' || c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    let ((stem, extension), _) = short_name(&upper.to_ascii_uppercase(), taken);
    let (stem, extension) = (letters(stem), letters(extension));
    match (is_file, extension.is_empty()) {
        (true, _) => format!("{stem}.{extension};1"),
        (false, true) => stem,
        (false, false) => format!("{stem}_{extension}"),
    }
    .into_bytes()
}

/// Joliet's name: at most 64 characters, none twice.
fn joliet_name(name: &str, is_file: bool, taken: &mut HashSet<Vec<u16>>) -> Vec<u8> {
    let allowed = |c: char| if "*/:;?\\".contains(c) || c < ' ' { '_' } else { c };
    let units: Vec<u16> = name.chars().map(allowed).collect::<String>().encode_utf16().collect();
    let mut cut: Vec<u16> = units.iter().copied().take(JOLIET_MAX).collect();
    let mut number = 1;
    while !taken.insert(cut.clone()) {
        let tail: Vec<u16> = format!("~{number}").encode_utf16().collect();
        cut = units.iter().copied().take(JOLIET_MAX - tail.len()).chain(tail).collect();
        number += 1;
    }
    if is_file {
        cut.extend(";1".encode_utf16());
    }
    cut.into_iter().flat_map(u16::to_be_bytes).collect()
}

fn put_both16(bytes: &mut [u8], at: usize, value: u16) {
    put_le16(bytes, at, value);
    put_be16(bytes, at + 2, value);
}

fn put_both32(bytes: &mut [u8], at: usize, value: u32) {
    put_le32(bytes, at, value);
    put_be32(bytes, at + 4, value);
}
