//! When is a kernel's text compiled for the card, and does a launch fit it? At its first launch; and each launch is
//! held against the parameters that the text declares.
//!
//! The driver compiles PTX to the card's own instructions in a tenth to half a second, and keeps the outcome in a cache of
//! its own between processes. It reads as many values as the kernel declares, wherever that leads: so the list in
//! the text is read here too, and a launch that does not match is refused.

use super::{
    super::{
        CudaError,
        device::{Argument, Launch, Ptx},
    },
    api::{Api, Handle, jit, of_function},
};
use std::{
    collections::{BTreeMap, btree_map::Entry},
    ffi::{CString, c_int, c_void},
    ptr,
};

/// Room for what the driver's compiler says of a text that it refuses.
const LOG: usize = 16 << 10;

/// What was loaded on one device, by the address and length of its text, which is static: comparing texts would
/// cost more than a launch.
#[derive(Debug, Default)]
pub(super) struct Modules(BTreeMap<(usize, usize), Module>);

#[derive(Debug)]
struct Module {
    handle: Handle,
    functions: BTreeMap<String, Function>,
}

#[derive(Debug)]
struct Function {
    handle: Handle,
    /// Bytes of each parameter, by the text; `None` if that cannot be told.
    parameters: Option<Vec<usize>>,
    /// Static shared memory in bytes.
    shared: usize,
}

impl Modules {
    /// The function to launch, loaded if need be. The device's context is current; `limit` is the shared memory that
    /// a block can have.
    pub fn function(
        &mut self,
        api: &Api,
        launch: &Launch<'_>,
        limit: usize,
    ) -> Result<Handle, CudaError> {
        let text = launch.ptx.text;
        let key = (text.as_ptr() as usize, text.len());
        let module = match self.0.entry(key) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let handle = load(api, launch.ptx)?;
                entry.insert(Module { handle, functions: BTreeMap::new() })
            }
        };
        if !module.functions.contains_key(launch.function) {
            let function = Function::find(api, module.handle, launch, limit)?;
            module.functions.insert(launch.function.to_owned(), function);
        }
        let function = &module.functions[launch.function];
        function.fits(launch, limit).map(|()| function.handle)
    }

    /// Gives everything back.
    ///
    /// # Safety
    ///
    /// The context must be current, and no function of these modules be running or launched again.
    pub unsafe fn unload(self, api: &Api) {
        for module in self.0.into_values() {
            // SAFETY: loaded by `load` in this context, and the caller says that it is idle.
            unsafe { (api.cuModuleUnload)(module.handle) };
        }
    }
}

/// Compiles a text for the card.
fn load(api: &Api, ptx: Ptx) -> Result<Handle, CudaError> {
    let refused =
        |reason: String, log: String| CudaError::Load { name: ptx.name.into(), reason, log };
    let text =
        CString::new(ptx.text).map_err(|_| refused("a zero in the text".into(), String::new()))?;
    let mut log = vec![0_u8; LOG];
    let mut options = [jit::ERROR_LOG_BUFFER, jit::ERROR_LOG_BUFFER_SIZE_BYTES];
    let mut values = [log.as_mut_ptr().cast(), ptr::without_provenance_mut::<c_void>(LOG)];
    let mut module = ptr::null_mut();
    // SAFETY: the text ends in a zero; there are two options, each with its value in the same place, and the buffer
    // has the length told. All of it outlives the call.
    let code = unsafe {
        (api.cuModuleLoadDataEx)(
            &raw mut module,
            text.as_ptr().cast(),
            2,
            options.as_mut_ptr(),
            values.as_mut_ptr(),
        )
    };
    if code == 0 {
        return Ok(module);
    }
    let end = log.iter().position(|&byte| byte == 0).unwrap_or(LOG);
    Err(refused(
        format!("{} ({code})", api.name(code)),
        String::from_utf8_lossy(&log[..end]).into(),
    ))
}

