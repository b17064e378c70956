//! How long does a kernel take, beside the best dense product and beside what nothing can beat?
//!
//! Both run in turns on the same activations, over as many copies of the weight as no cache of a card holds. The floor
//! of a product is the larger of two: its bytes at the memory's peak, its operations at the rate at which this very
//! card issued the instruction alone.

use crate::progress;
use anyhow::Result;
use secateur::{
    kernels::KernelError,
    kernels::cuda::{
        Busy, CudaError, CudaKernel, Dense, Device, DeviceBuffer, DeviceEpilogue, DeviceView,
        DeviceViewMut, DeviceWeight, Gemm, GemmType, IssueRate, Measurement, multiply,
        prune_two_of_four,
    },
    storage::Dtype,
};
use serde::{Serialize, Serializer, ser::SerializeMap};
use std::path::Path;
use tracing_indicatif::span_ext::IndicatifSpanExt;

/// Layers of networks that people deploy: BERT, and language models of 7 billion parameters.
const WEIGHTS: [(usize, usize); 5] =
    [(768, 3072), (3072, 768), (4096, 4096), (11008, 4096), (4096, 11008)];
const TOKENS: [usize; 13] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096];
const TYPES: [(Dtype, GemmType); 3] =
    [(Dtype::BF16, GemmType::Bf16), (Dtype::F16, GemmType::F16), (Dtype::I8, GemmType::I8)];
/// Bytes of weights to rotate through: four times the L2 of an H100, or as many as 64 copies have.
const ROTATED: usize = 200 << 20;
const ROUNDS: usize = 11;
/// Launches of a round, at least: that a clock of half a microsecond says something of a kernel of five.
const LAUNCHES: usize = 12;

/// One product, timed.
#[derive(Debug)]
pub struct Timing {
    pub measurement: Measurement,
    pub floor_nanoseconds: f64,
    /// What sets the floor.
    pub limiter: &'static str,
}

impl Timing {
    pub fn share_of_floor(&self) -> f64 {
        self.floor_nanoseconds / self.measurement.nanoseconds
    }
}

impl Serialize for Timing {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let of = &self.measurement;
        let mut map = serializer.serialize_map(Some(11))?;
        map.serialize_entry("kernel", &of.kernel)?;
        map.serialize_entry("dtype", &of.dtype)?;
        map.serialize_entry("rows", &of.rows)?;
        map.serialize_entry("cols", &of.cols)?;
        map.serialize_entry("tokens", &of.tokens)?;
        map.serialize_entry("microseconds", &(of.nanoseconds / 1e3))?;
        map.serialize_entry("dense_microseconds", &of.dense_nanoseconds.map(|ns| ns / 1e3))?;
        map.serialize_entry("speedup", &of.speedup())?;
        map.serialize_entry("floor_microseconds", &(self.floor_nanoseconds / 1e3))?;
        map.serialize_entry("limiter", self.limiter)?;
        map.serialize_entry("share_of_floor", &self.share_of_floor())?;
        map.end()
    }
}

/// Times every kernel, and says which dense product it ran beside.
pub fn measure(
    device: &Device,
    cublas: Option<&Path>,
    rates: &[IssueRate],
) -> Result<(Vec<Timing>, String)> {
    let (dense, said) = match Dense::open(device, cublas) {
        Ok(dense) => {
            let version = dense.version();
            let said = format!("cuBLAS {}.{}", version / 10_000, version % 10_000 / 100);
            (Some(dense), said)
        }
        Err(reason) => (None, reason.to_string()),
    };
    let bar = progress::bar("timing", WEIGHTS.len() * TYPES.len() * TOKENS.len());
    let mut timings = Vec::new();
    for (rows, cols) in WEIGHTS {
        for (dtype, gemm) in TYPES {
            let bench = Bench::new(device, dense.as_ref(), (dtype, gemm), rows, cols, rates)?;
            for tokens in TOKENS {
                for &kernel in CudaKernel::ALL {
                    if tokens <= kernel.most_tokens() {
                        timings.push(bench.time(kernel, tokens)?);
                    }
                }
                bar.pb_inc(1);
            }
        }
    }
    Ok((timings, said))
}

/// A weight in as many copies as are rotated, and room for activations.
struct Bench<'a> {
    device: &'a Device,
    dense: Option<&'a Dense>,
    types: (Dtype, GemmType),
    shape: [usize; 2],
    packed: Vec<DeviceWeight>,
    full: Vec<DeviceBuffer>,
    x: DeviceBuffer,
    busy: Busy,
    bytes_per_second: f64,
    operations: f64,
}

impl<'a> Bench<'a> {
    fn new(
        device: &'a Device,
        dense: Option<&'a Dense>,
        types: (Dtype, GemmType),
        rows: usize,
        cols: usize,
        rates: &[IssueRate],
    ) -> Result<Self, KernelError> {
        let (dtype, most) = (types.0, TOKENS[TOKENS.len() - 1]);
        let size = dtype.bitsize() / 8;
        let weight = device.upload(&noise(dtype, rows * cols))?;
        prune_two_of_four(&weight, dtype, [rows, cols])?;
        let copies = |bytes: usize| ROTATED.div_ceil(bytes).clamp(2, 64);
        let scales = vec![0.01_f32; rows];
        let pack = |_| {
            let packed = DeviceWeight::pack(&weight, dtype, [rows, cols])?;
            if dtype == Dtype::I8 { packed.with_scales(&scales) } else { Ok(packed) }
        };
        let packed: Vec<_> =
            (0..copies(rows * cols * size * 9 / 16)).map(pack).collect::<Result<_, _>>()?;
        let full = match dense {
            None => Vec::new(),
            Some(_) => {
                let again = packed[0].unpack()?;
                let mut numbers = vec![0_u8; again.bytes()];
                again.read(&mut numbers)?;
                let copies = 0..copies(numbers.len());
                copies.map(|_| device.upload(&numbers)).collect::<Result<_, _>>()?
            }
        };
        let name = format!("rate_sparse_{}", dtype.to_string().to_lowercase());
        let operations = rates.iter().find(|rate| rate.name == name).map_or(0.0, |r| r.operations);
        let (x, busy) = (device.upload(&noise(dtype, most * cols))?, Busy::new(device)?);
        let shape = [rows, cols];
        let bytes_per_second = device.properties().bandwidth;
        Ok(Self {
            device,
            dense,
            types,
            shape,
            packed,
            full,
            x,
            busy,
            bytes_per_second,
            operations,
        })
    }

