//! How does a convolution run? Pixels along the lanes, one output channel at a time, eight vectors wide.
//!
//! Pixels are counted along the padded plane, rows one after the other: the last few of each row are no
//! outputs and are dropped on the way out. That is what lets a tap be one offset for all of them.

use super::simd::{Portable, Simd};
use crate::{Tier, lines::Lines};
use std::cell::RefCell;

/// An image and the planes it is padded into: `[channel][phase down][phase across][plane]`.
#[derive(Debug)]
pub(crate) struct Image {
    pub channels: usize,
    /// Height and width.
    pub size: (usize, usize),
    pub padding: usize,
    pub stride: usize,
    /// Height and width of a plane.
    pub plane: [usize; 2],
    /// Height and width of the output.
    pub output: (usize, usize),
}

impl Image {
    /// Where a tap `(down, across)` of the first output reads channel `channel`.
    pub fn offset(&self, channel: usize, (down, across): (usize, usize)) -> usize {
        let [high, wide] = self.plane;
        let phase = down % self.stride * self.stride + across % self.stride;
        let plane = channel * self.stride * self.stride + phase;
        plane * high * wide + down / self.stride * wide + across / self.stride
    }

    /// Entries of all planes.
    fn numbers(&self) -> usize {
        self.channels * self.stride * self.stride * self.plane[0] * self.plane[1]
    }

