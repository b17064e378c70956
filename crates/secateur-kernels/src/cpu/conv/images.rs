//! How do many images run at once? One under each lane: a pixel of all of them is one vector.
//!
//! No load crosses a cache line, no lane is lost at the end of a row, and the stride is a step between
//! vectors. It costs two transpositions, of the images and of each output channel.

use super::{Image, Rows, at_once, relu, sum};
use crate::{
    cpu::{
        panel::{pack, unpack},
        simd::Simd,
    },
    lines::Lines,
};
use std::{cell::RefCell, ptr::null};

thread_local! {
    /// The planes of the images, and the sums of one output channel, kept from call to call.
    static BUFFERS: RefCell<(Lines, Lines)> = RefCell::default();
}

/// # Safety
///
/// The instructions of `S` are enabled in the caller; lengths are as [`run`](super::run) checks them.
#[inline(always)]
pub(super) unsafe fn on<S: Simd>(
    (image, images, order): (&Image, usize, &[u32]),
    rows: &Rows<'_>,
    x: &[f32],
    y: &mut [f32],
) {
    let (count, (high, wide)) = (rows.starts.len() - 1, image.output);
    let (len, pixels) = (image.len(), high * wide);
    // Taken and put back, not borrowed in a closure: a closure would be compiled without `S`.
    let (mut planes, mut sums) = BUFFERS.take();
    planes.grow(image.numbers() * S::LANES);
    sums.grow(pixels * S::LANES);
    // SAFETY: the buffer was grown to a vector for each number of the planes; `x` is as many images, no more
    // than there are lanes. `order` has a place within the planes for each number of an image; without padding
    // the planes are the image.
    unsafe {
        let planes = planes.as_mut_ptr::<f32>();
        let order = if image.padding > 0 {
            planes.write_bytes(0, image.numbers() * S::LANES);
            order.as_ptr()
        } else {
            null()
        };
        pack::<S>(x.as_ptr(), len, len, images, order, planes, S::LANES);
    }
    for row in 0..count {
        for out_row in 0..high {
            let mut column = 0;
            while column < wide {
                let vectors = at_once(wide - column);
                // A single output may have any stride, and no stored value any planes.
                let step = image.stride.wrapping_mul(S::LANES);
                let first = (out_row * image.plane[1] + column).wrapping_mul(step);
                // SAFETY: `S` runs here. The last output's number is within the planes for each offset, as
                // `run` checked, and each number is a vector; so is each pixel of the sums.
                unsafe {
                    let from = planes.as_ptr::<f32>().wrapping_add(first);
                    let to = sums.as_mut_ptr::<f32>().add((out_row * wide + column) * S::LANES);
                    sum::<S>(vectors, (rows, row), from, (S::LANES, step), to);
                }
                column += vectors;
            }
        }
        if rows.relu {
            relu(&mut sums.floats_mut()[..pixels * S::LANES]);
        }
        // SAFETY: the sums were grown to a vector for each pixel; each of the images has `count` times as many
        // outputs, of which these are the `row`-th.
        unsafe {
            let y = y.as_mut_ptr().add(row * pixels);
            unpack::<S>(sums.as_ptr(), pixels, S::LANES, null(), y, count * pixels, images);
        }
    }
    BUFFERS.set((planes, sums));
}
