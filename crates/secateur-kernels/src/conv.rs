//! How is a pruned convolution multiplied? Directly: no matrix of patches is ever written.
//!
//! The image is padded once into planes, one for each channel and phase of the stride, so that along the
//! output's pixels every tap reads numbers that lie side by side. A stored weight is then one number and
//! one offset into the planes (`cpu/conv/`), whatever pattern the zeros have. Where a batch has an image for every
//! lane and thread, the lanes hold images instead of pixels, and planes need no phases.
//!
//! ```text
//!   stride 2, one channel:   0 1 2 3        phase 0,0: 0 2 8 a    phase 0,1: 1 3 9 b
//!                            4 5 6 7
//!                            8 9 a b        phase 1,0: 4 6 …      phase 1,1: 5 7 …
//! ```

use crate::{
    Dispatcher, KernelError,
    cpu::{
        conv::{self, Image},
        drive::PARALLEL_WORK,
    },
    reference::entries,
};
use rayon::prelude::*;
use secateur_storage::Packed;
use std::sync::{Arc, Mutex, PoisonError};

/// How a convolution steps over its input, the same both ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv2dGeometry {
    /// Pixels from one output to the next.
    pub stride: usize,
    /// Zeros around the image.
    pub padding: usize,
    /// Pixels from one tap to the next.
    pub dilation: usize,
    /// Groups of channels that do not see each other.
    pub groups: usize,
}

impl Default for Conv2dGeometry {
    fn default() -> Self {
        Self { stride: 1, padding: 0, dilation: 1, groups: 1 }
    }
}

/// A convolution's weight `[out, in / groups, height, width]`, laid out for this machine, in any format.
///
/// ```
/// use secateur_kernels::{Conv2dGeometry, Conv2dProduct, Dispatcher};
/// use secateur_mask::{Mask, Pattern};
/// use secateur_storage::{Dense, Packed};
///
/// // One 2×2 kernel that keeps two taps of four: y = 3 · upper left - lower right.
/// let weight = Dense::new(vec![3.0, 0.0, 0.0, -1.0], &[1, 1, 2, 2])?;
/// let mask = Mask::from_bools(&[true, false, false, true], &[1, 1, 2, 2])?;
/// let packed = Packed::pack(&weight, &mask, Pattern::Unstructured)?;
/// let product = Conv2dProduct::new(&packed, Conv2dGeometry::default(), &Dispatcher::probe()?)?;
///
/// let image = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
/// assert_eq!(product.output((2, 3))?, (1, 2));
/// let mut y = [0.0; 2];
/// product.run(&image, 1, (2, 3), Some(&[0.5]), false, &mut y)?;
/// assert_eq!(y, [3.0 * 1.0 - 5.0 + 0.5, 3.0 * 2.0 - 6.0 + 0.5]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Conv2dProduct {
    dispatcher: Dispatcher,
    geometry: Conv2dGeometry,
    /// Outputs, inputs of a group, height, width.
    shape: [usize; 4],
    /// Where each output's stored values begin, and where the last one's end.
    starts: Vec<usize>,
    values: Vec<f32>,
    columns: Vec<u32>,
    /// The offsets for the size of image seen last, and what lay under the lanes.
    offsets: Mutex<Option<Arc<Offsets>>>,
}

/// Numbers of planes that stay in a core's cache: a megabyte.
const MOST_CACHED: usize = 1 << 18;

/// Where each stored value reads, for images of one size.
#[derive(Debug)]
struct Offsets {
    image: Image,
    offsets: Vec<u32>,
    /// Where images lie under the lanes: the place of each number of an image, if there is padding.
    order: Option<Vec<u32>>,
}

