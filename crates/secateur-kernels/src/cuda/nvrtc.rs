//! How does CUDA C++ become PTX without a toolkit? By NVRTC, NVIDIA's compiler as a library, loaded at run time.
//!
//! Users never need it: kernels are embedded as PTX. `cargo xtask kernels` does, to write that PTX and to prove that
//! it is what the sources say. A package of Python's brings the library alone, some 20 MB:
//! `pip install --no-deps --target DIR nvidia-cuda-nvrtc-cu11==11.8.89`.

use super::{
    CudaError,
    library::{self, Library, functions},
};
use std::{
    ffi::{CString, OsString, c_char, c_int, c_void},
    fmt, iter,
    path::{Path, PathBuf},
    ptr,
};

/// How its file's name begins.
const CALLED: [&str; 2] = ["libnvrtc.so", "nvrtc64_"];
/// How the name of the file begins that it looks for itself, where only the system's loader looks.
const COMPANION: [&str; 2] = ["libnvrtc-builtins.so", "nvrtc-builtins64_"];
/// What the system's loader is asked for; first the version that kernels are compiled with.
const NAMES: &[&str] = if cfg!(windows) {
    &["nvrtc64_112_0.dll", "nvrtc64_120_0.dll", "nvrtc64_130_0.dll"]
} else {
    &["libnvrtc.so.11.2", "libnvrtc.so.12", "libnvrtc.so.13", "libnvrtc.so"]
};
const ADVICE: &str = "install it by `pip install --no-deps --target DIR nvidia-cuda-nvrtc-cu11==11.8.89` and name DIR";
/// `NVRTC_ERROR_COMPILATION`
const COMPILATION: i32 = 6;
/// `nvrtcResult`, from 1 on.
const ERRORS: [&str; 7] = [
    "NVRTC_ERROR_OUT_OF_MEMORY",
    "NVRTC_ERROR_PROGRAM_CREATION_FAILURE",
    "NVRTC_ERROR_INVALID_INPUT",
    "NVRTC_ERROR_INVALID_PROGRAM",
    "NVRTC_ERROR_INVALID_OPTION",
    "NVRTC_ERROR_COMPILATION",
    "NVRTC_ERROR_BUILTIN_OPERATION_FAILURE",
];

type Handle = *mut c_void;

functions! {
    /// NVRTC; types and numbers are those of `nvrtc.h` of CUDA 11.8.
    Api {
        nvrtcVersion(*mut c_int, *mut c_int);
        nvrtcCreateProgram(
            *mut Handle, *const c_char, *const c_char, c_int, *const *const c_char, *const *const c_char,
        );
        nvrtcDestroyProgram(*mut Handle);
        nvrtcCompileProgram(Handle, c_int, *const *const c_char);
        nvrtcGetProgramLogSize(Handle, *mut usize);
        nvrtcGetProgramLog(Handle, *mut c_char);
        nvrtcGetPTXSize(Handle, *mut usize);
        nvrtcGetPTX(Handle, *mut c_char);
        nvrtcGetCUBINSize(Handle, *mut usize);
        nvrtcGetCUBIN(Handle, *mut c_char);
    }
}

/// What to compile to, for a compute capability times ten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// Text that every card of this capability or a later one can load.
    Ptx(u32),
    /// Instructions of cards of this capability, as the driver would make them from PTX.
    Cubin(u32),
}

impl fmt::Display for Target {
    /// As the compiler calls it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ptx(sm) => write!(f, "compute_{sm}"),
            Self::Cubin(sm) => write!(f, "sm_{sm}"),
        }
    }
}

/// What came of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiled {
    /// The PTX, without a zero at its end, or the cubin.
    pub bytes: Vec<u8>,
    /// Warnings, and what else the compiler was asked to say.
    pub log: String,
}

/// The compiler.
#[derive(Debug)]
pub struct Nvrtc {
    api: Api,
    version: (u32, u32),
}

impl Nvrtc {
    /// The compiler in `path`: a file, which must be called like the library, or a folder, below which the first
    /// such file is taken. Without a path, whichever the system's loader finds.
    ///
    /// Code of that file is run: whoever names a folder vouches for what lies in it under NVIDIA's names, as
    /// whoever sets the loader's own search path does.
    pub fn load(path: Option<&Path>) -> Result<Self, CudaError> {
        let missing = |reason| CudaError::NoLibrary { library: "NVRTC", reason, advice: ADVICE };
        let names: Vec<OsString> = match path {
            None => NAMES.iter().map(OsString::from).collect(),
            Some(path) => {
                let file = find(path).map_err(missing)?;
                for companion in
                    file.parent().map(|near| library::below(near, &COMPANION)).iter().flatten()
                {
                    // If it cannot be loaded, NVRTC will say so itself. Opened for good, see `Library`.
                    // SAFETY: a part of NVRTC, by its name.
                    let _ = unsafe { Library::open(&[companion]) };
                }
                vec![library::exactly(&file)]
            }
        };
        // SAFETY: the file is NVRTC by its name, for which whoever put it there vouches.
        let library = unsafe { Library::open(&names) }.map_err(missing)?;
        // SAFETY: as above.
        let api = unsafe { Api::find(&library) }?;
        let (mut major, mut minor) = (0, 0);
        // SAFETY: both numbers outlive the call.
        check("nvrtcVersion", unsafe { (api.nvrtcVersion)(&raw mut major, &raw mut minor) })?;
        let number = |part| u32::try_from(part).unwrap_or(0);
        Ok(Self { api, version: (number(major), number(minor)) })
    }