    fn time(&self, kernel: CudaKernel, tokens: usize) -> Result<Timing, KernelError> {
        let [rows, cols] = self.shape;
        let dtype = self.types.0;
        let eight_bits = dtype == Dtype::I8;
        // 4 bytes for what cuBLAS writes of i8, and 16 tokens for what it would rather multiply.
        let mut y = self.device.zeros(tokens.max(16) * rows * 4)?;
        let scales = self.device.upload(&vec![0.01_f32; if eight_bits { tokens } else { 0 }])?;
        let mut sparse = Vec::new();
        let mut full = vec![Vec::new(); if eight_bits && tokens < 16 { 2 } else { 1 }];
        // The first round warms up and is not counted.
        for round in 0..=ROUNDS {
            let taken = self.turn(self.packed.len(), |at| {
                let scales = eight_bits.then_some(&scales);
                let x = DeviceView { buffer: &self.x, tokens, stride: cols, scales };
                let mut out = DeviceViewMut { buffer: &mut y, stride: rows };
                let epilogue = DeviceEpilogue::default();
                multiply(kernel, &self.packed[at], &x, &epilogue, &mut out).map_err(device_error)
            })?;
            if round > 0 {
                sparse.push(taken);
            }
            let Some(dense) = self.dense else { continue };
            for (padded, times) in full.iter_mut().enumerate() {
                let tokens = if padded == 1 { 16 } else { tokens };
                let gemm = Gemm { dtype: self.types.1, rows, cols, tokens };
                let taken =
                    self.turn(self.full.len(), |at| dense.gemm(gemm, &self.full[at], &self.x, &y));
                // What cuBLAS does not take is no rival; everything else it has said before.
                if let (Ok(taken), true) = (taken, round > 0) {
                    times.push(taken);
                }
            }
        }
        let full = full.iter_mut().filter(|times| !times.is_empty()).map(|times| median(times));
        let measurement = Measurement {
            kernel,
            dtype: dtype.to_string().to_lowercase(),
            rows,
            cols,
            tokens,
            nanoseconds: median(&mut sparse),
            dense_nanoseconds: full.min_by(f64::total_cmp),
        };
        let (floor_nanoseconds, limiter) = self.floor(tokens);
        Ok(Timing { measurement, floor_nanoseconds, limiter })
    }

    /// Nanoseconds a launch, each of the copies in turn, queued while the card is busy.
    fn turn(
        &self,
        copies: usize,
        mut launch: impl FnMut(usize) -> Result<(), CudaError>,
    ) -> Result<f64, CudaError> {
        let launches = LAUNCHES.next_multiple_of(copies);
        let all = || (0..launches).try_for_each(|at| launch(at % copies));
        let taken = self.device.elapsed_behind(|| self.busy.launch(), all)?;
        Ok(taken.as_secs_f64() * 1e9 / launches as f64)
    }

    /// The least time, in nanoseconds, and what sets it. Every byte crosses the memory once.
    fn floor(&self, tokens: usize) -> (f64, &'static str) {
        let [rows, cols] = self.shape;
        let size = self.types.0.bitsize() / 8;
        let bytes = self.packed[0].bytes() + tokens * (cols * size + rows * 2);
        // What is not known bounds nothing.
        let floor = |work: f64, rate: f64| if rate > 0.0 { work / rate * 1e9 } else { 0.0 };
        let memory = floor(bytes as f64, self.bytes_per_second);
        let products = floor(2.0 * (rows * cols * tokens) as f64, self.operations);
        if memory > products { (memory, "memory") } else { (products, "mma.sp issue") }
    }
}

/// A device's errors are all that a checked call can still meet inside a measurement.
fn device_error(error: KernelError) -> CudaError {
    match error {
        KernelError::Cuda(error) => error,
        other => unreachable!("operands were checked when they were made: {other}"),
    }
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Random elements of a type, none of them NaN: noise of all bits, but for the exponent's upper ones.
fn noise(dtype: Dtype, count: usize) -> Vec<u8> {
    use rand::Rng;
    use rand_chacha::rand_core::SeedableRng;
    let mut bytes = vec![0; count * dtype.bitsize() / 8];
    rand_chacha::ChaCha8Rng::seed_from_u64(6).fill_bytes(&mut bytes);
    if dtype != Dtype::I8 {
        // Sign and mantissa stay; magnitudes are between a half and one (f16: 0x3800, bf16: 0x3F00).
        let (keep, exponent) = if dtype == Dtype::F16 { (0x83, 0x38) } else { (0x80, 0x3F) };
        bytes.iter_mut().skip(1).step_by(2).for_each(|high| *high = *high & keep | exponent);
        if dtype == Dtype::BF16 {
            bytes.iter_mut().step_by(2).for_each(|low| *low &= 0x7F);
        }
    }
    bytes
}
