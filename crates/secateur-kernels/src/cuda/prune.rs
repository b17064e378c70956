//! How is a weight cut to 2:4 where it is? In place, by magnitude, on its device.

use super::{
    CudaError, DeviceBuffer,
    device::{Argument, Launch},
    kernels::PRUNE,
    weight::{aligned, holds, place},
};
use crate::KernelError;
use secateur_storage::Dtype;

/// Keeps the two largest magnitudes of every four columns of a row-major weight `[rows, cols]` and overwrites the
/// others with `+0.0`. Of equal ones the lower index stays: the mask is that of
/// `Pattern::TWO_OF_FOUR` with the criterion `Magnitude`, to the bit.
///
/// Errors unless `dtype` is F32, F16, BF16 or I8, `cols` a multiple of four and the buffer holds as many elements.
/// Errors, naming the first, when a group has a NaN; everything is pruned then nevertheless, NaN kept.
///
/// ```
/// use secateur_kernels::cuda::{Emulator, prune_two_of_four};
/// use secateur_storage::Dtype;
///
/// let device = Emulator::new().device(); // or Device::open(0)?
/// let mut weight = [1.0_f32, -3.0, 2.0, 0.5];
/// let on_device = device.upload(&weight)?;
/// prune_two_of_four(&on_device, Dtype::F32, [1, 4])?;
/// on_device.read(&mut weight)?;
/// assert_eq!(weight, [0.0, -3.0, 2.0, 0.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn prune_two_of_four(
    weight: &DeviceBuffer,
    dtype: Dtype,
    [rows, cols]: [usize; 2],
) -> Result<(), KernelError> {
    let (name, bytes) = match dtype {
        Dtype::F32 => ("prune_f32", 4),
        Dtype::F16 => ("prune_f16", 2),
        Dtype::BF16 => ("prune_bf16", 2),
        Dtype::I8 => ("prune_i8", 1),
        _ => return Err(CudaError::Dtype { dtype: dtype.to_string() }.into()),
    };
    if !cols.is_multiple_of(4) {
        return Err(CudaError::Columns { cols }.into());
    }
    let too_large = KernelError::TooLarge { rows, cols, tokens: 0 };
    let elements = rows.checked_mul(cols).filter(|elements| *elements <= 1 << 40);
    let elements = elements.ok_or(too_large)?;
    holds(weight, "the weight to prune, in bytes,", elements * bytes)?;
    aligned(weight, "the weight to prune", 16)?;
    if elements == 0 {
        return Ok(());
    }
    let (ptx, function) = PRUNE.function(name);
    let (device, groups) = (weight.device(), elements / 4);
    let fault = device.upload(&[u64::MAX])?;
    device.backend().launch(&Launch {
        ptx,
        function: function.name,
        // At most 2^38 groups in blocks of 2^8.
        grid: [groups.div_ceil(function.threads as usize) as u32, 1, 1],
        threads: function.threads,
        shared_bytes: 0,
        arguments: &[
            Argument::Address(weight.address()),
            Argument::Address(fault.address()),
            Argument::U64(groups as u64),
        ],
    })?;
    let mut first = [u64::MAX];
    fault.read(&mut first)?;
    let found = place(first[0], cols / 4);
    found.map_or(Ok(()), |(row, group)| Err(CudaError::NotANumber { row, group }.into()))
}
