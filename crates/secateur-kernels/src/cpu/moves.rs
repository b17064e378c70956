//! How do activations come into panels, and out of them, when no product does it on the way?

use super::{
    drive::{Cut, Tiling, on_tier, panel_rows},
    panel,
    simd::{Job, Simd},
};
use crate::Panels;
use std::ptr::null;

/// Activations on the way into panels, or out of them.
struct Move {
    tokens: *mut f32,
    panels: *mut f32,
    features: usize,
    cut: Cut,
    into_panels: bool,
}

impl Job for Move {
    #[inline(always)]
    unsafe fn on<S: Simd>(&self) {
        let Self { features, cut, .. } = *self;
        // SAFETY: the tokens and the panels are those of `pack` or `unpack`, which checked their sizes.
        unsafe {
            let tokens = self.tokens.add(cut.first * features);
            let panel = self.panels.add(cut.first * panel_rows(features));
            let (count, width) = (cut.tokens, cut.width);
            if self.into_panels {
                panel::pack::<S>(tokens, features, features, count, null(), panel, width);
            } else {
                panel::unpack::<S>(panel, features, width, null(), tokens, features, count);
            }
        }
    }
}

/// `x` `[tokens, features]` into panels that are all zeros.
pub(crate) fn pack(x: &[f32], panels: &mut Panels) {
    let (tokens, features) = (panels.tokens(), panels.features());
    assert_eq!(x.len(), tokens * features);
    let tier = panels.dispatcher().tier();
    let (from, to) = (x.as_ptr().cast_mut(), panels.as_mut_ptr());
    for cut in Tiling::of(tier).panels(tokens) {
        let job = Move { tokens: from, panels: to, features, cut, into_panels: true };
        // SAFETY: `x` has these tokens, and is only read; the panels were sized for them; the tier is
        // the dispatcher's.
        unsafe { on_tier(tier, &job) };
    }
}

/// Panels into `y` `[tokens, features]`.
pub(crate) fn unpack(panels: &Panels, y: &mut [f32]) {
    let (tokens, features) = (panels.tokens(), panels.features());
    assert_eq!(y.len(), tokens * features);
    let tier = panels.dispatcher().tier();
    let (from, to) = (panels.as_ptr().cast_mut(), y.as_mut_ptr());
    for cut in Tiling::of(tier).panels(tokens) {
        let job = Move { tokens: to, panels: from, features, cut, into_panels: false };
        // SAFETY: as above, the panels only read.
        unsafe { on_tier(tier, &job) };
    }
}
