//! What are tests made of? Seeded draws, weights of awkward elements, masks that a format can hold.
#![allow(dead_code, reason = "each of those who share this uses a part of it")]

use secateur_mask::Mask;
use secateur_storage::{Checkpoint, Dense, Dtype, Format, Packed, Values};

/// Every dtype whose elements can be packed, those first that weights come in.
pub const PACKABLE: [Dtype; 17] = [
    Dtype::F32,
    Dtype::F16,
    Dtype::BF16,
    Dtype::F64,
    Dtype::I8,
    Dtype::F8_E4M3,
    Dtype::F8_E5M2,
    Dtype::F8_E4M3FNUZ,
    Dtype::F8_E5M2FNUZ,
    Dtype::BOOL,
    Dtype::U8,
    Dtype::I16,
    Dtype::U16,
    Dtype::I32,
    Dtype::U32,
    Dtype::I64,
    Dtype::C64,
];

/// A seeded stream of numbers (splitmix64).
pub struct Draw(pub u64);

impl Draw {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `end`; 0 if that is 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % (end as u64).max(1)) as usize
    }

    pub fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

/// Elements of `size` bytes: zeros of both signs, subnormals, infinities, NaN with payloads, and any
/// other bits.
pub fn values(draw: &mut Draw, size: usize, len: usize) -> Vec<u8> {
    let mut data = Vec::with_capacity(size * len);
    for _ in 0..len {
        let random = draw.next();
        let top = |high: u64| high << (8 * size - 16).min(48);
        let bits = match (draw.below(12), size) {
            (0, _) => 0,
            (1, _) => 1 << (8 * size - 1),
            (2, _) => 1,
            (3, 2..) => top(0x7F80),
            (4, 2..) => top(0xFF80),
            (5, 2..) => top(0x7FF0) | random & 0xF,
            (6, 2..) => top(0x7C00) | random & 0x3,
            (7, _) => u64::MAX,
            _ => random,
        };
        data.extend(&bits.to_le_bytes()[..size]);
    }
    data
}

/// A weight of `dtype`; every other I8 one has scales.
pub fn dense(draw: &mut Draw, dtype: Dtype, shape: &[usize]) -> Dense {
    let data = values(draw, dtype.bitsize() / 8, shape.iter().product());
    let mut values = Values::new(dtype, data).unwrap();
    if dtype == Dtype::I8 && draw.below(2) == 0 {
        let rows = if shape.len() > 1 { shape[0] } else { 1 };
        let scales: Vec<f32> = (0..rows).map(|_| draw.below(100) as f32 / 7.0).collect();
        values = values.with_scales(scales).unwrap();
    }
    Dense::new(values, shape).unwrap()
}

/// A random mask that `format` can hold.
pub fn mask_for(draw: &mut Draw, format: Format, shape: &[usize]) -> Mask {
    let len = shape.iter().product::<usize>();
    let cols = if shape.len() > 1 { shape[1..].iter().product() } else { len };
    let density = 1 + draw.below(8);
    let mut kept: Vec<bool> = (0..len).map(|_| draw.below(8) < density).collect();
    match format {
        Format::Dense => kept.fill(true),
        Format::NOfM(pattern) => {
            for row in kept.chunks_mut(cols.max(1)) {
                for group in row.chunks_mut(pattern.m()) {
                    let mut left = pattern.n();
                    for at in 0..group.len() {
                        // Over the limit, some place before or at this one gives way.
                        if group[at] && left == 0 {
                            let gone = draw.below(at + 1);
                            match group[gone] {
                                true => group[gone] = false,
                                false => group[at] = false,
                            }
                        } else if group[at] {
                            left -= 1;
                        }
                    }
                }
            }
        }
        Format::Block(block) => {
            let across = cols.div_ceil(block.cols());
            let blocks: Vec<bool> = (0..=len + across).map(|_| draw.below(2) == 0).collect();
            for (index, kept) in kept.iter_mut().enumerate() {
                let (row, col) = (index / cols, index % cols);
                *kept = blocks[row / block.rows() * across + col / block.cols()];
            }
        }
        _ => {}
    }
    Mask::from_bools(&kept, shape).unwrap()
}

/// A tensor of a file: its name, dtype, shape and bytes.
pub type Raw<'a> = (&'a str, Dtype, &'a [usize], &'a [u8]);

