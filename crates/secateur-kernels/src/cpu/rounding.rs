//! What may activations be rounded to, so that two of them are multiplied at once?

/// What activations are rounded to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rounding {
    /// bf16, with bf16 weights.
    Bf16,
    /// i8 with a scale for each token, with i8 weights; both are widened to i16.
    I8,
}

impl Rounding {
    /// What a tier's name is followed by.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bf16 => "-bf16",
            Self::I8 => "-i8",
        }
    }

    /// Whether this machine has the instructions.
    #[cfg(target_arch = "x86_64")]
    pub fn detected(self) -> bool {
        let wide = is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512vl");
        let pairs = match self {
            Self::Bf16 => is_x86_feature_detected!("avx512bf16"),
            Self::I8 => is_x86_feature_detected!("avx512vnni"),
        };
        wide && pairs
    }

    /// Whether this machine has the instructions.
    #[cfg(not(target_arch = "x86_64"))]
    pub fn detected(self) -> bool {
        false
    }
}
