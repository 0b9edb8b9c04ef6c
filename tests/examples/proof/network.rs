//! Debian on the network, by each card: its lease, the gateway's answers, names, a large transfer each way, many connections
//! at once, and a port of the host that leads to a server in the guest.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::Workplace;
use super::terminal::Terminal;

const TRANSFER_BYTES: usize = 50 << 20;
const CONNECTIONS: usize = 200;
const GATEWAY: &str = "10.0.2.2";
/// A name outside; asked for where the host itself knows it.
const OUTSIDE: &str = "deb.debian.org";

/// Opens all connections, then sends and receives on each, some times; tells how many there were and how many echoes came.
const MANY: &str = "import socket
c=[socket.create_connection(('GATEWAY',PORT)) for _ in range(COUNT)]
ok=0
for r in range(3):
  for i,s in enumerate(c): s.sendall(b'%d-%d|'%(i,r)*50)
  for i,s in enumerate(c):
    w=b'%d-%d|'%(i,r)*50; g=b''
    while len(g)<len(w):
      p=s.recv(4096)
      if not p: break
      g+=p
    ok+=g==w
print('OPEN',len(c),'ECHOES',ok)
";

/// Proves it for every card, and prints a table; says whether all held.
pub fn prove(workplace: &Workplace, cards: &[String]) -> bool {
    let cards: Vec<&str> = match cards {
        [] => vec!["e1000", "virtio"],
        cards => cards.iter().map(String::as_str).collect(),
    };
    let host = Host::serve(workplace);
    let results: Vec<Vec<Check>> = cards.iter().map(|card| one_card(workplace, &host, card)).collect();
    println!("\n| | {} |", cards.join(" | "));
    println!("|---|{}", "---|".repeat(cards.len()));
    for (n, first) in results[0].iter().enumerate() {
        let told: Vec<String> = results.iter().map(|checks| checks[n].to_string()).collect();
        println!("| {} | {} |", first.what, told.join(" | "));
    }
    results.iter().flatten().all(|check| check.holds)
}

/// One thing that was looked at.
struct Check {
    what: &'static str,
    holds: bool,
    told: String,
}

impl std::fmt::Display for Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", if self.holds { "" } else { "FAILED: " }, self.told)
    }
}

fn one_card(workplace: &Workplace, host: &Host, card: &str) -> Vec<Check> {
    let disk = workplace.overlay(card);
    let forwarded = free_port();
    let forward = format!("tcp:{forwarded}:8080");
    let options = ["--nic", card, "--host-loopback", "--forward", &forward];
    let (mut guest, took) = Terminal::boot(&workplace.vitrine, &disk, &options);
    eprintln!("{card}: booted in {:.0} s", took.as_secs_f64());
    let mut checks = Vec::new();
    let mut check = |what: &'static str, holds: bool, told: String| {
        eprintln!("{card}: {what}: {told}{}", if holds { "" } else { " (FAILED)" });
        checks.push(Check { what, holds, told });
    };

    let lease = guest.ask("for n in $(seq 60); do ip -4 -br addr show eth0 | grep -q / && break; sleep 1; done; \
        ip -4 -br addr show eth0; ip route | grep default; basename $(readlink /sys/class/net/eth0/device/driver)");
    let words: Vec<&str> = lease.split_whitespace().collect();
    let address = words.iter().find(|word| word.starts_with("10.0.2.")).copied().unwrap_or("none");
    let driver = words.last().copied().unwrap_or_default();
    check(
        "Lease, driver",
        lease.contains("default via 10.0.2.2") && address != "none",
        format!("{address}, {driver}"),
    );

    let ping = guest.ask("ping -c 5 -i 0.3 10.0.2.2 | tail -2");
    check("Ping of the gateway", ping.contains(" 0% packet loss"), first_line(&ping));

    let name = guest.ask("host gateway.vitrine");
    check("DNS, the gateway's name", name.contains(&format!("has address {GATEWAY}")), first_line(&name));
    if (OUTSIDE, 80).to_socket_addrs().is_ok() {
        let name = guest.ask(&format!("host {OUTSIDE}"));
        check("DNS, a name outside", name.contains("has address"), first_line(&name));
    } else {
        println!("skipped: this host itself finds no {OUTSIDE}");
    }

    let sum = guest
        .ask(&format!("nc -N {GATEWAY} {} </dev/null >/var/tmp/data; sha256sum /var/tmp/data", host.sender));
    check("50 MiB to the guest", sum.starts_with(&host.sum), "equal checksums".to_owned());
    let _ = std::fs::remove_file(&host.received);
    guest.ask(&format!("nc -N {GATEWAY} {} </var/tmp/data", host.receiver));
    check("50 MiB to the host", sha256(&host.received) == host.sum, "equal checksums".to_owned());

    host.peak.store(0, Ordering::SeqCst);
    let script = MANY
        .replace("GATEWAY", GATEWAY)
        .replace("PORT", &host.echo.to_string())
        .replace("COUNT", &CONNECTIONS.to_string());
    let many = guest.ask(&format!("cat >/var/tmp/many.py <<'END'\n{script}END\npython3 /var/tmp/many.py"));
    let expected = format!("OPEN {CONNECTIONS} ECHOES {}", 3 * CONNECTIONS);
    let peak = host.peak.load(Ordering::SeqCst);
    let told = format!("{peak} open, {} echoes right", many.trim().rsplit(' ').next().unwrap_or_default());
    check("Connections at once", many.contains(&expected) && peak == CONNECTIONS, told);

    guest.ask("(echo hello from $(uname -s); cat /etc/hostname) | nc -l -N -p 8080 >/dev/null & sleep 2");
    let heard = hear(forwarded).unwrap_or_default();
    check("Port forward", heard == "hello from Linux\ndebian\n", heard.replace('\n', " "));

    check("Switched itself off", guest.power_off(), "yes".to_owned());
    checks
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

