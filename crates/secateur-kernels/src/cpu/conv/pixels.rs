//! How does one image run? Its pixels lie under the lanes, one output channel at a time, eight vectors wide.
//!
//! Pixels are counted along the padded plane, rows one after the other: the last few of each row are no
//! outputs and are dropped on the way out. That is what lets a tap be one offset for all of them.

use super::{Image, LANES, MOST, Rows, at_once, relu, sum};
use crate::{cpu::simd::Simd, lines::Lines};
use std::cell::RefCell;

thread_local! {
    /// The planes of an image, kept from call to call.
    static PLANES: RefCell<Lines> = RefCell::default();
}

/// # Safety
///
/// The instructions of `S` are enabled in the caller; lengths are as [`run`](super::run) checks them.
#[inline(always)]
pub(super) unsafe fn on<S: Simd>(image: &Image, rows: &Rows<'_>, x: &[f32], y: &mut [f32]) {
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
        let vectors = at_once((span - pixel).div_ceil(S::LANES));
        for row in 0..count {
            // SAFETY: `S` runs here. Offsets plus the span are within the planes, as `run` checked, and
            // vectors begin below the span, so they end at most LANES behind it; the sums hold MOST
            // vectors of any tier.
            unsafe {
                let from = planes.as_ptr::<f32>().wrapping_add(pixel);
                sum::<S>(vectors, (rows, row), from, (1, S::LANES), sums.as_mut_ptr());
            }
            let found = &mut sums[..(vectors * S::LANES).min(span - pixel)];
            if rows.relu {
                relu(found);
            }
            let y = &mut y[row * pixels..(row + 1) * pixels];
            keep(found, pixel, image.plane[1], image.output.1, y);
        }
        pixel += vectors * S::LANES;
    }
    PLANES.set(planes);
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
