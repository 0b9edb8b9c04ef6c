//! The text that describes a VMDK: its extents and its parent. Source: VMware, *Virtual Disk Format 5.0*.

/// Longest text that is read.
pub const TEXT_MAX_BYTES: u64 = 1 << 20;
/// Most extents.
const EXTENTS_MAX: usize = 4096;

/// The description.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Descriptor {
    /// Changes with each writing of the content.
    pub content_id: u32,
    /// The parent's, or `None` without one.
    pub parent_id: Option<u32>,
    /// Where the parent is said to be.
    pub parent_name: Option<String>,
    /// The parts of the disk, in order.
    pub extents: Vec<ExtentLine>,
}

/// One part of the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtentLine {
    /// How long it is.
    pub sectors: u64,
    /// FLAT, SPARSE, ZERO, VMFS ...
    pub kind: String,
    /// Its file.
    pub file: String,
    /// Where in the file it starts, in sectors.
    pub offset_sectors: u64,
}

impl Descriptor {
    /// Reads a description; what is not understood in it, as words.
    pub fn parse(text: &str) -> Result<Descriptor, String> {
        let mut descriptor = Descriptor::default();
        for line in text.lines().map(|line| line.trim_matches(['\0', ' ', '\t', '\r'])) {
            if let Some(extent) = extent_line(line)? {
                if descriptor.extents.len() >= EXTENTS_MAX {
                    return Err("it has too many extents".to_owned());
                }
                descriptor.extents.push(extent);
            } else if let Some((name, value)) = line.split_once('=') {
                let value = value.trim().trim_matches('"');
                let id = || u32::from_str_radix(value, 16).map_err(|_| format!("'{line}' names no id"));
                match name.trim() {
                    "CID" => descriptor.content_id = id()?,
                    "parentCID" => descriptor.parent_id = Some(id()?).filter(|id| *id != u32::MAX),
                    "parentFileNameHint" => descriptor.parent_name = Some(value.to_owned()),
                    _ => {}
                }
            }
        }
        Ok(descriptor)
    }
}

/// `RW 4192256 SPARSE "disk-s001.vmdk" 0`
fn extent_line(line: &str) -> Result<Option<ExtentLine>, String> {
    let mut words = line.splitn(4, ' ');
    if !matches!(words.next(), Some("RW" | "RDONLY" | "NOACCESS")) {
        return Ok(None);
    }
    let wrong = || format!("'{line}' is no extent");
    let sectors = words.next().and_then(|word| word.parse().ok()).ok_or_else(wrong)?;
    let kind = words.next().ok_or_else(wrong)?.to_owned();
    let rest = words.next().unwrap_or("");
    let (file, offset) = match rest.strip_prefix('"').and_then(|rest| rest.split_once('"')) {
        Some((file, offset)) => (file.to_owned(), offset.trim()),
        None if kind == "ZERO" => (String::new(), ""),
        None => return Err(wrong()),
    };
    let offset_sectors = match offset {
        "" => 0,
        number => number.parse().map_err(|_| wrong())?,
    };
    Ok(Some(ExtentLine { sectors, kind, file, offset_sectors }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_is_read() {
        let text = "# Disk DescriptorFile\nversion=1\nCID=7d2f\nparentCID=ffffffff\ncreateType=\"x\"\n\n\
            RW 4192256 SPARSE \"a disk-s001.vmdk\"\nRW 100 FLAT \"f.vmdk\" 63\nRW 5 ZERO\n";
        let read = Descriptor::parse(text).unwrap();
        assert_eq!((read.content_id, read.parent_id), (0x7D2F, None));
        assert_eq!(read.extents.len(), 3);
        assert_eq!(read.extents[0].file, "a disk-s001.vmdk");
        assert_eq!((read.extents[1].sectors, read.extents[1].offset_sectors), (100, 63));
        assert!(Descriptor::parse("RW many FLAT \"f\" 0").is_err());
        assert!(Descriptor::parse("RW 1 FLAT f 0").is_err());
    }
}
