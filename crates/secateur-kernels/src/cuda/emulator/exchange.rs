//! What do lanes learn of each other without memory? Shuffles, votes, and the tensor core's products.

use super::{
    instruction::{Predicate, Row, Shuffle, Tensor, Vote},
    warp::{ALL, Warp},
};
use crate::cuda::lane_model::{Lanes, mma_float, mma_s8, mma_sp_float, mma_sp_s8};

impl Warp {
    /// `shfl.sync`, as PTX ISA 7.8, section 9.7.8.6 has it.
    pub(super) fn shuffle(
        &mut self,
        mode: Shuffle,
        [d, p]: [Row; 2],
        [a, b, c]: [Row; 3],
        lanes: u32,
    ) -> Result<(), String> {
        let [a, b, c] = [a, b, c].map(|row| self.rows[row as usize]);
        let (mut values, mut inside) = (a, [0; 32]);
        for lane in (0..32_u32).filter(|lane| lanes >> lane & 1 == 1) {
            let (b, c) = (b[lane as usize] as u32 & 31, c[lane as usize] as u32);
            let (clamp, segment) = (c & 31, c >> 8 & 31);
            let last = lane & segment | clamp & !segment;
            let (from, valid) = match mode {
                Shuffle::Up => (lane.wrapping_sub(b), lane as i32 - b as i32 >= last as i32),
                Shuffle::Down => (lane + b, lane + b <= last),
                Shuffle::Butterfly => (lane ^ b, lane ^ b <= last),
                Shuffle::Index => {
                    let from = lane & segment | b & !segment & 31;
                    (from, from <= last)
                }
            };
            let from = if valid { from } else { lane };
            if lanes >> from & 1 == 0 {
                return Err(format!("lane {lane} reads from lane {from}, which is not here"));
            }
            values[lane as usize] = a[from as usize] & 0xFFFF_FFFF;
            inside[lane as usize] = u64::from(valid);
        }
        self.write(d, values, lanes);
        if p != 0 {
            self.write(p, inside, lanes);
        }
        Ok(())
    }

    pub(super) fn vote(&mut self, mode: Vote, d: Row, a: Predicate, lanes: u32) {
        let yes = self.holds(a) & lanes;
        let answer = match mode {
            Vote::All => u32::from(yes == lanes),
            Vote::Any => u32::from(yes != 0),
            Vote::Uniform => u32::from(yes == lanes || yes == 0),
            Vote::Ballot => yes,
        };
        self.write(d, [answer.into(); 32], lanes);
    }

    pub(super) fn tensor(
        &mut self,
        tensor: Tensor,
        d: [Row; 4],
        [a, b, c]: [[Row; 4]; 3],
        metadata: Row,
        selector: u32,
    ) -> Result<(), String> {
        let (a, b, c) = (self.gather::<4>(a), b, self.gather::<4>(c));
        let metadata = self.rows[metadata as usize].map(|word| word as u32);
        let floats = |c: &Lanes<u32, 4>| c.map(|lane| lane.map(f32::from_bits));
        let float_bits = |d: Lanes<f32, 4>| d.map(|lane| lane.map(f32::to_bits));
        let integers = |c: &Lanes<u32, 4>| c.map(|lane| lane.map(|word| word as i32));
        let integer_bits = |d: Lanes<i32, 4>| d.map(|lane| lane.map(|word| word as u32));
        let (four, two) = (|| self.gather::<4>(b), || self.gather([b[0], b[1]]));
        let sums = match tensor {
            Tensor::SparseFloat(float) => {
                mma_sp_float(float, &a, &four(), &floats(&c), &metadata, selector).map(float_bits)
            }
            Tensor::SparseBytes => {
                mma_sp_s8(&a, &four(), &integers(&c), &metadata).map(integer_bits)
            }
            Tensor::DenseFloat(float) => Ok(float_bits(mma_float(float, &a, &two(), &floats(&c)))),
            Tensor::DenseBytes => Ok(integer_bits(mma_s8(&a, &two(), &integers(&c)))),
        };
        let sums = sums.map_err(|error| error.to_string())?;
        for (i, row) in d.into_iter().enumerate() {
            self.write(row, std::array::from_fn(|lane| sums[lane][i].into()), ALL);
        }
        Ok(())
    }

    /// Rows as registers of each lane.
    fn gather<const N: usize>(&self, rows: [Row; N]) -> Lanes<u32, N> {
        std::array::from_fn(|lane| rows.map(|row| self.rows[row as usize][lane] as u32))
    }
}
