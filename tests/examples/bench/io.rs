//! What virtio's disk and network card move in a second, in a Linux guest on the software CPU and on TCG.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use machine_tests::linux::{Linux, VIRTIO};

use super::emulator::Workplace;
use super::linux::Runner;
use super::{ROUNDS, median};

const DISK_BYTES: u64 = 512 << 20;
const NETWORK_BYTES: u64 = 256 << 20;
const SMALL_REQUESTS: u64 = 20_000;

/// What is measured.
struct Row {
    name: &'static str,
    /// What the guest tells its time under.
    key: &'static str,
    bytes: u64,
    /// Where requests count, how many there are.
    requests: Option<u64>,
}

const ROWS: [Row; 6] = [
    Row { name: "virtio-blk, read, 1 MiB", key: "read", bytes: DISK_BYTES, requests: None },
    Row { name: "virtio-blk, written and flushed, 1 MiB", key: "write", bytes: DISK_BYTES, requests: None },
    Row { name: "virtio-blk, read, 4 KiB", key: "small-read", bytes: 0, requests: Some(SMALL_REQUESTS) },
    Row { name: "virtio-blk, written, 4 KiB", key: "small-write", bytes: 0, requests: Some(SMALL_REQUESTS) },
    Row { name: "virtio-net, guest receives", key: "receive", bytes: NETWORK_BYTES, requests: None },
    Row { name: "virtio-net, guest sends", key: "send", bytes: NETWORK_BYTES, requests: None },
];

/// Each step tells its seconds; the disk's cache in the guest is passed by.
const SCRIPT: &str = "
ifconfig lo 127.0.0.1 up
ifconfig eth0 10.0.2.15 netmask 255.255.255.0 up
clocked() { what=$1; shift; time -f \"TOLD $what %e\" \"$@\" 2>&1 | grep TOLD; }
clocked read dd if=/dev/vda of=/dev/null bs=1M count=512 iflag=direct
clocked write dd if=/dev/zero of=/dev/vda bs=1M count=512 oflag=direct conv=fsync
clocked small-read dd if=/dev/vda of=/dev/null bs=4k count=20000 iflag=direct
clocked small-write dd if=/dev/zero of=/dev/vda bs=4k count=20000 oflag=direct
echo 'exec dd of=/dev/null bs=64k' > /bin/receiver
echo 'exec dd if=/dev/zero bs=64k count=4096' > /bin/sender
chmod +x /bin/receiver /bin/sender
clocked receive nc 10.0.2.2 $RECEIVE -e sh /bin/receiver
clocked send nc 10.0.2.2 $SEND -e sh /bin/sender
";

/// Measures on both in turn, and prints a table.
pub fn compare(workplace: &Workplace) {
    let receive = serve(|mut guest| {
        let block = vec![0; 1 << 16];
        for _ in 0..NETWORK_BYTES / block.len() as u64 {
            if guest.write_all(&block).is_err() {
                break;
            }
        }
    });
    let send = serve(|mut guest| {
        let mut block = vec![0; 1 << 16];
        while guest.read(&mut block).is_ok_and(|taken| taken > 0) {}
    });
    let script = SCRIPT.replace("$RECEIVE", &receive.to_string()).replace("$SEND", &send.to_string());
    let modules: Vec<&str> =
        VIRTIO.into_iter().chain(["virtio_blk", "failover", "net_failover", "virtio_net"]).collect();
    let Some(linux) = Linux::with(&modules, &script) else { return };
    let disk = workplace.file("virtio.img");
    std::fs::write(&disk, vec![0x5A; DISK_BYTES as usize]).expect("room for a disk");
    let devices = |runner| match runner {
        Runner::Soft => format!("--disk {disk} --disk-bus virtio --nic virtio --host-loopback"),
        Runner::Tcg => format!(
            "-drive file={disk},format=raw,if=virtio -netdev user,id=n -device virtio-net-pci,netdev=n,romfile="
        ),
    };
    let mut rates: [[Vec<f64>; 2]; ROWS.len()] = Default::default();
    for _ in 0..ROUNDS {
        for (n, runner) in Runner::BOTH.into_iter().enumerate() {
            let ran = runner.boot(workplace, &linux, &devices(runner));
            for (rates, row) in rates.iter_mut().zip(ROWS) {
                rates[n].push(1.0 / seconds(&ran.serial, row.key));
            }
        }
    }
    println!(
        "\n| Virtio, in a second of the guest's clock | Soft | TCG | Soft to TCG |\n|---|---:|---:|---:|"
    );
    for (rates, row) in rates.into_iter().zip(ROWS) {
        let [soft, tcg] = rates.map(median);
        let tell = |rate: f64| match row.requests {
            Some(requests) => format!("{:.0} requests", rate * requests as f64),
            None => format!("{:.0} MB", rate * row.bytes as f64 / 1e6),
        };
        println!("| {} | {} | {} | {:.1} |", row.name, tell(soft), tell(tcg), soft / tcg);
    }
}

/// Seconds of a step, by the line "TOLD read 0.29".
fn seconds(serial: &str, key: &str) -> f64 {
    const CLOCK_TICK_SECONDS: f64 = 0.01;
    let start = format!("TOLD {key} ");
    let told = serial.lines().find_map(|line| line.split_once(&start)?.1.trim().parse::<f64>().ok());
    told.unwrap_or_else(|| panic!("the guest did not tell {key}:\n{serial}")).max(CLOCK_TICK_SECONDS)
}

/// A server on a port of the host's loopback.
fn serve(answer: impl Fn(TcpStream) + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    std::thread::spawn(move || listener.incoming().flatten().for_each(answer));
    port
}
