//! Does a kernel do what it says, on a machine without a GPU? The PTX it ships as, executed on the CPU and watched.
//!
//! An [`Emulator`] stands where a card would: buffers, launches and results are the same. It executes every
//! instruction that this crate's kernels use, and refuses, when a kernel is loaded, every one that it does not
//! know. What a card does in parallel it does in an order that a [`Schedule`] chooses; a kernel whose results
//! depend on the order is wrong. It also looks where a card does not: at accesses outside a buffer or misaligned, at
//! shared memory read before it is written, at two warps that touch a byte without a barrier between them, at
//! copies that a thread exits without having waited for. Each is a [`CudaError::Fault`] that names kernel, block, warp and line.
//!
//! What it does not see: races between blocks, which run one after the other (but see [`Emulator::written_once`]).
//! What it is not: a model of time (there is no clock), of caches, or of the last bit. Sums of tensor cores are
//! rounded once (`lane_model.rs`) and approximations are exact, where hardware has rules of its own.
//!
//! Reading order: `instruction.rs` (what a line of PTX becomes), `parse.rs` and `decode.rs` (how), `warp.rs` (how
//! it runs), `shared.rs` (who may see what), `block.rs` (in which order).

mod access;
mod block;
mod compare;
mod convert;
mod counts;
mod decode;
mod decode_memory;
mod exchange;
mod float;
mod instruction;
mod integer;
mod kind;
mod memory;
mod parse;
mod rows;
mod shared;
#[cfg(test)]
mod tests;
mod text;
mod warp;

pub use counts::Counts;

use super::{
    CudaError, Device, Properties,
    device::{Argument, Backend, Launch, Ptx},
};
use memory::Memory;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// In which order the warps of a block run, each as far as it can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Warps {
    /// The first one first.
    #[default]
    Forward,
    /// The last one first.
    Reverse,
    /// At random, another order after every barrier.
    Shuffled(u64),
}

/// When the bytes of a `cp.async` are read and arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Copies {
    /// When it is issued.
    Early,
    /// When its thread waits for it: as late as is allowed.
    #[default]
    Late,
}

/// What the hardware may do one way or the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Schedule {
    /// The order of warps.
    pub warps: Warps,
    /// When copies arrive.
    pub copies: Copies,
}

impl Schedule {
    /// Four that differ in everything that a schedule is: a kernel that is right gives the same under all of them.
    pub const ALL: [Self; 4] = [
        Self { warps: Warps::Forward, copies: Copies::Late },
        Self { warps: Warps::Reverse, copies: Copies::Early },
        Self { warps: Warps::Shuffled(1), copies: Copies::Late },
        Self { warps: Warps::Shuffled(2), copies: Copies::Early },
    ];
}

/// A GPU of compute capability 8.0 that is not there.
#[derive(Debug, Clone)]
pub struct Emulator {
    machine: Arc<Machine>,
    device: Device,
}

impl Default for Emulator {
    fn default() -> Self {
        Self::new()
    }
}

impl Emulator {
    /// Warps forward, copies late.
    pub fn new() -> Self {
        Self::with_schedule(Schedule::default())
    }

    /// An emulator that runs everything in that order.
    pub fn with_schedule(schedule: Schedule) -> Self {
        let properties = Properties {
            name: "emulated sm_80".into(),
            sm: 80,
            multiprocessors: 108,
            shared_per_block: 163 << 10,
            memory: 1 << 30,
            bandwidth: 0.0,
            clock: 0.0,
            driver: 0,
        };
        let memory = Memory::new(properties.memory);
        let state = State { memory, modules: BTreeMap::new(), launches: Vec::new() };
        let machine = Arc::new(Machine { properties, schedule, state: Mutex::new(state) });
        Self { device: Device::new(machine.clone()), machine }
    }

    /// From now on, a byte of global memory that two threads of one launch store to is a fault; atomics may.
    pub fn written_once(self) -> Self {
        self.machine.state().memory.written_once = true;
        self
    }

    /// The device to hand to whatever runs on one.
    pub fn device(&self) -> Device {
        self.device.clone()
    }

    /// What the latest launch did; all zeros before the first.
    pub fn counts(&self) -> Counts {
        self.machine.state().launches.last().map(|(_, counts)| counts.clone()).unwrap_or_default()
    }

    /// Kernel and counts of every launch, by how many launches were before it.
    pub fn launches(&self) -> BTreeMap<usize, (String, Counts)> {
        self.machine.state().launches.iter().cloned().enumerate().collect()
    }
}

#[derive(Debug)]
struct Machine {
    properties: Properties,
    schedule: Schedule,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    memory: Memory,
    modules: BTreeMap<Ptx, Arc<Loaded>>,
    launches: Vec<(String, Counts)>,
}

/// A module and where its variables lie.
#[derive(Debug)]
struct Loaded {
    module: parse::Module,
    variables: Vec<u64>,
}

impl Machine {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves nothing here half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn load(&mut self, ptx: Ptx) -> Result<Arc<Loaded>, CudaError> {
        if let Some(loaded) = self.modules.get(&ptx) {
            return Ok(loaded.clone());
        }
        let module = parse::parse(ptx.text).map_err(|what| fault(ptx.name, what))?;
        let mut variables = Vec::new();
        for bytes in &module.variables {
            let address = self.memory.allocate(bytes.len().max(1))?;
            let into = self.memory.bytes(address, bytes.len());
            into.map_err(|what| fault(ptx.name, what))?.copy_from_slice(bytes);
            variables.push(address);
        }
        let loaded = Arc::new(Loaded { module, variables });
        self.modules.insert(ptx, loaded.clone());
        Ok(loaded)
    }
}

