//! How do tests get libraries of CUDA where there are none? By compiling stand-ins, once for each program of tests.
#![allow(dead_code, reason = "not every program of tests asks for all of it")]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};
use tempfile::TempDir;

/// A copy of a stand-in, loaded, with a state of its own.
pub struct Fake {
    folder: TempDir,
    file: PathBuf,
    library: libloading::Library,
}

/// What can be set in a fake driver.
#[derive(Debug, Clone, Copy)]
pub enum Knob {
    Version = 0,
    Devices,
    Sm,
    Memory,
    Refuse,
    Fault,
}

impl Fake {
    pub fn driver() -> Self {
        static COMPILED: OnceLock<Vec<u8>> = OnceLock::new();
        Self::new(COMPILED.get_or_init(|| compile("fake_driver.rs")), "libcuda.so.1")
    }

    pub fn cublas() -> Self {
        static COMPILED: OnceLock<Vec<u8>> = OnceLock::new();
        Self::new(COMPILED.get_or_init(|| compile("fake_cublas.rs")), "libcublas.so.12")
    }

    fn new(compiled: &[u8], name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // As deep as a package of Python's puts it.
        let inner = folder.path().join("nvidia/fake/lib");
        fs::create_dir_all(&inner).unwrap();
        let file = inner.join(name);
        fs::write(&file, compiled).unwrap();
        // SAFETY: our own library, without initializers.
        let library = unsafe { libloading::Library::new(&file) }.unwrap();
        Self { folder, file, library }
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn file(&self) -> &Path {
        &self.file
    }

    pub fn set(&self, knob: Knob, value: i64) {
        // SAFETY: the function's type is that of `fake_driver.rs`.
        unsafe {
            let set = self.library.get::<unsafe extern "C" fn(u32, i64)>("fake_set").unwrap();
            set(knob as u32, value);
        }
    }

    /// What was written down since the last time this was asked.
    pub fn log(&self) -> String {
        let mut text = vec![0; 1 << 16];
        // SAFETY: the function's type is that of both sources; it writes no more than it is told.
        let length = unsafe {
            let log = self.library.get::<unsafe extern "C" fn(*mut u8, usize) -> usize>("fake_log");
            log.unwrap()(text.as_mut_ptr(), text.len())
        };
        text.truncate(length);
        String::from_utf8(text).unwrap()
    }

    /// How many pieces of memory live in a fake driver.
    pub fn live(&self) -> usize {
        // SAFETY: the function's type is that of `fake_driver.rs`.
        unsafe { self.library.get::<unsafe extern "C" fn() -> usize>("fake_live").unwrap()() }
    }

    /// How many contexts are current on this thread.
    pub fn depth(&self) -> u32 {
        // SAFETY: the function's type is that of `fake_driver.rs`.
        unsafe { self.library.get::<unsafe extern "C" fn() -> u32>("fake_depth").unwrap()() }
    }
}

/// The library that a source beside this file makes.
fn compile(source: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("library");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cuda_driver").join(source);
    let rustc = env::var_os("RUSTC").unwrap_or("rustc".into());
    let mut command = Command::new(rustc);
    command.args(["--edition", "2024", "--crate-type", "cdylib", "-C", "panic=abort", "-o"]);
    let said = command.arg(&output).arg(&source).output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    fs::read(output).unwrap()
}
