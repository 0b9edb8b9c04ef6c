//! A case on the host's own processor, in this process: the memory window and the local descriptor table are the
//! real ones, and every case ends with an exception, which comes as a signal.

mod control;
mod enter;
pub mod signals;

use std::sync::atomic::Ordering;

use cpu::soft::state::FpuArea;
use libc::{c_int, c_void};

use self::control::control;
use super::case::{Case, Mode, Outcome};
use super::descriptors;
use super::window::{self, BASE, BYTES, CODE, CODE_END, RIGHTS, Rights};

/// linux/prctl.h.
const PR_SET_SYSCALL_USER_DISPATCH: c_int = 59;

/// Times a case that was interrupted by the timer is started again.
const TRIES: usize = 3;

/// What became of a case here.
pub enum Ran {
    /// It ended with an exception.
    Ended(Outcome),
    /// It cannot be run here, and why.
    Refused(&'static str),
}

/// The host as an oracle. One in a process.
pub struct Host {
    /// The window, writable everywhere.
    alias: *mut u8,
    code_written: usize,
}

fn last_error(what: &str) -> String {
    format!("{what}: {}", std::io::Error::last_os_error())
}

fn map(address: usize, bytes: usize, rights: c_int, memory: c_int) -> Result<*mut u8, String> {
    let (fixed, flags) = match address {
        0 => (0, libc::MAP_SHARED),
        _ => (libc::MAP_FIXED_NOREPLACE, libc::MAP_SHARED),
    };
    // SAFETY: nothing is replaced.
    let place = unsafe {
        libc::mmap(address as *mut c_void, bytes, rights, flags | fixed | libc::MAP_POPULATE, memory, 0)
    };
    if place == libc::MAP_FAILED { Err(last_error("mmap")) } else { Ok(place.cast()) }
}

fn memory(name: &std::ffi::CStr, bytes: usize) -> Result<c_int, String> {
    // SAFETY: a new file descriptor.
    unsafe {
        let file = libc::memfd_create(name.as_ptr(), 0);
        if file < 0 || libc::ftruncate(file, bytes as i64) != 0 {
            return Err(last_error("memfd_create"));
        }
        Ok(file)
    }
}

fn install_descriptors() -> Result<(), String> {
    for (entry, local) in descriptors::LDT.iter().enumerate() {
        let description = local.user_desc(entry as u32);
        // SAFETY: writes one LDT entry from sixteen bytes.
        let done = unsafe { libc::syscall(libc::SYS_modify_ldt, 0x11, description.as_ptr(), 16) };
        if done != 0 {
            return Err(last_error("modify_ldt"));
        }
    }
    Ok(())
}

impl Host {
    /// Prepares this process; `Err` says why this host cannot serve.
    pub fn new() -> Result<Host, String> {
        if !std::arch::is_x86_feature_detected!("xsave") || !std::arch::is_x86_feature_detected!("avx") {
            return Err("the host has no AVX".into());
        }
        // SAFETY: reads one word of the auxiliary vector.
        if unsafe { libc::getauxval(libc::AT_HWCAP2) } & 2 == 0 {
            return Err("the host's kernel does not let user code set FS and GS bases".into());
        }
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        map(control::ADDRESS, control::BYTES, rights, memory(c"control", control::BYTES)?)?;
        enter::IS_MAPPED.store(true, Ordering::Relaxed);
        let file = memory(c"window", BYTES)?;
        let alias = map(0, BYTES, rights, file)?;
        let base = map(BASE as usize, BYTES, libc::PROT_NONE, file)?;
        for (page, rights) in RIGHTS.into_iter().enumerate() {
            let protection = match rights {
                Rights::Absent => continue,
                Rights::Read => libc::PROT_READ,
                Rights::Write => libc::PROT_READ | libc::PROT_WRITE,
                Rights::Execute => libc::PROT_READ | libc::PROT_EXEC,
                Rights::All => libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC,
            };
            let page = base.wrapping_add(page * 4096);
            // SAFETY: a page of our own mapping.
            if unsafe { libc::mprotect(page.cast(), 4096, protection) } != 0 {
                return Err(last_error("mprotect"));
            }
            // SAFETY: readable now; touched so that the page is present.
            unsafe { page.read_volatile() };
        }
        install_descriptors()?;
        let selector = &raw const (unsafe_control().blocked);
        // SAFETY: the selector byte lives in the control page; no system call of our own is blocked.
        if unsafe { libc::prctl(PR_SET_SYSCALL_USER_DISPATCH, 1, 0, 0, selector) } != 0 {
            return Err(last_error("PR_SET_SYSCALL_USER_DISPATCH"));
        }
        Ok(Host { alias, code_written: 0 })
    }

