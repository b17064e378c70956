//! Does this card place registers where our layouts say, and how often can it issue the instruction?

use super::{
    CudaError, Device, DeviceBuffer,
    device::{Argument, Launch},
    kernels::PROBE,
    lane_model::{Float, Lanes, mma_sp_float, mma_sp_s8},
    random::Random,
};
use crate::KernelError;
use half::{bf16, f16};
use std::array;

/// How one variant of the instruction compares with the CPU's model of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelfTest {
    /// The kernel, such as `probe_f16_1`: its type and its selector.
    pub name: &'static str,
    /// Sums that were compared.
    pub compared: usize,
    /// Sums that differ. Every number is a small integer, so that any order of summation gives the same.
    pub wrong: usize,
}

/// Instructions of each variant that are compared.
const ROUNDS: usize = 16;

/// Runs `mma.sp` on random registers, every type and selector, and compares with [`super::lane_model`]. Lanes whose
/// metadata must not count hold noise.
pub fn self_test(device: &Device) -> Result<Vec<SelfTest>, KernelError> {
    let mut random = Random(1);
    let variants = [
        ("probe_f16_0", Some(Float::F16), 0),
        ("probe_f16_1", Some(Float::F16), 1),
        ("probe_bf16_0", Some(Float::Bf16), 0),
        ("probe_bf16_1", Some(Float::Bf16), 1),
        ("probe_i8_0", None, 0),
    ];
    let test = |(name, float, selector): (&'static str, Option<Float>, u32)| {
        let mut wrong = 0;
        for _ in 0..ROUNDS {
            wrong += match float {
                Some(float) => compare_float(device, name, float, selector, &mut random)?,
                None => compare_s8(device, name, &mut random)?,
            };
        }
        Ok(SelfTest { name, compared: ROUNDS * 128, wrong })
    };
    variants.into_iter().map(test).collect()
}

fn compare_float(
    device: &Device,
    name: &str,
    float: Float,
    selector: u32,
    random: &mut Random,
) -> Result<usize, KernelError> {
    let small = |random: &mut Random| {
        let value = random.below(17) as f32 - 8.0;
        u32::from(match float {
            Float::F16 => f16::from_f32(value).to_bits(),
            Float::Bf16 => bf16::from_f32(value).to_bits(),
        })
    };
    let mut word = || small(random) | small(random) << 16;
    let (a, b): (Lanes<u32, 4>, Lanes<u32, 4>) = (
        array::from_fn(|_| array::from_fn(|_| word())),
        array::from_fn(|_| array::from_fn(|_| word())),
    );
    let c: Lanes<f32, 4> = array::from_fn(|lane| array::from_fn(|i| (4 * lane + i) as f32));
    let counts = |lane: usize| lane % 4 / 2 == selector as usize;
    let metadata = metadata(random, counts);
    let expected = mma_sp_float(float, &a, &b, &c, &metadata, selector)?;
    let found = probe(device, name, &a, &b, &metadata, &c)?;
    Ok(differ(&found, &expected))
}

fn compare_s8(device: &Device, name: &str, random: &mut Random) -> Result<usize, KernelError> {
    let mut registers = || array::from_fn(|_| array::from_fn(|_| random.word() as u32));
    let (a, b): (Lanes<u32, 4>, Lanes<u32, 4>) = (registers(), registers());
    let c: Lanes<i32, 4> = array::from_fn(|lane| array::from_fn(|i| (4 * lane + i) as i32));
    let metadata = metadata(random, |_| true);
    let expected = mma_sp_s8(&a, &b, &c, &metadata)?;
    let found = probe(device, name, &a, &b, &metadata, &c)?;
    Ok(differ(&found, &expected))
}

/// Two ascending places of four in every nibble of the lanes that count, noise in the others.
fn metadata(random: &mut Random, counts: impl Fn(usize) -> bool) -> [u32; 32] {
    const PLACES: [u32; 6] = [0x4, 0x8, 0x9, 0xC, 0xD, 0xE];
    array::from_fn(|lane| match counts(lane) {
        true => (0..8).fold(0, |word, _| word << 4 | PLACES[random.below(6)]),
        false => random.word() as u32,
    })
}

