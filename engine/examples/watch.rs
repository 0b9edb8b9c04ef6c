//! Runs a guest without a window and prints, again and again, where its first vCPU is and what its screen
//! shows: the first look at a guest that does not get on.
//!
//! `cargo run -p engine --example watch -- cdrom=FILE memory=32M every=1000 times=20 type@5='ls\n'`
//! Keys: `cdrom floppy disk kernel initrd append flat memory model backend cpus` as in a profile; `every` (ms),
//! `times`, `type@SECONDS` (text, `\n` is Enter), `quiet=1` (screens only when they change), `ppm=FILE` (last frame).

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use engine::machine::Machine;
use engine::profile::{Direct, Profile};
use engine::{Outlets, Registers};

/// What the command line asks for beside the machine.
struct Plan {
    every: Duration,
    times: u32,
    quiet: bool,
    typed: Vec<(u64, String)>,
    picture: Option<PathBuf>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (profile, plan) = parse(std::env::args().skip(1))?;
    let to_stderr = || Box::new(|bytes: &[u8]| std::io::stderr().write_all(bytes).unwrap_or(())) as Box<_>;
    let outlets =
        Outlets { serial: Some(to_stderr()), debug_console: Some(to_stderr()), ..Outlets::default() };
    let machine = Machine::build(&profile, outlets)?;
    let (wishes, asked) = std::sync::mpsc::channel();
    let wishes = std::sync::Mutex::new(wishes);
    machine.listen(move |wish| {
        let _ = wishes.lock().unwrap().send(format!("{wish:?}"));
    });
    machine.power_on()?;
    machine.release();
    let begun = Instant::now();
    let mut typed = plan.typed.into_iter().peekable();
    let mut last = (String::new(), 0, Instant::now());
    for _ in 0..plan.times {
        std::thread::sleep(plan.every);
        let elapsed = begun.elapsed();
        while let Some((_, text)) = typed.next_if(|(at, _)| elapsed.as_secs() >= *at) {
            machine.type_text(&text);
        }
        machine.hold();
        let (registers, code, instruction) = machine.examine(0)?;
        let executed = machine.stats().instructions.unwrap_or(0);
        machine.release();
        let mips = (executed - last.1) as f64 / last.2.elapsed().as_micros().max(1) as f64;
        println!("--- {:.1} s, {mips:.0} MIPS: {}", elapsed.as_secs_f64(), place(&registers, &instruction));
        if !plan.quiet {
            println!("{}", state(&registers, &code));
        }
        let frame = machine.screen().frame();
        let screen =
            machine.screen().text().unwrap_or_else(|| format!("({}x{} picture)", frame.width, frame.height));
        if !plan.quiet || screen != last.0 {
            println!("{screen}");
        }
        last = (screen, executed, Instant::now());
        while let Ok(wish) = asked.try_recv() {
            println!("asked for: {wish}");
        }
    }
    machine.hold();
    if let Some(path) = plan.picture {
        let frame = machine.screen().frame();
        let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
        writeln!(file, "P6 {} {} 255", frame.width, frame.height)?;
        for pixel in &frame.pixels {
            file.write_all(&pixel.to_le_bytes()[..3])?;
        }
    }
    machine.retire();
    Ok(())
}

fn parse(arguments: impl Iterator<Item = String>) -> Result<(Profile, Plan), Box<dyn std::error::Error>> {
    let mut profile = Profile::new("watch");
    profile.backend = engine::backend::Backend::Soft;
    profile.snapshot = true;
    let mut plan =
        Plan { every: Duration::from_secs(1), times: 10, quiet: false, typed: Vec::new(), picture: None };
    let (mut kernel, mut initrd, mut append) = (None, None, String::new());
    for argument in arguments {
        let (key, value) =
            argument.split_once('=').ok_or_else(|| format!("{argument}: KEY=VALUE is expected"))?;
        match key {
            "cdrom" => profile.cdrom = Some(value.into()),
            "floppy" => profile.floppy = Some(value.into()),
            "disk" => profile.disks.push(value.into()),
            "flat" => profile.direct = Some(Direct::Flat(value.into())),
            "kernel" => kernel = Some(PathBuf::from(value)),
            "initrd" => initrd = Some(PathBuf::from(value)),
            "append" => value.clone_into(&mut append),
            "memory" => profile.memory = value.parse()?,
            "model" => profile.model = value.parse()?,
            "backend" => profile.backend = value.parse()?,
            "cpus" => profile.cpus = value.parse()?,
            "every" => plan.every = Duration::from_millis(value.parse()?),
            "times" => plan.times = value.parse()?,
            "quiet" => plan.quiet = value != "0",
            "ppm" => plan.picture = Some(value.into()),
            _ => match key.strip_prefix("type@") {
                Some(at) => plan.typed.push((at.parse()?, value.replace("\\n", "\n"))),
                None => return Err(format!("{key} is not known").into()),
            },
        }
    }
    if let Some(image) = kernel {
        profile.direct = Some(Direct::Kernel { image, initrd, append });
    }
    Ok((profile, plan))
}

fn place(registers: &Registers, instruction: &str) -> String {
    let halted = if registers.halted { " (halted)" } else { "" };
    format!("{:04x}:{:x} {instruction}{halted}", registers.segments[1].selector, registers.rip)
}

fn state(registers: &Registers, code: &[u8]) -> String {
    let names =
        ["ax", "cx", "dx", "bx", "sp", "bp", "si", "di", "8", "9", "10", "11", "12", "13", "14", "15"];
    let general: Vec<String> =
        names.iter().zip(registers.general).map(|(name, value)| format!("{name}={value:x}")).collect();
    format!(
        "{}\nflags={:x} cr0={:x} cr2={:x} cr3={:x} cr4={:x} efer={:x} code={code:02x?}",
        general.join(" "),
        registers.rflags,
        registers.cr0,
        registers.cr2,
        registers.cr3,
        registers.cr4,
        registers.efer
    )
}
