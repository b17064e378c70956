//! Where do aligned numbers lie? In cache lines, so that no vector load crosses two.

/// One cache line of f32.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Line(pub [f32; 16]);

/// A buffer of f32 that begins on a cache line and ends on one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lines(Vec<Line>);

impl Lines {
    /// At least `len` zeros.
    pub fn zeros(len: usize) -> Self {
        Self(vec![Line([0.0; 16]); len.div_ceil(16)])
    }

    /// Grows to at least `len` numbers; old contents and new zeros are both left in place.
    pub fn grow(&mut self, len: usize) {
        if self.0.len() < len.div_ceil(16) {
            self.0.resize(len.div_ceil(16), Line([0.0; 16]));
        }
    }

    /// Sets one number.
    pub fn set(&mut self, index: usize, value: f32) {
        self.0[index / 16].0[index % 16] = value;
    }

    /// The numbers held, a multiple of 16.
    pub fn len(&self) -> usize {
        self.0.len() * 16
    }

    /// The first number. Valid for `len()` reads; aligned to 64 bytes.
    pub fn as_ptr(&self) -> *const f32 {
        self.0.as_ptr().cast()
    }

    /// The first number, for writing. Valid for `len()` numbers; aligned to 64 bytes.
    pub fn as_mut_ptr(&mut self) -> *mut f32 {
        self.0.as_mut_ptr().cast()
    }
}
