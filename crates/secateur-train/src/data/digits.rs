//! Which real data needs no download? 1797 handwritten digits, 8×8 pixels (UCI optdigits).

use super::Dataset;
use crate::DataError;
use candle_core::Device;
use rand::seq::SliceRandom;
use secateur_criteria::seed;

/// Every fifth digit, of a fixed random order, is for testing.
const TEST_SHARE: usize = 5;

/// The digits data set (Alpaydin & Kaynak 1998): 1438 digits to learn from, 359 to be judged by, 64
/// pixels of 0 to 16 each. The test part is the same for every seed.
pub fn digits(device: &Device) -> Result<Dataset, DataError> {
    let raw = smartcore::dataset::digits::load_dataset();
    let features = raw.num_features;
    let mut order: Vec<usize> = (0..raw.num_samples).collect();
    order.shuffle(&mut seed::stream(0, "split/digits-test"));
    let (test, train) = order.split_at(raw.num_samples / TEST_SHARE);

    let part = |indices: &[usize]| -> (Vec<u8>, Vec<u8>) {
        let pixels =
            |i: &usize| raw.data[i * features..(i + 1) * features].iter().map(|p| *p as u8);
        (
            indices.iter().flat_map(pixels).collect(),
            indices.iter().map(|i| raw.target[*i] as u8).collect(),
        )
    };
    let (train, test) = (part(train), part(test));
    Dataset::from_pixels("digits", features, 16.0, (&train.0, &train.1), (&test.0, &test.1), device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_real_data_set() {
        let data = digits(&Device::Cpu).unwrap();
        assert_eq!((data.train.len(), data.test.len()), (1438, 359));
        assert_eq!((data.features, data.classes), (64, 10));
        // The published class counts, over both parts.
        let mut counts = [0; 10];
        for part in [&data.train, &data.test] {
            for label in part.ys().to_vec1::<u32>().unwrap() {
                counts[label as usize] += 1;
            }
        }
        assert_eq!(counts, [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]);
    }
}
