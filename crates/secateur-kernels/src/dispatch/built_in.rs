//! What do kernels cost where nobody has measured? What they cost on one machine of each tier.
//!
//! Nanoseconds per unit of each term (`cost.rs`), as `Dispatcher::calibrate` measured them for each tier on one
//! core of a shared AMD EPYC server (family 26, AVX-512), November 2026, rounded; widening on AVX-512 and memory
//! (30 GB/s) by longer runs there. The dense product always takes the machine's best instructions: what it costs where there is
//! no AVX-512 is reckoned, twice and eight times (no FMA) the multiply-adds. There, 384x384 to 4096x4096 with
//! 1 to 512 tokens, 40 or more of 44 times for each of 2:4, 8:16, 1:4, CSR at 60, 90 and 99 % and blocks 4x4
//! lay within 25 % of the estimates on AVX-512, and 34 of dense; the other tiers were measured on a busy machine.
//! What matters is the ratio of the kernels of one tier, which carries over to other machines far better than the
//! figures.

use super::{
    Tier,
    cost::{Costs, Kernel, Terms},
};

const fn kernel(few: Terms, many: Terms) -> Kernel {
    Kernel { few, many }
}

pub(super) fn costs(tier: Tier) -> Costs {
    match tier {
        Tier::Avx512 => Costs {
            dense: kernel([0.0365, 0.0, 0.0, 0.526], [0.24, 1.45, 0.007, 0.0901]),
            n_of_m: kernel([0.0256, 0.00837, 0.124, 0.388], [0.0445, 0.133, 0.464, 0.0744]),
            csr: kernel([0.000547, 0.317, 0.658, 0.149], [0.0723, 0.17, 0.98, 0.0157]),
            block: kernel([0.0, 0.297, 1.11, 0.0879], [0.0689, 0.104, 2.45, 0.0142]),
            widen: [0.02, 0.03, 0.05],
            memory: 0.033,
        },
        Tier::Avx2 => Costs {
            dense: kernel([0.0365, 0.0, 0.0, 0.526], [0.24, 1.45, 0.014, 0.0901]),
            n_of_m: kernel([0.024, 0.0119, 0.362, 1.34], [0.128, 0.117, 0.337, 0.104]),
            csr: kernel([0.0872, 0.192, 0.688, 0.162], [0.165, 0.131, 0.629, 0.0186]),
            block: kernel([0.0321, 0.213, 0.778, 0.0614], [0.0644, 0.113, 1.12, 0.0117]),
            widen: [0.0105, 0.00243, 0.0126],
            memory: 0.033,
        },
        Tier::Portable => Costs {
            dense: kernel([0.066, 0.0, 0.0, 0.526], [0.24, 1.45, 0.056, 0.0901]),
            n_of_m: kernel([0.0, 0.27, 0.741, 1.88], [0.0896, 0.337, 0.211, 0.0618]),
            csr: kernel([0.122, 0.162, 0.701, 0.167], [0.0, 0.462, 1.67, 0.0501]),
            block: kernel([0.0702, 0.182, 0.971, 0.0774], [0.0, 0.332, 3.68, 0.0388]),
            widen: [0.111, 1.04, 0.113],
            memory: 0.033,
        },
    }
}
