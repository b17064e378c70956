//! Does every stored value meet its own column, wherever in its group, word, row pair and block it lies?
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod common;

use common::{DTYPES, Question, WAYS, dense, tiers, yardstick::Sums};
use secateur_kernels::{Activation, KernelKind, Product};
use secateur_mask::Mask;
use secateur_storage::{Dtype, Packed};

/// Columns: two words and a half, the last unit with room for no whole group of 8 or 16.
const COLS: usize = 64 * 2 + 36;
/// Rows: a block and some of the next, not a whole number of units.
const ROWS: usize = 128 + 11;

/// Everything that a group of N of M may keep, as columns: all choices where they are few, else every
/// column in every slot that it can have, its neighbours packed against it or against the ends.
fn choices(n: usize, m: usize) -> Vec<Vec<usize>> {
    if m <= 8 {
        let chosen = (0_u32..1 << m).filter(|bits| bits.count_ones() as usize == n);
        return chosen.map(|bits| (0..m).filter(|at| bits >> at & 1 == 1).collect()).collect();
    }
    let mut all = vec![];
    for slot in 0..n {
        for col in slot..=m - n + slot {
            let near = (col - slot..=col - slot + n - 1).collect();
            let below = 0..slot;
            let above = m - (n - slot - 1)..m;
            all.extend([near, below.chain([col]).chain(above).collect()]);
        }
    }
    all
}

/// Small whole numbers, so that every sum is exact in every dtype and order.
fn check(n: usize, m: usize) {
    let (choices, groups) = (choices(n, m), COLS.div_ceil(m));
    let tiers = tiers();
    for round in 0..choices.len() {
        let mut values = vec![0.0_f32; ROWS * COLS];
        let mut kept = vec![false; ROWS * COLS];
        for row in 0..ROWS {
            for group in 0..groups {
                // Neighbours have different choices, and over the rounds each place has each.
                let choice = &choices[(round + row * 5 + group * 3) % choices.len()];
                for (slot, place) in choice.iter().enumerate() {
                    let col = group * m + place;
                    if col < COLS {
                        kept[row * COLS + col] = true;
                        values[row * COLS + col] = (slot + 1) as f32;
                    }
                }
            }
        }
        let mask = Mask::from_bools(&kept, &[ROWS, COLS]).unwrap();
        let dtype = DTYPES[round % DTYPES.len()];
        if dtype == Dtype::I8 {
            // A scale of exactly one.
            values.iter_mut().zip(&kept).filter(|(_, kept)| **kept).for_each(|(v, _)| *v += 119.0);
            (0..ROWS).for_each(|row| {
                let first = (0..COLS).find(|col| kept[row * COLS + col]).unwrap();
                values[row * COLS + first] = 127.0;
            });
        }
        let dense = dense(values, [ROWS, COLS], dtype);
        let format = format!("{n}:{m}").parse().unwrap();
        let packed = Packed::pack_as(&dense, &mask, format).unwrap();
        for tokens in [1, 3, 21, 130] {
            if tokens > 21 && round % 8 > 0 {
                continue;
            }
            let x: Vec<f32> = (0..tokens * COLS).map(|i| (i * 7 % 509) as f32).collect();
            let question = Question { x, tokens, bias: None, activation: Activation::None };
            let sums = Sums::of(&packed, &question.x, tokens);
            let sums: Vec<f32> = sums.sums().iter().map(|sum| *sum as f32).collect();
            for dispatcher in &tiers {
                let product = Product::with_kernel(&packed, dispatcher, KernelKind::NOfM).unwrap();
                for way in WAYS {
                    let found = question.ask(&product, dispatcher, way);
                    let wrong = found.iter().zip(&sums).position(|(a, b)| a != b);
                    let at = wrong.map(|at| (at / ROWS, at % ROWS));
                    assert_eq!(at, None, "{n}:{m} {dtype:?}, round {round}, {tokens} {way:?}");
                }
            }
        }
    }
}

#[test]
fn two_of_four_in_all_six_ways_everywhere() {
    assert_eq!(choices(2, 4).len(), 6);
    // Dtypes take turns, and six ways are not a multiple of four dtypes: twelve rounds see all.
    check(2, 4);
}

#[test]
fn half_density() {
    check(1, 2);
    check(4, 8);
    check(8, 16);
}

#[test]
fn a_quarter() {
    check(1, 4);
    check(2, 8);
    check(4, 16);
}

#[test]
fn an_eighth() {
    check(1, 8);
    check(2, 16);
}
