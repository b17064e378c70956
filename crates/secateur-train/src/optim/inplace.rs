//! How does a step avoid a dozen temporaries? One pass over each tensor, in place, on CPU.
//!
//! Written as tensor expressions, an AdamW step makes eleven temporaries of the weight's size. Here
//! it is three passes. Only f32 on CPU has such an operation; where [`possible`] says no, the
//! optimizers use expressions.

use candle_core::{CpuStorage, DType, InplaceOp2, InplaceOp3, Layout, Result, Tensor};

/// Whether all of `targets` can be updated in place.
pub(super) fn possible(targets: &[&Tensor]) -> bool {
    let simple = |t: &&Tensor| t.device().is_cpu() && t.dtype() == DType::F32 && t.is_contiguous();
    targets.iter().all(simple)
}

/// `a[i] = f(a[i], [b[i]])` for all `i`.
pub(super) fn update1(a: &Tensor, b: &Tensor, f: impl Fn(f32, [f32; 1]) -> f32) -> Result<()> {
    a.inplace_op2(&b.contiguous()?, &Pass(f))
}

/// `a[i] = f(a[i], [b[i], c[i]])` for all `i`.
pub(super) fn update2(
    a: &Tensor,
    b: &Tensor,
    c: &Tensor,
    f: impl Fn(f32, [f32; 2]) -> f32,
) -> Result<()> {
    a.inplace_op3(&b.contiguous()?, &c.contiguous()?, &Pass(f))
}

/// A function of a number and those at the same place in other tensors.
struct Pass<F>(F);

impl<F: Fn(f32, [f32; 1]) -> f32> InplaceOp2 for Pass<F> {
    fn name(&self) -> &'static str {
        "update-in-place"
    }
    fn cpu_fwd(
        &self,
        target: &mut CpuStorage,
        layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
    ) -> Result<()> {
        pass(target, layout, [(b, b_layout)], &self.0)
    }
}

impl<F: Fn(f32, [f32; 2]) -> f32> InplaceOp3 for Pass<F> {
    fn name(&self) -> &'static str {
        "update-in-place"
    }
    fn cpu_fwd(
        &self,
        target: &mut CpuStorage,
        layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
        c: &CpuStorage,
        c_layout: &Layout,
    ) -> Result<()> {
        pass(target, layout, [(b, b_layout), (c, c_layout)], &self.0)
    }
}

fn pass<const N: usize>(
    target: &mut CpuStorage,
    layout: &Layout,
    sources: [(&CpuStorage, &Layout); N],
    f: &impl Fn(f32, [f32; N]) -> f32,
) -> Result<()> {
    let CpuStorage::F32(target) = target else {
        candle_core::bail!("only f32 can be updated in place")
    };
    let target = &mut target[range(layout)?];
    let mut slices = [&[][..]; N];
    for (slice, (storage, layout)) in slices.iter_mut().zip(sources) {
        *slice = &storage.as_slice::<f32>()?[range(layout)?];
        if slice.len() != target.len() {
            candle_core::bail!("{} numbers cannot update {}", slice.len(), target.len())
        }
    }
    for (i, value) in target.iter_mut().enumerate() {
        let mut others = [0.0; N];
        for (other, slice) in others.iter_mut().zip(&slices) {
            *other = slice[i];
        }
        *value = f(*value, others);
    }
    Ok(())
}

fn range(layout: &Layout) -> Result<std::ops::Range<usize>> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(start..end),
        None => candle_core::bail!("only contiguous tensors can be updated in place"),
    }
}