    /// Its version: major and minor.
    pub fn version(&self) -> (u32, u32) {
        self.version
    }

    /// Compiles `source`, called `name` in messages, with more `options` as the compiler has them. Errors with the
    /// compiler's words if it is refused.
    pub fn compile(
        &self,
        name: &str,
        source: &str,
        target: Target,
        options: &[&str],
    ) -> Result<Compiled, CudaError> {
        let refused = |log| CudaError::Compile { name: name.into(), log };
        let text = |text: &str| {
            CString::new(text).map_err(|_| refused("a zero in its text, name or options".into()))
        };
        let architecture = format!("--gpu-architecture={target}");
        let options = iter::once(&architecture[..]).chain(options.iter().copied());
        let options = options.map(text).collect::<Result<Vec<_>, _>>()?;
        let program = Program::new(&self.api, &text(source)?, &text(name)?)?;
        let pointers: Vec<*const c_char> = options.iter().map(|option| option.as_ptr()).collect();
        let count = c_int::try_from(pointers.len()).unwrap_or(c_int::MAX);
        // SAFETY: the program lives; each of so many pointers is to a text that ends in a zero and outlives the call.
        let code =
            unsafe { (self.api.nvrtcCompileProgram)(program.handle, count, pointers.as_ptr()) };
        let Api { nvrtcGetProgramLogSize, nvrtcGetProgramLog, .. } = self.api;
        // SAFETY: both are functions for the program's log.
        let log = unsafe {
            program.get("nvrtcGetProgramLog", nvrtcGetProgramLogSize, nvrtcGetProgramLog)
        };
        let log = log.map(|log| String::from_utf8_lossy(trimmed(&log)).into_owned());
        if code == COMPILATION {
            return Err(refused(log?));
        }
        check("nvrtcCompileProgram", code)?;
        let Api { nvrtcGetPTXSize, nvrtcGetPTX, nvrtcGetCUBINSize, nvrtcGetCUBIN, .. } = self.api;
        let bytes = match target {
            // SAFETY: both are functions for the program's PTX.
            Target::Ptx(_) => unsafe { program.get("nvrtcGetPTX", nvrtcGetPTXSize, nvrtcGetPTX) }
                .map(|ptx| trimmed(&ptx).to_vec()),
            // SAFETY: both are functions for the program's cubin.
            Target::Cubin(_) => unsafe {
                program.get("nvrtcGetCUBIN", nvrtcGetCUBINSize, nvrtcGetCUBIN)
            },
        };
        Ok(Compiled { bytes: bytes?, log: log? })
    }
}

/// A source inside the compiler.
struct Program<'a> {
    api: &'a Api,
    handle: Handle,
}

impl<'a> Program<'a> {
    fn new(api: &'a Api, source: &CString, name: &CString) -> Result<Self, CudaError> {
        let (mut handle, none) = (ptr::null_mut(), ptr::null());
        // SAFETY: both texts end in a zero and outlive the call, as does `handle`; there are no headers.
        let code = unsafe {
            (api.nvrtcCreateProgram)(&raw mut handle, source.as_ptr(), name.as_ptr(), 0, none, none)
        };
        check("nvrtcCreateProgram", code).map(|()| Self { api, handle })
    }

    /// Something whose length is asked for first.
    ///
    /// # Safety
    ///
    /// `size` must tell how many bytes `get` writes.
    unsafe fn get(
        &self,
        call: &'static str,
        size: unsafe extern "system" fn(Handle, *mut usize) -> i32,
        get: unsafe extern "system" fn(Handle, *mut c_char) -> i32,
    ) -> Result<Vec<u8>, CudaError> {
        let mut length = 0;
        // SAFETY: the program lives, and `length` outlives the call.
        check(call, unsafe { size(self.handle, &raw mut length) })?;
        let mut bytes = vec![0; length];
        // SAFETY: `bytes` is as long as the compiler said.
        check(call, unsafe { get(self.handle, bytes.as_mut_ptr().cast()) })?;
        Ok(bytes)
    }
}

impl Drop for Program<'_> {
    fn drop(&mut self) {
        // SAFETY: created once by `new`, destroyed once here.
        unsafe { (self.api.nvrtcDestroyProgram)(&raw mut self.handle) };
    }
}

fn check(call: &'static str, code: i32) -> Result<(), CudaError> {
    let name =
        usize::try_from(code - 1).ok().and_then(|i| ERRORS.get(i)).unwrap_or(&"unknown error");
    if code == 0 { Ok(()) } else { Err(CudaError::Call { call, code, name: (*name).into() }) }
}

/// Without the zeros at its end.
fn trimmed(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    &text[..end]
}

/// The library's file at or below `path`; else what is wrong.
fn find(path: &Path) -> Result<PathBuf, String> {
    if path.is_dir() {
        let found = library::below(path, &CALLED).into_iter().next();
        return found
            .ok_or_else(|| format!("no file below {} is called {}*", path.display(), CALLED[0]));
    }
    match path.is_file() && library::is_called(path, &CALLED) {
        true => Ok(path.to_path_buf()),
        false => Err(format!("{} is no folder and no file called {}*", path.display(), CALLED[0])),
    }
}