/// A safetensors file of one's own, honest or not, with these claims.
pub fn file(tensors: &[Raw<'_>], claims: Option<&str>) -> Vec<u8> {
    let (mut entries, mut data) = (Vec::new(), Vec::new());
    if let Some(claims) = claims {
        entries.push(format!(r#""__metadata__":{{"secateur":{}}}"#, serde_json::json!(claims)));
    }
    for (name, dtype, shape, bytes) in tensors {
        let (name, start, end) = (serde_json::json!(name), data.len(), data.len() + bytes.len());
        let entry = format!(
            r#"{name}:{{"dtype":"{dtype:?}","shape":{shape:?},"data_offsets":[{start},{end}]}}"#
        );
        entries.push(entry);
        data.extend_from_slice(bytes);
    }
    with_header(&format!("{{{}}}", entries.join(",")), &data)
}

/// A file of this header and data.
pub fn with_header(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

/// Small good files of every layout, by name.
pub fn good_files() -> Vec<(&'static str, Vec<u8>)> {
    let mut draw = Draw(11);
    let mut packed = |dtype, format: &str, shape: &[usize]| {
        let format = format.parse().unwrap();
        let (weight, mask) = (dense(&mut draw, dtype, shape), mask_for(&mut draw, format, shape));
        Packed::pack_as(&weight, &mask, format).unwrap()
    };
    let mut files = Vec::new();
    for (name, tensors) in [
        (
            "regular",
            [
                ("a", Dtype::F16, "2:4", &[3, 16][..]),
                ("b", Dtype::F32, "3:5", &[2, 7]),
                ("c", Dtype::BF16, "1:16", &[2, 20]),
            ],
        ),
        (
            "irregular",
            [
                ("a", Dtype::F32, "bitmap", &[3, 11]),
                ("b", Dtype::F16, "csr", &[4, 9]),
                ("c", Dtype::F8_E4M3, "block2x3", &[5, 7]),
            ],
        ),
        (
            "scaled",
            [
                ("q", Dtype::I8, "2:4", &[3, 8]),
                ("r", Dtype::I8, "bitmap", &[4, 6]),
                ("s", Dtype::I8, "dense", &[2, 3]),
            ],
        ),
        (
            "empty",
            [
                ("a", Dtype::F32, "2:4", &[0, 8]),
                ("b", Dtype::F64, "csr", &[4, 0]),
                ("c", Dtype::I64, "dense", &[]),
            ],
        ),
    ] {
        let mut checkpoint = Checkpoint::default();
        for (name, dtype, format, shape) in tensors {
            let one = packed(dtype, format, shape);
            if let Format::NOfM(pattern) = one.format() {
                checkpoint.patterns.insert(name.into(), secateur_mask::Pattern::NOfM(pattern));
            }
            checkpoint.tensors.insert(name.into(), one);
        }
        checkpoint.masks.insert("m".into(), mask_for(&mut Draw(3), Format::Bitmap, &[2, 9]));
        checkpoint.patterns.insert("m".into(), secateur_mask::Pattern::Unstructured);
        checkpoint.metadata.insert("seed".into(), "7".into());
        files.push((name, checkpoint.to_bytes().unwrap()));
    }
    let floats = |len: usize| (1..=len).flat_map(|i| (i as f32).to_le_bytes()).collect::<Vec<u8>>();
    let sides = |sides: &[u64]| sides.iter().flat_map(|s| s.to_le_bytes()).collect::<Vec<u8>>();
    files.push((
        "plain",
        file(
            &[
                ("a", Dtype::F32, &[2, 3], &floats(6)),
                ("b", Dtype::F4, &[4], &[1, 2]),
                ("c", Dtype::I64, &[0, 5], &[]),
            ],
            None,
        ),
    ));
    files.push((
        "sparse-24-bitmask",
        file(
            &[
                ("l.compressed", Dtype::F32, &[2, 4], &floats(8)),
                ("l.shape", Dtype::I64, &[2, 1], &sides(&[2, 8])),
                ("l.bitmask", Dtype::U8, &[2, 1], &[0b1100_0101, 0b0011_1001]),
                ("l.bias", Dtype::F32, &[2], &floats(2)),
            ],
            None,
        ),
    ));
    files.push((
        "sparse-bitmask",
        file(
            &[
                ("l.compressed", Dtype::F32, &[3], &floats(3)),
                ("l.shape", Dtype::I64, &[2], &sides(&[2, 9])),
                ("l.bitmask", Dtype::U8, &[2, 2], &[0b101, 0, 0, 1]),
                ("l.row_offsets", Dtype::I64, &[2], &sides(&[0, 2])),
            ],
            None,
        ),
    ));
    files.push((
        "older",
        file(
            &[
                ("l.weight.compressed", Dtype::F16, &[3], &[1, 2, 3, 4, 5, 6]),
                ("l.weight.shape", Dtype::I64, &[4], &sides(&[1, 2, 2, 2])),
                ("l.weight.bitmask", Dtype::U8, &[1, 2, 2, 1], &[1, 2, 0, 2]),
                ("l.weight.row_offsets", Dtype::I64, &[1, 2, 2], &sides(&[0, 1, 2, 2])),
            ],
            None,
        ),
    ));
    files
}

/// Dense with all that `mask` cuts set to zero bits: what must come back.
pub fn cut(dense: &Dense, mask: &Mask) -> Dense {
    let size = dense.dtype().bitsize() / 8;
    let mut data = dense.values().data().to_vec();
    for (element, kept) in data.chunks_mut(size).zip(mask.iter()) {
        if !kept {
            element.fill(0);
        }
    }
    let mut values = Values::new(dense.dtype(), data).unwrap();
    if let Some(scales) = dense.values().scales() {
        values = values.with_scales(scales).unwrap();
    }
    Dense::new(values, dense.shape()).unwrap()
}