impl Function {
    /// Finds a kernel and lets it have all shared memory there is, once: launches ask for less.
    fn find(
        api: &Api,
        module: Handle,
        launch: &Launch<'_>,
        limit: usize,
    ) -> Result<Self, CudaError> {
        let refused = |_| CudaError::Load {
            name: launch.ptx.name.into(),
            reason: format!("{:?} is no name", launch.function),
            log: String::new(),
        };
        let name = CString::new(launch.function).map_err(refused)?;
        let mut handle = ptr::null_mut();
        // SAFETY: the module is loaded, the name ends in a zero, and `handle` outlives the call.
        let code = unsafe { (api.cuModuleGetFunction)(&raw mut handle, module, name.as_ptr()) };
        api.check("cuModuleGetFunction", code)?;
        let mut shared: c_int = 0;
        // SAFETY: the function was found in a loaded module, and `shared` outlives the call.
        let code = unsafe {
            (api.cuFuncGetAttribute)(&raw mut shared, of_function::SHARED_SIZE_BYTES, handle)
        };
        api.check("cuFuncGetAttribute", code)?;
        let shared = usize::try_from(shared).unwrap_or(0);
        let dynamic = c_int::try_from(limit.saturating_sub(shared)).unwrap_or(c_int::MAX);
        // SAFETY: as above; takes no pointer of ours.
        let code = unsafe {
            (api.cuFuncSetAttribute)(handle, of_function::MAX_DYNAMIC_SHARED_SIZE_BYTES, dynamic)
        };
        api.check("cuFuncSetAttribute", code)?;
        Ok(Self { handle, parameters: parameters(launch.ptx.text, launch.function), shared })
    }

    /// Whether a launch has the kernel's parameters and enough shared memory.
    fn fits(&self, launch: &Launch<'_>, limit: usize) -> Result<(), CudaError> {
        let given = launch.arguments.iter().map(|argument| match argument {
            Argument::Address(_) | Argument::U64(_) => 8,
            Argument::U32(_) => 4,
        });
        if !self.parameters.as_ref().is_some_and(|wanted| given.clone().eq(wanted.iter().copied()))
        {
            return Err(CudaError::Arguments {
                kernel: launch.function.into(),
                wanted: match &self.parameters {
                    Some(wanted) => format!("parameters of {wanted:?} bytes"),
                    None => "parameters that are not plain numbers".into(),
                },
                given: format!("{:?}", given.collect::<Vec<_>>()),
            });
        }
        let bytes = self.shared + launch.shared_bytes as usize;
        if bytes > limit {
            let kernel = launch.function.into();
            return Err(CudaError::SharedMemory { kernel, bytes, limit });
        }
        Ok(())
    }
}

/// The sizes of a kernel's parameters, from `.entry NAME(.param .u64 a, .param .u32 b)`. `None` if there is no such
/// kernel, or one that takes structures.
fn parameters(text: &str, function: &str) -> Option<Vec<usize>> {
    let lists = text.split(".entry").skip(1);
    let list =
        lists.filter_map(|after| after.trim_start().strip_prefix(function)).find_map(|after| {
            let after = after.trim_start();
            after.strip_prefix('(').and_then(|list| list.split(')').next())
        })?;
    let size = |parameter: &str| {
        let ty = parameter.trim().strip_prefix(".param")?.split_whitespace().next()?;
        match ty {
            ".u64" | ".s64" | ".b64" | ".f64" => Some(8),
            ".u32" | ".s32" | ".b32" | ".f32" => Some(4),
            _ => None,
        }
    };
    if list.trim().is_empty() { Some(Vec::new()) } else { list.split(',').map(size).collect() }
}

#[cfg(test)]
mod tests {
    use super::parameters;

    #[test]
    fn parameters_are_read_from_the_text() {
        let text = "// .entry of a comment\n.visible .entry gemm_f16_all(\n.param .u64 p\n)\n{ ret; }\n\
            .visible .entry gemm_f16(\n\t.param .u64 gemm_f16_param_0,\n\t.param .u32 gemm_f16_param_1\n)\n\
            .entry none() { }\n.entry struct(.param .align 8 .b8 s[16])";
        assert_eq!(parameters(text, "gemm_f16"), Some(vec![8, 4]));
        assert_eq!(parameters(text, "gemm_f16_all"), Some(vec![8]));
        assert_eq!(parameters(text, "none"), Some(vec![]));
        assert_eq!(parameters(text, "struct"), None);
        assert_eq!(parameters(text, "gemm"), None);
    }
}
