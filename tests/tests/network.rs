//! Linux with its own drivers on our network cards, through the NAT, on the software CPU.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread::{self, JoinHandle};

use engine::network::Forward;
use engine::profile::{Direct, Network, Nic, Profile, Size};
use machine_tests::initramfs::Initramfs;
use machine_tests::{Guest, SOFT, installed, installer};

const TRANSFER_BYTES: usize = 5 << 20;

/// What udhcpc calls when it has a lease.
const LEASE_SCRIPT: &str = "#!/bin/busybox sh
[ \"$1\" = bound ] || exit 0
ip addr add $ip/24 dev $interface
ip route add default via $router
echo \"LEASE $ip ROUTER $router DNS $dns NAME $hostname DOMAIN $domain\"
";

/// The guest's part. @PULL@ and @PUSH@ are ports of the host.
const SCRIPT: &str = "#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for driver in /drivers/*; do insmod $driver; done
ip link set eth0 up
echo MAC $(cat /sys/class/net/eth0/address)
udhcpc -i eth0 -n -q -t 20 -s /lease
ping -c 3 10.0.2.2
echo NAME $(nslookup gateway 10.0.2.3)
wget -q -O /tmp/file http://10.0.2.2:@PULL@/ && echo PULLED $(sha256sum < /tmp/file)
dd if=/dev/urandom of=/tmp/file bs=1M count=5 2>/dev/null
echo PUSHED $(sha256sum < /tmp/file)
nc 10.0.2.2 @PUSH@ < /tmp/file
mkdir /tmp/site
echo served by the guest > /tmp/site/index.html
httpd -p 80 -h /tmp/site
grep eth0 /proc/net/dev
echo READY
while sleep 1; do true; done
";

fn sha256(data: &[u8]) -> String {
    let mut tool = Command::new("/bin/busybox")
        .arg("sha256sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("busybox runs");
    tool.stdin.take().expect("a pipe").write_all(data).expect("it reads");
    let output = tool.wait_with_output().expect("it ends").stdout;
    String::from_utf8_lossy(&output).chars().take(64).collect()
}

/// A server on the host's loopback that serves one connection.
fn server<R: Send + 'static>(serve: impl FnOnce(TcpStream) -> R + Send + 'static) -> (u16, JoinHandle<R>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    (port, thread::spawn(move || serve(listener.accept().expect("a connection").0)))
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .expect("a port")
        .port()
}

fn linux_uses(nic: Nic, drivers: &[&str]) {
    let Some((kernel, files)) = installer::kernel_and_files() else { return };
    let Some(busybox) = installed("/bin/busybox", "busybox-static") else { return };
    let data: Vec<u8> =
        (0..TRANSFER_BYTES as u64).map(|n| (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect();
    let checksum = sha256(&data);
    let (pull, _) = server(move |mut stream| {
        let mut request = [0; 1024];
        let _ = stream.read(&mut request);
        let head = format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n", data.len());
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&data)).expect("the guest takes it");
    });
    let (push, pushed) = server(|mut stream| {
        let mut data = vec![0; TRANSFER_BYTES];
        stream.read_exact(&mut data).expect("all comes");
        sha256(&data)
    });

    let script = SCRIPT.replace("@PULL@", &pull.to_string()).replace("@PUSH@", &push.to_string());
    let mut archive = Initramfs::default();
    for folder in ["bin", "dev", "drivers", "proc", "sys", "tmp"] {
        archive.add(folder, 0o040_755, &[]);
    }
    archive.add("bin/busybox", 0o100_755, &std::fs::read(busybox).expect("a file"));
    for (n, driver) in drivers.iter().enumerate() {
        let module = files.file(driver).expect("the installer has the driver");
        archive.add(&format!("drivers/{n}.ko"), 0o100_644, module);
    }
    archive.add("lease", 0o100_755, LEASE_SCRIPT.as_bytes());
    archive.add("init", 0o100_755, script.as_bytes());
    let initrd = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(initrd.path(), archive.finish()).expect("room for a small file");

    let mut profile = Profile::new("net test");
    profile.memory = Size::mib(256);
    profile.nic = nic;
    let port = free_port();
    let forwards: Vec<Forward> = vec![format!("tcp:{port}:80").parse().expect("a forward")];
    profile.network = Network::Nat { forwards, host_loopback: true };
    let append = "console=ttyS0".to_owned();
    profile.direct = Some(Direct::Kernel { image: kernel, initrd: Some(initrd.path().to_owned()), append });
    let mac = profile.mac_address();
    let guest = Guest::start(profile, SOFT);
    guest.wait_until(1200, "the guest's server", || guest.serial().contains("READY"));

    let log = guest.serial();
    for expected in [
        &format!("MAC {mac}"),
        "LEASE 10.0.2.15 ROUTER 10.0.2.2 DNS 10.0.2.3 NAME net-test DOMAIN vitrine",
        "3 packets received, 0% packet loss",
        &format!("PULLED {checksum}"),
        &format!("PUSHED {}", pushed.join().expect("the server ends")),
    ] {
        assert!(log.contains(expected), "{expected:?} is not in the log:\n{log}");
    }
    let name = log.lines().find(|line| line.starts_with("NAME ")).unwrap_or_default();
    assert!(name.contains("10.0.2.2"), "the gateway has a name: {name}");
    for complaint in ["Detected Tx Unit Hang", "NETDEV WATCHDOG", "Call Trace", "hw csum failure"] {
        assert!(!log.contains(complaint), "{log}");
    }

    let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the forward listens");
    client.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("it is taken");
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("it answers");
    assert!(answer.contains("served by the guest"), "{answer}");
    let counts = guest.session().stats().network.expect("there is a card");
    assert_eq!(counts.link.sent.dropped, 0);
    println!("{counts:?}");
}

#[test]
fn linux_uses_the_e1000() {
    linux_uses(Nic::E1000, &["/e1000.ko"]);
}

#[test]
fn linux_uses_the_ne2000() {
    linux_uses(Nic::Ne2000, &["/8390.ko", "/ne2k-pci.ko"]);
}
