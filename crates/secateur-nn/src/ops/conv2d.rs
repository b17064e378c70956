//! How does a convolution learn? As a product of its weight with patches, a few images at a time.
//!
//! The patches of a few images (im2col; Chellapilla et al. 2006) are a matrix `[in · kh · kw, pixels]` that
//! stays in a core's cache; they are laid out again for the backward pass instead of being kept. The weight is
//! the left factor, so that its gradient comes out in its own layout.

use super::{Matrix, is_ours, is_tracked, slice, sum, with_slice};
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Storage, Tensor, bail};
use rayon::prelude::*;
use secateur_kernels::Conv2dGeometry;

/// Numbers of patches that are laid out at a time, about: half a megabyte.
const PATCHES: usize = 1 << 17;

/// Images `[batch, in, height, width]`, weight `[out, in / groups, kh, kw]` and bias `[out]` to
/// `[batch, out, …]`.
pub(crate) fn conv2d(
    xs: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    geometry: Conv2dGeometry,
) -> Result<Tensor> {
    let Conv2dGeometry { stride, padding, dilation, groups } = geometry;
    if !is_ours(xs) || groups > 1 {
        let ys = xs.conv2d(weight, padding, stride, dilation, groups)?;
        return match bias {
            Some(bias) => ys.broadcast_add(&bias.reshape((1, bias.elem_count(), 1, 1))?),
            None => Ok(ys),
        };
    }
    let sizes = Sizes::new(xs.shape(), weight.dims(), geometry)?;
    let none = Tensor::zeros(sizes.outputs, weight.dtype(), weight.device());
    let bias = bias.cloned().map_or(none, Ok)?;
    let op = Conv2d { sizes, through: is_tracked(xs) };
    xs.contiguous()?.apply_op3(&weight.contiguous()?, &bias, op)
}

/// What each output pixel of a convolution in one group looks at: images `[batch, in, height, width]` as
/// `[batch · output pixels, in · kh · kw]`.
pub(crate) fn patches(xs: &Tensor, weight: &[usize], geometry: Conv2dGeometry) -> Result<Tensor> {
    let sizes = Sizes::new(xs.shape(), weight, geometry)?;
    let patches = with_slice(&xs.contiguous()?, |xs| Ok(sizes.unfold(xs)))?;
    let features = sizes.features();
    let pixels = patches.len().checked_div(features).unwrap_or(0);
    Tensor::from_vec(patches, (features, pixels), xs.device())?.t()?.contiguous()
}

/// All lengths of a convolution.
struct Sizes {
    inputs: usize,
    high: usize,
    wide: usize,
    outputs: usize,
    taps: (usize, usize),
    out: (usize, usize),
    geometry: Conv2dGeometry,
}

impl Sizes {
    fn new(xs: &Shape, weight: &[usize], geometry: Conv2dGeometry) -> Result<Self> {
        let (_, channels, high, wide) = xs.dims4()?;
        let &[outputs, inputs, taps_high, taps_wide] = weight else {
            bail!("a convolution has a weight {weight:?}");
        };
        if channels != inputs {
            bail!("a convolution of {inputs} channels got images of {channels}");
        }
        let Conv2dGeometry { stride, padding, dilation, .. } = geometry;
        let steps = |side: usize, taps: usize| {
            (side + 2 * padding)
                .checked_sub((taps - 1) * dilation + 1)
                .map(|left| left / stride + 1)
        };
        let (Some(out_high), Some(out_wide)) = (steps(high, taps_high), steps(wide, taps_wide))
        else {
            bail!("{taps_high}x{taps_wide} taps do not fit images of {high}x{wide}");
        };
        let (taps, out) = ((taps_high, taps_wide), (out_high, out_wide));
        Ok(Self { inputs, high, wide, outputs, taps, out, geometry })
    }

    /// Numbers of one image.
    fn image(&self) -> usize {
        self.inputs * self.high * self.wide
    }

    /// Pixels of one output channel of an image.
    fn pixels(&self) -> usize {
        self.out.0 * self.out.1
    }

    /// Numbers that an output pixel is computed from.
    fn features(&self) -> usize {
        self.inputs * self.taps.0 * self.taps.1
    }

