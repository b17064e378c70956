//! Of which words is PTX made? Tokens that know their line, and the operands of one instruction.

/// A word, a number or a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token<'a> {
    pub line: u32,
    pub text: &'a str,
}

/// One operand, still text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Operand<'a> {
    /// A register, a variable, a label.
    Word(&'a str),
    /// An immediate's bits.
    Number(u64),
    /// `!p`.
    Not(&'a str),
    /// `p|q`.
    Pair(&'a str, &'a str),
    Vector(Vec<Operand<'a>>),
    /// `[base + offset]`.
    Address(Box<Operand<'a>>, i64),
}

/// Cuts a text into tokens; comments are dropped.
pub(super) fn tokens(text: &str) -> Vec<Token<'_>> {
    let bytes = text.as_bytes();
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || b"_$%.".contains(&byte);
    let (mut tokens, mut at, mut line) = (Vec::new(), 0, 1);
    while at < bytes.len() {
        let start = at;
        match bytes[at] {
            b'\n' => line += 1,
            byte if byte.is_ascii_whitespace() || byte == 0 => {}
            b'/' if bytes.get(at + 1) == Some(&b'/') => {
                while at + 1 < bytes.len() && bytes[at + 1] != b'\n' {
                    at += 1;
                }
            }
            b'/' if bytes.get(at + 1) == Some(&b'*') => {
                let end = text[at..].find("*/").map_or(bytes.len(), |end| at + end + 1);
                line += bytes[at..end].iter().filter(|byte| **byte == b'\n').count() as u32;
                at = end;
            }
            b'"' => {
                at = text[at + 1..].find('"').map_or(bytes.len(), |end| at + 1 + end);
                tokens.push(Token { line, text: "\"\"" });
            }
            byte if is_word(byte) => {
                // `L2::128B` is one word, `label:` are two.
                loop {
                    let next = bytes.get(at + 1).copied().unwrap_or(b' ');
                    if is_word(next) {
                        at += 1;
                    } else if next == b':' && bytes.get(at + 2) == Some(&b':') {
                        at += 2;
                    } else {
                        break;
                    }
                }
                tokens.push(Token { line, text: &text[start..=at] });
            }
            byte if byte.is_ascii() => tokens.push(Token { line, text: &text[start..=at] }),
            _ => {}
        }
        at += 1;
    }
    tokens
}

/// The operands of an instruction, separated by commas.
pub(super) fn operands<'a>(tokens: &[Token<'a>]) -> Result<Vec<Operand<'a>>, String> {
    let (mut operands, mut at) = (Vec::new(), 0);
    while at < tokens.len() {
        operands.push(operand(tokens, &mut at)?);
        match tokens.get(at).map(|token| token.text) {
            None => {}
            Some(",") => at += 1,
            Some(other) => return Err(format!("{other:?} where an operand should end")),
        }
    }
    Ok(operands)
}

fn operand<'a>(tokens: &[Token<'a>], at: &mut usize) -> Result<Operand<'a>, String> {
    let word = |at: usize| tokens.get(at).map(|token| token.text).ok_or("the line ends too early");
    let text = word(*at)?;
    *at += 1;
    match text {
        "{" | "[" => {
            let closing = if text == "{" { "}" } else { "]" };
            let length = tokens[*at..].iter().position(|token| token.text == closing);
            let inner = &tokens[*at..*at + length.ok_or("a bracket is not closed")?];
            *at += inner.len() + 1;
            if text == "{" { Ok(Operand::Vector(operands(inner)?)) } else { address(inner) }
        }
        "!" => {
            *at += 1;
            Ok(Operand::Not(word(*at - 1)?))
        }
        "-" => {
            let Operand::Number(value) = operand(tokens, at)? else {
                return Err("a minus before something that is no number".into());
            };
            Ok(Operand::Number(value.wrapping_neg()))
        }
        _ if word(*at) == Ok("|") => {
            *at += 2;
            Ok(Operand::Pair(text, word(*at - 1)?))
        }
        _ if text.starts_with(|c: char| c.is_ascii_digit()) => Ok(Operand::Number(number(text)?)),
        _ => Ok(Operand::Word(text)),
    }
}

fn address<'a>(inner: &[Token<'a>]) -> Result<Operand<'a>, String> {
    let mut at = 0;
    let base = operand(inner, &mut at)?;
    if inner.get(at).is_some_and(|token| token.text == "+") {
        at += 1;
    }
    let offset = if at < inner.len() { operand(inner, &mut at)? } else { Operand::Number(0) };
    match offset {
        Operand::Number(offset) if at == inner.len() => {
            Ok(Operand::Address(Box::new(base), offset as i64))
        }
        _ => Err("an address that is not [base + number]".into()),
    }
}

/// A literal's bits: decimal, hexadecimal, or a float's bits behind `0f` and `0d`.
pub(super) fn number(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(['U', 'u']);
    let parsed = match digits.get(..2) {
        Some("0f" | "0F" | "0d" | "0D" | "0x" | "0X") => u64::from_str_radix(&digits[2..], 16),
        _ => digits.parse(),
    };
    parsed.map_err(|_| format!("{text:?} is not a number this emulator reads"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_marks_and_lines() {
        let found = tokens("@!%p1 ld.global.L2::128B\t%r1,\n[%rd1+-4]; // gone\n/* a\n */ L: ret;");
        let lines: Vec<(u32, &str)> = found.iter().map(|token| (token.line, token.text)).collect();
        let expected = [
            (1, "@"),
            (1, "!"),
            (1, "%p1"),
            (1, "ld.global.L2::128B"),
            (1, "%r1"),
            (1, ","),
            (2, "["),
            (2, "%rd1"),
            (2, "+"),
            (2, "-"),
            (2, "4"),
            (2, "]"),
            (2, ";"),
            (4, "L"),
            (4, ":"),
            (4, "ret"),
            (4, ";"),
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn operands_of_every_form() {
        let read = |text: &'static str| operands(&tokens(text)).unwrap();
        assert_eq!(read("%p1|%p2, !%p3"), [Operand::Pair("%p1", "%p2"), Operand::Not("%p3")]);
        let address = |base, offset| Operand::Address(Box::new(Operand::Word(base)), offset);
        assert_eq!(
            read("[%rd1+-4], [%r1+8], [x]"),
            [address("%rd1", -4), address("%r1", 8), address("x", 0)]
        );
        let vector = Operand::Vector(vec![Operand::Word("%r1"), Operand::Word("_")]);
        assert_eq!(
            read("{%r1, _}, 0f3F800000, -0x10"),
            [vector, Operand::Number(0x3F80_0000), Operand::Number(16_u64.wrapping_neg())]
        );
        assert!(operands(&tokens("%r1 %r2")).is_err());
        assert!(operands(&tokens("{%r1")).is_err());
        assert!(operands(&tokens("12z")).is_err());
    }
}
