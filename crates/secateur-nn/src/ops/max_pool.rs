//! How does a maximum of 2×2 pixels learn? The gradient goes to the first of the largest.
//!
//! candle finds the largest again by enlarging, comparing and multiplying whole images, and gives it a quarter
//! of its gradient: it multiplies with the mean of a mask of the largest, which would have to be a division by
//! its sum.

use super::{is_ours, slice, with_slice};
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

/// The largest of each 2×2 pixels: `[batch, channels, height, width]` to half of both; what is left of odd
/// sides is dropped.
pub(crate) fn max_pool2(xs: &Tensor) -> Result<Tensor> {
    if is_ours(xs) { xs.contiguous()?.apply_op1(MaxPool2) } else { xs.max_pool2d(2) }
}

struct MaxPool2;

/// Calls `each` with where the upper and the lower row of inputs and the row of outputs begin.
fn rows(planes: usize, high: usize, wide: usize, mut each: impl FnMut(usize, usize, usize)) {
    for plane in 0..planes {
        for row in 0..high / 2 {
            let upper = (plane * high + 2 * row) * wide;
            each(upper, upper + wide, (plane * (high / 2) + row) * (wide / 2));
        }
    }
}

/// The larger; the first of equals.
fn larger(first: f32, second: f32) -> f32 {
    if second > first { second } else { first }
}

impl CustomOp1 for MaxPool2 {
    fn name(&self) -> &'static str {
        "max-pool2"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (batch, channels, high, wide) = layout.shape().dims4()?;
        let xs = slice(storage, layout)?;
        let shape = Shape::from((batch, channels, high / 2, wide / 2));
        let mut ys = vec![0.0; shape.elem_count()];
        rows(batch * channels, high, wide, |upper, lower, at| {
            let (upper, _) = xs[upper..upper + wide].as_chunks::<2>();
            let (lower, _) = xs[lower..lower + wide].as_chunks::<2>();
            for (y, ([a, b], [c, d])) in ys[at..].iter_mut().zip(upper.iter().zip(lower)) {
                *y = larger(larger(*a, *b), larger(*c, *d));
            }
        });
        Ok((CpuStorage::F32(ys), shape))
    }

    fn bwd(&self, arg: &Tensor, res: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let (batch, channels, high, wide) = arg.dims4()?;
        let mut of_xs = vec![0.0; arg.elem_count()];
        let gradient = gradient.contiguous()?;
        with_slice(arg, |xs| {
            with_slice(res, |ys| {
                with_slice(&gradient, |gradient| {
                    let half = wide / 2;
                    rows(batch * channels, high, wide, |upper, lower, at| {
                        let (above, below) = of_xs[upper..lower + wide].split_at_mut(wide);
                        let above = &mut above.as_chunks_mut::<2>().0[..half];
                        let below = &mut below.as_chunks_mut::<2>().0[..half];
                        let upper = &xs[upper..upper + wide].as_chunks::<2>().0[..half];
                        let lower = &xs[lower..lower + wide].as_chunks::<2>().0[..half];
                        let (ys, gradient) = (&ys[at..at + half], &gradient[at..at + half]);
                        for i in 0..half {
                            let (y, g) = (ys[i], gradient[i]);
                            let ([a, b], [c, _]) = (upper[i], lower[i]);
                            let (a, b, c) = (a == y, b == y, c == y);
                            let share = |wins: bool| if wins { g } else { 0.0 };
                            above[i] = [share(a), share(!a & b)];
                            below[i] = [share(!a & !b & c), share(!(a | b | c))];
                        }
                    });
                    Ok(())
                })
            })
        })?;
        Ok(Some(Tensor::from_vec(of_xs, arg.shape(), arg.device())?))
    }
}
