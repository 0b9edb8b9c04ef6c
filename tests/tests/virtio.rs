//! Debian's kernel on the software CPU finds the virtio devices and uses them; SeaBIOS boots from a virtio disk.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use engine::Ending;
use engine::profile::{DiskBus, Network, Nic, Paravirtual, Profile, Size};
use machine_tests::linux::{Linux, VIRTIO};
use machine_tests::{Guest, SOFT, installed};

/// Seconds a Linux guest has; many tests share the host.
const PATIENCE: u64 = 900;

fn modules(more: &[&'static str]) -> Vec<&'static str> {
    VIRTIO.iter().chain(more).copied().collect()
}

fn sha256(path: &Path) -> String {
    let told = Command::new("sha256sum").arg(path).output().expect("coreutils are everywhere");
    String::from_utf8_lossy(&told.stdout).split(' ').next().unwrap_or_default().to_owned()
}

/// What the guest told after `key` and a blank.
fn told(serial: &str, key: &str) -> String {
    let found = serial.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix(' '));
    found.unwrap_or_else(|| panic!("the guest did not tell {key}:\n{serial}")).to_owned()
}

const DISK_SCRIPT: &str = "
echo size $(cat /sys/block/vda/size)
echo serial $(cat /sys/block/vda/serial)
echo discard $(cat /sys/block/vda/queue/discard_max_bytes)
echo cache $(cat /sys/block/vda/cache_type)
echo before $(sha256sum /dev/vda)
yes vitrine | head -c 1000000 > /tmp/text
dd if=/tmp/text of=/dev/vda bs=4096 seek=1000 conv=notrunc,fsync 2>/dev/null
sync
echo 3 > /proc/sys/vm/drop_caches
echo after $(sha256sum /dev/vda)
dd if=/dev/vda of=/dev/null bs=512 skip=16376 count=16 2>&1 | tail -1
echo errors $(dmesg | grep -c 'I/O error')
grep virtio /proc/interrupts
";

fn a_disk_is_read_and_written(append: &str, interrupts: &str) {
    let Some(linux) = Linux::with(&modules(&["virtio_blk"]), DISK_SCRIPT) else { return };
    let image = tempfile::NamedTempFile::new().unwrap();
    let pattern: Vec<u8> = (0..2u32 << 20).flat_map(|n| n.wrapping_mul(0x9E37_79B9).to_le_bytes()).collect();
    std::fs::write(image.path(), &pattern).unwrap();
    let before = sha256(image.path());
    let mut profile = Profile::new("disk");
    profile.cpus = 2;
    profile.paravirtual = Paravirtual::NONE;
    profile.disks = vec![image.path().to_owned()];
    profile.disk_bus = DiskBus::Virtio;
    linux.boot_in(&mut profile, append);
    let guest = Guest::start(profile, SOFT);
    guest.wait_until(PATIENCE, "the guest's checks", || guest.serial().contains("errors "));
    assert_eq!(guest.wait_end(PATIENCE), Ending::PoweredOff);
    let serial = guest.serial();
    assert_eq!(told(&serial, "size"), "16384");
    assert_eq!(told(&serial, "serial"), "VT00000001");
    assert_ne!(told(&serial, "discard"), "0");
    assert_eq!(told(&serial, "cache"), "write back");
    assert!(told(&serial, "before").starts_with(&before), "{serial}");
    assert_eq!(told(&serial, "errors"), "0");
    assert!(told(&serial, "after").starts_with(&sha256(image.path())), "{serial}");
    let mut expected = pattern;
    let text: Vec<u8> = b"vitrine\n".iter().copied().cycle().take(1_000_000).collect();
    expected[4_096_000..5_096_000].copy_from_slice(&text);
    assert!(std::fs::read(image.path()).unwrap() == expected, "the image is not what the guest wrote");
    let by = |line: &str| line.contains("virtio0") && line.contains(interrupts);
    assert!(serial.lines().any(by), "{serial}");
}

#[test]
fn a_disk_by_messages() {
    a_disk_is_read_and_written("", "PCI-MSI");
}

#[test]
fn a_disk_by_a_shared_interrupt_line() {
    a_disk_is_read_and_written("pci=nomsi", "IO-APIC");
}

/// Answers a line on the virtio console with what was asked for and a final "done".
const CONSOLE_SCRIPT: &str = "
exec 3<>/dev/hvc0
stty -F /dev/hvc0 -echo 2>/dev/null || stty -echo <&3
echo ready >&3
while read question <&3; do
  case $question in
    memory) cat /proc/meminfo >&3 ;;
    random) cat /sys/class/misc/hw_random/rng_current >&3; dd if=/dev/hwrng bs=64 count=1 2>/dev/null | od -An -tx1 >&3 ;;
    size) stty size <&3 >&3 ;;
    tablet) dd if=$(grep -l tablet /sys/class/input/event*/device/name | sed 's|/sys/class/input/|/dev/input/|; s|/device/name||') bs=24 count=3 2>/dev/null | od -An -tu2 >&3 ;;
    fill) dd if=/dev/zero of=/tmp/fill bs=1M count=64 2>/dev/null; rm /tmp/fill ;;
    end) break ;;
  esac
  echo done $question >&3
