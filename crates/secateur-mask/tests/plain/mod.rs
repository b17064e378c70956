//! What are the patterns, in the plainest code? What the crate's fast code is held against.

use secateur_mask::{Axis, Pattern};

/// Whether `bits` have the pattern, by its definition, in the plainest code.
pub fn holds(pattern: Pattern, bits: &[bool], shape: &[usize]) -> bool {
    let (rows, cols) = match shape {
        [cols] => (1, *cols),
        [rows, rest @ ..] => (*rows, rest.iter().product()),
        [] => (1, 1),
    };
    let at = |row: usize, col: usize| row < rows && col < cols && bits[row * cols + col];
    let count = |height: usize, width: usize, top: usize, left: usize| {
        let places =
            (top..top + height).flat_map(|row| (left..left + width).map(move |c| (row, c)));
        places.filter(|&(row, col)| at(row, col)).count()
    };
    let along_rows = |n: usize, m: usize| {
        (0..rows).all(|row| (0..cols.div_ceil(m)).all(|g| count(1, m, row, g * m) <= n))
    };
    let along_columns = |n: usize, m: usize| {
        (0..cols).all(|col| (0..rows.div_ceil(m)).all(|g| count(m, 1, g * m, col) <= n))
    };
    let whole = |height: usize, width: usize| {
        (0..rows.div_ceil(height)).all(|r| {
            (0..cols.div_ceil(width)).all(|c| {
                let entries = (rows - r * height).min(height) * (cols - c * width).min(width);
                [0, entries].contains(&count(height, width, r * height, c * width))
            })
        })
    };
    match pattern {
        Pattern::Unstructured => true,
        Pattern::UnstructuredRow => {
            (0..rows).all(|row| count(1, cols, row, 0) == count(1, cols, 0, 0))
        }
        Pattern::NOfM(p) => along_rows(p.n(), p.m()),
        Pattern::OutputNOfM(p) => along_columns(p.n(), p.m()),
        Pattern::TransposableTwoOfFour => along_rows(2, 4) && along_columns(2, 4),
        Pattern::VNOfM(p) => {
            let used = |top, left| {
                (left..left + p.m()).filter(|&col| count(p.v(), 1, top, col) > 0).count()
            };
            along_rows(p.n(), p.m())
                && (0..rows.div_ceil(p.v()))
                    .all(|r| (0..cols.div_ceil(p.m())).all(|c| used(r * p.v(), c * p.m()) <= 4))
        }
        Pattern::Block(block) => whole(block.rows(), block.cols()),
        Pattern::Channel(Axis::Output) => whole(1, cols.max(1)),
        Pattern::Channel(Axis::Input) => {
            whole(rows.max(1), shape.iter().skip(2).product::<usize>().max(1))
        }
        _ => unreachable!("a pattern without a definition here"),
    }
}
