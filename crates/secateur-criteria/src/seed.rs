//! How does one seed serve a whole run? Every purpose draws from a stream of its own.
//!
//! A run has one seed. Initialising `fc1.weight`, shuffling an epoch and dropping units each name
//! their purpose and get an independent generator, so that adding a draw in one place moves no
//! other. (candle cannot seed its own generator on CPU.)

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// The generator for one `purpose` of a run; equal arguments give equal numbers everywhere.
///
/// ```
/// use rand::Rng;
/// use secateur_criteria::seed::stream;
/// assert_eq!(stream(7, "shuffle/0").next_u64(), stream(7, "shuffle/0").next_u64());
/// assert_ne!(stream(7, "shuffle/0").next_u64(), stream(7, "shuffle/1").next_u64());
/// ```
pub fn stream(seed: u64, purpose: &str) -> ChaCha8Rng {
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    generator.set_stream(fnv1a(purpose.as_bytes()));
    generator
}

/// The 64-bit Fowler–Noll–Vo hash 1a: fixed for all time, unlike the standard library's hasher.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_published_one() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
    }
}