fn fault(kernel: impl Into<String>, what: impl Into<String>) -> CudaError {
    CudaError::Fault { kernel: kernel.into(), what: what.into() }
}

impl Backend for Machine {
    fn properties(&self) -> &Properties {
        &self.properties
    }

    fn allocate(&self, bytes: usize) -> Result<u64, CudaError> {
        self.state().memory.allocate(bytes)
    }

    fn free(&self, address: u64) {
        self.state().memory.free(address);
    }

    fn clear(&self, address: u64, bytes: usize) -> Result<(), CudaError> {
        let mut state = self.state();
        let into = state.memory.bytes(address, bytes);
        into.map_err(|what| fault("clear", what))?.fill(0);
        Ok(())
    }

    fn upload(&self, address: u64, bytes: &[u8]) -> Result<(), CudaError> {
        let mut state = self.state();
        let into = state.memory.bytes(address, bytes.len());
        into.map_err(|what| fault("upload", what))?.copy_from_slice(bytes);
        Ok(())
    }

    fn download(&self, address: u64, bytes: &mut [u8]) -> Result<(), CudaError> {
        let mut state = self.state();
        let from = state.memory.bytes(address, bytes.len());
        bytes.copy_from_slice(from.map_err(|what| fault("download", what))?);
        Ok(())
    }

    fn launch(&self, launch: &Launch<'_>) -> Result<(), CudaError> {
        let kernel = format!("{}::{}", launch.ptx.name, launch.function);
        let state = &mut *self.state();
        let loaded = state.load(launch.ptx)?;
        let entry = loaded.module.entries.get(launch.function);
        let entry = entry.ok_or_else(|| fault(&kernel, "the module has no such entry"))?;
        let parameters = parameters(&entry.parameters, launch.arguments);
        let grid = block::Grid {
            entry,
            blocks: launch.grid,
            threads: launch.threads,
            dynamic_shared: launch.shared_bytes,
            parameters: &parameters.map_err(|what| fault(&kernel, what))?,
            variables: &loaded.variables,
            schedule: self.schedule,
        };
        check(&grid, &self.properties).map_err(|what| fault(&kernel, what))?;
        state.memory.begin();
        let mut counts = Counts::default();
        let result = grid.run(&mut state.memory, &mut counts);
        counts.loaded = state.memory.loaded();
        state.launches.push((kernel.clone(), counts));
        result.map_err(|stop| {
            let text = launch.ptx.text.lines().nth((stop.line as usize).saturating_sub(1));
            let ([x, y, z], text) = (stop.block, text.unwrap_or_default().trim());
            let what = stop.what;
            fault(
                kernel,
                format!(
                    "block ({x}, {y}, {z}), warp {}, line {} `{text}`: {what}",
                    stop.warp, stop.line
                ),
            )
        })
    }

    fn synchronize(&self) -> Result<(), CudaError> {
        // A launch is done, or has failed, when it returns.
        Ok(())
    }

    fn elapsed(
        &self,
        _before: &mut dyn FnMut() -> Result<(), CudaError>,
        _work: &mut dyn FnMut() -> Result<(), CudaError>,
    ) -> Result<Duration, CudaError> {
        Err(CudaError::NoClock)
    }
}

/// What the driver would refuse.
fn check(grid: &block::Grid<'_>, properties: &Properties) -> Result<(), String> {
    let (threads, most) = (grid.threads, grid.entry.most_threads.unwrap_or(1024).min(1024));
    if threads == 0 || threads > most {
        return Err(format!("{threads} threads a block; the kernel allows 1 to {most}"));
    }
    let [x, y, z] = grid.blocks;
    if x == 0 || y == 0 || z == 0 || x > i32::MAX as u32 || y > 65_535 || z > 65_535 {
        return Err(format!("a grid of {x} x {y} x {z} blocks"));
    }
    let (fixed, bytes, most) =
        (grid.entry.shared, grid.shared_bytes(), properties.shared_per_block);
    if fixed > 48 << 10 {
        return Err(format!("{fixed} bytes of static shared memory; 49152 is the most"));
    }
    if bytes > most {
        return Err(format!("{bytes} bytes of shared memory; a block has {most}"));
    }
    Ok(())
}

/// The parameters' bytes, each at a multiple of its length.
fn parameters(sizes: &[usize], arguments: &[Argument]) -> Result<Vec<u8>, String> {
    if sizes.len() != arguments.len() {
        return Err(format!("{} arguments for {} parameters", arguments.len(), sizes.len()));
    }
    let mut bytes = Vec::new();
    for (i, (size, argument)) in sizes.iter().zip(arguments).enumerate() {
        let value = match argument {
            Argument::Address(value) | Argument::U64(value) => value.to_le_bytes().to_vec(),
            Argument::U32(value) => value.to_le_bytes().to_vec(),
        };
        if value.len() != *size {
            return Err(format!("argument {i} has {} bytes, its parameter {size}", value.len()));
        }
        bytes.resize(bytes.len().next_multiple_of(*size), 0);
        bytes.extend(value);
    }
    Ok(bytes)
}