fn differ<T: PartialEq>(found: &Lanes<T, 4>, expected: &Lanes<T, 4>) -> usize {
    found.as_flattened().iter().zip(expected.as_flattened()).filter(|(a, b)| a != b).count()
}

/// One instruction on the device.
fn probe<T: bytemuck::Pod>(
    device: &Device,
    name: &str,
    a: &Lanes<u32, 4>,
    b: &Lanes<u32, 4>,
    metadata: &[u32; 32],
    c: &Lanes<T, 4>,
) -> Result<Lanes<T, 4>, CudaError> {
    let (a, b) = (device.upload(a.as_flattened())?, device.upload(b.as_flattened())?);
    let (metadata, sums) = (device.upload(metadata)?, device.upload(c.as_flattened())?);
    let (ptx, function) = PROBE.function(name);
    device.backend().launch(&Launch {
        ptx,
        function: function.name,
        grid: [1, 1, 1],
        threads: function.threads,
        shared_bytes: 0,
        arguments: &[&a, &b, &metadata, &sums].map(|buffer| Argument::Address(buffer.address())),
    })?;
    let mut found = *c;
    sums.read(found.as_flattened_mut())?;
    Ok(found)
}

/// How many operations a second an instruction alone reaches: two for each product and sum, zeros of the sparse
/// one counted as if they were multiplied.
#[derive(Debug, Clone, PartialEq)]
pub struct IssueRate {
    /// The kernel, such as `rate_sparse_f16`.
    pub name: &'static str,
    /// Operations a second, the best of five runs.
    pub operations: f64,
}

/// Work that keeps a device busy: what is queued meanwhile starts when it ends, without waiting for the processor.
#[derive(Debug)]
pub struct Busy {
    out: DeviceBuffer,
}

impl Busy {
    /// For one device.
    pub fn new(device: &Device) -> Result<Self, CudaError> {
        let blocks = 2 * device.properties().multiprocessors as usize;
        Ok(Self { out: device.zeros(blocks * 256 * 4)? })
    }

    /// Launches half a millisecond of it, or so: eight dense products a round on every tensor core.
    pub fn launch(&self) -> Result<(), CudaError> {
        rate(&self.out, "rate_dense_f16", 5000)
    }
}

/// Launches an instruction so many rounds, two blocks a multiprocessor.
fn rate(out: &DeviceBuffer, name: &str, times: u32) -> Result<(), CudaError> {
    let (ptx, function) = PROBE.function(name);
    out.device().backend().launch(&Launch {
        ptx,
        function: function.name,
        grid: [(out.bytes() / 1024) as u32, 1, 1],
        threads: function.threads,
        shared_bytes: 0,
        arguments: &[
            Argument::Address(out.address()),
            // Zeros draw little power, so that clocks stay up: a limit, not a typical rate.
            Argument::U32(0),
            Argument::U32(0x4444_4444),
            Argument::U32(times),
        ],
    })
}

/// Times the instruction alone, sparse and dense, on every multiprocessor at once. Errors on the emulator, which has
/// no clock.
pub fn issue_rates(device: &Device) -> Result<Vec<IssueRate>, KernelError> {
    const TIMES: u32 = 4000;
    let busy = Busy::new(device)?;
    let measure = |(name, columns): (&'static str, u32)| {
        let mut best = f64::INFINITY;
        for _ in 0..5 {
            let taken = device.elapsed_behind(|| busy.launch(), || rate(&busy.out, name, TIMES))?;
            best = best.min(taken.as_secs_f64());
        }
        let warps = f64::from(2 * device.properties().multiprocessors * 8);
        let each = 2.0 * 16.0 * 8.0 * f64::from(columns);
        Ok(IssueRate { name, operations: each * 8.0 * f64::from(TIMES) * warps / best })
    };
    [
        ("rate_sparse_f16", 32),
        ("rate_sparse_bf16", 32),
        ("rate_sparse_i8", 64),
        ("rate_dense_f16", 16),
        ("rate_dense_bf16", 16),
        ("rate_dense_i8", 32),
    ]
    .into_iter()
    .map(measure)
    .collect()
}
