//! Do the kernels compute what the CPU does? Their PTX, executed by the emulator over the whole sweep.

use rayon::prelude::*;
use secateur_kernels::cuda::{Emulator, check};

#[test]
fn every_kernel_is_right_on_every_shape() {
    let sweep = check::sweep();
    let wrong: Vec<String> = sweep
        .par_iter()
        .filter_map(|check| match check.run(&Emulator::new().device()) {
            Ok(verdict) if verdict.holds() => None,
            Ok(verdict) => Some(format!("{check}: {verdict:?}")),
            Err(error) => Some(format!("{check}: {error}")),
        })
        .collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), sweep.len(), wrong.join("\n"));
}
