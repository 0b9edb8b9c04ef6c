//! What a vCPU reaches outside itself: memory pages, devices, the interrupt controller, time.

/// How the backing of one 4 KiB guest-physical page can be reached directly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostPage {
    /// Host address that reads and fetches of the page come from; null: ask [`GuestBus::read`].
    pub read: *const u8,
    /// Host address that writes go to; null: tell [`GuestBus::write`].
    pub write: *mut u8,
    /// Offset of the readable page in the machine's memory; identifies the page whatever its address
    /// (so that code cached under one address is found again under another). `u64::MAX` if none.
    pub offset: u64,
}

impl HostPage {
    /// A page with no memory behind it.
    pub const DEVICE: HostPage =
        HostPage { read: std::ptr::null(), write: std::ptr::null_mut(), offset: u64::MAX };
}

/// The port at which a hypervisor takes calls (VMware's "backdoor"): an IN of 32 bits there may see the general
/// registers. See [`GuestBus::call`].
pub const CALL_PORT: u16 = 0x5658;

/// The rest of the machine, as one vCPU sees it. Implemented by the engine, once for both backends.
///
/// `bytes` is 1, 2, 4 or 8 (ports: 1, 2 or 4). Values are little-endian in the low bits; bits above
/// are zero on return and ignored on entry.
pub trait GuestBus {
    /// The backing of the page that holds guest-physical `address`. Pointers stay valid, for 4 KiB,
    /// while the machine lives; what they mean may change with [`GuestBus::map_generation`].
    fn page(&self, address: u64) -> HostPage;

    /// Counts the changes of the memory map (shadow RAM, A20, moved framebuffer). When it moves,
    /// [`Signal::MapChanged`] is raised on every vCPU.
    fn map_generation(&self) -> u64;

    /// Reads guest-physical memory that has no host page (or any, byte-exact; used for slow paths too).
    fn read(&self, address: u64, bytes: usize) -> u64;

    /// Writes guest-physical memory that has no writable host page.
    fn write(&self, address: u64, bytes: usize, value: u64);

    /// IN.
    fn port_in(&self, port: u16, bytes: usize) -> u32;

    /// OUT.
    fn port_out(&self, port: u16, bytes: usize, value: u32);

    /// An IN of 32 bits from [`CALL_PORT`]: `registers` are EAX, EBX, ECX and EDX, and become what they are after it.
    /// `false`: nobody takes calls, and it is an IN like any other.
    fn call(&self, _registers: &mut [u32; 4]) -> bool {
        false
    }

    /// The interrupt acknowledge cycle: the vector to deliver, or `None` if the request went away.
    fn acknowledge_interrupt(&self) -> Option<u8>;

    /// The time-stamp counter before the vCPU's own offset.
    fn timestamp(&self) -> u64;

    /// A vCPU that counts exactly is about to touch a device or to ask for the time or a random number, and has
    /// made this many steps since its creation (see [`crate::soft::SoftCpu::steps`]).
    fn reached(&self, _steps: u64) {}

    /// The software CPU comes by again and again while it runs, whatever the guest does. Whoever wants the vCPU back
    /// by a time can look at the clock here, and raise [`crate::Signal::Kick`], which it looks at next. Answers after
    /// how many units of work it is to come by again, at most [`crate::soft::WORK`].
    fn control_point(&self) -> i64 {
        crate::soft::WORK
    }

    /// A number for RDRAND and RDSEED; `None`: the host's own.
    fn random(&self) -> Option<u64> {
        None
    }

    /// Frequency of [`GuestBus::timestamp`] in Hz.
    fn timestamp_hz(&self) -> u64;

    /// Wall time at time-stamp 0, in nanoseconds since 1970: what the paravirtual clock tells.
    fn wall_clock_at_zero_ns(&self) -> u64 {
        0
    }

    /// Reads a model-specific register that belongs to the local APIC (0x1B, 0x6E0, 0x800 to 0x8FF);
    /// `None` raises #GP.
    fn read_apic_msr(&self, index: u32) -> Option<u64>;

    /// Writes such a register; `false` raises #GP.
    fn write_apic_msr(&self, index: u32, value: u64) -> bool;

    /// The task priority as CR8 shows it (TPR bits 7 to 4).
    fn task_priority(&self) -> u8;

    /// FERR#: an unmasked x87 exception is pending and CR0.NE is clear. Whoever has wired it raises IRQ 13 and
    /// says so; otherwise the exception is delivered as #MF all the same.
    fn floating_point_error(&self) -> bool {
        false
    }

    /// Sets the task priority through CR8.
    fn set_task_priority(&self, priority: u8);
}
