//! How is MNIST read, or anything that looks like it? Four IDX files in a folder, plain or gzipped.

use super::Dataset;
use crate::DataError;
use candle_core::Device;
use flate2::read::MultiGzDecoder;
use std::{
    fs::File,
    io::{BufReader, Read, Seek},
    path::{Path, PathBuf},
};

/// No data set of this form is larger (EMNIST has 0.5 GB); a header that claims more is damaged.
const MOST_BYTES: usize = 1 << 30;

/// The data set in `folder`: `{train,t10k}-images-idx3-ubyte` and `{train,t10k}-labels-idx1-ubyte`,
/// each plain or gzipped (with or without `.gz` in the name). Any data set in this form will do:
/// MNIST, Fashion-MNIST, KMNIST.
pub fn load_idx(folder: &Path, name: &str, device: &Device) -> Result<Dataset, DataError> {
    let (train, train_features) = images(folder, "train-images-idx3-ubyte")?;
    let train_labels = labels(folder, "train-labels-idx1-ubyte")?;
    let (test, test_features) = images(folder, "t10k-images-idx3-ubyte")?;
    let test_labels = labels(folder, "t10k-labels-idx1-ubyte")?;
    if train_features != test_features {
        return Err(DataError::Inconsistent(format!(
            "{}: training images have {train_features} pixels, test images {test_features}",
            folder.display()
        )));
    }
    let (train, test) = ((&train[..], &train_labels[..]), (&test[..], &test_labels[..]));
    Dataset::from_pixels(name, train_features, 255.0, train, test, device)
}

/// The pixels of all images, and the pixels of one.
fn images(folder: &Path, stem: &'static str) -> Result<(Vec<u8>, usize), DataError> {
    let (sides, pixels) = read_idx(&find(folder, stem)?, 3)?;
    // `read_idx` proved that all sides together do not overflow, zero sides aside.
    Ok((pixels, sides[1].saturating_mul(sides[2])))
}

fn labels(folder: &Path, stem: &'static str) -> Result<Vec<u8>, DataError> {
    Ok(read_idx(&find(folder, stem)?, 1)?.1)
}

fn find(folder: &Path, stem: &'static str) -> Result<PathBuf, DataError> {
    let candidates = [folder.join(stem), folder.join(format!("{stem}.gz"))];
    let missing = || DataError::Missing { folder: folder.to_owned(), stem };
    candidates.into_iter().find(|path| path.is_file()).ok_or_else(missing)
}

