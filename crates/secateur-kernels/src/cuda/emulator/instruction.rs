//! What is one instruction, once its text is read? A shape, functions over lanes, and numbers of rows.
//!
//! A row is one register of all 32 lanes. Immediates, special registers and addresses of variables have rows of
//! their own, filled before the first instruction, so that every operand is a row and nothing is looked up when
//! an instruction runs. Values lie in the low bits of 64; what is above a type's width is never looked at. A
//! predicate is a row of zeros and ones.

use super::convert::Conversion;
use crate::cuda::lane_model::Float;

/// Number of a row.
pub(super) type Row = u32;

/// A row that is filled before a warp starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Constant {
    /// A number.
    Value(u64),
    /// `%tid`, `%ntid`, `%ctaid`, `%nctaid` in x, y or z.
    Thread(usize),
    Threads(usize),
    Block(usize),
    Blocks(usize),
    /// `%laneid`.
    Lane,
    /// `%warpid`.
    Warp,
    /// `%lanemask_lt` and its like: whether lanes below, the lane itself and lanes above are set.
    LaneMask([bool; 3]),
    /// Where a variable of the module lies.
    Variable(usize),
    /// Where the block's dynamic shared memory starts.
    DynamicShared,
}

/// A function of one lane's operands.
#[derive(Debug, Clone, Copy)]
pub(super) enum Function {
    One(fn(u64) -> u64),
    Two(fn(u64, u64) -> u64),
    Three(fn(u64, u64, u64) -> u64),
    Four(fn(u64, u64, u64, u64) -> u64),
}

impl Function {
    /// How many operands it takes.
    pub fn operands(self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Two(_) => 2,
            Self::Three(_) => 3,
            Self::Four(_) => 4,
        }
    }
}

/// A predicate, or its opposite.
#[derive(Debug, Clone, Copy)]
pub(super) struct Predicate {
    pub row: Row,
    pub negated: bool,
}

/// How `setp` joins its comparison with a predicate.
#[derive(Debug, Clone, Copy)]
pub(super) enum Combine {
    And,
    Or,
    Xor,
}

/// Where an address points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Space {
    Global,
    Shared,
    Parameters,
    /// Global or shared memory; the address says which.
    Generic,
}

/// An address: a row and a number of bytes behind it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Address {
    pub row: Row,
    pub offset: i64,
}

/// One to four registers moved between lanes and memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Move {
    pub space: Space,
    pub rows: [Row; 4],
    pub count: usize,
    /// Bytes of one register's element.
    pub width: usize,
    /// Whether a shorter element is extended by its sign.
    pub signed: bool,
    pub address: Address,
}

/// `shfl.sync`'s four modes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shuffle {
    Index,
    Butterfly,
    Down,
    Up,
}

/// `vote.sync`'s four modes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Vote {
    All,
    Any,
    Uniform,
    Ballot,
}

/// The tensor core's instructions.
#[derive(Debug, Clone, Copy)]
pub(super) enum Tensor {
    SparseFloat(Float),
    SparseBytes,
    DenseFloat(Float),
    DenseBytes,
}

impl Tensor {
    /// Whether it takes metadata.
    pub fn is_sparse(self) -> bool {
        matches!(self, Self::SparseFloat(_) | Self::SparseBytes)
    }
}

/// What an instruction does.
#[derive(Debug, Clone)]
pub(super) enum Operation {
    /// `d = function(a…)` in every lane.
    Map {
        function: Function,
        d: Row,
        a: [Row; 4],
    },
    /// `setp`: `p = test(a, b) ∘ c`, `q = ¬test(a, b) ∘ c`.
    Compare {
        test: fn(u64, u64) -> bool,
        combine: Option<(Combine, Predicate)>,
        p: Row,
        q: Option<Row>,
        a: [Row; 2],
    },
    /// `cvt`.
    Convert {
        conversion: Conversion,
        d: Row,
        a: Row,
    },
    /// `cvt` of two numbers into the halves of one register.
    ConvertPair {
        conversion: Conversion,
        d: Row,
        high: Row,
        low: Row,
    },
    /// `mov` of a vector into one register, each part so many bits wide.
    Join {
        d: Row,
        parts: Vec<Row>,
        bits: u32,
    },
    /// `mov` of one register into a vector.
    Split {
        parts: Vec<Row>,
        a: Row,
        bits: u32,
    },
    /// To the instruction of that number.
    Branch {
        target: usize,
    },
    Exit,
    /// `bar.sync` of the whole block.
    Barrier {
        id: u32,
    },
    /// `bar.warp.sync`.
    WarpBarrier {
        members: Row,
    },
    Load(Move),
    Store(Move),
    /// `atom` and `red`: memory becomes `update(memory, a, b)`, `d` what it was.
    Atomic {
        space: Space,
        update: fn(u64, u64, u64) -> u64,
        width: usize,
        d: Option<Row>,
        address: Address,
        a: [Row; 2],
    },
    /// `cp.async`: so many bytes, of which the first `source_bytes` are read and the rest are zero.
    Copy {
        bytes: usize,
        to: Address,
        from: Address,
        source_bytes: Option<Row>,
    },
    CommitCopies,
    /// `cp.async.wait_group`: all but the latest so many groups are done.
    WaitCopies {
        but: u32,
    },
    LoadMatrix {
        count: usize,
        transposed: bool,
        d: [Row; 4],
        address: Address,
    },
    Tensor {
        tensor: Tensor,
        d: [Row; 4],
        a: [Row; 4],
        b: [Row; 4],
        c: [Row; 4],
        metadata: Row,
        selector: u32,
    },
    Shuffle {
        mode: Shuffle,
        d: Row,
        p: Option<Row>,
        a: Row,
        b: Row,
        c: Row,
        members: Row,
    },
    Vote {
        mode: Vote,
        d: Row,
        a: Predicate,
        members: Row,
    },
    /// `redux.sync`.
    Reduce {
        fold: fn(u64, u64) -> u64,
        d: Row,
        a: Row,
        members: Row,
    },
    /// `activemask`.
    ActiveMask {
        d: Row,
    },
    /// Orders memory; here everything is in order.
    Fence,
}

/// One line of PTX.
#[derive(Debug, Clone)]
pub(super) struct Instruction {
    pub line: u32,
    pub guard: Option<Predicate>,
    pub operation: Operation,
}

/// One `.entry`.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub instructions: Vec<Instruction>,
    /// How many rows a warp has.
    pub rows: usize,
    pub constants: Vec<(Constant, Row)>,
    /// Bytes of each parameter, in order.
    pub parameters: Vec<usize>,
    /// Bytes of static shared memory.
    pub shared: usize,
    /// The most threads that a block may have, where the kernel says so.
    pub most_threads: Option<u32>,
}
