//! What do the kernels ask of a processor? A handful of operations on a vector of f32.
//!
//! The kernels are written once, over this trait, and inlined into one function per tier that has
//! the tier's instructions enabled; see `drive.rs`.

/// A vector of [`Self::LANES`] f32 and what kernels do with it.
///
/// # Safety
///
/// Every method may only be called where the implementor's instructions exist: inside a function
/// with the matching `#[target_feature]`, after the [`Dispatcher`](crate::Dispatcher) found them.
pub(crate) trait Simd: Copy {
    /// Numbers in a vector.
    const LANES: usize;
    /// Vectors of tokens in a panel, at most: two rows of as many sums fit the registers.
    const MOST: usize;
    /// The vector.
    type V: Copy;

    /// All lanes zero.
    unsafe fn zero() -> Self::V;
    /// All lanes equal to `value`.
    unsafe fn splat(value: f32) -> Self::V;
    /// Four vectors, each with all lanes equal to one of the four numbers at `from`.
    unsafe fn splat4(from: *const f32) -> [Self::V; 4];
    /// `LANES` numbers from any address.
    unsafe fn load(from: *const f32) -> Self::V;
    /// `LANES` numbers to any address.
    unsafe fn store(to: *mut f32, v: Self::V);
    /// `a · b + c`.
    unsafe fn mul_add(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `a + b`.
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    /// Lane `i` of the result is lane `4·(i / 4) + (bits >> 2i & 3)` of `x`: each of a group of
    /// four picks any of the four.
    unsafe fn pick(x: Self::V, bits: u32) -> Self::V;
    /// Transposes `LANES` rows of `LANES` numbers in place.
    unsafe fn transpose(rows: &mut [Self::V]);
}

/// Plain Rust, which the compiler vectorises for whatever it targets.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

impl Simd for Portable {
    const LANES: usize = 8;
    const MOST: usize = 2;
    type V = [f32; 8];

    #[inline(always)]
    unsafe fn zero() -> Self::V {
        [0.0; 8]
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self::V {
        [value; 8]
    }
    #[inline(always)]
    unsafe fn splat4(from: *const f32) -> [Self::V; 4] {
        // SAFETY: the caller hands four readable numbers; alignment is not assumed.
        let four = unsafe { from.cast::<[f32; 4]>().read_unaligned() };
        four.map(|value| [value; 8])
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self::V {
        // SAFETY: the caller hands eight readable numbers; alignment is not assumed.
        unsafe { from.cast::<[f32; 8]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, v: Self::V) {
        // SAFETY: the caller hands eight writable numbers; alignment is not assumed.
        unsafe { to.cast::<[f32; 8]>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn mul_add(a: Self::V, b: Self::V, mut c: Self::V) -> Self::V {
        for i in 0..8 {
            c[i] += a[i] * b[i];
        }
        c
    }
    #[inline(always)]
    unsafe fn add(mut a: Self::V, b: Self::V) -> Self::V {
        for i in 0..8 {
            a[i] += b[i];
        }
        a
    }
    #[inline(always)]
    unsafe fn pick(x: Self::V, bits: u32) -> Self::V {
        std::array::from_fn(|i| x[(i & !3) + (bits >> (2 * i) & 3) as usize])
    }
    #[inline(always)]
    unsafe fn transpose(rows: &mut [Self::V]) {
        for i in 0..8 {
            for j in 0..i {
                let held = rows[i][j];
                rows[i][j] = rows[j][i];
                rows[j][i] = held;
            }
        }
    }
}
