//! Where do activations lie? Token after token, at any distance from one to the next.

/// Activations `[tokens, features]`, row-major; `stride` numbers from a token to the next.
///
/// ```
/// use secateur_kernels::View;
/// // The second half of each of three tokens of eight features:
/// let x = [0.0_f32; 24];
/// let view = View { data: &x[4..], tokens: 3, stride: 8 };
/// # let _ = view;
/// ```
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The numbers, the first token's first feature first.
    pub data: &'a [f32],
    /// How many tokens.
    pub tokens: usize,
    /// From a token's first feature to the next token's; at least the features.
    pub stride: usize,
}

/// Where outputs `[tokens, features]` go; as [`View`].
#[derive(Debug)]
pub struct ViewMut<'a> {
    /// The numbers, the first token's first feature first. Those between tokens are left alone.
    pub data: &'a mut [f32],
    /// How many tokens.
    pub tokens: usize,
    /// From a token's first feature to the next token's; at least the features.
    pub stride: usize,
}

/// The numbers a view must hold, or `None` if no address space does.
pub(crate) fn extent(tokens: usize, stride: usize, features: usize) -> Option<usize> {
    match tokens {
        0 => Some(0),
        _ => (tokens - 1).checked_mul(stride)?.checked_add(features),
    }
}
