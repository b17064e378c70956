//! Which row does a name mean? Registers by scope, variables and constants wherever they are used.

use super::{
    instruction::{Address, Constant, Predicate, Row},
    shared,
    text::Operand,
};
use std::collections::BTreeMap;

/// What a name outside the registers stands for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Variable {
    /// Static shared memory: bytes and alignment.
    Shared(usize, usize),
    DynamicShared,
    /// The module's variable of that number in global or constant memory.
    Global(usize),
    /// A parameter, so many bytes behind the first.
    Parameter(usize),
}

/// The names of one entry.
pub(super) struct Rows<'a> {
    count: Row,
    scopes: Vec<BTreeMap<String, Row>>,
    variables: BTreeMap<&'a str, Variable>,
    /// Offset of each static shared variable that was used.
    placed: BTreeMap<&'a str, usize>,
    constants: BTreeMap<Constant, Row>,
    /// Bytes of static shared memory so far.
    pub shared: usize,
}

impl<'a> Rows<'a> {
    /// Names that a module's variables are known by; row 0 is where results go that nobody wants.
    pub fn new(variables: BTreeMap<&'a str, Variable>) -> Self {
        let (placed, constants) = (BTreeMap::new(), BTreeMap::new());
        Self { count: 1, scopes: vec![BTreeMap::new()], variables, placed, constants, shared: 0 }
    }

    pub fn declare_variable(&mut self, name: &'a str, variable: Variable) {
        self.variables.insert(name, variable);
    }

    pub fn declare_register(&mut self, name: String) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.insert(name, self.count);
            self.count += 1;
        }
    }

    pub fn open(&mut self) {
        self.scopes.push(BTreeMap::new());
    }

    pub fn close(&mut self) {
        self.scopes.pop();
    }

    /// How many rows there are, and what fills some of them.
    pub fn finish(self) -> (usize, Vec<(Constant, Row)>) {
        (self.count as usize, self.constants.into_iter().collect())
    }

    fn constant(&mut self, constant: Constant) -> Row {
        let count = &mut self.count;
        *self.constants.entry(constant).or_insert_with(|| {
            *count += 1;
            *count - 1
        })
    }

    pub fn number(&mut self, value: u64) -> Row {
        self.constant(Constant::Value(value))
    }

    fn register(&self, name: &str) -> Option<Row> {
        self.scopes.iter().rev().find_map(|scope| scope.get(name)).copied()
    }

    /// The row that an instruction writes.
    pub fn written(&mut self, operand: &Operand<'_>) -> Result<Row, String> {
        match operand {
            Operand::Word("_") => Ok(0),
            Operand::Word(name) => {
                self.register(name).ok_or_else(|| format!("{name} is no register"))
            }
            other => Err(format!("{other:?} where a register is written")),
        }
    }

    /// The row that an instruction reads.
    pub fn read(&mut self, operand: &Operand<'a>) -> Result<Row, String> {
        match operand {
            Operand::Number(value) => Ok(self.number(*value)),
            Operand::Word(name) => match self.register(name) {
                Some(row) => Ok(row),
                None => {
                    let constant = self.named(name)?;
                    Ok(self.constant(constant))
                }
            },
            other => Err(format!("{other:?} where a register or a number is read")),
        }
    }

    pub fn predicate(&mut self, operand: &Operand<'a>) -> Result<Predicate, String> {
        match operand {
            Operand::Not(name) => {
                Ok(Predicate { row: self.read(&Operand::Word(name))?, negated: true })
            }
            other => Ok(Predicate { row: self.read(other)?, negated: false }),
        }
    }

    pub fn address(&mut self, operand: &Operand<'a>) -> Result<Address, String> {
        match operand {
            Operand::Address(base, offset) => {
                Ok(Address { row: self.read(base)?, offset: *offset })
            }
            other => Err(format!("{other:?} where an address is needed")),
        }
    }

    fn named(&mut self, name: &'a str) -> Result<Constant, String> {
        if let Some(axis) = name.rsplit_once('.').and_then(|(_, axis)| "xyz".find(axis)) {
            match name.split('.').next() {
                Some("%tid") => return Ok(Constant::Thread(axis)),
                Some("%ntid") => return Ok(Constant::Threads(axis)),
                Some("%ctaid") => return Ok(Constant::Block(axis)),
                Some("%nctaid") => return Ok(Constant::Blocks(axis)),
                _ => {}
            }
        }
        match name {
            "%laneid" => return Ok(Constant::Lane),
            "%warpid" => return Ok(Constant::Warp),
            "%lanemask_lt" => return Ok(Constant::LaneMask([true, false, false])),
            "%lanemask_le" => return Ok(Constant::LaneMask([true, true, false])),
            "%lanemask_eq" => return Ok(Constant::LaneMask([false, true, false])),
            "%lanemask_ge" => return Ok(Constant::LaneMask([false, true, true])),
            "%lanemask_gt" => return Ok(Constant::LaneMask([false, false, true])),
            "WARP_SZ" => return Ok(Constant::Value(32)),
            _ => {}
        }
        match self.variables.get(name) {
            Some(Variable::Shared(bytes, align)) => {
                let offset = *self.placed.entry(name).or_insert_with(|| {
                    let offset = self.shared.next_multiple_of((*align).max(1));
                    self.shared = offset + bytes;
                    offset
                });
                Ok(Constant::Value(shared::BASE + offset as u64))
            }
            Some(Variable::DynamicShared) => Ok(Constant::DynamicShared),
            Some(Variable::Global(number)) => Ok(Constant::Variable(*number)),
            Some(Variable::Parameter(offset)) => Ok(Constant::Value(*offset as u64)),
            None => Err(format!("{name} is not declared, or no register that this emulator has")),
        }
    }
}
