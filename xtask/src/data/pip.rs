//! How does pip hand out a package? As a wheel, which is a zip archive.

use super::{Client, Found, Package};
use anyhow::{Context, Result};
use std::fs::File;
use zip::{ZipArchive, result::ZipError};

/// `pip download` of wheels alone only downloads; a source package would have to be run to learn its
/// name. It does not matter whether this Python could import the package, so that is not asked.
pub const PIP: Client = Client {
    programs: &["python3", "python"],
    arguments: &[
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary=:all:",
        "--ignore-requires-python",
        "--disable-pip-version-check",
        "--no-input",
        "--dest=.",
    ],
    not_it: Some("No module named pip"),
    advice: "Python 3 with pip is not installed; install both (`python3 -m ensurepip` may bring pip)",
    extension: "whl",
    unpack,
};

/// Names and lengths in the archive are only compared: what is written where is ours to say.
fn unpack(archive: File, package: &Package) -> Result<Found> {
    let damaged = || package.damaged();
    let mut found = Found::new();
    let mut archive = ZipArchive::new(archive).with_context(damaged)?;
    for wanted in package.files {
        match archive.by_name(&format!("{}{}", package.root, wanted.path)) {
            Ok(entry) => {
                found.insert(wanted.path, wanted.read(entry).with_context(damaged)?);
            }
            Err(ZipError::FileNotFound) => {}
            Err(error) => return Err(error).with_context(damaged),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::{super::tests, *};
    use std::io::{Cursor, Write};
    use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

    const HELLO: &str = "package/data/sub/hello";

    fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut zip = ZipWriter::new(Cursor::new(vec![]));
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
        for (path, bytes) in files {
            zip.start_file(*path, options).unwrap();
            zip.write_all(bytes).unwrap();
        }
        zip.finish().unwrap().into_inner()
    }

    /// `bytes` with every `from` replaced by `to`, which is as long.
    fn forged(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
        assert_eq!(from.len(), to.len());
        let mut bytes = bytes.to_vec();
        let places: Vec<usize> =
            (0..=bytes.len() - from.len()).filter(|&at| bytes[at..].starts_with(from)).collect();
        assert!(!places.is_empty());
        for at in places {
            bytes[at..at + to.len()].copy_from_slice(to);
        }
        bytes
    }

    #[test]
    fn only_what_has_the_right_digest_is_taken() {
        let package = tests::toy(PIP);
        let good = archive(&[("package/other", b"x"), (HELLO, b"hello")]);
        let found = tests::judged(&package, &good).unwrap();
        assert_eq!(found, [("sub/hello", b"hello".to_vec())].into());
        for (bad, said) in [
            (archive(&[(HELLO, b"hallo")]), "nothing was written"),
            (archive(&[("package/other", b"x")]), "has no package/data/sub/hello"),
            (good[..good.len() / 2].to_vec(), "is damaged"),
            (good[..good.len() - 1].to_vec(), "is damaged"),
            (b"not an archive".to_vec(), "is damaged"),
            (vec![], "is damaged"),
        ] {
            let error = tests::judged(&package, &bad).unwrap_err();
            assert!(error.contains(said), "{error:?} does not say {said:?}");
        }
    }

    /// A hundred million zeros in a hundred kilobytes, and lengths that are lies.
    #[test]
    fn no_more_is_unpacked_than_is_wanted() {
        let package = tests::toy(PIP);
        let bomb = archive(&[(HELLO, &vec![0; 100_000_000])]);
        assert!(bomb.len() < 200_000);
        let modest = forged(&bomb, &100_000_000_u32.to_le_bytes(), &5_u32.to_le_bytes());
        for (bomb, said) in [(bomb, "more than the 5 bytes"), (modest, "is damaged")] {
            let error = tests::judged(&package, &bomb).unwrap_err();
            assert!(error.contains(said), "{error:?} does not say {said:?}");
        }
        // Lengths stand in a row, packed and unpacked: deflate makes 7 bytes of these 5.
        let good = archive(&[(HELLO, b"hello")]);
        let lengths = |unpacked: u32| [7_u32.to_le_bytes(), unpacked.to_le_bytes()].concat();
        let boast = forged(&good, &lengths(5), &lengths(u32::MAX - 1));
        assert_eq!(tests::judged(&package, &boast).unwrap()["sub/hello"], b"hello");
    }

    /// Where an entry wants to be written does not matter, only whether it is the one that is wanted.
    #[test]
    fn paths_that_lead_elsewhere_lead_nowhere() {
        let package = tests::toy(PIP);
        let evil: [&[u8]; 4] = [
            b"../kage/data/sub/hello",
            b"/ackage/data/sub/hello",
            b"package/data/../sub/hi",
            b"package\\data\\sub\\hello",
        ];
        let good = archive(&[(HELLO, b"hello")]);
        for path in evil {
            let error = tests::judged(&package, &forged(&good, HELLO.as_bytes(), path));
            let error = error.unwrap_err();
            assert!(error.contains("has no package/data/sub/hello"), "{error}");
        }
        // Beside a hostile entry the wanted one is taken all the same.
        let both = archive(&[("evilage/data/sub/hello", b"hallo"), (HELLO, b"hello")]);
        let both = forged(&both, b"evilage/data/sub/hello", b"../../../data/../hello");
        assert_eq!(tests::judged(&package, &both).unwrap()["sub/hello"], b"hello");
    }

    /// Whatever byte is wrong, the file is either the wanted one or refused.
    #[test]
    fn a_damaged_byte_is_noticed_or_harmless() {
        let package = tests::toy(PIP);
        let good = archive(&[("package/other", b"x"), (HELLO, b"hello")]);
        let mut noticed = 0;
        for at in 0..good.len() {
            for value in [0x00, 0x01, 0xff] {
                let mut bad = good.clone();
                bad[at] = value;
                match tests::judged(&package, &bad) {
                    Ok(found) => assert_eq!(found["sub/hello"], b"hello"),
                    Err(_) => noticed += 1,
                }
            }
        }
        assert!(noticed > 100, "{noticed}");
    }
}
