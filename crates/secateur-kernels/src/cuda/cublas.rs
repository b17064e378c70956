//! What are sparse products on a card timed against? The dense ones of cuBLAS, NVIDIA's own library.
//!
//! It is a peer for measurements, loaded at run time if it is there: no product of this crate runs on it. Weights,
//! activations and outputs lie as ours do, so that both do the same work: `y = x · Wᵀ`, `W` `[rows, cols]`, `x`
//! `[tokens, cols]`, `y` `[tokens, rows]`, all row-major.

use super::{
    CudaError, Device, DeviceBuffer,
    library::{self, Library, functions},
};
use std::{
    ffi::{OsString, c_int, c_void},
    fmt,
    path::Path,
    ptr,
};

/// How its file's name begins.
const CALLED: [&str; 2] = ["libcublas.so", "cublas64_"];
/// How the name of the file begins that it is linked to.
const COMPANION: [&str; 2] = ["libcublasLt.so", "cublasLt64_"];
/// What the system's loader is asked for: the interface is the same since 11.
const NAMES: &[&str] = if cfg!(windows) {
    &["cublas64_13.dll", "cublas64_12.dll", "cublas64_11.dll"]
} else {
    &["libcublas.so.13", "libcublas.so.12", "libcublas.so.11"]
};
const ADVICE: &str = "it comes with the CUDA toolkit, and with `pip install nvidia-cublas-cu12`";
/// Room for partial sums: what NVIDIA recommends for an H100; an A100 needs 4 MB.
const WORKSPACE: usize = 32 << 20;

// `cublasOperation_t`, `cudaDataType_t`, `cublasComputeType_t`, `cublasGemmAlgo_t`
const OP_N: c_int = 0;
const OP_T: c_int = 1;
const R_16F: c_int = 2;
const R_8I: c_int = 3;
const R_32I: c_int = 10;
const R_16BF: c_int = 14;
const COMPUTE_32F: c_int = 68;
const COMPUTE_32I: c_int = 72;
const GEMM_DEFAULT: c_int = -1;
/// `CUBLAS_STATUS_INVALID_VALUE`
const INVALID_VALUE: i32 = 7;

type Handle = *mut c_void;

functions! {
    /// cuBLAS; types and numbers are those of `cublas_api.h` of versions 11 to 13.
    Api {
        cublasCreate_v2(*mut Handle);
        cublasDestroy_v2(Handle);
        cublasGetVersion_v2(Handle, *mut c_int);
        cublasSetStream_v2(Handle, *mut c_void);
        cublasSetWorkspace_v2(Handle, *mut c_void, usize);
        cublasGemmEx(
            Handle, c_int, c_int, c_int, c_int, c_int, *const c_void, *const c_void, c_int, c_int,
            *const c_void, c_int, c_int, *const c_void, *mut c_void, c_int, c_int, c_int, c_int,
        );
    }
}

/// Numbers of a dense product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum GemmType {
    /// f16 in and out, summed in f32.
    F16,
    /// bf16 in and out, summed in f32.
    Bf16,
    /// i8 in, i32 out, summed exactly. `cols` and `rows` must be multiples of 4.
    I8,
}

impl GemmType {
    /// `cudaDataType_t` of inputs and outputs, the type of sums, and bytes of each input and output.
    fn codes(self) -> ([c_int; 3], [usize; 2]) {
        match self {
            Self::F16 => ([R_16F, R_16F, COMPUTE_32F], [2, 2]),
            Self::Bf16 => ([R_16BF, R_16BF, COMPUTE_32F], [2, 2]),
            Self::I8 => ([R_8I, R_32I, COMPUTE_32I], [1, 4]),
        }
    }
}

/// A dense product: `y[tokens, rows] = x[tokens, cols] · W[rows, cols]ᵀ`, row-major.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gemm {
    /// Its numbers.
    pub dtype: GemmType,
    /// Outputs of the layer.
    pub rows: usize,
    /// Inputs of the layer.
    pub cols: usize,
    /// Rows of the activations.
    pub tokens: usize,
}

