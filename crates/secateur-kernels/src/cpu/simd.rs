//! What do the kernels ask of a processor? A handful of operations on a vector of f32.
//!
//! The kernels are written once, over this trait, and inlined into one function per tier that has
//! the tier's instructions enabled; see `drive.rs`.

/// How the column of a stored value is told: by `BITS` of it, and by the quad it lies in.
///
/// Values lie in *quads*: two values of one row, then two of the row below. A pair of rows has
/// `QUADS` of them in every 16 columns.
pub(super) trait Code: Copy {
    /// Bits of an index.
    const BITS: usize;
    /// Quads of a pair of rows in 16 columns.
    const QUADS: usize;
    /// Columns that quad `q + 1` begins after quad `q`: what the index need not say.
    const STEP: usize;
    /// Pairs of rows that share one unit of 16 values.
    const PAIRS: usize = 4 / Self::QUADS;
    /// Bytes of the indices of a pair of rows in 16 columns.
    const BYTES: usize = Self::BITS * Self::QUADS / 2;
}

/// 2:4: two bits tell the column in a group of four, and each quad has its own group.
#[derive(Clone, Copy)]
pub(super) struct Two;

impl Code for Two {
    const BITS: usize = 2;
    const QUADS: usize = 4;
    const STEP: usize = 4;
}

/// `2 · QUADS` of 16: four bits tell the column in 16.
#[derive(Clone, Copy)]
pub(super) struct Four<const QUADS: usize>;

impl<const QUADS: usize> Code for Four<QUADS> {
    const BITS: usize = 4;
    const QUADS: usize = QUADS;
    const STEP: usize = 0;
}

/// A piece of work in the kernels' vocabulary.
pub(super) trait Job {
    /// # Safety
    ///
    /// The instructions of `S` exist and are enabled in the caller; what else the job was promised
    /// holds.
    unsafe fn on<S: Simd>(&self);
}

/// A vector of [`Self::LANES`] f32 and what kernels do with it.
///
/// # Safety
///
/// Every method may only be called where the implementor's instructions exist: inside a function
/// with the matching `#[target_feature]`, after the [`Dispatcher`](crate::Dispatcher) found them.
/// Pointers are valid for what the method reads or writes; no alignment is assumed.
pub(super) trait Simd: Copy {
    /// Numbers in a vector.
    const LANES: usize;
    /// Vectors of tokens in a panel, at most: two rows of as many sums fit the registers.
    const MOST: usize;
    /// The vector.
    type V: Copy;