    /// Images that are computed together.
    fn together(&self) -> usize {
        (PATCHES / (self.features() * self.pixels()).max(1)).max(1)
    }

    /// Which outputs along a side of `side` inputs have the tap at `tap` inside the image, and where the
    /// first of them looks.
    fn inside(&self, tap: usize, side: usize, out: usize) -> (usize, usize, usize) {
        let Conv2dGeometry { stride, padding, dilation, .. } = self.geometry;
        let first = padding.saturating_sub(tap * dilation).div_ceil(stride);
        let end = (side + padding).saturating_sub(tap * dilation).div_ceil(stride).min(out);
        (first, end.max(first), (first * stride + tap * dilation).saturating_sub(padding))
    }

    /// Calls `each` for every row of pixels that lies inside of an image: where it begins among patches
    /// `[features, images · pixels]` and among the images, and how long it is.
    fn rows(&self, images: usize, mut each: impl FnMut(usize, usize, usize)) {
        let stride = self.geometry.stride;
        let mut at = 0;
        for channel in 0..self.inputs {
            for tap_row in 0..self.taps.0 {
                let (top, bottom, y) = self.inside(tap_row, self.high, self.out.0);
                for tap in 0..self.taps.1 {
                    let (left, right, x) = self.inside(tap, self.wide, self.out.1);
                    for image in 0..images {
                        let plane = (image * self.inputs + channel) * self.high;
                        for row in top..bottom {
                            let from = (plane + y + (row - top) * stride) * self.wide + x;
                            each(at + row * self.out.1 + left, from, right - left);
                        }
                        at += self.pixels();
                    }
                }
            }
        }
    }

    /// Lays the patches of some images out, `[features, images · pixels]` (im2col).
    fn unfold(&self, xs: &[f32]) -> Vec<f32> {
        let images = xs.len().checked_div(self.image()).unwrap_or(0);
        let numbers = self.features() * images * self.pixels();
        let Conv2dGeometry { stride, padding, .. } = self.geometry;
        if stride == 1 && padding == 0 {
            // Rows come one after the other, without a gap: nothing need be zeroed first.
            let mut patches = Vec::with_capacity(numbers);
            self.rows(images, |_, from, len| patches.extend_from_slice(&xs[from..from + len]));
            return patches;
        }
        let mut patches = vec![0.0; numbers];
        self.rows(images, |at, from, len| {
            let to = &mut patches[at..at + len];
            if stride == 1 {
                to.copy_from_slice(&xs[from..from + len]);
            } else if len > 0 {
                to.iter_mut().zip(xs[from..].iter().step_by(stride)).for_each(|(to, x)| *to = *x);
            }
        });
        patches
    }

    /// Adds patches up where they were taken from (col2im).
    fn fold(&self, patches: &[f32], xs: &mut [f32]) {
        let images = xs.len().checked_div(self.image()).unwrap_or(0);
        let stride = self.geometry.stride;
        self.rows(images, |at, to, len| {
            let from = &patches[at..at + len];
            if stride == 1 {
                xs[to..to + len].iter_mut().zip(from).for_each(|(x, from)| *x += from);
            } else if len > 0 {
                let xs = xs[to..].iter_mut().step_by(stride);
                xs.zip(from).for_each(|(x, from)| *x += from);
            }
        });
    }
}

struct Conv2d {
    sizes: Sizes,
    /// Whether the images' gradient is wanted.
    through: bool,
}

