//! The host's sound device, by `cpal`.

use cpal::traits::{DeviceTrait, HostTrait, StreamTrait};
use cpal::{BufferSize, FromSample, SampleFormat, SizedSample, StreamConfig, SupportedBufferSize};

use super::ring::{RingPlayer, RingSink, ring};
use super::{Health, Output, Sink, Stereo};

/// What the device takes at once, if it can: 10 ms.
const BLOCK_MS: u32 = 10;

/// Opens the host's default device. Without one, the output says why and is silent.
pub fn open() -> Output {
    const WANTED: &str = "host";
    match cpal::default_host().default_output_device() {
        Some(device) => open_on(&device).unwrap_or_else(|reason| Output::unavailable(WANTED, reason)),
        None => Output::unavailable(WANTED, "the host has no sound device".to_owned()),
    }
}

/// Opens `device`, or says why it cannot be.
pub fn open_on<D: DeviceTrait>(device: &D) -> Result<Output, String>
where
    D::Stream: Send + 'static,
{
    let told = |error: cpal::Error| format!("the host's sound device cannot be used: {error}");
    let offered = device.default_output_config().map_err(told)?;
    let rate_hz = offered.sample_rate();
    let wanted = rate_hz / 1_000 * BLOCK_MS;
    let (buffer_size, block) = match *offered.buffer_size() {
        SupportedBufferSize::Range { min, max } => {
            let block = wanted.clamp(min, max.max(min));
            (BufferSize::Fixed(block), block)
        }
        SupportedBufferSize::Unknown => (BufferSize::Default, 2 * wanted),
    };
    let config = StreamConfig { channels: offered.channels(), sample_rate: rate_hz, buffer_size };
    let (sink, player) = ring(rate_hz, block as usize);
    let stream = match offered.sample_format() {
        SampleFormat::F32 => stream::<f32, D>(device, config, player),
        SampleFormat::I16 => stream::<i16, D>(device, config, player),
        SampleFormat::I32 => stream::<i32, D>(device, config, player),
        SampleFormat::U8 => stream::<u8, D>(device, config, player),
        other => {
            return Err(format!("the host's sound device wants samples of a kind not known here: {other}"));
        }
    }
    .map_err(told)?;
    stream.play().map_err(told)?;
    let description = format!("host: {device}, {rate_hz} Hz");
    let sink = Box::new(HostSink { ring: sink, _stream: stream });
    Ok(Output { description, sink: Some(sink), problem: None })
}

fn stream<T: SizedSample + FromSample<f32>, D: DeviceTrait>(
    device: &D,
    config: StreamConfig,
    mut player: RingPlayer,
) -> Result<D::Stream, cpal::Error> {
    let channels = usize::from(config.channels).max(1);
    let failed = player.failure();
    let fill = move |data: &mut [T], _: &cpal::OutputCallbackInfo| {
        for places in data.chunks_mut(channels) {
            let [left, right] = player.next_sample();
            match places {
                [only] => *only = T::from_sample((left + right) / 2.0),
                [first, second, others @ ..] => {
                    (*first, *second) = (T::from_sample(left), T::from_sample(right));
                    others.fill(T::EQUILIBRIUM);
                }
                [] => {}
            }
        }
    };
    let complain = move |error: cpal::Error| {
        if matches!(error.kind(), cpal::ErrorKind::DeviceNotAvailable | cpal::ErrorKind::StreamInvalidated) {
            failed();
        }
    };
    device.build_output_stream(config, fill, complain, None)
}

/// The mixer's end of an open device; dropping it closes the device.
struct HostSink<S> {
    ring: RingSink,
    _stream: S,
}

impl<S: Send> Sink for HostSink<S> {
    fn play(&mut self, samples: &[Stereo]) {
        self.ring.play(samples);
    }
    fn silence(&mut self, samples: u64) {
        self.ring.silence(samples);
    }
    fn rest(&mut self) {
        self.ring.rest();
    }
    fn set_time_rate(&mut self, rate: f64) {
        self.ring.set_time_rate(rate);
    }
    fn health(&self) -> Health {
        self.ring.health()
    }
}

#[cfg(test)]
#[path = "host_tests.rs"]
mod tests;