done
";

/// A Linux guest that answers on its virtio console.
struct Answering {
    guest: Guest,
    asked: std::cell::Cell<usize>,
}

impl Answering {
    fn start(memory: Size, more: &[&'static str]) -> Option<Answering> {
        let all: Vec<_> = ["virtio_console"].iter().chain(more).copied().collect();
        let linux = Linux::with(&modules(&all), CONSOLE_SCRIPT)?;
        let mut profile = Profile::new("console");
        profile.memory = memory;
        linux.boot_in(&mut profile, "");
        let guest = Guest::start(profile, SOFT);
        guest.wait_until(PATIENCE, "the console", || guest.virtio_console().contains("ready"));
        Some(Answering { guest, asked: 0.into() })
    }

    /// Asks without waiting.
    fn begin(&self, question: &str) {
        self.asked.set(self.guest.virtio_console().len());
        let line = format!("{question}\n");
        assert_eq!(self.guest.session().send_console(line.as_bytes()), line.len());
    }

    /// What came since [`Answering::begin`].
    fn finish(&self, question: &str) -> String {
        let answer = || self.guest.virtio_console().split_off(self.asked.get());
        self.guest.wait_until(PATIENCE, question, || answer().contains(&format!("done {question}")));
        answer()
    }

    fn ask(&self, question: &str) -> String {
        self.begin(question);
        self.finish(question)
    }

    /// A line of `/proc/meminfo`, in bytes.
    fn memory(&self, field: &str) -> u64 {
        let told = self.ask("memory");
        let line =
            told.lines().find(|line| line.starts_with(field)).unwrap_or_else(|| panic!("{field}: {told}"));
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") << 10
    }
}

#[test]
fn console_entropy_and_tablet() {
    let Some(linux) = Answering::start(Size::mib(128), &["virtio-rng", "evdev", "virtio_input"]) else {
        return;
    };
    let random = linux.ask("random");
    assert!(random.contains("virtio_rng.0"), "{random}");
    let bytes = random.split_whitespace().filter(|word| word.len() == 2).count();
    assert_eq!(bytes, 64, "{random}");

    linux.guest.session().resize_console(132, 43);
    linux.guest.wait_until(PATIENCE, "the new size", || linux.ask("size").contains("43 132"));

    linux.begin("tablet");
    linux.guest.wait_until(PATIENCE, "a driver", || linux.guest.session().takes_pointer());
    // The reader opens the device some time after it was asked to: events are sent until it has seen some.
    let mut x = 0;
    let answered = |linux: &Answering| linux.guest.virtio_console().contains("done tablet");
    for _ in 0..2_000 {
        x += 1;
        linux.guest.session().pointer(0x1000 + x, 0x2000 + x, 0, 0);
        std::thread::sleep(std::time::Duration::from_millis(5));
        if answered(&linux) {
            break;
        }
    }
    let told = linux.finish("tablet");
    let words: Vec<u16> = told.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let events: Vec<&[u16]> = words.chunks_exact(12).map(|event| &event[8..]).collect();
    let [across, down, end] = events[..] else { panic!("{told}") };
    assert_eq!(
        (across[..2].to_vec(), down[..2].to_vec(), end.to_vec()),
        (vec![3, 0], vec![3, 1], vec![0; 4])
    );
    assert_eq!(down[2] - across[2], 0x1000, "both coordinates of one place: {told}");
}

#[test]
fn the_balloon_moves_memory_between_guest_and_host() {
    let mib = |bytes: u64| bytes >> 20;
    let Some(linux) = Answering::start(Size::mib(256), &["virtio_balloon"]) else { return };
    let balloon = linux.guest.session().balloon().expect("on by default");
    linux.guest.wait_until(PATIENCE, "the driver", || balloon.is_driven());
    // Memory the guest has touched is what the host can get back.
    linux.ask("fill");
    let (free, total) = (linux.memory("MemFree:"), linux.memory("MemTotal:"));
    let spent = balloon.host_spent_bytes();

    balloon.set_target_bytes(96 << 20);
    linux.guest.wait_until(PATIENCE, "the balloon", || balloon.actual_bytes() == 96 << 20);
    let inflated = (linux.memory("MemFree:"), linux.memory("MemTotal:"), balloon.host_spent_bytes());
    println!(
        "free {} -> {} MiB, total {} -> {} MiB, host {} -> {} MiB, reported {} MiB",
        mib(free),
        mib(inflated.0),
        mib(total),
        mib(inflated.1),
        mib(spent),
        mib(inflated.2),
        mib(balloon.reported_bytes())
    );
    let taken = free - inflated.0;
    assert!((88..=104).contains(&mib(taken)), "the guest misses {} MiB", mib(taken));
    assert!(inflated.2 < spent, "the host has {} MiB more", mib(spent - inflated.2));
    // What is left of it: what the guest uses, and free pages it touched and did not report yet.
    assert!(inflated.2 <= (256 - 96 + 20) << 20, "the host still spends {} MiB", mib(inflated.2));

    let number = || balloon.statistics().map_or(0, |told| told.number);
    let before = number();
    linux.guest.wait_until(PATIENCE, "statistics", || {
        // The ledger asks once a second as well; only one of them is heard.
        balloon.ask_statistics();
        number() > before + 1
    });
    let told = balloon.statistics().unwrap();
    assert_eq!(told.total_bytes.map(mib), Some(mib(inflated.1)));

    balloon.set_target_bytes(0);
    linux.guest.wait_until(PATIENCE, "deflation", || balloon.actual_bytes() == 0);
    let back = linux.memory("MemFree:");
    assert!(mib(back.abs_diff(free)) <= 8, "free is {} MiB again, was {}", mib(back), mib(free));
    linux.begin("end");
    assert_eq!(linux.guest.wait_end(PATIENCE), Ending::PoweredOff);
}

#[test]
fn seabios_boots_from_a_virtio_disk() {
    boots_grub(DiskBus::Virtio);
}

#[test]
fn seabios_boots_from_an_ahci_disk() {
    boots_grub(DiskBus::Ahci);
}

#[test]
fn seabios_boots_from_a_cd_on_ahci() {
    let Some(iso) = installed("/usr/lib/grub-rescue/grub-rescue-cdrom.iso", "grub-rescue-pc") else { return };
    let mut profile = Profile::new("grub");
    profile.cdrom = Some(iso);
    profile.disk_bus = DiskBus::Ahci;
    let guest = Guest::start(profile, SOFT);
    guest.wait_screen("GNU GRUB", 120);
}

fn boots_grub(bus: DiskBus) {
    let Some(image) = installed("/usr/lib/grub-rescue/grub-rescue-usb.img", "grub-rescue-pc") else { return };
    let mut profile = Profile::new("grub");
    profile.disks = vec![image];
    profile.disk_bus = bus;
    profile.snapshot = true;
    let guest = Guest::start(profile, SOFT);
    guest.wait_screen("GNU GRUB", 120);
}

/// Fetches and sends some megabytes by TCP, each way with its checksum told.
const NET_SCRIPT: &str = "
ifconfig lo 127.0.0.1
ifconfig eth0 10.0.2.15 netmask 255.255.255.0 up
echo card $(cat /sys/class/net/eth0/address) $(cat /sys/class/net/eth0/carrier)
echo ping $(ping -c 3 -W 5 10.0.2.2 | grep -c 'bytes from')
nc 10.0.2.2 $PORT < /dev/null > /tmp/got
echo got $(sha256sum < /tmp/got)
cat /tmp/got /tmp/got | nc -w 5 10.0.2.2 $PORT > /dev/null
echo errors $(cat /sys/class/net/eth0/statistics/rx_errors) $(cat /sys/class/net/eth0/statistics/tx_errors)
echo finished
";

#[test]
fn a_network_card_moves_data_both_ways() {
    let content: Vec<u8> = (0..1u32 << 19).flat_map(|n| n.wrapping_mul(0x9E37_79B9).to_le_bytes()).collect();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn({
        let content = content.clone();
        move || {
            let (mut first, _) = listener.accept().unwrap();
            first.write_all(&content).unwrap();
            drop(first);
            let (second, _) = listener.accept().unwrap();
            let mut sent = Vec::new();
            second.take(2 * content.len() as u64).read_to_end(&mut sent).unwrap();
            sent == [&content[..], &content].concat()
        }
    });
    let modules = modules(&["failover", "net_failover", "virtio_net"]);
    let Some(linux) = Linux::with(&modules, &NET_SCRIPT.replace("$PORT", &port.to_string())) else { return };
    let mut profile = Profile::new("net");
    profile.nic = Nic::Virtio;
    profile.network = Network::Nat { forwards: Vec::new(), host_loopback: true };
    linux.boot_in(&mut profile, "");
    let guest = Guest::start(profile, SOFT);
    guest.wait_until(PATIENCE, "the transfers", || guest.serial().contains("finished"));
    let serial = guest.serial();
    assert!(told(&serial, "card").ends_with(" 1"), "{serial}");
    assert_eq!(told(&serial, "ping"), "3", "{serial}");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &content).unwrap();
    assert!(told(&serial, "got").starts_with(&sha256(file.path())), "{serial}");
    assert_eq!(told(&serial, "errors"), "0 0");
    assert!(server.join().unwrap(), "the host got something else than the guest sent");
}
