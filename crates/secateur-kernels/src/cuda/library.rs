//! How are functions of a shared library found at run time, and why do they stay valid?
//!
//! Nothing of CUDA is linked: a library is looked for by name when somebody asks for it, and each function by its
//! symbol. A library once opened is never unloaded: drivers start threads and leave thread-local destructors of
//! their own, and nobody promises that they survive it. So a function pointer is valid for as long as the process.

use super::CudaError;
use std::{
    error::Error,
    ffi::{OsStr, OsString},
    fs, mem,
    ops::Deref,
    path::{Path, PathBuf},
};

/// How deep below a folder libraries are looked for: `pip install --target DIR` puts them at
/// `DIR/nvidia/NAME/lib`.
const DEPTH: usize = 5;

/// A loaded library, for good.
#[derive(Debug)]
pub(super) struct Library {
    file: PathBuf,
    loaded: mem::ManuallyDrop<libloading::Library>,
}

impl Library {
    /// The first of `names` that the system's loader finds; else what it said of each.
    ///
    /// # Safety
    ///
    /// Running the initializers of each file that is found must be sound.
    pub unsafe fn open(names: &[impl AsRef<OsStr>]) -> Result<Self, String> {
        let mut said = Vec::new();
        for name in names {
            let name = name.as_ref();
            // SAFETY: the caller vouches for the initializers.
            match unsafe { open_global(name) } {
                Ok(loaded) => {
                    let loaded = mem::ManuallyDrop::new(loaded);
                    return Ok(Self { file: name.into(), loaded });
                }
                // What the loader said is the cause.
                Err(error) => said.push(match error.source() {
                    Some(cause) => cause.to_string(),
                    None => format!("{}: {error}", name.display()),
                }),
            }
        }
        Err(said.join("; "))
    }

    /// The function called `symbol`.
    ///
    /// # Safety
    ///
    /// `F` must be a function pointer of the type that the library's header gives to `symbol`.
    pub unsafe fn function<F: Copy>(&self, symbol: &'static str) -> Result<F, CudaError> {
        // SAFETY: the caller vouches for the type; the pointer is valid for good, as nothing is unloaded.
        match unsafe { self.loaded.get::<F>(symbol) } {
            Ok(found) => Ok(*found.deref()),
            Err(_) => Err(CudaError::MissingSymbol { library: self.file.clone(), symbol }),
        }
    }
}

/// Its symbols are visible to libraries loaded later, which is how one finds its companion in a folder that the
/// loader does not search.
///
/// # Safety
///
/// Running the file's initializers must be sound.
#[cfg(unix)]
unsafe fn open_global(name: &OsStr) -> Result<libloading::Library, libloading::Error> {
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
    // SAFETY: the caller vouches for the initializers.
    unsafe { Library::open(Some(name), RTLD_NOW | RTLD_GLOBAL) }.map(Into::into)
}

/// # Safety
///
/// Running the file's initializers must be sound.
#[cfg(not(unix))]
unsafe fn open_global(name: &OsStr) -> Result<libloading::Library, libloading::Error> {
    // SAFETY: the caller vouches for the initializers.
    unsafe { libloading::Library::new(name) }
}

/// The files below `folder` whose names begin with one of `prefixes`, in order of their paths. Folders that cannot
/// be read hold none.
pub(super) fn below(folder: &Path, prefixes: &[&str]) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![(folder.to_path_buf(), 0)]);
    while let Some((folder, depth)) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() && depth < DEPTH {
                folders.push((path, depth + 1));
            } else if path.is_file() && is_called(&path, prefixes) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Whether a file's name begins with one of `prefixes`.
pub(super) fn is_called(path: &Path, prefixes: &[&str]) -> bool {
    let name = path.file_name().map(OsStr::to_string_lossy);
    name.is_some_and(|name| prefixes.iter().any(|prefix| name.starts_with(prefix)))
}

/// Paths as names for the loader. One without a folder would be looked for where the system keeps libraries.
pub(super) fn exactly(path: &Path) -> OsString {
    if path.parent() == Some(Path::new("")) {
        Path::new(".").join(path).into()
    } else {
        path.into()
    }
}

/// A table of functions: one field for each, named as in the library, all of them returning a status.
macro_rules! functions {
    ($(#[$about:meta])* $table:ident { $($symbol:ident($($argument:ty),* $(,)?);)* }) => {
        $(#[$about])*
        #[allow(non_snake_case, reason = "as the library calls them")]
        #[derive(Debug, Clone, Copy)]
        pub(super) struct $table {
            $(pub $symbol: unsafe extern "system" fn($($argument),*) -> i32,)*
        }

        impl $table {
            /// Finds every function, or names the first that is missing.
            ///
            /// # Safety
            ///
            /// `library` must be what its functions' names say.
            pub unsafe fn find(
                library: &$crate::cuda::library::Library,
            ) -> Result<Self, $crate::cuda::CudaError> {
                Ok(Self {
                    // SAFETY: the types above are those of the library's header, whose functions the caller says
                    // these are.
                    $($symbol: unsafe { library.function(stringify!($symbol)) }?,)*
                })
            }
        }
    };
}
pub(super) use functions;