/// cuBLAS on a device's stream.
pub struct Dense {
    api: Api,
    handle: Handle,
    device: Device,
    version: u32,
    /// What cuBLAS was told to use.
    workspace: DeviceBuffer,
}

// SAFETY: a handle of cuBLAS may be used from any thread, one at a time; the device's context is made current by
// each call. It is not `Sync`.
unsafe impl Send for Dense {}

impl fmt::Debug for Dense {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dense").field("version", &self.version).finish_non_exhaustive()
    }
}

impl Dense {
    /// The cuBLAS that the system's loader finds, on this device; with a folder, the first below it instead.
    ///
    /// Code of that file is run: whoever names a folder vouches for what lies in it under NVIDIA's names, as
    /// whoever sets the loader's own search path does.
    pub fn open(device: &Device, folder: Option<&Path>) -> Result<Self, CudaError> {
        let missing = |reason| CudaError::NoLibrary { library: "cuBLAS", reason, advice: ADVICE };
        let names: Vec<OsString> = match folder {
            None => NAMES.iter().map(OsString::from).collect(),
            Some(folder) => {
                let file = library::below(folder, &CALLED).into_iter().next().ok_or_else(|| {
                    missing(format!("no file below {} is called {}*", folder.display(), CALLED[0]))
                })?;
                for companion in
                    file.parent().map(|near| library::below(near, &COMPANION)).iter().flatten()
                {
                    // If it cannot be loaded, opening cuBLAS will say so. Opened for good, see `Library`.
                    // SAFETY: a part of cuBLAS, by its name.
                    let _ = unsafe { Library::open(&[companion]) };
                }
                vec![library::exactly(&file)]
            }
        };
        // SAFETY: the file is cuBLAS by its name, for which whoever put it there vouches.
        let library = unsafe { Library::open(&names) }.map_err(missing)?;
        // SAFETY: as above.
        let api = unsafe { Api::find(&library) }?;
        let workspace = device.zeros(WORKSPACE)?;
        let mut handle = ptr::null_mut();
        // SAFETY: `handle` outlives the call.
        on_stream(device, "cublasCreate", |_| unsafe { (api.cublasCreate_v2)(&raw mut handle) })?;
        let dense = Self { api, handle, device: device.clone(), version: 0, workspace };
        dense.prepared()
    }

    /// Its version: `10000 · major + 100 · minor + patch`.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Tells cuBLAS where to work. The stream first: setting it takes the workspace away.
    fn prepared(mut self) -> Result<Self, CudaError> {
        let (api, handle) = (self.api, self.handle);
        on_stream(&self.device, "cublasSetStream", |stream| {
            // SAFETY: the stream lives as long as the device, which `self` keeps.
            unsafe { (api.cublasSetStream_v2)(handle, stream as *mut c_void) }
        })?;
        let room = self.workspace.address() as *mut c_void;
        on_stream(&self.device, "cublasSetWorkspace", |_| {
            // SAFETY: memory of the device, of this length, that lives longer than the handle.
            unsafe { (api.cublasSetWorkspace_v2)(handle, room, WORKSPACE) }
        })?;
        let mut version = 0;
        on_stream(&self.device, "cublasGetVersion", |_| {
            // SAFETY: `version` outlives the call.
            unsafe { (api.cublasGetVersion_v2)(handle, &raw mut version) }
        })?;
        self.version = u32::try_from(version).unwrap_or(0);
        Ok(self)
    }

