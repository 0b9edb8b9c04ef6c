//! Taking control back from a guest that never gives it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use cpu::{RunLimit, Stop};

use super::board::{Guest, guest, start_state};
use crate::backend::Vcpu;

const FOREVER: [u8; 2] = [0xEB, 0xFE]; // jmp $

#[test]
fn a_thousand_kicks_and_none_is_lost() {
    let Some(Guest { board, mut vcpu, vm }) = guest(&FOREVER) else { return };
    let kicker = vcpu.kicker();
    let returned = Arc::new(AtomicU32::new(0));
    let seen = returned.clone();
    let runner = std::thread::spawn(move || {
        for _ in 0..1000 {
            assert_eq!(vcpu.run(&*board, RunLimit::NONE).unwrap(), Stop::Kicked);
            seen.fetch_add(1, Ordering::SeqCst);
        }
        drop((vcpu, vm));
    });
    // Each kick is made as soon as the one before was taken: before, during and after the entry.
    for kicks in 0..1000 {
        kicker.kick();
        while returned.load(Ordering::SeqCst) <= kicks {
            std::thread::yield_now();
        }
    }
    runner.join().unwrap();
    kicker.kick(); // a kicker outlives its vCPU
}

#[test]
fn a_kick_before_the_run_ends_it_before_the_first_instruction() {
    let Some(mut guest) = guest(&FOREVER) else { return };
    guest.vcpu.kicker().kick();
    assert_eq!(guest.run(), Stop::Kicked);
    assert_eq!(guest.state().rip, 0x1000);
}

#[test]
fn a_nudge_makes_it_look_but_not_come_back() {
    let Some(Guest { board, mut vcpu, .. }) = guest(&[0xFB, 0xEB, 0xFE]) else { return }; // sti; jmp $
    board.memory.write_at(4 * 0x20, &0x500u32.to_le_bytes());
    board.memory.write_at(0x500, &[0xF4]);
    let kicker = vcpu.kicker();
    let source = board.clone();
    let device = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(20));
        source.raise(0x20);
        kicker.nudge();
    });
    assert_eq!(vcpu.run(&*board, RunLimit::NONE).unwrap(), Stop::Halted);
    device.join().unwrap();
}

#[test]
fn a_kick_in_a_port_access_leaves_it_complete() {
    /// A bus that kicks its own vCPU from inside an IN.
    struct Kicking(Arc<super::board::Board>, crate::backend::Kicker);
    macro_rules! forward {
        ($($name:ident($($arg:ident: $type:ty),*) $(-> $result:ty)?;)*) => {$(
            fn $name(&self, $($arg: $type),*) $(-> $result)? { self.0.$name($($arg),*) }
        )*};
    }
    impl cpu::GuestBus for Kicking {
        fn port_in(&self, _port: u16, _bytes: usize) -> u32 {
            self.1.kick();
            0x42
        }
        forward! {
            page(address: u64) -> cpu::HostPage;
            map_generation() -> u64;
            read(address: u64, bytes: usize) -> u64;
            write(address: u64, bytes: usize, value: u64);
            port_out(port: u16, bytes: usize, value: u32);
            acknowledge_interrupt() -> Option<u8>;
            timestamp() -> u64;
            timestamp_hz() -> u64;
            read_apic_msr(index: u32) -> Option<u64>;
            write_apic_msr(index: u32, value: u64) -> bool;
            task_priority() -> u8;
            set_task_priority(priority: u8);
        }
    }
    let Some(mut guest) = guest(&[0xE4, 0x60, 0xEB, 0xFE]) else { return }; // in al, 0x60; jmp $
    let bus = Kicking(guest.board.clone(), guest.vcpu.kicker());
    assert_eq!(guest.vcpu.run(&bus, RunLimit::NONE).unwrap(), Stop::Kicked);
    let state = guest.state();
    assert_eq!((state.rip, state.general[0] & 0xFF), (0x1002, 0x42));
}

#[test]
fn two_cpus_run_side_by_side_and_move_between_threads() {
    // lock inc word [0x2000]; jmp start
    let Some(Guest { board, vcpu: unused, vm }) = guest(&[0xF0, 0xFF, 0x06, 0x00, 0x20, 0xEB, 0xF9]) else {
        return;
    };
    drop(unused);
    let mut cpus: Vec<_> = (1..3).map(|id| vm.create_vcpu(id, 3, Default::default()).unwrap()).collect();
    for cpu in &mut cpus {
        cpu.set_registers(&start_state()).unwrap();
    }
    let count = || {
        let mut bytes = [0; 2];
        board.memory.read_at(0x2000, &mut bytes);
        u16::from_le_bytes(bytes)
    };
    for _round in 0..3 {
        let before = count();
        cpus = std::thread::scope(|scope| {
            let kickers: Vec<_> = cpus.iter().map(|cpu| cpu.kicker()).collect();
            let running: Vec<_> = cpus
                .into_iter()
                .map(|mut cpu| {
                    let board = &board;
                    scope.spawn(move || {
                        assert_eq!(cpu.run(&**board, RunLimit::NONE).unwrap(), Stop::Kicked);
                        cpu
                    })
                })
                .collect();
            while count() == before {
                std::thread::yield_now();
            }
            kickers.iter().for_each(|kicker| kicker.kick());
            running.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
    }
}
