//! How does a convolution run? A stored value is a number and an offset, and something lies under the lanes that
//! every offset moves alike: the pixels of one image (`pixels.rs`), or the images of a batch (`images.rs`).
//!
//! Both add an output's products in the order in which they are stored, so they give the same bits.

mod images;
mod pixels;

use super::simd::{Portable, Simd};
use crate::Tier;

/// An image and the planes it is padded into: `[channel][phase down][phase across][plane]`.
#[derive(Debug)]
pub(crate) struct Image {
    pub channels: usize,
    /// Height and width.
    pub size: (usize, usize),
    pub padding: usize,
    pub stride: usize,
    /// Into how many planes each way a channel is spread: as many as the stride where pixels lie under the
    /// lanes, so that neighbours do; one where images do.
    pub phases: usize,
    /// Height and width of a plane.
    pub plane: [usize; 2],
    /// Height and width of the output.
    pub output: (usize, usize),
}

impl Image {
    /// Where a tap `(down, across)` of the first output reads channel `channel`.
    pub fn offset(&self, channel: usize, (down, across): (usize, usize)) -> usize {
        let ([high, wide], phases) = (self.plane, self.phases);
        let phase = down % phases * phases + across % phases;
        let plane = channel * phases * phases + phase;
        plane * high * wide + down / phases * wide + across / phases
    }

    /// Entries of all planes.
    fn numbers(&self) -> usize {
        self.channels * self.phases * self.phases * self.plane[0] * self.plane[1]
    }

    /// Entries of the image itself.
    fn len(&self) -> usize {
        self.channels * self.size.0 * self.size.1
    }

    /// From the entry that a tap reads for the first output to the one behind that for the last.
    fn span(&self) -> usize {
        let step = self.stride / self.phases;
        (self.output.0 - 1) * step * self.plane[1] + (self.output.1 - 1) * step + 1
    }
}

/// Some output channels: where each one's values and offsets begin, one more for the end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub starts: &'a [usize],
    pub values: &'a [f32],
    /// In planes; each plus the span is within them.
    pub offsets: &'a [u32],
    pub bias: Option<&'a [f32]>,
    pub relu: bool,
}

/// Images that lie under the lanes of `tier` together.
pub(crate) fn lanes(tier: Tier) -> usize {
    match tier {
        Tier::Avx512 => 16,
        _ => 8,
    }
}

/// The outputs `y` `[images][rows][pixels]` of images `x` `[images][channels][pixels]`: of one if the image is
/// laid out in as many phases as its stride, of at most [`lanes`] if in one. The latter has an `order`: where
/// each number of an image goes in its planes, empty if it is not padded.
///
/// Panics unless `x`, `y` and the parts of `rows` fit; `tier` must be one that the dispatcher found.
pub(crate) fn run(
    tier: Tier,
    (image, order): (&Image, Option<&[u32]>),
    rows: &Rows<'_>,
    x: &[f32],
    y: &mut [f32],
) {
    let count = rows.starts.len() - 1;
    let images = y.len() / (count * image.output.0 * image.output.1);
    assert!(images <= if order.is_some() { lanes(tier) } else { 1 });
    assert_eq!(x.len(), images * image.len());
    assert_eq!(y.len(), images * count * image.output.0 * image.output.1);
    assert!(rows.bias.is_none_or(|bias| bias.len() == count));
    assert!(rows.starts.is_sorted() && rows.values.len() == rows.offsets.len());
    assert!(rows.starts[count] <= rows.values.len());
    assert!(order.map_or(image.phases == image.stride, |order| {
        image.phases == 1
            && order.len() == if image.padding > 0 { image.len() } else { 0 }
            && order.iter().all(|place| (*place as usize) < image.numbers())
    }));
    let last = rows.offsets.iter().max().map_or(0, |offset| *offset as usize);
    assert!(rows.offsets.is_empty() || last + image.span() <= image.numbers());
    let work = Work { image, images, order, rows };
    match tier {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the dispatcher offers this tier only where these features were detected.
        Tier::Avx512 => unsafe { avx512(work, x, y) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Tier::Avx2 => unsafe { avx2(work, x, y) },
        // SAFETY: plain Rust needs no feature.
        _ => unsafe { work.on::<Portable>(x, y) },
    }
}

/// What was checked by [`run`].
#[derive(Clone, Copy)]
struct Work<'a> {
    image: &'a Image,
    images: usize,
    order: Option<&'a [u32]>,
    rows: &'a Rows<'a>,
}

