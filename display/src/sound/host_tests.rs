//! The whole way to `cpal`, with a device that keeps what it is given.

use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use cpal::{
    DeviceDescription, DeviceDescriptionBuilder, DeviceId, Error, ErrorKind, InputCallbackInfo,
    OutputCallbackInfo, OutputStreamTimestamp, Sample, StreamInstant, SupportedStreamConfig,
    SupportedStreamConfigRange,
};
use parking_lot::Mutex;

use super::super::testing::{amplitude, sine};
use super::super::{Mixer, RATE_HZ};
use super::*;

type Callback = Box<dyn FnMut() + Send>;

/// A device whose callback is called when the test says so.
#[derive(Clone)]
struct Recorder {
    channels: u16,
    rate_hz: u32,
    format: SampleFormat,
    callback: Arc<Mutex<Option<Callback>>>,
    kept: Arc<Mutex<Vec<f32>>>,
}

impl Recorder {
    fn new(channels: u16, rate_hz: u32, format: SampleFormat) -> Recorder {
        Recorder { channels, rate_hz, format, callback: Arc::default(), kept: Arc::default() }
    }

    /// The host's thread takes the next 10 ms.
    fn take(&self) {
        self.callback.lock().as_mut().expect("a stream is open")();
    }

    fn left(&self) -> Vec<Stereo> {
        let kept = self.kept.lock();
        kept.chunks(self.channels.into()).map(|places| [places[0]; 2]).collect()
    }
}

impl PartialEq for Recorder {
    fn eq(&self, other: &Recorder) -> bool {
        Arc::ptr_eq(&self.kept, &other.kept)
    }
}

impl Eq for Recorder {}

impl Hash for Recorder {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.channels, self.rate_hz).hash(state);
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("recorder")
    }
}

struct Open;

impl StreamTrait for Open {
    fn play(&self) -> Result<(), Error> {
        Ok(())
    }
    fn pause(&self) -> Result<(), Error> {
        Ok(())
    }
    fn now(&self) -> StreamInstant {
        StreamInstant::ZERO
    }
    fn buffer_size(&self) -> Result<cpal::FrameCount, Error> {
        Err(Error::new(ErrorKind::UnsupportedOperation))
    }
}

impl DeviceTrait for Recorder {
    type SupportedInputConfigs = std::iter::Empty<SupportedStreamConfigRange>;
    type SupportedOutputConfigs = std::iter::Empty<SupportedStreamConfigRange>;
    type Stream = Open;

    fn description(&self) -> Result<DeviceDescription, Error> {
        Ok(DeviceDescriptionBuilder::new("recorder").build())
    }
    fn id(&self) -> Result<DeviceId, Error> {
        Err(Error::new(ErrorKind::UnsupportedOperation))
    }
    fn supported_input_configs(&self) -> Result<Self::SupportedInputConfigs, Error> {
        Ok(std::iter::empty())
    }
    fn supported_output_configs(&self) -> Result<Self::SupportedOutputConfigs, Error> {
        Ok(std::iter::empty())
    }
    fn default_input_config(&self) -> Result<SupportedStreamConfig, Error> {
        Err(Error::new(ErrorKind::UnsupportedConfig))
    }
    fn default_output_config(&self) -> Result<SupportedStreamConfig, Error> {
        if self.rate_hz == 0 {
            return Err(Error::new(ErrorKind::DeviceNotAvailable));
        }
        let size = SupportedBufferSize::Range { min: 64, max: 65_536 };
        Ok(SupportedStreamConfig::new(self.channels, self.rate_hz, size, self.format))
    }
    fn build_input_stream_raw<D, E>(
        &self,
        _: StreamConfig,
        _: SampleFormat,
        _: D,
        _: E,
        _: Option<Duration>,
    ) -> Result<Open, Error>
    where
        D: FnMut(&cpal::Data, &InputCallbackInfo) + Send + 'static,
        E: FnMut(Error) + Send + 'static,
    {
        Err(Error::new(ErrorKind::UnsupportedConfig))
    }
    fn build_output_stream_raw<D, E>(
        &self,
        _: StreamConfig,
        _: SampleFormat,
        _: D,
        _: E,
        _: Option<Duration>,
    ) -> Result<Open, Error>
    where
        D: FnMut(&mut cpal::Data, &OutputCallbackInfo) + Send + 'static,
        E: FnMut(Error) + Send + 'static,
    {
        Err(Error::new(ErrorKind::UnsupportedConfig))
    }
    fn build_output_stream<T, D, E>(
        &self,
        config: StreamConfig,
        mut data_callback: D,
        _: E,
        _: Option<Duration>,
    ) -> Result<Open, Error>
    where
        T: SizedSample,
        D: FnMut(&mut [T], &OutputCallbackInfo) + Send + 'static,
        E: FnMut(Error) + Send + 'static,
    {
        assert_eq!(config.buffer_size, BufferSize::Fixed(self.rate_hz / 1_000 * 10));
        let count = (self.rate_hz / 100) as usize * usize::from(config.channels);
        let kept = self.kept.clone();
        let timestamp =
            OutputStreamTimestamp { callback: StreamInstant::ZERO, playback: StreamInstant::ZERO };
        *self.callback.lock() = Some(Box::new(move || {
            let mut data = vec![T::EQUILIBRIUM; count];
            data_callback(&mut data, &OutputCallbackInfo::new(timestamp));
            kept.lock().extend(data.iter().map(|value| as_f32(*value)));
        }));
        Ok(Open)
    }
}