    /// Pixels from the first output to the last, those between the rows of the output included.
    fn span(&self) -> usize {
        (self.output.0 - 1) * self.plane[1] + self.output.1
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

/// The outputs `y` `[rows][pixels]` of one image `x` `[channels][pixels]`.
///
/// Panics unless `x`, `y` and the parts of `rows` fit; `tier` must be one that the dispatcher found.
pub(crate) fn run(tier: Tier, image: &Image, rows: &Rows<'_>, x: &[f32], y: &mut [f32]) {
    let count = rows.starts.len() - 1;
    assert_eq!(x.len(), image.channels * image.size.0 * image.size.1);
    assert_eq!(y.len(), count * image.output.0 * image.output.1);
    assert!(rows.bias.is_none_or(|bias| bias.len() == count));
    assert!(rows.starts.is_sorted() && rows.values.len() == rows.offsets.len());
    assert!(rows.starts[count] <= rows.values.len());
    let last = rows.offsets.iter().max().map_or(0, |offset| *offset as usize);
    assert!(rows.offsets.is_empty() || last + image.span() <= image.numbers());
    match tier {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the dispatcher offers this tier only where these features were detected.
        Tier::Avx512 => unsafe { avx512(image, rows, x, y) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Tier::Avx2 => unsafe { avx2(image, rows, x, y) },
        // SAFETY: plain Rust needs no feature.
        _ => unsafe { image_on::<Portable>(image, rows, x, y) },
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512dq,bmi2,fma")]
unsafe fn avx512(image: &Image, rows: &Rows<'_>, x: &[f32], y: &mut [f32]) {
    // SAFETY: this function has the features.
    unsafe { image_on::<super::avx512::Avx512>(image, rows, x, y) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,bmi2")]
unsafe fn avx2(image: &Image, rows: &Rows<'_>, x: &[f32], y: &mut [f32]) {
    // SAFETY: this function has the features.
    unsafe { image_on::<super::avx2::Avx2>(image, rows, x, y) }
}

thread_local! {
    /// The planes of an image, kept from call to call.
    static PLANES: RefCell<Lines> = RefCell::default();
}

/// Vectors of pixels at once, at most.
const MOST: usize = 8;
/// Lanes of the widest tier.
const LANES: usize = 16;

/// # Safety
///
/// The instructions of `S` are enabled in the caller; lengths are as [`run`] checks them.
#[inline(always)]
unsafe fn image_on<S: Simd>(image: &Image, rows: &Rows<'_>, x: &[f32], y: &mut [f32]) {
    let (span, count) = (image.span(), rows.starts.len() - 1);
    let pixels = image.output.0 * image.output.1;
    // Taken and put back, not borrowed in a closure: a closure would be compiled without `S`.
    let mut planes = PLANES.take();
    // The last vector may read past the span, and so past the last plane.
    planes.grow(image.numbers() + LANES);
    // SAFETY: the buffer was grown to all planes.
    unsafe { pad(image, x, planes.as_mut_ptr()) };
    let mut sums = [0.0_f32; MOST * LANES];
    let mut pixel = 0;
    while pixel < span {
        let vectors = match (span - pixel).div_ceil(S::LANES) {
            1 => 1,
            2 | 3 => 2,
            4..8 => 4,
            _ => MOST,
        };
        for row in 0..count {
            let stored = rows.starts[row]..rows.starts[row + 1];
            let (values, offsets) = (&rows.values[stored.clone()], &rows.offsets[stored]);
            let bias = rows.bias.map_or(0.0, |bias| bias[row]);
            // SAFETY: `S` runs here. Offsets plus the span are within the planes, as `run` checked, and
            // vectors begin below the span, so they end at most LANES behind it; the sums hold MOST
            // vectors of any tier.
            unsafe {
                let from = planes.as_ptr::<f32>().add(pixel);
                match vectors {
                    1 => sum::<S, 1>(values, offsets, bias, from, sums.as_mut_ptr()),
                    2 => sum::<S, 2>(values, offsets, bias, from, sums.as_mut_ptr()),
                    4 => sum::<S, 4>(values, offsets, bias, from, sums.as_mut_ptr()),
                    _ => sum::<S, MOST>(values, offsets, bias, from, sums.as_mut_ptr()),
                }
            }
            let found = &mut sums[..(vectors * S::LANES).min(span - pixel)];
            if rows.relu {
                for x in &mut *found {
                    *x = if *x < 0.0 { 0.0 } else { *x };
                }
            }
            let y = &mut y[row * pixels..(row + 1) * pixels];
            keep(found, pixel, image.plane[1], image.output.1, y);
        }
        pixel += vectors * S::LANES;
    }
    PLANES.set(planes);
}

/// `V` vectors of sums of one output channel, from pixel `from` on.
///
/// # Safety
///
/// `S` runs here; `V` vectors are readable at `from` plus each offset, and writable at `sums`.
#[inline(always)]
unsafe fn sum<S: Simd, const V: usize>(
    values: &[f32],
    offsets: &[u32],
    bias: f32,
    from: *const f32,
    sums: *mut f32,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut acc = [S::splat(bias); V];
        for (value, offset) in values.iter().zip(offsets) {
            let (weight, from) = (S::splat(*value), from.add(*offset as usize));
            for v in 0..V {
                acc[v] = S::mul_add(weight, S::load(from.add(v * S::LANES)), acc[v]);
            }
        }
        for v in 0..V {
            S::store(sums.add(v * S::LANES), acc[v]);
        }
    }
}

/// Copies those of `sums`, the pixels from `pixel` on of rows `pitch` wide, that are among the first
/// `wide` of their row.
#[inline(always)]
fn keep(mut sums: &[f32], mut pixel: usize, pitch: usize, wide: usize, y: &mut [f32]) {
    while !sums.is_empty() {
        let (row, column) = (pixel / pitch, pixel % pitch);
        let run = (pitch - column).min(sums.len());
        if column < wide {
            let kept = run.min(wide - column);
            y[row * wide + column..][..kept].copy_from_slice(&sums[..kept]);
        }
        sums = &sums[run..];
        pixel += run;
    }
}

/// Spreads an image over its planes, zeros around it.
///
/// # Safety
///
/// `planes` is writable for all planes of the image; `x` has the image's length.
#[inline(always)]
unsafe fn pad(image: &Image, x: &[f32], planes: *mut f32) {
    let Image { channels, size: (high, wide), padding, stride, plane, .. } = *image;
    // SAFETY: all planes.
    unsafe { planes.write_bytes(0, image.numbers()) };
    for channel in 0..channels {
        for row in 0..high {
            let from = &x[(channel * high + row) * wide..][..wide];
            // The offset of the tap that would read this row's first pixel.
            let start = image.offset(channel, (row + padding, 0));
            for phase in 0..stride {
                // The first pixel that this phase holds, and where it goes.
                let first = (phase + stride - padding % stride) % stride;
                let column = (first + padding) / stride;
                let to = start + phase * plane[0] * plane[1] + column;
                for (i, value) in from.iter().skip(first).step_by(stride).enumerate() {
                    // SAFETY: pixel `first + i · stride` is in column `column + i` of its plane, which
                    // is as wide as the padded image divided by the stride, rounded up.
                    unsafe { *planes.add(to + i) = *value };
                }
            }
        }
    }
}
