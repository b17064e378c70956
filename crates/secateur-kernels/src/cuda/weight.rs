//! How does a 2:4 weight lie in a device's memory? In the order in which sparse tensor cores load it, packed on
//! the CPU or on the device itself.

use super::{
    CudaError, Device, DeviceBuffer,
    device::{Argument, Launch},
    element::Element,
    kernels::PACK,
};
use crate::{KernelError, KernelKind};
use bytemuck::Pod;
use secateur_storage::{
    Dtype, Format, Packed, Places,
    device_order::{to_device_order, values_to_device_order},
    semi_structured::{MetadataWord, metadata_from_indices},
};

/// A 2:4 weight of f16, bf16 or i8 on a device: `[rows, cols]`, padded inside to whole blocks.
#[derive(Debug)]
pub struct DeviceWeight {
    pub(super) element: Element,
    pub(super) shape: [usize; 2],
    pub(super) padded: [usize; 2],
    pub(super) values: DeviceBuffer,
    pub(super) metadata: DeviceBuffer,
    /// One f32 for each row, of I8.
    pub(super) scales: Option<DeviceBuffer>,
}

impl DeviceWeight {
    /// Lays a packed weight out for the device and uploads it.
    ///
    /// Errors unless it is 2:4, of F16, BF16 or I8, and small enough; and as uploads do.
    ///
    /// ```
    /// use half::bf16;
    /// use secateur_kernels::cuda::{DeviceWeight, Emulator};
    /// use secateur_mask::Pattern;
    /// use secateur_storage::{Dense, Packed};
    ///
    /// let weight = [0.0, 5.0, 0.0, -3.0].map(bf16::from_f32).to_vec();
    /// let weight = Dense::new(weight, &[1, 4])?;
    /// let packed = Packed::pack(&weight, &weight.nonzero()?, Pattern::TWO_OF_FOUR)?;
    /// let device = Emulator::new().device(); // or Device::open(0)?
    /// let weight = DeviceWeight::upload(&packed, &device)?;
    /// assert_eq!(weight.shape(), [1, 4]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn upload(weight: &Packed, device: &Device) -> Result<Self, KernelError> {
        let ((rows, cols), format) = (weight.matrix(), weight.format());
        let (element, padded) = check(weight.dtype(), [rows, cols])?;
        if format != Format::TWO_OF_FOUR {
            return Err(KernelError::UnsupportedFormat { kind: KernelKind::NOfM, format });
        }
        let data = weight.values().data();
        let (values, metadata) = match element {
            Element::F16 | Element::Bf16 => {
                let (values, metadata) = lay_out::<u16, u16>(weight.places(), data, padded)?;
                (device.upload(&values)?, device.upload(&metadata)?)
            }
            Element::I8 => {
                let (values, metadata) = lay_out::<u8, u32>(weight.places(), data, padded)?;
                (device.upload(&values)?, device.upload(&metadata)?)
            }
        };
        let scales = weight.values().scales().map(|scales| device.upload(scales)).transpose()?;
        Ok(Self { element, shape: [rows, cols], padded, values, metadata, scales })
    }

    /// Packs a dense weight that is 2:4 already, on its device: `dense` is row-major `[rows, cols]` of `dtype`.
    /// `-0.0` counts as zero.
    ///
    /// Errors unless `dense` holds as many elements, `dtype` is F16, BF16 or I8, and no group of four has more
    /// than two that are not zero: [`prune_two_of_four`](super::prune_two_of_four) sees to that.
    pub fn pack(
        dense: &DeviceBuffer,
        dtype: Dtype,
        shape: [usize; 2],
    ) -> Result<Self, KernelError> {
        let (element, padded) = check(dtype, shape)?;
        holds(dense, "the dense weight, in bytes,", shape[0] * shape[1] * element.bytes())?;
        aligned(dense, "the dense weight", element.bytes() as u64)?;
        let (device, stored) = (dense.device(), padded[0] * padded[1] / 2);
        let values = device.zeros(stored * element.bytes())?;
        let metadata = device.zeros(stored / 4)?;
        let fault = device.upload(&[u64::MAX])?;
        let arguments = [
            Argument::Address(dense.address()),
            Argument::Address(values.address()),
            Argument::Address(metadata.address()),
            Argument::Address(fault.address()),
        ];
        blocks(device, "pack", element, &arguments, shape, padded)?;
        let mut first = [u64::MAX];
        fault.read(&mut first)?;
        if let Some((row, group)) = place(first[0], shape[1].div_ceil(4)) {
            return Err(CudaError::Crowded { row, group }.into());
        }
        Ok(Self { element, shape, padded, values, metadata, scales: None })
    }

    /// The same weight, each row's products multiplied by its scale. Errors unless it is I8 and there are as many
    /// scales as rows.
    pub fn with_scales(mut self, scales: &[f32]) -> Result<Self, KernelError> {
        let expected = self.shape[0];
        if self.element != Element::I8 {
            return Err(KernelError::Weight("only an I8 weight has scales".to_owned()));
        }
        if scales.len() != expected {
            return Err(KernelError::Length {
                what: "the scales of an I8 weight",
                found: scales.len(),
                expected,
            });
        }
        self.scales = Some(self.device().upload(scales)?);
        Ok(self)
    }

    /// The dense weight, row-major, on the same device; scales are not applied.
    pub fn unpack(&self) -> Result<DeviceBuffer, KernelError> {
        let dense = self.device().zeros(self.shape[0] * self.shape[1] * self.element.bytes())?;
        let arguments = [
            Argument::Address(dense.address()),
            Argument::Address(self.values.address()),
            Argument::Address(self.metadata.address()),
        ];
        blocks(self.device(), "unpack", self.element, &arguments, self.shape, self.padded)?;
        Ok(dense)
    }

    /// Rows and columns.
    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// The type of its values, and of the activations that it is multiplied with.
    pub fn dtype(&self) -> Dtype {
        match self.element {
            Element::F16 => Dtype::F16,
            Element::Bf16 => Dtype::BF16,
            Element::I8 => Dtype::I8,
        }
    }

    /// The least strides, in elements, of the activations and of the outputs of a product with it: what
    /// [`DeviceView`](super::DeviceView) and [`DeviceViewMut`](super::DeviceViewMut) ask for.
    pub fn strides(&self) -> (usize, usize) {
        let [rows, cols] = self.shape;
        (cols.next_multiple_of(16 / self.element.bytes()), rows.next_multiple_of(4))
    }

    /// Where it is.
    pub fn device(&self) -> &Device {
        self.values.device()
    }

    /// Bytes of device memory that it takes, padding included.
    pub fn bytes(&self) -> usize {
        let scales = self.scales.as_ref().map_or(0, DeviceBuffer::bytes);
        self.values.bytes() + self.metadata.bytes() + scales
    }

    /// Its values and its metadata in the device's order, as bytes: for tests of what packing wrote.
    pub fn read(&self) -> Result<(Vec<u8>, Vec<u32>), KernelError> {
        let mut values = vec![0; self.values.bytes()];
        let mut metadata = vec![0; self.metadata.bytes() / 4];
        self.values.read(&mut values)?;
        self.metadata.read(&mut metadata)?;
        Ok((values, metadata))
    }
}