fn as_f32<T: SizedSample>(value: T) -> f32 {
    value.to_float_sample().to_sample()
}

/// A guest's tone of one second is heard by the host: pitch, length, and no gap in it.
fn is_heard_by(recorder: &Recorder) {
    const MS: u64 = 1_000_000;
    let mixer = Mixer::new(open_on(recorder).unwrap());
    let source = mixer.source("card");
    let tone = sine(1_000.0, 44_100, 44_100);
    for n in 0..130_usize {
        if let Some(samples) = tone.get(441 * n..441 * (n + 1)) {
            source.play(10 * n as u64 * MS, 44_100, samples);
        }
        mixer.mix((10 * n as u64 + 10) * MS);
        recorder.take();
        mixer.mix((10 * n as u64 + 15) * MS);
    }
    let heard = recorder.left();
    let loud: Vec<usize> = (0..heard.len()).filter(|n| heard[*n][0].abs() > 0.05).collect();
    let (first, last) = (loud[0], loud[loud.len() - 1]);
    let length_ms = (last - first) as f64 * 1_000.0 / f64::from(recorder.rate_hz);
    assert!((length_ms - 1_000.0).abs() < 3.0, "{length_ms} ms");
    // The ring's level steers the speed by half a percent at most: over a tenth of a second that is no other pitch.
    let part = &heard[first + 1_000..][..recorder.rate_hz as usize / 10];
    assert!(amplitude(part, 1_000.0, recorder.rate_hz) > 0.45);
    let status = mixer.status();
    assert_eq!((status.underruns, status.dropped, status.problem), (0, 0, None));
}

#[test]
fn a_tone_comes_out_of_every_kind_of_device() {
    for (channels, rate_hz, format) in [
        (2, RATE_HZ, SampleFormat::F32),
        (2, 44_100, SampleFormat::I16),
        (1, 44_100, SampleFormat::F32),
        (6, 96_000, SampleFormat::F32),
    ] {
        is_heard_by(&Recorder::new(channels, rate_hz, format));
    }
}

#[test]
fn a_host_that_starves_is_counted() {
    let recorder = Recorder::new(2, 48_000, SampleFormat::F32);
    let mixer = Mixer::new(open_on(&recorder).unwrap());
    let source = mixer.source("card");
    for n in 0..10 {
        source.play(n * 10_000_000, 48_000, &[[0.5; 2]; 480]);
        mixer.mix((n + 1) * 10_000_000);
    }
    (0..20).for_each(|_| recorder.take());
    assert_eq!(mixer.status().underruns, 1);
}

#[test]
fn no_device_is_told_and_nothing_fails() {
    let error = open_on(&Recorder::new(2, 0, SampleFormat::F32)).unwrap_err();
    assert!(error.contains("cannot be used"), "{error}");
    let hash = |recorder: &Recorder| {
        let mut hasher = DefaultHasher::new();
        recorder.hash(&mut hasher);
        hasher.finish()
    };
    let recorder = Recorder::new(2, 1, SampleFormat::F32);
    assert_eq!(hash(&recorder), hash(&recorder.clone()));
}