impl Conv2dProduct {
    /// Lays a weight out. Errors unless it has four dimensions and holds numbers, the outputs can be
    /// shared by the groups, and stride, dilation and groups are at least one.
    pub fn new(
        weight: &Packed,
        geometry: Conv2dGeometry,
        dispatcher: &Dispatcher,
    ) -> Result<Self, KernelError> {
        let Ok(shape) = <[usize; 4]>::try_from(weight.shape()) else {
            let reason = format!("a convolution needs [out, in, kh, kw], not {:?}", weight.shape());
            return Err(KernelError::Weight(reason));
        };
        let Conv2dGeometry { stride, dilation, groups, .. } = geometry;
        if stride == 0 || dilation == 0 || groups == 0 {
            let reason = "stride, dilation and groups of a convolution are at least 1".to_owned();
            return Err(KernelError::Weight(reason));
        }
        if shape[0] % groups != 0 {
            let reason = format!("{} outputs cannot be shared by {groups} groups", shape[0]);
            return Err(KernelError::Weight(reason));
        }
        let mut product = Self {
            dispatcher: *dispatcher,
            geometry,
            shape,
            starts: vec![0; shape[0] + 1],
            values: Vec::new(),
            columns: Vec::new(),
            offsets: Mutex::new(None),
        };
        let (rows, cols) = weight.matrix();
        let too_large = |_| KernelError::TooLarge { rows, cols, tokens: 1 };
        u32::try_from(cols).map_err(too_large)?;
        for (row, col, value) in entries(weight)? {
            product.columns.push(col as u32);
            product.values.push(value);
            product.starts[row + 1] = product.values.len();
        }
        for row in 0..shape[0] {
            product.starts[row + 1] = product.starts[row + 1].max(product.starts[row]);
        }
        Ok(product)
    }

    /// Height and width of the output for an image of this height and width. Errors when the kernel is
    /// larger than the padded image.
    pub fn output(&self, size: (usize, usize)) -> Result<(usize, usize), KernelError> {
        let [.., kernel_height, kernel_width] = self.shape;
        Ok((self.side(size.0, kernel_height)?, self.side(size.1, kernel_width)?))
    }

    fn side(&self, side: usize, taps: usize) -> Result<usize, KernelError> {
        let Conv2dGeometry { stride, padding, dilation, .. } = self.geometry;
        let reach = taps.checked_sub(1).and_then(|taps| taps.checked_mul(dilation));
        let padded = padding.checked_mul(2).and_then(|around| around.checked_add(side));
        match (padded, reach) {
            (Some(padded), Some(reach)) if reach < padded => Ok((padded - reach - 1) / stride + 1),
            _ => Err(KernelError::Weight(format!(
                "{taps} taps {dilation} apart do not fit {side} pixels padded by {padding}"
            ))),
        }
    }

    /// Convolves `x` `[batch, in, height, width]` into `y` `[batch, out, …]`, which is overwritten, adds
    /// `bias` `[out]`, and turns what is below zero into zero if `relu`. Errors on any other length.
    pub fn run(
        &self,
        x: &[f32],
        batch: usize,
        size: (usize, usize),
        bias: Option<&[f32]>,
        relu: bool,
        y: &mut [f32],
    ) -> Result<(), KernelError> {
        let (inputs, outputs) = (self.inputs(), self.shape[0]);
        let (high, wide) = self.output(size)?;
        let product = |numbers: [usize; 4]| {
            let product = numbers.into_iter().try_fold(1_usize, usize::checked_mul);
            product.ok_or(KernelError::TooLarge { rows: outputs, cols: inputs, tokens: batch })
        };
        let expect = |what, found: usize, expected: usize| {
            let error = KernelError::Length { what, found, expected };
            if found == expected { Ok(()) } else { Err(error) }
        };
        expect("x", x.len(), product([batch, inputs, size.0, size.1])?)?;
        expect("y", y.len(), product([batch, outputs, high, wide])?)?;
        expect("bias", bias.map_or(outputs, <[f32]>::len), outputs)?;
        if y.is_empty() {
            return Ok(());
        }
        let pixels = high * wide;
        let (tier, threads) = (self.dispatcher.tier(), rayon::current_num_threads());
        let work = self.values.len().saturating_mul(batch).saturating_mul(pixels);
        let threads = if work >= PARALLEL_WORK { threads } else { 1 };
        // A task is some images: one to a lane if there are as many for each thread and their planes stay in a
        // core's cache, or else one. Too few images: the outputs of each are cut as well.
        let lanes = conv::lanes(tier);
        let padded = [size.0, size.1].map(|side| side + 2 * self.geometry.padding);
        let planes =
            [inputs, lanes, padded[0], padded[1]].into_iter().fold(1, usize::saturating_mul);
        let together = if batch / threads >= lanes && planes <= MOST_CACHED { lanes } else { 1 };
        let offsets = self.offsets(size, together > 1)?;
        let rows = outputs.div_ceil(threads.div_ceil(batch));
        let parts = outputs.div_ceil(rows);
        let image = x.len() / batch;
        let task = |(index, y): (usize, &mut [f32])| {
            let (part, images) = (index % parts, index / parts * together);
            let x = &x[images * image..(images + together).min(batch) * image];
            let rows = match parts {
                1 => 0..outputs,
                _ => part * rows..part * rows + y.len() / pixels,
            };
            let weight = conv::Rows {
                starts: &self.starts[rows.start..=rows.end],
                values: &self.values,
                offsets: &offsets.offsets,
                bias: bias.map(|bias| &bias[rows]),
                relu,
            };
            conv::run(tier, (&offsets.image, offsets.order.as_deref()), &weight, x, y);
        };
        // Parts never run over the end of an image: each image's outputs are cut by themselves.
        let part = if parts > 1 { rows * pixels } else { together * outputs * pixels };
        let mut tasks: Vec<(usize, &mut [f32])> = y
            .chunks_mut(together * outputs * pixels)
            .flat_map(|y| y.chunks_mut(part))
            .enumerate()
            .collect();
        if threads > 1 {
            tasks.into_par_iter().for_each(task);
        } else {
            tasks.drain(..).for_each(task);
        }
        Ok(())
    }

