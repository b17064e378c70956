//! Where do aligned numbers lie? In cache lines, so that no vector load crosses two.

/// One cache line.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// A buffer that begins on a cache line and ends on one, for numbers of any kind.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lines(Vec<Line>);

impl Lines {
    /// At least `len` numbers of `size` bytes, all bits zero.
    pub fn zeros(len: usize, size: usize) -> Self {
        Self(vec![Line([0; 64]); (len * size).div_ceil(64)])
    }

    /// Grows to at least `len` f32; old contents and new zeros are both left in place.
    pub fn grow(&mut self, len: usize) {
        let lines = (len * size_of::<f32>()).div_ceil(64);
        if self.0.len() < lines {
            self.0.resize(lines, Line([0; 64]));
        }
    }

    /// The bytes held, a multiple of 64.
    pub fn len(&self) -> usize {
        self.0.len() * 64
    }

    /// All bytes, for writing.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let len = self.len();
        // SAFETY: the lines are plain bytes, `len` of them, borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), len) }
    }

    /// All numbers, as f32.
    pub fn floats(&self) -> &[f32] {
        // SAFETY: lines are aligned to 64 bytes, hold a whole number of f32, and every bit pattern
        // is one.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), self.len() / size_of::<f32>()) }
    }

    /// All numbers, as f32, for writing.
    pub fn floats_mut(&mut self) -> &mut [f32] {
        let len = self.len() / size_of::<f32>();
        // SAFETY: as above, borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), len) }
    }

    /// The first number. Valid for `len()` bytes; aligned to 64 bytes.
    pub fn as_ptr<T>(&self) -> *const T {
        self.0.as_ptr().cast()
    }

    /// The first number, for writing. Valid for `len()` bytes; aligned to 64 bytes.
    pub fn as_mut_ptr<T>(&mut self) -> *mut T {
        self.0.as_mut_ptr().cast()
    }
}
