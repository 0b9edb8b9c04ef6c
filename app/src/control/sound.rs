//! How loud a machine is, as it is asked for from outside.

use engine::sound::SoundStatus;
use serde_json::json;

use super::Answer;
use crate::running::Running;

/// Changes what is given, and says how it stands.
pub fn sound(
    machine: &dyn Running,
    volume: Option<u32>,
    mute: Option<bool>,
    source: Option<&str>,
) -> Result<Answer, String> {
    let is_there = volume.is_none_or(|percent| machine.set_volume(source, percent as f32 / 100.0))
        && mute.is_none_or(|on| machine.set_muted(source, on));
    let status = machine.sound();
    if !is_there {
        let names: Vec<&str> = status.sources.iter().map(|source| source.name.as_str()).collect();
        let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        return Err(format!(
            "the machine has no source of sound {}; there is: {names}",
            source.unwrap_or("")
        ));
    }
    let percent = |part: f32| (part * 100.0).round() as u32;
    let how = |volume, muted| format!("{:>3} %{}", percent(volume), if muted { ", muted" } else { "" });
    let mut text = format!("{:<12} {} ({})", "all", how(status.volume, status.muted), status.output);
    if let Some(problem) = &status.problem {
        text += &format!(": {problem}");
    }
    if let Some(losses) = losses(&status) {
        text += &format!("\n{losses}");
    }
    for source in &status.sources {
        text += &format!("\n{:<12} {}", source.name, how(source.volume, source.muted));
    }
    let sources: Vec<_> = status
        .sources
        .iter()
        .map(|source| json!({ "name": source.name, "volume": percent(source.volume), "muted": source.muted }))
        .collect();
    let json = json!({
        "output": status.output,
        "problem": status.problem,
        "volume": percent(status.volume),
        "muted": status.muted,
        "underruns": status.underruns,
        "dropped": status.dropped,
        "sources": sources,
    });
    Answer::new(text, json)
}

/// What was not heard as the guest made it, in words; `None` if all was.
pub fn losses(status: &SoundStatus) -> Option<String> {
    let SoundStatus { underruns, dropped, .. } = status;
    (*underruns + *dropped > 0).then(|| {
        format!(
            "{underruns} times the host's device ran dry; {dropped} frames came too late and were left out"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::running::fake::Fake;

    #[test]
    fn losses_are_told_only_where_there_are_some() {
        let mut status = Fake::new("one").sound();
        assert_eq!(losses(&status), None);
        status.underruns = 3;
        assert!(losses(&status).unwrap().starts_with("3 times"));
    }

    #[test]
    fn volume_and_silence_are_set_of_all_or_of_one_source() {
        let fake = Fake::new("one");
        let answer = sound(&*fake, Some(50), Some(true), None).unwrap();
        assert_eq!((answer.json["volume"].as_u64(), answer.json["muted"].as_bool()), (Some(50), Some(true)));
        let answer = sound(&*fake, Some(25), None, Some("speaker")).unwrap();
        assert_eq!(answer.json["sources"][0]["volume"].as_u64(), Some(25));
        assert_eq!(answer.json["volume"].as_u64(), Some(50), "the others stay");
        assert!(sound(&*fake, Some(1), None, Some("drum")).unwrap_err().contains("there is: speaker"));
    }
}
