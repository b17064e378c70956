//! What do activations look like between two packed layers? Feature-major, in panels of tokens.
//!
//! Kernels run one token per lane, so `[tokens, features]` is transposed on the way in and out. A chain
//! of packed layers can leave that out: [`Panels`] holds activations as the kernels want them,
//! `[panel][feature][token]`, and [`Product::run_panels`](crate::Product::run_panels) reads and writes
//! them.

use crate::{
    Dispatcher, KernelError,
    cpu::{drive, moves},
    lines::Lines,
};

/// Activations, feature-major, in panels as wide as this machine's kernels want them.
///
/// ```
/// use secateur_kernels::{Dispatcher, Panels};
///
/// let dispatcher = Dispatcher::probe()?;
/// let x: Vec<f32> = (0..40 * 3).map(|i| i as f32).collect();
/// let panels = Panels::pack(&x, 40, 3, &dispatcher)?; // 40 tokens of 3 features
/// let mut back = vec![0.0; x.len()];
/// panels.unpack(&mut back)?;
/// assert_eq!(x, back);
/// # Ok::<(), secateur_kernels::KernelError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Panels {
    tokens: usize,
    features: usize,
    dispatcher: Dispatcher,
    lines: Lines,
}

/// A panel: some tokens, one to a lane, of all features.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Panel<'a> {
    /// The first token.
    pub first: usize,
    /// Tokens that are there; lanes beyond them hold anything.
    pub tokens: usize,
    /// From a feature to the next: lanes of a panel.
    pub width: usize,
    /// `[features][width]`.
    pub data: &'a [f32],
}

impl Panels {
    /// All zeros. Errors if no address space holds them.
    pub fn zeros(
        tokens: usize,
        features: usize,
        dispatcher: &Dispatcher,
    ) -> Result<Self, KernelError> {
        let len = lanes(tokens, features, dispatcher)? * drive::panel_rows(features);
        let lines = Lines::zeros(len, size_of::<f32>());
        Ok(Self { tokens, features, dispatcher: *dispatcher, lines })
    }

    /// From `x` `[tokens, features]`, row-major. Errors on any other length.
    pub fn pack(
        x: &[f32],
        tokens: usize,
        features: usize,
        dispatcher: &Dispatcher,
    ) -> Result<Self, KernelError> {
        // Before memory is asked for: a wrong count must not ask for terabytes.
        let too_large = KernelError::TooLarge { rows: 0, cols: features, tokens };
        expect("x", x.len(), tokens.checked_mul(features).ok_or(too_large)?)?;
        let mut panels = Self::zeros(tokens, features, dispatcher)?;
        moves::pack(x, &mut panels);
        Ok(panels)
    }

    /// Replaces them by `x` `[tokens, features]`, as many tokens as `x` has: memory is kept from one use to
    /// the next. Errors unless `x` is whole tokens.
    pub fn repack(&mut self, x: &[f32]) -> Result<(), KernelError> {
        let tokens = x.len().checked_div(self.features).unwrap_or(0);
        expect("x", x.len(), tokens * self.features)?;
        self.resize(tokens)?;
        moves::pack(x, self);
        Ok(())
    }

    /// Makes room for a number of tokens, which hold anything until a product writes them: for outputs
    /// that are used again and again.
    pub fn resize(&mut self, tokens: usize) -> Result<(), KernelError> {
        let lanes = lanes(tokens, self.features, &self.dispatcher)?;
        self.lines.grow(lanes * drive::panel_rows(self.features));
        self.tokens = tokens;
        self.clear_padding();
        Ok(())
    }

    /// Into `y` `[tokens, features]`, row-major. Errors on any other length.
    pub fn unpack(&self, y: &mut [f32]) -> Result<(), KernelError> {
        expect("y", y.len(), self.tokens * self.features)?;
        moves::unpack(self, y);
        Ok(())
    }

    /// How many tokens.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// How many features a token has.
    pub fn features(&self) -> usize {
        self.features
    }

    /// The machine, and the tier, that the panels are cut for.
    pub fn dispatcher(&self) -> &Dispatcher {
        &self.dispatcher
    }

    /// The panels, from the first token on.
    pub fn iter(&self) -> impl Iterator<Item = Panel<'_>> + '_ {
        let rows = drive::panel_rows(self.features);
        let floats = self.lines.floats();
        drive::Tiling::of(self.dispatcher.tier()).panels(self.tokens).map(move |panel| Panel {
            first: panel.first,
            tokens: panel.tokens,
            width: panel.width,
            data: &floats[panel.first * rows..][..self.features * panel.width],
        })
    }

    pub(crate) fn as_ptr(&self) -> *const f32 {
        self.lines.as_ptr()
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut f32 {
        self.lines.as_mut_ptr()
    }

    /// Clears what lies between the panels' last features and their ends: kernels that read whole words
    /// of columns multiply it by zero.
    pub(crate) fn clear_padding(&mut self) {
        let (rows, features, tokens) =
            (drive::panel_rows(self.features), self.features, self.tokens);
        let floats = self.lines.floats_mut();
        for panel in drive::Tiling::of(self.dispatcher.tier()).panels(tokens) {
            let panel_from = panel.first * rows;
            floats[panel_from + features * panel.width..panel_from + rows * panel.width].fill(0.0);
        }
    }
}

/// Lanes of all panels. Errors when no address space holds their numbers.
fn lanes(tokens: usize, features: usize, dispatcher: &Dispatcher) -> Result<usize, KernelError> {
    let too_large = KernelError::TooLarge { rows: 0, cols: features, tokens };
    // So that rounding up to whole panels and words does not overflow.
    if tokens.max(features) > isize::MAX as usize {
        return Err(too_large);
    }
    let lanes = drive::Tiling::of(dispatcher.tier()).lanes(tokens);
    let rows = drive::panel_rows(features);
    let bytes = lanes.checked_mul(rows).and_then(|len| len.checked_mul(size_of::<f32>()));
    // No more than a machine might hold: 2^42 bytes.
    if bytes.is_none_or(|bytes| bytes > 1 << 42) {
        return Err(too_large);
    }
    Ok(lanes)
}

fn expect(what: &'static str, found: usize, expected: usize) -> Result<(), KernelError> {
    let error = KernelError::Length { what, found, expected };
    if found == expected { Ok(()) } else { Err(error) }
}
