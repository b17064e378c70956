//! What does a file say about its tensors? One JSON text under the metadata key `secateur`.
//!
//! safetensors keeps metadata in an unordered map; one key with sorted JSON inside makes equal
//! checkpoints equal bytes.

use crate::{Format, StorageError, unique};
use secateur_mask::{Mask, Pattern};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// The metadata key.
pub(crate) const KEY: &str = "secateur";
/// The version written, and the newest one read. Version 1 had f32, 2:4, bitmaps and masks only, in
/// the same layout.
pub(crate) const VERSION: u32 = 2;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Claims {
    pub version: u32,
    #[serde(deserialize_with = "unique::names")]
    pub metadata: BTreeMap<String, String>,
    #[serde(deserialize_with = "unique::names")]
    pub tensors: BTreeMap<String, Claim>,
}

/// What the claims say about one tensor.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Claim {
    pub format: Format,
    pub shape: Vec<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<Pattern>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mask_sha256: Option<String>,
}

impl Claims {
    /// Reads claims; the version is looked at before anything else is believed.
    pub fn parse(text: &str) -> Result<Self, StorageError> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let Version { version } = serde_json::from_str(text)?;
        if !(1..=VERSION).contains(&version) {
            return Err(StorageError::Version { found: version, known: VERSION });
        }
        Ok(serde_json::from_str(text)?)
    }
}

/// SHA-256 of a mask, in hexadecimal: over the shape's sides, then the bits, all as little-endian
/// 64-bit words.
pub fn mask_hash(mask: &Mask) -> String {
    let mut hasher = Sha256::new();
    for &side in mask.shape() {
        hasher.update((side as u64).to_le_bytes());
    }
    // Little-endian words, many at a time: as they lie in memory.
    hasher.update(bytemuck::cast_slice(mask.words()));
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_versions_are_named_even_if_their_fields_are_unknown() {
        let error = Claims::parse(r#"{"version": 9, "novelty": []}"#).unwrap_err();
        assert!(matches!(error, StorageError::Version { found: 9, known: VERSION }));
        assert!(Claims::parse(r#"{"version": 0, "metadata": {}, "tensors": {}}"#).is_err());
    }

    #[test]
    fn the_hash_depends_on_shape_and_bits() {
        let hashes: Vec<String> = [
            Mask::full(&[2, 8]).unwrap(),
            Mask::full(&[4, 4]).unwrap(),
            Mask::empty(&[4, 4]).unwrap(),
        ]
        .iter()
        .map(mask_hash)
        .collect();
        assert_ne!(hashes[0], hashes[1]);
        assert_ne!(hashes[1], hashes[2]);
        assert_eq!(hashes[0].len(), 64);
    }
}