impl Conv2d {
    fn weight<'a>(&self, storage: &'a CpuStorage, layout: &Layout) -> Matrix<'a> {
        Matrix::new(storage, self.sizes.outputs, self.sizes.features(), layout.start_offset())
    }

    /// The gradients that some images give: of the weight and of the bias; their own is added to `of_xs`.
    fn back(
        &self,
        xs: &[f32],
        weight: (&CpuStorage, &Layout),
        gradient: &[f32],
        of_xs: &mut [f32],
    ) -> Result<(Vec<f32>, Vec<f32>)> {
        let (outputs, pixels, features) =
            (self.sizes.outputs, self.sizes.pixels(), self.sizes.features());
        let images = gradient.len() / (outputs * pixels);
        let mut by_channel = Vec::with_capacity(gradient.len());
        for channel in 0..outputs {
            for image in gradient.chunks_exact(outputs * pixels) {
                by_channel.extend_from_slice(&image[channel * pixels..][..pixels]);
            }
        }
        let of_bias = by_channel.chunks_exact(images * pixels).map(sum).collect();
        let by_channel = CpuStorage::F32(by_channel);
        let g = Matrix::new(&by_channel, outputs, images * pixels, 0);
        let patches = CpuStorage::F32(self.sizes.unfold(xs));
        let of_weight =
            g.times(&Matrix::new(&patches, features, images * pixels, 0).transposed()?)?;
        if self.through {
            let (storage, layout) = weight;
            let of_patches = self.weight(storage, layout).transposed()?.times(&g)?;
            self.sizes.fold(&of_patches, of_xs);
        }
        Ok((of_weight, of_bias))
    }
}

impl CustomOp3 for Conv2d {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn cpu_fwd(
        &self,
        xs: &CpuStorage,
        xs_at: &Layout,
        weight: &CpuStorage,
        weight_at: &Layout,
        bias: &CpuStorage,
        bias_at: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let sizes = &self.sizes;
        let (outputs, pixels) = (sizes.outputs, sizes.pixels());
        let (xs, bias) = (slice(xs, xs_at)?, slice(bias, bias_at)?);
        let shape = Shape::from((xs_at.dims()[0], outputs, sizes.out.0, sizes.out.1));
        let mut ys = vec![0.0; shape.elem_count()];
        let together = sizes.together();
        ys.par_chunks_mut((together * outputs * pixels).max(1))
            .zip(xs.par_chunks((together * sizes.image()).max(1)))
            .try_for_each(|(ys, xs)| {
                let images = ys.len() / (outputs * pixels);
                let patches = CpuStorage::F32(sizes.unfold(xs));
                let patches = Matrix::new(&patches, sizes.features(), images * pixels, 0);
                let by_channel = self.weight(weight, weight_at).times(&patches)?;
                for (image, ys) in ys.chunks_exact_mut(outputs * pixels).enumerate() {
                    for (channel, ys) in ys.chunks_exact_mut(pixels).enumerate() {
                        let from = &by_channel[(channel * images + image) * pixels..][..pixels];
                        ys.iter_mut().zip(from).for_each(|(y, from)| *y = from + bias[channel]);
                    }
                }
                Ok::<_, candle_core::Error>(())
            })?;
        Ok((CpuStorage::F32(ys), shape))
    }

    fn bwd(
        &self,
        xs: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (sizes, device) = (&self.sizes, xs.device());
        let (images, gradient) = (sizes.together(), gradient.contiguous()?);
        let image = if self.through { sizes.image() } else { 1 };
        let mut of_xs = vec![0.0; xs.dim(0)? * image];
        let (storage, layout) = weight.storage_and_layout();
        let Storage::Cpu(storage) = &*storage else {
            bail!("a custom operation needs tensors in main memory")
        };
        // One after the other in the end, so that sums do not depend on who was first.
        let parts: Vec<_> = with_slice(xs, |xs| {
            with_slice(&gradient, |gradient| {
                xs.par_chunks((images * sizes.image()).max(1))
                    .zip(gradient.par_chunks((images * sizes.outputs * sizes.pixels()).max(1)))
                    .zip(of_xs.par_chunks_mut((images * image).max(1)))
                    .map(|((xs, gradient), of_xs)| {
                        self.back(xs, (storage, layout), gradient, of_xs)
                    })
                    .collect()
            })
        })?;
        let (mut of_weight, mut of_bias) =
            (vec![0.0; weight.elem_count()], vec![0.0; sizes.outputs]);
        let add = |to: &mut [f32], from: &[f32]| {
            to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
        };
        for (weight, bias) in &parts {
            add(&mut of_weight, weight);
            add(&mut of_bias, bias);
        }
        let of_xs =
            self.through.then(|| Tensor::from_vec(of_xs, xs.shape(), device)).transpose()?;
        let of_weight = Tensor::from_vec(of_weight, weight.shape(), device)?;
        Ok((of_xs, Some(of_weight), Some(Tensor::from_vec(of_bias, sizes.outputs, device)?)))
    }
}
