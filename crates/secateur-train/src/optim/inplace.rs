//! How does a step avoid a dozen temporaries? One pass over parameter, moments and gradient, in place, on CPU.
//!
//! Written as tensor expressions, an AdamW step makes eleven temporaries of the weight's size. candle lends
//! one tensor at a time to be changed; loans may be nested, though, and so a loop sees plain slices. Only
//! f32 on CPU can be lent; where [`possible`] says no, the optimizers use expressions.

use crate::Optimizer;
use candle_core::{CpuStorage, DType, InplaceOp1, InplaceOp2, Layout, Result, Tensor, Var, bail};
use secateur_mask::Mask;
use std::{cell::Cell, collections::BTreeMap};

/// Whether all of `targets` can be lent.
pub(super) fn possible(targets: &[&Tensor]) -> bool {
    let simple = |t: &&Tensor| t.device().is_cpu() && t.dtype() == DType::F32 && t.is_contiguous();
    targets.iter().all(simple)
}

/// Lends the numbers of `tensor`, to be changed. Meanwhile nobody else reads them.
pub(super) fn lend(tensor: &Tensor, to: impl FnOnce(&mut [f32]) -> Result<()>) -> Result<()> {
    tensor.inplace_op1(&Lend(Cell::new(Some(to))))
}

/// Lends the numbers of `tensor`, to be changed, and as many of `source`, to be read.
pub(super) fn lend_reading(
    tensor: &Tensor,
    source: &Tensor,
    to: impl FnOnce(&mut [f32], &[f32]) -> Result<()>,
) -> Result<()> {
    tensor.inplace_op2(&source.contiguous()?, &Lend(Cell::new(Some(to))))
}

/// For each 64 of `count` numbers which are kept: zero is cut. Without a mask all are. In bytes, since
/// those become lanes at no cost. Errors on a mask of another size.
pub(super) fn blocks_kept(
    mask: Option<&Mask>,
    count: usize,
) -> Result<impl Iterator<Item = [u8; 64]> + '_> {
    if let Some(mask) = mask
        && mask.len() != count
    {
        bail!("a mask of {} does not fit {count} numbers", mask.len());
    }
    let words = mask.map_or(&[][..], Mask::words).iter().copied();
    Ok(words.chain(std::iter::repeat(u64::MAX)).map(spread))
}

/// A byte for each bit, zero if it is.
fn spread(word: u64) -> [u8; 64] {
    let mut spread = [0; 64];
    for (bytes, bits) in spread.as_chunks_mut::<8>().0.iter_mut().zip(word.to_le_bytes()) {
        let copies = u64::from(bits) * 0x0101_0101_0101_0101;
        *bytes = (copies & 0x8040_2010_0804_0201).to_le_bytes();
    }
    spread
}

/// Sets what `masks`, by parameter name, cut to `+0.0`, in parameters and moments.
pub(crate) fn cut_all<O: Optimizer + ?Sized>(
    optimizer: &mut O,
    masks: &BTreeMap<String, Mask>,
) -> Result<()> {
    for (name, mask) in masks {
        if let Some(parameter) = optimizer.parameters().get(name).cloned() {
            cut(&parameter, optimizer.moments_mut(name), mask)?;
        }
    }
    Ok(())
}

/// Sets what `mask` cuts to `+0.0`, in a parameter and its moments.
pub(super) fn cut<'a>(
    parameter: &Var,
    moments: impl IntoIterator<Item = &'a mut Tensor>,
    mask: &Mask,
) -> Result<()> {
    parameter.set(&selected(parameter, mask)?)?;
    for moment in moments {
        *moment = selected(moment, mask)?;
    }
    Ok(())
}

/// What is kept of `values`, and zeros. Selection, not multiplication: a negative number times zero would
/// be `-0.0`, NaN would stay.
fn selected(values: &Tensor, mask: &Mask) -> Result<Tensor> {
    let kept: Vec<u8> = mask.iter().map(u8::from).collect();
    let kept = Tensor::from_vec(kept, values.shape(), values.device())?;
    kept.where_cond(values, &values.zeros_like()?)
}

/// Who gets the numbers, once.
struct Lend<F>(Cell<Option<F>>);

impl<F> Lend<F> {
    fn borrower(&self) -> Result<F> {
        self.0.take().ok_or_else(|| candle_core::Error::Msg("numbers are lent once".into()))
    }
}

impl<F: FnOnce(&mut [f32]) -> Result<()>> InplaceOp1 for Lend<F> {
    fn name(&self) -> &'static str {
        "lend"
    }

    fn cpu_fwd(&self, target: &mut CpuStorage, layout: &Layout) -> Result<()> {
        self.borrower()?(slice_mut(target, layout)?)
    }
}

impl<F: FnOnce(&mut [f32], &[f32]) -> Result<()>> InplaceOp2 for Lend<F> {
    fn name(&self) -> &'static str {
        "lend-reading"
    }

    fn cpu_fwd(
        &self,
        target: &mut CpuStorage,
        layout: &Layout,
        source: &CpuStorage,
        source_layout: &Layout,
    ) -> Result<()> {
        let target = slice_mut(target, layout)?;
        let source = &source.as_slice::<f32>()?[range(source_layout)?];
        if source.len() != target.len() {
            bail!("{} numbers cannot update {}", source.len(), target.len());
        }
        self.borrower()?(target, source)
    }
}

fn slice_mut<'a>(storage: &'a mut CpuStorage, layout: &Layout) -> Result<&'a mut [f32]> {
    match storage {
        CpuStorage::F32(numbers) => Ok(&mut numbers[range(layout)?]),
        _ => bail!("only f32 can be updated in place"),
    }
}

fn range(layout: &Layout) -> Result<std::ops::Range<usize>> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(start..end),
        None => bail!("only contiguous tensors can be updated in place"),
    }
}
