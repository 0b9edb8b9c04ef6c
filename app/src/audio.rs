//! Opens what a machine's sound goes to.

use display::sound::{Output, WavFile, host};
use engine::sound::Audio;

/// What `audio` names, opened. Without a host's sound device a machine is silent, and the lamp says why; a file that
/// cannot be written is an error.
pub fn open(audio: &Audio) -> Result<Output, String> {
    match audio {
        Audio::None => Ok(Output::none()),
        Audio::Host => Ok(host::open()),
        Audio::Wav(path) => {
            let told = |error| format!("{}: {error}", path.display());
            let file = WavFile::create(path).map_err(told)?;
            let description = format!("wav:{}", path.display());
            Ok(Output { description, sink: Some(Box::new(file)), problem: None })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_made_and_a_missing_folder_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sound.wav");
        let output = open(&Audio::Wav(path.clone())).unwrap();
        assert!(output.sink.is_some() && path.is_file());
        let error = open(&Audio::Wav(folder.path().join("no/sound.wav"))).unwrap_err();
        assert!(error.contains("no/sound.wav"), "{error}");
        assert!(open(&Audio::None).unwrap().sink.is_none());
    }
}
