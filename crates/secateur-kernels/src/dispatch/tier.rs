//! Which vector instructions does a processor have? One tier of kernels is compiled for each answer.

use crate::KernelError;
use std::fmt;

/// What a processor can do, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// AVX-512 F and DQ, with BMI2.
    Avx512,
    /// AVX2 and FMA, with BMI2 and F16C.
    Avx2,
    /// Whatever the compiler makes of plain Rust.
    Portable,
}

impl Tier {
    pub(super) const ALL: [Self; 3] = [Self::Avx512, Self::Avx2, Self::Portable];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Avx512 => "avx512",
            Self::Avx2 => "avx2",
            Self::Portable => "portable",
        }
    }

    /// The best tier of this machine.
    pub(super) fn best() -> Self {
        Self::ALL.into_iter().find(|tier| tier.detected()).unwrap_or(Self::Portable)
    }

    /// The tier that `SECATEUR_TIER` names, or else the best. Errors when it names none, or one that
    /// is not there.
    pub(super) fn asked() -> Result<Self, KernelError> {
        let Some(name) = std::env::var_os("SECATEUR_TIER") else { return Ok(Self::best()) };
        let unknown = || KernelError::UnknownTier(name.to_string_lossy().into_owned());
        let tier = Self::ALL.into_iter().find(|tier| name == tier.name());
        tier.ok_or_else(unknown)?.if_detected()
    }

    /// Errors where this processor lacks it.
    pub(super) fn if_detected(self) -> Result<Self, KernelError> {
        let none = KernelError::NoSuchTier { asked: self.name(), best: Self::best().name() };
        if self.detected() { Ok(self) } else { Err(none) }
    }

    #[cfg(target_arch = "x86_64")]
    fn detected(self) -> bool {
        let bmi2 = is_x86_feature_detected!("bmi2");
        let fma = is_x86_feature_detected!("fma");
        match self {
            Self::Avx512 => {
                bmi2 && fma
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512dq")
            }
            Self::Avx2 => {
                bmi2 && fma && is_x86_feature_detected!("avx2") && is_x86_feature_detected!("f16c")
            }
            Self::Portable => true,
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn detected(self) -> bool {
        self == Self::Portable
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
