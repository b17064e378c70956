//! Does a device pack, unpack and prune as the CPU does? To the bit.

use super::{ELEMENTS, Verdict};
use crate::{
    KernelError,
    cuda::{Device, DeviceWeight, element::Element, prune_two_of_four, random::Random},
};
use half::{bf16, f16};
use secateur_storage::{Dense, Dtype, Format, Packed, Values};
use std::fmt;

/// One weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WeightCheck {
    verb: Verb,
    dtype: Dtype,
    rows: usize,
    cols: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    /// Packing on the device, held against packing on the CPU; then unpacking, held against the weight.
    Pack,
    /// Pruning by magnitude.
    Prune,
}

impl fmt::Display for WeightCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}x{}", self.name(), self.rows, self.cols)
    }
}

impl WeightCheck {
    /// The checks number `at` of a sweep.
    pub(super) fn at(at: usize, rows: usize, cols: usize) -> Vec<super::Check> {
        let dtype = match ELEMENTS[at % 3] {
            Element::F16 => Dtype::F16,
            Element::Bf16 => Dtype::BF16,
            Element::I8 => Dtype::I8,
        };
        let pruned = [Dtype::F32, Dtype::F16, Dtype::BF16, Dtype::I8][at % 4];
        let check = |verb, dtype, cols| super::Check::Weight(Self { verb, dtype, rows, cols });
        vec![check(Verb::Pack, dtype, cols), check(Verb::Prune, pruned, cols.next_multiple_of(4))]
    }

    pub(super) fn name(&self) -> String {
        let verb = match self.verb {
            Verb::Pack => "pack",
            Verb::Prune => "prune",
        };
        format!("{verb} {}", self.dtype.to_string().to_lowercase())
    }

    pub(super) fn run(&self, device: &Device) -> Result<Verdict, KernelError> {
        let mut random = Random((self.rows * 1009 + self.cols) as u64);
        // Few different numbers, so that magnitudes tie; zeros of both signs, and what is beyond numbers.
        const SOME: [f32; 12] =
            [0.0, -0.0, 1.0, -1.0, 1.5, -1.5, 2.0, 100.0, -127.0, 1e-7, f32::INFINITY, -3.0];
        let drawn: Vec<f32> =
            (0..self.rows * self.cols).map(|_| SOME[random.below(SOME.len())]).collect();
        match self.verb {
            Verb::Pack => self.pack(device, &drawn),
            Verb::Prune => self.prune(device, &drawn),
        }
    }

    fn pack(&self, device: &Device, drawn: &[f32]) -> Result<Verdict, KernelError> {
        let (shape, dtype) = ([self.rows, self.cols], self.dtype);
        // What is left of each group of four: its first two that are not zero.
        let mut two = drawn.to_vec();
        for row in two.chunks_exact_mut(self.cols) {
            for group in row.chunks_mut(4) {
                let nonzero = group.iter_mut().filter(|weight| **weight != 0.0);
                nonzero.skip(2).for_each(|weight| *weight = 0.0);
            }
        }
        let dense = Dense::new(values(&two, dtype), &shape)?;
        let packed = Packed::pack_as(&dense, &dense.nonzero()?, Format::TWO_OF_FOUR)?;
        let expected = DeviceWeight::upload(&packed, device)?;
        let bytes = dense.values().data();
        let found = DeviceWeight::pack(&device.upload(bytes)?, dtype, shape)?;
        let (expected_values, expected_metadata) = expected.read()?;
        let (found_values, found_metadata) = found.read()?;
        let mut wrong =
            differ(&magnitudes(&expected_values, dtype), &magnitudes(&found_values, dtype));
        wrong += differ(&expected_metadata, &found_metadata);
        let mut unpacked = vec![0; bytes.len()];
        found.unpack()?.read(&mut unpacked)?;
        wrong += differ(&magnitudes(bytes, dtype), &magnitudes(&unpacked, dtype));
        Ok(exact(found_values.len() + unpacked.len(), wrong))
    }

    fn prune(&self, device: &Device, drawn: &[f32]) -> Result<Verdict, KernelError> {
        let all = values(drawn, self.dtype);
        let size = all.data().len() / drawn.len();
        // Plainly: sort four by magnitude, the lower index first among equals, and clear the last two. As numbers
        // of the type: i8 has no infinity, and f16 no 1e-7.
        let numbers = all.to_f32()?;
        let mut expected = all.data().to_vec();
        for (group, bytes) in numbers.chunks_exact(4).zip(expected.chunks_exact_mut(4 * size)) {
            let mut order = [0, 1, 2, 3];
            order.sort_by(|a, b| group[*b].abs().total_cmp(&group[*a].abs()));
            order[2..].iter().for_each(|cut| bytes[cut * size..][..size].fill(0));
        }
        let on_device = device.upload(all.data())?;
        prune_two_of_four(&on_device, self.dtype, [self.rows, self.cols])?;
        let mut found = vec![0; expected.len()];
        on_device.read(&mut found)?;
        Ok(exact(found.len(), differ(&expected, &found)))
    }
}

/// The bits of every element, those of `-0.0` turned into `0.0`: what fills up a group may be either.
fn magnitudes(bytes: &[u8], dtype: Dtype) -> Vec<u32> {
    let word = |bytes: &[u8]| bytes.iter().rfold(0, |word, byte| word << 8 | u32::from(*byte));
    let plain = |bits: u32| if dtype != Dtype::I8 && bits == 0x8000 { 0 } else { bits };
    bytes.chunks_exact(dtype.bitsize() / 8).map(word).map(plain).collect()
}

fn differ<T: PartialEq>(a: &[T], b: &[T]) -> usize {
    a.iter().zip(b).filter(|(a, b)| a != b).count() + a.len().abs_diff(b.len())
}

fn exact(compared: usize, wrong: usize) -> Verdict {
    Verdict { compared, worst: if wrong == 0 { 0.0 } else { f64::INFINITY }, stray: 0 }
}

fn values(numbers: &[f32], dtype: Dtype) -> Values {
    match dtype {
        Dtype::F16 => numbers.iter().map(|x| f16::from_f32(*x)).collect::<Vec<_>>().into(),
        Dtype::BF16 => numbers.iter().map(|x| bf16::from_f32(*x)).collect::<Vec<_>>().into(),
        Dtype::I8 => numbers.iter().map(|x| *x as i8).collect::<Vec<_>>().into(),
        _ => numbers.to_vec().into(),
    }
}