/// The kernels reckon with 32 bits where blocks of weights are numbered.
const MOST_WEIGHTS: usize = 1 << 33;

fn check(dtype: Dtype, shape: [usize; 2]) -> Result<(Element, [usize; 2]), KernelError> {
    let element = Element::of(dtype).ok_or(CudaError::Dtype { dtype: dtype.to_string() })?;
    let [rows, cols] = shape;
    let too_large = KernelError::TooLarge { rows, cols, tokens: 0 };
    let padded = element.padded(shape).ok_or(too_large.clone())?;
    let fits = padded[0].checked_mul(padded[1]).is_some_and(|weights| weights <= MOST_WEIGHTS);
    let short = padded.iter().all(|side| *side < 1 << 27);
    if fits && short { Ok((element, padded)) } else { Err(too_large) }
}

pub(super) fn holds(
    buffer: &DeviceBuffer,
    what: &'static str,
    expected: usize,
) -> Result<(), KernelError> {
    let found = buffer.bytes();
    if found == expected { Ok(()) } else { Err(KernelError::Length { what, found, expected }) }
}

pub(super) fn aligned(
    buffer: &DeviceBuffer,
    what: &'static str,
    multiple: u64,
) -> Result<(), CudaError> {
    let aligned = buffer.address().is_multiple_of(multiple);
    if aligned { Ok(()) } else { Err(CudaError::Alignment { what, multiple }) }
}

