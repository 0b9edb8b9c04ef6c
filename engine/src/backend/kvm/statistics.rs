//! What the host's kernel counts for a vCPU: exits that never come out of it among them. Source: Linux uapi,
//! `linux/kvm.h`, and Documentation/virt/kvm/api.rst, 4.135 (KVM_GET_STATS_FD): a file with a header, one descriptor for
//! each statistic, and their values.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::FileExt;

use kvm_ioctls::VcpuFd;

/// `_IO(KVMIO, 0xCE)`
const KVM_GET_STATS_FD: u64 = 0xAECE;
/// Bytes of a header, and of a descriptor before its name.
const HEADER: usize = 24;
const DESCRIPTOR: usize = 16;
/// Most descriptors and longest name that are believed.
const MOST: u32 = 4096;
const LONGEST_NAME: u32 = 1024;

/// A statistic of one value.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    name: String,
    offset: u64,
}

/// The statistics of one vCPU.
#[derive(Debug)]
pub struct Statistics {
    file: File,
    entries: Vec<Entry>,
}

impl Statistics {
    /// Opens them; kernels before 5.14 have none.
    pub fn open(vcpu: &VcpuFd) -> io::Result<Statistics> {
        // SAFETY: the descriptor is a vCPU's, and this request takes no argument.
        let fd = unsafe { libc::ioctl(vcpu.as_raw_fd(), KVM_GET_STATS_FD) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just made this descriptor for us, and nobody else owns it.
        let file = unsafe { File::from_raw_fd(fd) };
        let mut header = [0; HEADER];
        file.read_exact_at(&mut header, 0)?;
        let (name_bytes, count) = (word(&header, 4), word(&header, 8));
        let (descriptors_at, values_at) = (word(&header, 16), word(&header, 20));
        if count > MOST || name_bytes > LONGEST_NAME {
            return Err(io::Error::other("the kernel's statistics are not as its manual says"));
        }
        let each = DESCRIPTOR + name_bytes as usize;
        let mut descriptors = vec![0; each * count as usize];
        file.read_exact_at(&mut descriptors, u64::from(descriptors_at))?;
        let entries = descriptors.chunks_exact(each).filter_map(|bytes| entry(bytes, values_at)).collect();
        Ok(Statistics { file, entries })
    }

    /// Every statistic with its value now.
    pub fn read(&self) -> Vec<(String, u64)> {
        let value = |entry: &Entry| {
            let mut bytes = [0; 8];
            self.file.read_exact_at(&mut bytes, entry.offset).ok()?;
            Some((entry.name.clone(), u64::from_le_bytes(bytes)))
        };
        self.entries.iter().filter_map(value).collect()
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// A descriptor, if it is of a single counter; histograms have many values.
fn entry(bytes: &[u8], values_at: u32) -> Option<Entry> {
    let values = u16::from_le_bytes([bytes[6], bytes[7]]);
    let name = bytes[DESCRIPTOR..].split(|byte| *byte == 0).next()?;
    let name = String::from_utf8_lossy(name).into_owned();
    (values == 1).then(|| Entry { name, offset: u64::from(values_at) + u64::from(word(bytes, 8)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_of_one_value_is_a_name_and_a_place() {
        let mut bytes = vec![0; DESCRIPTOR + 48];
        bytes[6] = 1;
        bytes[8] = 0x18;
        bytes[DESCRIPTOR..DESCRIPTOR + 8].copy_from_slice(b"io_exits");
        assert_eq!(entry(&bytes, 0x400), Some(Entry { name: "io_exits".into(), offset: 0x418 }));
        bytes[6] = 20;
        assert_eq!(entry(&bytes, 0x400), None, "a histogram");
    }

    #[test]
    fn the_kernel_counts_exits() {
        let Ok(kvm) = kvm_ioctls::Kvm::new() else {
            eprintln!("skipped: there is no /dev/kvm");
            return;
        };
        let vm = kvm.create_vm().unwrap();
        let vcpu = vm.create_vcpu(0).unwrap();
        match Statistics::open(&vcpu) {
            Err(error) => eprintln!("skipped: this kernel has no statistics: {error}"),
            Ok(statistics) => {
                let values = statistics.read();
                assert!(values.iter().any(|(name, _)| name == "exits"), "{values:?}");
            }
        }
    }
}