/// What a server at this port of the host says.
fn hear(port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    stream.shutdown(Shutdown::Write)?;
    let mut heard = String::new();
    stream.read_to_string(&mut heard)?;
    Ok(heard)
}

/// Servers of the host, on its loopback.
struct Host {
    /// Checksum of what is sent.
    sum: String,
    /// Where what comes back is put.
    received: std::path::PathBuf,
    sender: u16,
    receiver: u16,
    echo: u16,
    /// Most connections of the echo that were open together.
    peak: Arc<AtomicUsize>,
}

impl Host {
    fn serve(workplace: &Workplace) -> Host {
        let (sent, received) = (workplace.file("sent"), workplace.file("received"));
        let mut noise = 0x9E37_79B9_7F4A_7C15_u64;
        let mut data = Vec::with_capacity(TRANSFER_BYTES);
        while data.len() < TRANSFER_BYTES {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            data.extend((noise >> 16).to_le_bytes());
        }
        std::fs::write(&sent, &data).expect("room for the data");
        let sum = sha256(&sent);
        let into = received.clone();
        let (open, peak) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
        let most = peak.clone();
        Host {
            sum,
            received,
            sender: serve(move |mut guest| guest.write_all(&data)),
            receiver: serve(move |mut guest| {
                let copied = std::io::copy(&mut guest, &mut std::fs::File::create(&into)?);
                copied.map(drop)
            }),
            echo: serve(move |mut guest| {
                most.fetch_max(open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                let mut block = [0; 4096];
                while let Ok(count @ 1..) = guest.read(&mut block) {
                    guest.write_all(&block[..count])?;
                }
                open.fetch_sub(1, Ordering::SeqCst);
                Ok(())
            }),
            peak,
        }
    }
}

/// A server with a thread for each connection, at a free port.
fn serve(answer: impl Fn(TcpStream) -> std::io::Result<()> + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = answer.clone();
            // A guest that hangs up early is seen by what it has got.
            std::thread::spawn(move || drop(answer(stream)));
        }
    });
    port
}

/// A port nobody listens to now.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

fn sha256(file: &Path) -> String {
    let told = Command::new("sha256sum").arg(file).output().expect("coreutils are everywhere");
    String::from_utf8_lossy(&told.stdout).split(' ').next().unwrap_or_default().to_owned()
}