    /// Launches `y = x · Wᵀ` and does not wait. Errors when a buffer is too short or of another device, and with
    /// what cuBLAS says of a shape.
    pub fn gemm(
        &self,
        gemm: Gemm,
        w: &DeviceBuffer,
        x: &DeviceBuffer,
        y: &DeviceBuffer,
    ) -> Result<(), CudaError> {
        let Gemm { dtype, rows, cols, tokens } = gemm;
        let ([input, output, compute], [wide_in, wide_out]) = dtype.codes();
        for (what, buffer, count, wide) in [
            ("w", w, [rows, cols], wide_in),
            ("x", x, [tokens, cols], wide_in),
            ("y", y, [tokens, rows], wide_out),
        ] {
            let bytes = count[0].saturating_mul(count[1]).saturating_mul(wide);
            if bytes > buffer.bytes() {
                return Err(CudaError::Buffer { bytes, buffer: buffer.bytes() });
            }
            if !buffer.device().is(&self.device) {
                return Err(CudaError::OtherDevice { what });
            }
        }
        let too_long = |_| CudaError::Call {
            call: "cublasGemmEx",
            code: INVALID_VALUE,
            name: name(INVALID_VALUE).into(),
        };
        let side = |n: usize| c_int::try_from(n).map_err(too_long);
        let (rows, cols, tokens) = (side(rows)?, side(cols)?, side(tokens)?);
        // One and zero, of the type of the sums.
        let float = [1.0_f32, 0.0];
        let whole = [1_i32, 0];
        let [one, zero]: [*const c_void; 2] = match dtype {
            GemmType::I8 => whole.each_ref().map(|number| ptr::from_ref(number).cast()),
            _ => float.each_ref().map(|number| ptr::from_ref(number).cast()),
        };
        let [w, x, y] = [w, x, y].map(|buffer| buffer.address() as *mut c_void);
        // cuBLAS thinks in columns: what is `[rows, cols]` here is `[cols, rows]` there, so `yᵀ = W · xᵀ` takes W
        // transposed and x as it is.
        on_stream(&self.device, "cublasGemmEx", |_| unsafe {
            // SAFETY: the handle lives; both numbers outlive the call; the buffers live, are of this device and hold
            // as many elements as these sides and distances between columns reach, as was checked.
            (self.api.cublasGemmEx)(
                self.handle,
                OP_T,
                OP_N,
                rows,
                tokens,
                cols,
                one,
                w,
                input,
                cols,
                x,
                input,
                cols,
                zero,
                y,
                output,
                rows,
                compute,
                GEMM_DEFAULT,
            )
        })
    }
}

impl Drop for Dense {
    fn drop(&mut self) {
        // SAFETY: created once by `open`, destroyed once here, before its workspace.
        let _ = on_stream(&self.device, "cublasDestroy", |_| unsafe {
            (self.api.cublasDestroy_v2)(self.handle)
        });
    }
}

/// One call with the device's context current, which is what cuBLAS works in.
fn on_stream(
    device: &Device,
    call: &'static str,
    mut work: impl FnMut(u64) -> i32,
) -> Result<(), CudaError> {
    let mut code = 0;
    device.backend().on_stream(&mut |stream| code = work(stream))?;
    if code == 0 { Ok(()) } else { Err(CudaError::Call { call, code, name: name(code).into() }) }
}

/// `cublasStatus_t`
fn name(code: i32) -> &'static str {
    match code {
        1 => "CUBLAS_STATUS_NOT_INITIALIZED",
        3 => "CUBLAS_STATUS_ALLOC_FAILED",
        INVALID_VALUE => "CUBLAS_STATUS_INVALID_VALUE",
        8 => "CUBLAS_STATUS_ARCH_MISMATCH",
        11 => "CUBLAS_STATUS_MAPPING_ERROR",
        13 => "CUBLAS_STATUS_EXECUTION_FAILED",
        14 => "CUBLAS_STATUS_INTERNAL_ERROR",
        15 => "CUBLAS_STATUS_NOT_SUPPORTED",
        16 => "CUBLAS_STATUS_LICENSE_ERROR",
        _ => "unknown error",
    }
}