    /// Runs a job in a function of its own that has the instructions: the seams along which kernels
    /// are compiled. One function of all of them would take the compiler minutes.
    unsafe fn enter<J: Job>(job: &J);
    /// All lanes zero.
    unsafe fn zero() -> Self::V;
    /// All lanes equal to `value`.
    unsafe fn splat(value: f32) -> Self::V;
    /// Four vectors, each with all lanes equal to one of the four numbers at `from`.
    unsafe fn splat4(from: *const f32) -> [Self::V; 4];
    /// `LANES` numbers.
    unsafe fn load(from: *const f32) -> Self::V;
    /// `LANES` numbers, widened from bf16.
    unsafe fn load_bf16(from: *const u16) -> Self::V;
    /// `LANES` numbers, widened from f16.
    unsafe fn load_f16(from: *const u16) -> Self::V;
    /// `LANES` numbers, converted from i8.
    unsafe fn load_i8(from: *const i8) -> Self::V;
    /// Stores `LANES` numbers.
    unsafe fn store(to: *mut f32, v: Self::V);
    /// `a · b + c`.
    unsafe fn mul_add(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `a · b`.
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    /// `a + b`.
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    /// The larger of each lane and zero; NaN stays.
    unsafe fn relu(a: Self::V) -> Self::V;
    /// Asks for the line at `from`, which need not be readable.
    unsafe fn prefetch<T>(from: *const T);

    /// `w · x + c` with `x` at `row` bytes past the start of quad `Q` in the panel `x`, its vector
    /// `N` of `V`: the product that kernels spend their time on.
    #[inline(always)]
    unsafe fn mul_add_at<C: Code, const V: usize, const Q: usize, const N: usize>(
        w: Self::V,
        x: *const f32,
        row: usize,
        c: Self::V,
    ) -> Self::V {
        // SAFETY: the caller hands a panel that holds this vector.
        unsafe {
            let x = x.byte_add(row).add((C::STEP * Q * V + N) * Self::LANES);
            Self::mul_add(w, Self::load(x), c)
        }
    }

    /// Where lane `L` of quad `Q` finds its activations: the index in `bits`, times the bytes of a
    /// row of a panel `V` vectors wide.
    #[inline(always)]
    unsafe fn row<C: Code, const V: usize, const Q: usize, const L: usize>(bits: u64) -> usize {
        let shift = (V * Self::LANES * size_of::<f32>()).trailing_zeros();
        let place = (C::BITS * (4 * Q + L)) as u32;
        (bits.rotate_right((place + 64 - shift) % 64) & (((1 << C::BITS) - 1) << shift)) as usize
    }

    /// Lane `i` of the result is `x[4·(i / 4) + (bits >> 2i & 3)]`: each of a group of four picks any
    /// of the four.
    unsafe fn pick4(x: *const f32, bits: u32) -> Self::V;
    /// Lane `i` of the result is `x[bits >> 4i & 15]`, of 16 numbers at `x`.
    unsafe fn pick16(x: *const f32, bits: u64) -> Self::V;
    /// Transposes `LANES` rows of `LANES` numbers in place.
    unsafe fn transpose(rows: &mut [Self::V]);
}

/// Plain Rust, which the compiler vectorises for whatever it targets.
#[derive(Clone, Copy)]
pub(super) struct Portable;

impl Simd for Portable {
    const LANES: usize = 8;
    const MOST: usize = 2;
    type V = [f32; 8];

    #[inline(never)]
    unsafe fn enter<J: Job>(job: &J) {
        // SAFETY: plain Rust needs no instructions; the rest is the caller's promise.
        unsafe { job.on::<Self>() }
    }
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
    unsafe fn load_bf16(from: *const u16) -> Self::V {
        // SAFETY: as above.
        let halves = unsafe { from.cast::<[u16; 8]>().read_unaligned() };
        halves.map(|bits| half::bf16::from_bits(bits).to_f32())
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> Self::V {
        // SAFETY: as above.
        let halves = unsafe { from.cast::<[u16; 8]>().read_unaligned() };
        halves.map(|bits| half::f16::from_bits(bits).to_f32())
    }
    #[inline(always)]
    unsafe fn load_i8(from: *const i8) -> Self::V {
        // SAFETY: as above.
        unsafe { from.cast::<[i8; 8]>().read_unaligned() }.map(f32::from)
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
    unsafe fn mul(mut a: Self::V, b: Self::V) -> Self::V {
        for i in 0..8 {
            a[i] *= b[i];
        }
        a
    }
    #[inline(always)]
    unsafe fn add(mut a: Self::V, b: Self::V) -> Self::V {
        for i in 0..8 {
            a[i] += b[i];
        }
        a
    }
    #[inline(always)]
    unsafe fn relu(a: Self::V) -> Self::V {
        a.map(|a| if a < 0.0 { 0.0 } else { a })
    }
    #[inline(always)]
    unsafe fn prefetch<T>(_: *const T) {}
    #[inline(always)]
    unsafe fn pick4(x: *const f32, bits: u32) -> Self::V {
        // SAFETY: the caller hands eight readable numbers.
        let x = unsafe { Self::load(x) };
        std::array::from_fn(|i| x[(i & !3) + (bits >> (2 * i) & 3) as usize])
    }
    #[inline(always)]
    unsafe fn pick16(x: *const f32, bits: u64) -> Self::V {
        // SAFETY: the caller hands sixteen readable numbers; alignment is not assumed.
        let x = unsafe { x.cast::<[f32; 16]>().read_unaligned() };
        std::array::from_fn(|i| x[(bits >> (4 * i) & 15) as usize])
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
