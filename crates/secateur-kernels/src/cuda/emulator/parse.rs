//! What is in a PTX module? Entries with their instructions, and data that lies in memory.
//!
//! Whatever is not understood is an error with its line, at load: an instruction that were passed over would make
//! the emulator prove something about another kernel.

use super::{
    decode,
    instruction::{Entry, Instruction, Operation},
    kind::Kind,
    rows::{Rows, Variable},
    text::{self, Operand, Token},
};
use std::collections::BTreeMap;

/// What one PTX text declares.
#[derive(Debug, Clone, Default)]
pub(super) struct Module {
    pub entries: BTreeMap<String, Entry>,
    /// Initial bytes of variables in global and constant memory.
    pub variables: Vec<Vec<u8>>,
}

/// Reads a module. Errors begin with the line.
pub(super) fn parse(text: &str) -> Result<Module, String> {
    let mut parser = Parser { tokens: text::tokens(text), at: 0 };
    parser.module().map_err(|what| format!("line {}: {what}", parser.line()))
}

/// Directives that say nothing about what is computed, and end with their line.
const TO_LINE_END: [&str; 5] = [".version", ".target", ".address_size", ".file", ".loc"];

struct Parser<'a> {
    tokens: Vec<Token<'a>>,
    at: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.tokens.get(self.at).map(|token| token.text)
    }

    fn next(&mut self) -> Result<&'a str, String> {
        let text = self.peek().ok_or("the text ends too early")?;
        self.at += 1;
        Ok(text)
    }

    fn expect(&mut self, text: &str) -> Result<(), String> {
        match self.next()? {
            found if found == text => Ok(()),
            found => Err(format!("{found:?} where {text:?} should be")),
        }
    }

    /// The line of what was read last.
    fn line(&self) -> u32 {
        self.tokens.get(self.at.saturating_sub(1)).map_or(0, |token| token.line)
    }

    fn skip_line(&mut self) {
        let line = self.line();
        while self.tokens.get(self.at).is_some_and(|token| token.line == line) {
            self.at += 1;
        }
    }

    fn number(&mut self) -> Result<usize, String> {
        Ok(text::number(self.next()?)? as usize)
    }

    fn module(&mut self) -> Result<Module, String> {
        let (mut module, mut names) = (Module::default(), BTreeMap::new());
        while self.peek().is_some() {
            match self.next()? {
                word if TO_LINE_END.contains(&word) => self.skip_line(),
                ".visible" | ".weak" | ".extern" => {}
                ".entry" => {
                    let (name, entry) = self.entry(names.clone(), &mut module)?;
                    module.entries.insert(name.into(), entry);
                }
                space @ (".shared" | ".global" | ".const") => {
                    let (name, variable) = self.variable(space, &mut module)?;
                    names.insert(name, variable);
                }
                other => return Err(format!("the emulator does not know {other}")),
            }
        }
        Ok(module)
    }

    /// `.align 16 .b8 name[4] = {1, 2, 3, 4};` behind its space.
    fn variable(
        &mut self,
        space: &str,
        module: &mut Module,
    ) -> Result<(&'a str, Variable), String> {
        let mut align = None;
        if self.peek() == Some(".align") {
            self.at += 1;
            align = Some(self.number()?);
        }
        let kind = self.kind()?;
        let name = self.next()?;
        let (mut count, mut data) = (Some(1), Vec::new());
        while self.peek() == Some("[") {
            self.at += 1;
            count = if self.peek() == Some("]") {
                None
            } else {
                let length = self.number()?;
                count.map(|count| count * length)
            };
            self.expect("]")?;
        }
        if self.peek() == Some("=") {
            self.at += 1;
            let start = self.at;
            while self.peek() != Some(";") {
                self.next()?;
            }
            let values = text::operands(&self.tokens[start..self.at])?;
            let values = match &values[..] {
                [Operand::Vector(values)] => values,
                values => values,
            };
            for value in values {
                let Operand::Number(value) = value else {
                    return Err(format!("{name} is initialised with something that is no number"));
                };
                data.extend_from_slice(&value.to_le_bytes()[..kind.bytes()]);
            }
        }
        self.expect(";")?;
        let bytes = count.map(|count| count * kind.bytes());
        let variable = match (space, bytes) {
            (".shared", Some(bytes)) => Variable::Shared(bytes, align.unwrap_or(kind.bytes())),
            (".shared", None) => Variable::DynamicShared,
            (_, Some(bytes)) => {
                data.resize(bytes, 0);
                module.variables.push(data);
                Variable::Global(module.variables.len() - 1)
            }
            (_, None) => return Err(format!("{name} has no length")),
        };
        Ok((name, variable))
    }

    fn kind(&mut self) -> Result<Kind, String> {
        let word = self.next()?;
        word.strip_prefix('.').and_then(Kind::named).ok_or_else(|| format!("{word} is no type"))
    }

    fn entry(
        &mut self,
        variables: BTreeMap<&'a str, Variable>,
        module: &mut Module,
    ) -> Result<(&'a str, Entry), String> {
        let name = self.next()?;
        let mut rows = Rows::new(variables);
        let parameters =
            if self.peek() == Some("(") { self.parameters(&mut rows)? } else { vec![] };
        let mut most_threads = None;
        loop {
            match self.next()? {
                "{" => break,
                ".maxntid" | ".reqntid" => {
                    let mut threads = self.number()?;
                    while self.peek() == Some(",") {
                        self.at += 1;
                        threads *= self.number()?;
                    }
                    most_threads = Some(threads as u32);
                }
                ".minnctapersm" | ".maxnreg" => self.at += 1,
                other => return Err(format!("the emulator does not know {other}")),
            }
        }
        let mut body = Body::default();
        self.body(&mut rows, &mut body, module)?;
        body.resolve()?;
        let shared = rows.shared;
        let (count, constants) = rows.finish();
        let instructions = body.instructions;
        Ok((name, Entry { instructions, rows: count, constants, parameters, shared, most_threads }))
    }

    fn parameters(&mut self, rows: &mut Rows<'a>) -> Result<Vec<usize>, String> {
        self.expect("(")?;
        let (mut sizes, mut end) = (Vec::new(), 0_usize);
        while self.peek() != Some(")") {
            if self.peek() == Some(",") {
                self.at += 1;
            }
            self.expect(".param")?;
            let bytes = self.kind()?.bytes();
            let name = self.next()?;
            let offset = end.next_multiple_of(bytes);
            rows.declare_variable(name, Variable::Parameter(offset));
            end = offset + bytes;
            sizes.push(bytes);
        }
        self.expect(")")?;
        Ok(sizes)
    }

    fn body(
        &mut self,
        rows: &mut Rows<'a>,
        body: &mut Body<'a>,
        module: &mut Module,
    ) -> Result<(), String> {
        body.open();
        loop {
            match self.next()? {
                "}" => break,
                "{" => {
                    rows.open();
                    self.body(rows, body, module)?;
                    rows.close();
                }
                ";" | ".extern" => {}
                ".loc" => self.skip_line(),
                ".pragma" => while self.next()? != ";" {},
                ".reg" => self.registers(rows)?,
                space @ (".shared" | ".global" | ".const") => {
                    let (name, variable) = self.variable(space, module)?;
                    rows.declare_variable(name, variable);
                }
                label if self.peek() == Some(":") => {
                    self.at += 1;
                    body.label(label);
                }
                word if word.starts_with('.') => {
                    return Err(format!("the emulator does not know {word}"));
                }
                _ => {
                    self.at -= 1;
                    self.instruction(rows, body)?;
                }
            }
        }
        body.close();
        Ok(())
    }

    /// `.reg .b32 %r<19>;` and `.reg .pred p, q;`.
    fn registers(&mut self, rows: &mut Rows<'a>) -> Result<(), String> {
        self.kind()?;
        loop {
            let name = self.next()?;
            if self.peek() == Some("<") {
                self.at += 1;
                let count = self.number()?;
                (0..count).for_each(|i| rows.declare_register(format!("{name}{i}")));
                self.expect(">")?;
            } else {
                rows.declare_register(name.into());
            }
            match self.next()? {
                ";" => return Ok(()),
                "," => {}
                other => return Err(format!("{other:?} among registers")),
            }
        }
    }

    fn instruction(&mut self, rows: &mut Rows<'a>, body: &mut Body<'a>) -> Result<(), String> {
        let mut guard = None;
        if self.peek() == Some("@") {
            self.at += 1;
            let word = self.next()?;
            let operand =
                if word == "!" { Operand::Not(self.next()?) } else { Operand::Word(word) };
            guard = Some(rows.predicate(&operand)?);
        }
        let name = self.next()?;
        let line = self.line();
        let start = self.at;
        while self.peek() != Some(";") {
            self.next()?;
        }
        let operands = text::operands(&self.tokens[start..self.at])?;
        self.at += 1;
        for operation in decode::decode(name, &operands, rows)? {
            if let (Operation::Branch { .. }, [Operand::Word(label)]) = (&operation, &operands[..])
            {
                body.branches.push((body.instructions.len(), body.scopes.clone(), *label));
            }
            body.instructions.push(Instruction { line, guard, operation });
        }
        Ok(())
    }
}

/// An entry's instructions so far. A label is seen in the scope that it stands in and in those within.
#[derive(Default)]
struct Body<'a> {
    instructions: Vec<Instruction>,
    scopes: Vec<usize>,
    opened: usize,
    labels: BTreeMap<(usize, &'a str), usize>,
    branches: Vec<(usize, Vec<usize>, &'a str)>,
}

impl<'a> Body<'a> {
    fn open(&mut self) {
        self.scopes.push(self.opened);
        self.opened += 1;
    }

    fn close(&mut self) {
        self.scopes.pop();
    }

    fn label(&mut self, name: &'a str) {
        let scope = self.scopes.last().copied().unwrap_or(0);
        self.labels.insert((scope, name), self.instructions.len());
    }

    /// Replaces labels by numbers of instructions.
    fn resolve(&mut self) -> Result<(), String> {
        for (instruction, scopes, label) in &self.branches {
            let target = scopes.iter().rev().find_map(|scope| self.labels.get(&(*scope, *label)));
            let target = *target.ok_or_else(|| format!("there is no label {label}"))?;
            self.instructions[*instruction].operation = Operation::Branch { target };
        }
        Ok(())
    }
}
