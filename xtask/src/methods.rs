//! Which names do recipes and command lines give to criteria and allocations?

use clap::ValueEnum;
use secateur::criteria::{
    Allocation, Alps, Criterion, Erk, Global, Grasp, Lamp, Magnitude, MagnitudeL2, Movement, Obs,
    Owl, Random, Ria, Snip, SparseGpt, SynFlow, Taylor, Uniform, Wanda,
};
use serde::{Deserialize, Serialize};

/// Which weights matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum CriterionName {
    /// |w|; blocks and channels by their L1 norm (Han 2015)
    Magnitude,
    /// w²; blocks and channels by their L2 norm
    MagnitudeL2,
    /// None more than another: the control
    Random,
    /// |w| · ‖x‖, compared within each output row; needs inputs (Sun 2023)
    Wanda,
    /// Relative importance and activations; needs inputs (Zhang 2024)
    Ria,
    /// Column by column with second-order updates of the survivors; needs inputs (Frantar 2023)
    #[serde(rename = "sparsegpt")]
    #[value(name = "sparsegpt")]
    SparseGpt,
    /// ADMM on the layer's least-squares problem; needs inputs (Meng 2024)
    Alps,
    /// |g · w| at initialisation; needs gradients (Lee 2019)
    Snip,
    /// |g · w| after training; needs gradients (Molchanov 2019)
    Taylor,
    /// −Σ w · g over training steps; needs gradients (Sanh 2020)
    Movement,
    /// θ · Hg at initialisation; needs Hessian-gradient products (Wang 2020)
    Grasp,
    /// Synaptic flow through a chain of layers, in 100 steps (Tanaka 2020)
    #[serde(rename = "synflow")]
    #[value(name = "synflow")]
    SynFlow,
    /// w² / 2[F⁻¹] with updates of the survivors; needs gradients of samples (Kurtic 2022)
    Obs,
}

impl CriterionName {
    /// The criterion; random ones draw from `seed`.
    pub fn criterion(self, seed: u64) -> Box<dyn Criterion> {
        match self {
            Self::Magnitude => Box::new(Magnitude),
            Self::MagnitudeL2 => Box::new(MagnitudeL2),
            Self::Random => Box::new(Random { seed }),
            Self::Wanda => Box::new(Wanda),
            Self::Ria => Box::new(Ria),
            Self::SparseGpt => Box::new(SparseGpt::default()),
            Self::Alps => Box::new(Alps::default()),
            Self::Snip => Box::new(Snip),
            Self::Taylor => Box::new(Taylor),
            Self::Movement => Box::new(Movement::default()),
            Self::Grasp => Box::new(Grasp),
            Self::SynFlow => Box::new(SynFlow::default()),
            Self::Obs => Box::new(Obs),
        }
    }
}

/// How much of each layer goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum AllocationName {
    /// The same share of every layer
    #[default]
    Uniform,
    /// Whatever the weakest weights of all layers leave it
    Global,
    /// More of large layers, by their sides (Erdős–Rényi kernel, Evci 2020)
    Erk,
    /// Global, each score relative to what its layer would have left (Lee 2021)
    Lamp,
    /// Less of layers with many outlying scores (Yin 2023)
    Owl,
}

impl AllocationName {
    /// The allocation.
    pub fn allocation(self) -> Box<dyn Allocation> {
        match self {
            Self::Uniform => Box::new(Uniform),
            Self::Global => Box::new(Global),
            Self::Erk => Box::new(Erk),
            Self::Lamp => Box::new(Lamp),
            Self::Owl => Box::new(Owl::default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a command line says is what reports say.
    #[test]
    fn names_are_the_criteria_s_own() {
        for name in CriterionName::value_variants() {
            let said = name.to_possible_value().unwrap().get_name().to_owned();
            assert_eq!(name.criterion(0).name(), said);
            assert_eq!(serde_json::to_string(name).unwrap(), format!("{said:?}"));
        }
        for name in AllocationName::value_variants() {
            let said = name.to_possible_value().unwrap().get_name().to_owned();
            assert_eq!(name.allocation().name(), said);
            assert_eq!(serde_json::to_string(name).unwrap(), format!("{said:?}"));
        }
    }
}