    /// The offsets for images of this size, under the lanes or not: those of the last call, if it was the same.
    fn offsets(&self, size: (usize, usize), lanes: bool) -> Result<Arc<Offsets>, KernelError> {
        let mut held = self.offsets.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |held: &&Arc<Offsets>| held.image.size == size && held.order.is_some() == lanes;
        if let Some(held) = held.as_ref().filter(same) {
            return Ok(Arc::clone(held));
        }
        let (Conv2dGeometry { stride, padding, dilation, groups }, output) =
            (self.geometry, self.output(size)?);
        let phases = if lanes { 1 } else { stride };
        let image = Image {
            channels: self.inputs(),
            size,
            padding,
            stride,
            phases,
            plane: [size.0, size.1].map(|side| (side + 2 * padding).div_ceil(phases)),
            output,
        };
        let [outputs, inputs, kernel_height, kernel_width] = self.shape;
        let planes = [phases, phases, self.inputs(), image.plane[0], image.plane[1]];
        let numbers = planes.into_iter().try_fold(1_usize, usize::checked_mul);
        if numbers.is_none_or(|numbers| u32::try_from(numbers).is_err()) {
            return Err(KernelError::TooLarge { rows: outputs, cols: inputs, tokens: size.0 });
        }
        let taps = kernel_height * kernel_width;
        let mut offsets = Vec::with_capacity(self.columns.len());
        for row in 0..outputs {
            let first = row / (outputs / groups) * inputs;
            for column in &self.columns[self.starts[row]..self.starts[row + 1]] {
                let (channel, tap) = (*column as usize / taps, *column as usize % taps);
                let place = (tap / kernel_width * dilation, tap % kernel_width * dilation);
                // Below the number of all plane entries, which fits.
                offsets.push(image.offset(first + channel, place) as u32);
            }
        }
        let place = |(channel, row, column): (usize, usize, usize)| {
            image.offset(channel, (row + padding, column + padding)) as u32
        };
        let pixels = (0..image.channels).flat_map(|channel| {
            (0..size.0).flat_map(move |row| (0..size.1).map(move |column| (channel, row, column)))
        });
        let order = match (lanes, padding) {
            (false, _) => None,
            (true, 0) => Some(Vec::new()),
            (true, _) => Some(pixels.map(place).collect()),
        };
        let found = Arc::new(Offsets { image, offsets, order });
        *held = Some(Arc::clone(&found));
        Ok(found)
    }

    /// Channels of the images.
    pub fn inputs(&self) -> usize {
        self.shape[1].saturating_mul(self.geometry.groups)
    }

    /// The weight's shape: outputs, inputs of a group, height and width.
    pub fn shape(&self) -> [usize; 4] {
        self.shape
    }

    /// How it steps over its input.
    pub fn geometry(&self) -> Conv2dGeometry {
        self.geometry
    }

    /// What runs: the kernel's name, tier included.
    pub fn kernel(&self) -> String {
        format!("direct {}", self.dispatcher.tier())
    }

    /// Bytes of the layout kept in memory, with the offsets for one size of image.
    pub fn bytes(&self) -> usize {
        // Value, column, offset.
        self.values.len() * 12 + self.starts.len() * size_of::<usize>()
    }
}