/// Row and group of the first group that a kernel found fault with, if there is one.
pub(super) fn place(fault: u64, groups: usize) -> Option<(usize, usize)> {
    let fault = usize::try_from(fault).ok().filter(|fault| *fault != usize::MAX)?;
    Some((fault / groups.max(1), fault % groups.max(1)))
}

/// Launches `pack` or `unpack` over all blocks of a weight.
fn blocks(
    device: &Device,
    verb: &str,
    element: Element,
    buffers: &[Argument],
    shape: [usize; 2],
    padded: [usize; 2],
) -> Result<(), CudaError> {
    let (ptx, function) = PACK.function(&format!("{verb}_{}", element.bytes() * 8));
    let warps = padded[0] * padded[1] / 1024;
    if warps == 0 {
        return Ok(());
    }
    let grid = warps.div_ceil(function.threads as usize / 32) as u32;
    let sides = [shape[0], shape[1], padded[0], padded[1]];
    let sides = sides.map(|side| Argument::U32(side as u32));
    device.backend().launch(&Launch {
        ptx,
        function: function.name,
        grid: [grid, 1, 1],
        threads: function.threads,
        shared_bytes: 0,
        arguments: &[buffers, &sides].concat(),
    })
}

/// Values and metadata in the device's order, of whole blocks: what is added stores zeros.
fn lay_out<T: Pod, W: MetadataWord>(
    places: &Places,
    data: &[u8],
    padded: [usize; 2],
) -> Result<(Vec<T>, Vec<u32>), KernelError> {
    let Places::NOfM(indices) = places else {
        // The caller asked for the format; this says it once more, for who reads only this.
        return Err(KernelError::Weight("it is not 2:4".to_owned()));
    };
    let [rows, cols] = padded;
    let (slots, size) = (indices.slots(), size_of::<T>());
    let mut values = vec![T::zeroed(); rows * cols / 2];
    // Places 2 and 3, as everywhere for a group that keeps nothing. No places, 0x0, would be metadata for which the
    // instruction has no meaning.
    let mut nibbles = vec![0xEE; rows * cols / 8];
    if slots > 0 {
        let lines = values.chunks_exact_mut(cols / 2).zip(nibbles.chunks_exact_mut(cols / 8));
        let stored = data.chunks_exact(slots * size);
        for (row, ((values, nibbles), stored)) in lines.zip(stored).enumerate() {
            bytemuck::cast_slice_mut(&mut values[..slots]).copy_from_slice(stored);
            let found = indices.row(row);
            nibbles[..found.len()].copy_from_slice(found);
            // An odd number of groups leaves half a byte.
            if slots / 2 % 2 == 1 {
                nibbles[found.len() - 1] |= 0xE0;
            }
        }
    }
    let metadata = metadata_from_indices::<W>(&nibbles, padded)?;
    Ok((values_to_device_order::<T, W>(&values, padded)?, to_device_order(&metadata, padded)?))
}
