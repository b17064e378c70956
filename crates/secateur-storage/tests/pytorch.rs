//! Are our words those that PyTorch 2.7.1 wrote? The fixture holds its own conversions, some of
//! weights with `-0.0` in them.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use safetensors::SafeTensors;
use secateur_storage::{
    device_order::{from_device_order, to_device_order},
    semi_structured::{MetadataWord, compress, expand, verify},
};
use std::fmt::Debug;

const FIXTURE: &[u8] = include_bytes!("fixtures/pytorch-semi-structured.safetensors");

fn u16s(bytes: &[u8]) -> Vec<u16> {
    bytes.as_chunks().0.iter().map(|bytes| u16::from_le_bytes(*bytes)).collect()
}

fn u32s(bytes: &[u8]) -> Vec<u32> {
    bytes.as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect()
}

/// Holds one weight of the fixture against the library: metadata in both orders, and the values
/// where they are kept. Says whether its dense weight was there.
fn hold<T, W>(
    name: &str,
    elements: fn(&[u8]) -> Vec<T>,
    is_zero: fn(T) -> bool,
    words: fn(&[u8]) -> Vec<W>,
) -> bool
where
    T: Copy + Default + PartialEq + Debug,
    W: MetadataWord + PartialEq + Debug,
{
    let file = SafeTensors::deserialize(FIXTURE).unwrap();
    let bytes = |part| file.tensor(&format!("{name}.{part}")).map(|tensor| tensor.data().to_vec());
    let (m, k) = name.split_once('.').unwrap().1.split_once('x').unwrap();
    let shape = [m.parse().unwrap(), k.parse().unwrap()];

    let (rows, device) =
        (words(&bytes("meta_rows").unwrap()), u32s(&bytes("meta_reordered").unwrap()));
    verify(&rows, shape).unwrap();
    assert_eq!(to_device_order(&rows, shape).unwrap(), device, "{name}");
    assert_eq!(from_device_order::<W>(&device, shape).unwrap(), rows, "{name}");

    let (Ok(dense), Ok(values)) = (bytes("dense"), bytes("values")) else { return false };
    let (dense, values) = (elements(&dense), elements(&values));
    assert_eq!(compress(&dense, shape, is_zero).unwrap(), (values.clone(), rows.clone()), "{name}");
    // A `-0.0` that no value stores comes back as `+0.0`; everything else bit for bit.
    for (back, was) in expand(&values, &rows, shape).unwrap().into_iter().zip(dense) {
        assert!(back == was || back == T::default() && is_zero(was), "{name}: {back:?} {was:?}");
    }
    true
}

#[test]
fn sixteen_bit_words_are_pytorchs() {
    let whole = ["f16.32x64", "bf16.32x64", "bf16.64x64", "f16.96x192"]
        .map(|n| hold(n, u16s, |bits| bits << 1 == 0, u16s));
    assert_eq!(whole, [true, true, false, false]);
}

#[test]
fn eight_bit_words_are_pytorchs() {
    let whole =
        ["i8.32x128", "i8.48x256"].map(|name| hold(name, <[u8]>::to_vec, |bits| bits == 0, u32s));
    assert_eq!(whole, [true, false]);
}
