//! What is asked for, in one word? A pattern and how much of it: `2:4`, `0.9`, `block4x1@0.8`.

use crate::{MaskError, Pattern, Sparsity};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// A pattern together with its sparsity, as recipes and command lines write it.
///
/// - a number is that share of each layer, unstructured: `0.9`;
/// - a pattern that fixes its sparsity stands alone: `2:4`, `64:2:8`, `transposable-2:4`;
/// - all others take it behind an `@`: `block4x1@0.8`, `channel@0.5`, `unstructured-row@0.6`.
///
/// ```
/// use secateur_mask::{Pattern, Target};
/// let target: Target = "channel@0.5".parse()?;
/// assert_eq!(target.sparsity().share(), 0.5);
/// assert_eq!("2:4".parse::<Target>()?.pattern(), Pattern::TWO_OF_FOUR);
/// assert_eq!("0.9".parse::<Target>()?.pattern(), Pattern::Unstructured);
/// assert!("channel".parse::<Target>().is_err()); // how much?
/// # Ok::<(), secateur_mask::MaskError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Target {
    pattern: Pattern,
    sparsity: Sparsity,
}

impl Target {
    /// `sparsity` in the shape of `pattern`; `None` where the pattern knows it by itself.
    ///
    /// Errors when a sparsity is needed and missing, or contradicts the pattern's own.
    pub fn new(pattern: Pattern, sparsity: Option<Sparsity>) -> Result<Self, MaskError> {
        let sparsity = match (sparsity, pattern.fixed_sparsity()) {
            (Some(asked), Some(fixed)) if asked != fixed => {
                return Err(MaskError::FixedSparsity { pattern, fixed, asked });
            }
            (Some(sparsity), _) | (None, Some(sparsity)) => sparsity,
            (None, None) => return Err(MaskError::NoSparsity(pattern)),
        };
        Ok(Self { pattern, sparsity })
    }

    /// In what shape weights go.
    pub fn pattern(self) -> Pattern {
        self.pattern
    }

    /// How much goes.
    pub fn sparsity(self) -> Sparsity {
        self.sparsity
    }
}

impl FromStr for Target {
    type Err = MaskError;

    fn from_str(text: &str) -> Result<Self, MaskError> {
        let unknown = || MaskError::UnknownTarget(text.to_owned());
        let parse = |pattern: &str| match pattern.parse() {
            Err(MaskError::UnknownPattern(_)) => Err(unknown()),
            parsed => parsed,
        };
        let share = |text: &str| text.parse().ok().map(Sparsity::new);
        if let Some(sparsity) = share(text) {
            return Self::new(Pattern::Unstructured, Some(sparsity?));
        }
        let Some((pattern, amount)) = text.split_once('@') else {
            return Self::new(parse(text)?, None);
        };
        Self::new(parse(pattern)?, Some(share(amount).ok_or_else(unknown)??))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.pattern, self.pattern.fixed_sparsity()) {
            (Pattern::Unstructured, _) => write!(f, "{}", self.sparsity),
            (pattern, Some(_)) => write!(f, "{pattern}"),
            (pattern, None) => write!(f, "{pattern}@{}", self.sparsity),
        }
    }
}

impl TryFrom<String> for Target {
    type Error = MaskError;
    fn try_from(text: String) -> Result<Self, MaskError> {
        text.parse()
    }
}

impl From<Target> for String {
    fn from(target: Target) -> Self {
        target.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_round_trip() {
        for word in ["0.9", "2:4", "64:2:8", "block4x1@0.8", "channel@0.5", "unstructured-row@0.6"]
        {
            assert_eq!(word.parse::<Target>().unwrap().to_string(), word);
        }
        assert_eq!("unstructured@0.9".parse::<Target>().unwrap().to_string(), "0.9");
        assert_eq!("2:4@0.5".parse::<Target>().unwrap().to_string(), "2:4");
    }

    #[test]
    fn what_is_missing_or_contradictory_is_said() {
        let said = |word: &str| word.parse::<Target>().unwrap_err().to_string();
        assert_eq!(said("channel"), "channel needs a sparsity; write channel@0.5 to cut half");
        assert!(said("2:4@0.9").contains("fixes the sparsity at 0.5"));
        assert!(said("1.5").contains("between 0 and 1"));
        assert!(said("block4x1@lots").contains("write a share such as 0.9"));
        assert!(said("50%").contains("write a share such as 0.9"));
        assert!(said("NaN").contains("between 0 and 1"));
    }
}