impl Work<'_> {
    /// # Safety
    ///
    /// The instructions of `S` are enabled in the caller; lengths are as [`run`] checks them.
    #[inline(always)]
    unsafe fn on<S: Simd>(self, x: &[f32], y: &mut [f32]) {
        // SAFETY: the caller's promise.
        unsafe {
            match self.order {
                Some(order) => images::on::<S>((self.image, self.images, order), self.rows, x, y),
                None => pixels::on::<S>(self.image, self.rows, x, y),
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512dq,bmi2,fma")]
unsafe fn avx512(work: Work<'_>, x: &[f32], y: &mut [f32]) {
    // SAFETY: this function has the features.
    unsafe { work.on::<super::avx512::Avx512>(x, y) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,bmi2")]
unsafe fn avx2(work: Work<'_>, x: &[f32], y: &mut [f32]) {
    // SAFETY: this function has the features.
    unsafe { work.on::<super::avx2::Avx2>(x, y) }
}

/// Vectors of sums at once, at most.
const MOST: usize = 8;
/// Lanes of the widest tier.
const LANES: usize = 16;

/// The most vectors to sum at once when `left` of them are left.
#[inline(always)]
fn at_once(left: usize) -> usize {
    match left {
        0 | 1 => 1,
        2 | 3 => 2,
        4..MOST => 4,
        _ => MOST,
    }
}

/// `vectors` vectors of sums of output channel `row`, one of [`at_once`], into `sums`. The first begins at
/// `from`, the next ones `step` numbers after each other; an offset is `unit` numbers.
///
/// # Safety
///
/// `S` runs here; that many vectors are readable at `from` plus each offset of the row, and writable at
/// `sums`.
#[inline(always)]
unsafe fn sum<S: Simd>(
    vectors: usize,
    (rows, row): (&Rows<'_>, usize),
    from: *const f32,
    (unit, step): (usize, usize),
    sums: *mut f32,
) {
    let stored = rows.starts[row]..rows.starts[row + 1];
    let stored = (&rows.values[stored.clone()], &rows.offsets[stored]);
    let bias = rows.bias.map_or(0.0, |bias| bias[row]);
    // SAFETY: the caller's promise.
    unsafe {
        match vectors {
            1 => sum_of::<S, 1>(stored, bias, from, (unit, step), sums),
            2 => sum_of::<S, 2>(stored, bias, from, (unit, step), sums),
            4 => sum_of::<S, 4>(stored, bias, from, (unit, step), sums),
            _ => sum_of::<S, MOST>(stored, bias, from, (unit, step), sums),
        }
    }
}

/// # Safety
///
/// As [`sum`].
#[inline(always)]
unsafe fn sum_of<S: Simd, const V: usize>(
    (values, offsets): (&[f32], &[u32]),
    bias: f32,
    from: *const f32,
    (unit, step): (usize, usize),
    sums: *mut f32,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut acc = [S::splat(bias); V];
        for (value, offset) in values.iter().zip(offsets) {
            let (weight, from) = (S::splat(*value), from.add(*offset as usize * unit));
            for v in 0..V {
                acc[v] = S::mul_add(weight, S::load(from.add(v * step)), acc[v]);
            }
        }
        for v in 0..V {
            S::store(sums.add(v * S::LANES), acc[v]);
        }
    }
}

/// Turns what is below zero into zero.
#[inline(always)]
fn relu(sums: &mut [f32]) {
    for x in sums {
        *x = if *x < 0.0 { 0.0 } else { *x };
    }
}