/// The sides and bytes of an IDX file of `rank` dimensions. The header decides how much is read, and
/// exactly that much must be there.
fn read_idx(path: &Path, rank: usize) -> Result<(Vec<usize>, Vec<u8>), DataError> {
    let io = |source| DataError::Io { path: path.to_owned(), source };
    let invalid = |reason: String| DataError::Idx { path: path.to_owned(), reason };
    let truncated = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => invalid("it ends too early".to_owned()),
        std::io::ErrorKind::InvalidInput | std::io::ErrorKind::InvalidData => {
            invalid(format!("its compression is damaged ({error})"))
        }
        _ => io(error),
    };

    let mut file = File::open(path).map_err(io)?;
    let mut magic = [0; 2];
    let gzipped = file.read_exact(&mut magic).is_ok() && magic == [0x1f, 0x8b];
    file.rewind().map_err(io)?;
    let mut stream: Box<dyn Read> = match gzipped {
        true => Box::new(MultiGzDecoder::new(BufReader::new(file))),
        false => Box::new(BufReader::new(file)),
    };

    let mut word = [0; 4];
    stream.read_exact(&mut word).map_err(truncated)?;
    let expected = [0, 0, 8, rank as u8];
    if word != expected {
        return Err(invalid(format!("it begins with {word:02x?}, not {expected:02x?}")));
    }
    let mut sides = Vec::with_capacity(rank);
    for _ in 0..rank {
        stream.read_exact(&mut word).map_err(truncated)?;
        sides.push(u32::from_be_bytes(word) as usize);
    }
    let len = sides
        .iter()
        .try_fold(1_usize, |len, &side| len.checked_mul(side.max(1)))
        .filter(|len| *len <= MOST_BYTES && !sides.contains(&0))
        .ok_or_else(|| invalid(format!("its header claims {sides:?} entries")))?;
    // One byte more than there should be, so that a longer file is noticed; memory grows with what
    // is really there, not with what the header claims.
    let mut bytes = Vec::new();
    stream.take(len as u64 + 1).read_to_end(&mut bytes).map_err(truncated)?;
    if bytes.len() != len {
        let found = if bytes.len() > len { "more".to_owned() } else { bytes.len().to_string() };
        return Err(invalid(format!("its header claims {len} bytes, it holds {found}")));
    }
    Ok((sides, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::{fs, io::Write};

    fn idx(sides: &[u32], bytes: &[u8]) -> Vec<u8> {
        let mut file = vec![0, 0, 8, sides.len() as u8];
        file.extend(sides.iter().flat_map(|side| side.to_be_bytes()));
        file.extend(bytes);
        file
    }

    /// Two training images and one test image of 1 × 2 pixels.
    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let write =
            |name: &str, bytes: Vec<u8>| fs::write(folder.path().join(name), bytes).unwrap();
        write("train-images-idx3-ubyte", idx(&[2, 1, 2], &[0, 255, 255, 0]));
        write("train-labels-idx1-ubyte", idx(&[2], &[0, 1]));
        write("t10k-images-idx3-ubyte", idx(&[1, 1, 2], &[255, 255]));
        write("t10k-labels-idx1-ubyte", idx(&[1], &[1]));
        folder
    }

    fn load(folder: &tempfile::TempDir) -> Result<Dataset, DataError> {
        load_idx(folder.path(), "toy", &Device::Cpu)
    }

    #[test]
    fn plain_and_gzipped_files_read_alike() {
        let folder = folder();
        let plain = load(&folder).unwrap();
        let path = folder.path().join("train-images-idx3-ubyte");
        let mut gz = GzEncoder::new(vec![], Compression::default());
        gz.write_all(&fs::read(&path).unwrap()).unwrap();
        fs::write(folder.path().join("train-images-idx3-ubyte.gz"), gz.finish().unwrap()).unwrap();
        fs::remove_file(path).unwrap();
        let zipped = load(&folder).unwrap();
        let pixels = |data: &Dataset| data.train.xs().to_vec2::<f32>().unwrap();
        assert_eq!(pixels(&plain), pixels(&zipped));
        assert_eq!(pixels(&plain), [[-1.0, 1.0], [1.0, -1.0]]);
    }

    #[test]
    fn damaged_folders_are_named_errors() {
        let damage = |name: &str, bytes: Option<Vec<u8>>| {
            let folder = folder();
            let path = folder.path().join(name);
            match bytes {
                Some(bytes) => fs::write(path, bytes).unwrap(),
                None => fs::remove_file(path).unwrap(),
            }
            load(&folder).unwrap_err().to_string()
        };
        let labels = "train-labels-idx1-ubyte";
        let images = "train-images-idx3-ubyte";
        for (error, said) in [
            (damage(labels, None), "has no train-labels-idx1-ubyte"),
            (damage(labels, Some(vec![])), "ends too early"),
            (damage(labels, Some(idx(&[2], &[0]))), "claims 2 bytes, it holds 1"),
            (damage(labels, Some(idx(&[2], &[0, 1, 2]))), "it holds more"),
            (damage(labels, Some(idx(&[3], &[0, 1, 0]))), "are not 3 samples"),
            (damage(labels, Some(idx(&[2, 1], &[0, 1]))), "begins with"),
            (damage(labels, Some(vec![0x1f, 0x8b, 8, 0])), "fetch it again"),
            (damage(images, Some(idx(&[u32::MAX, u32::MAX, 9], &[]))), "claims"),
            (damage(images, Some(idx(&[2, 1, 1], &[1, 2]))), "training images have 1"),
            (damage(images, Some(idx(&[0, 1, 2], &[]))), "claims [0, 1, 2]"),
            (damage(images, Some(idx(&[0, 1 << 31, 1 << 31], &[]))), "claims"),
        ] {
            assert!(error.contains(said), "{error:?} does not say {said:?}");
        }
    }
}