    /// The whole window.
    pub fn window(&mut self) -> &mut [u8] {
        // SAFETY: the mapping lives for ever, and no case runs now.
        unsafe { std::slice::from_raw_parts_mut(self.alias, BYTES) }
    }

    /// Whether the host has memory where the guest has none: what the way into a case and back needs.
    pub fn has_more_at(&self, address: u64) -> bool {
        (control::ADDRESS..control::ADDRESS + control::BYTES).contains(&(address as usize))
    }

    /// Runs a case on the window as it is.
    pub fn run(&mut self, case: &Case) -> Ran {
        for _ in 0..TRIES {
            let control = unsafe_control();
            control.entry = case.ip() << 32;
            control.entry_selector = case.selectors[1];
            control.has_fpu = u8::from(case.fpu.is_some());
            control.is_compatible = u8::from(case.mode != Mode::Bits64);
            control.flags = case.flags;
            control.bases = case.bases;
            control.general = case.general;
            control.selectors = case.selectors;
            if let Some(fpu) = &case.fpu {
                control.fpu.0.copy_from_slice(&fpu[..]);
                control.fpu.0[512..576].fill(0);
                control.fpu.0[512] = 7;
            }
            // SAFETY: the control page is filled; the code sees the window and nothing else it could name.
            unsafe { enter::enter() };
            match control.signal {
                libc::SIGPROF => {}
                libc::SIGSYS => return Ran::Refused("a system call would have reached the host's kernel"),
                _ => return Ran::Ended(self.outcome(case)),
            }
        }
        Ran::Refused("it goes round and round")
    }

    fn outcome(&self, case: &Case) -> Outcome {
        let control = unsafe_control();
        let at = |register: c_int| control.after[register as usize] as u64;
        use libc::*;
        let low = [REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI];
        let high = [REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15];
        let mut general = [0; 16];
        for (value, register) in general.iter_mut().zip(low.into_iter().chain(high)) {
            *value = at(register);
        }
        let segments = at(REG_CSGSFS);
        let [es, ds, fs, gs] = control.selectors_after;
        let vector = at(REG_TRAPNO) as u8;
        Outcome {
            general,
            rip: at(REG_RIP),
            flags: at(REG_EFL),
            selectors: [es, segments as u16, (segments >> 48) as u16, ds, fs, gs],
            bases: control.bases_after,
            vector,
            error: if matches!(vector, 10..=14 | 17) { at(REG_ERR) } else { 0 },
            address: if vector == 14 { at(REG_CR2) } else { 0 },
            fpu: case.fpu.is_some().then(|| Box::new(image(&control.fpu_after.0).to_fpu())),
        }
    }

    /// Puts code into the window, HLT around it.
    pub fn put_code(&mut self, at: usize, code: &[u8]) {
        let (last, window) = (self.code_written, self.window());
        let start = last.max(CODE);
        window[start..(start + 256).min(CODE_END)].fill(0xF4);
        window[at..at + code.len()].copy_from_slice(code);
        self.code_written = at;
    }
}

/// The signal frame's image, components in their initial state filled in.
fn image(bytes: &[u8; 832]) -> FpuArea {
    let mut area = FpuArea { bytes: *bytes };
    let present = bytes[512];
    if present & 1 == 0 {
        area.bytes[..24].fill(0);
        area.bytes[0..2].copy_from_slice(&0x37Fu16.to_le_bytes());
        area.bytes[32..160].fill(0);
    }
    if present & 2 == 0 {
        area.bytes[160..416].fill(0);
    }
    if present & 4 == 0 {
        area.bytes[576..].fill(0);
    }
    area
}

fn unsafe_control() -> &'static mut control::Control {
    // SAFETY: mapped in `new` for ever; one thread uses it, and no reference is kept across `enter`.
    unsafe { &mut *control() }
}

const _: () = assert!(window::BASE < 1 << 31 && CODE < CODE_END);
