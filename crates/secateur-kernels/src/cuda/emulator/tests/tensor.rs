//! `ldmatrix` and the tensor core's instructions, from memory to memory.

use super::*;
use crate::cuda::lane_model::{Float, Lanes, mma_float, mma_s8, mma_sp_float, mma_sp_s8};

/// Numbers that look random.
fn noise(count: usize, seed: u32) -> Vec<u32> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state
    };
    (0..count).map(|_| next()).collect()
}

fn matrices(count: &str, trans: &str, registers: &str) -> &'static str {
    // 32 rows of 16 bytes, 64 bytes of a pitch of 80, so that they are free of conflicts.
    kernel(16, 16, &format!("
        .extern .shared .align 16 .b8 x[]; mov.u32 %r1, x; mad.lo.u32 %r1, %t, 80, %r1;
        ld.global.v4.u32 {{%r2, %r3, %r4, %r5}}, [%in]; st.shared.v4.u32 [%r1], {{%r2, %r3, %r4, %r5}};
        bar.sync 0;
        ldmatrix.sync.aligned.m8n8.{count}{trans}.shared.b16 {{{registers}}}, [%r1];
        st.global.v4.u32 [%out], {{%r2, %r3, %r4, %r5}};"))
}

#[test]
fn ldmatrix_deals_out_rows_or_columns() {
    // Element (row, column) of matrix m is 256 m + 16 row + column.
    let element = |m: u32, row: u32, column: u32| 256 * m + 16 * row + column;
    let word = |m, row, column| element(m, row, column) | element(m, row, column + 1) << 16;
    let input: Vec<u32> =
        (0..128).map(|word_at| word(word_at / 32, word_at / 4 % 8, word_at % 4 * 2)).collect();
    let plain: Vec<u32> = (0..128).map(|at| word(at % 4, at / 4 / 4, at / 4 % 4 * 2)).collect();
    let column = |m, row, column| element(m, row, column) | element(m, row + 1, column) << 16;
    let turned: Vec<u32> = (0..128).map(|at| column(at % 4, at / 4 % 4 * 2, at / 4 / 4)).collect();
    gives(matrices("x4", "", "%r2, %r3, %r4, %r5"), 32, &input, &plain);
    gives(matrices("x4", ".trans", "%r2, %r3, %r4, %r5"), 32, &input, &turned);
    // The first two only; the other registers stay.
    let two: Vec<u32> = (0..128).map(|at| if at % 4 < 2 { plain[at] } else { input[at] }).collect();
    gives(matrices("x2", "", "%r2, %r3"), 32, &input, &two);
}

#[test]
fn ldmatrix_is_counted_by_matrix() {
    let emulator = Emulator::new();
    let text = matrices("x4", "", "%r2, %r3, %r4, %r5");
    run_on(&emulator, text, 32, &[0; 128], 128).unwrap();
    assert_eq!((emulator.counts().shared_wavefronts, emulator.counts().bank_conflicts()), (8, 0));
    // Rows 128 bytes apart lie in the same banks.
    let text: &'static str = Box::leak(text.replace("%t, 80,", "%t, 128,").into_boxed_str());
    run_on(&emulator, text, 32, &[0; 128], 128).unwrap();
    assert_eq!((emulator.counts().shared_wavefronts, emulator.counts().bank_conflicts()), (64, 56));
}

/// Loads four registers of A, of B and of C and a word of metadata a lane, and stores D.
fn product(name: &str, b: &str, rest: &str) -> &'static str {
    kernel(64, 16, &format!("
        ld.global.v4.u32 {{%r0, %r1, %r2, %r3}}, [%in]; ld.global.v4.u32 {{%r4, %r5, %r6, %r7}}, [%in+16];
        ld.global.v4.u32 {{%r8, %r9, %r10, %r11}}, [%in+32]; ld.global.u32 %r12, [%in+48];
        {name} {{%r13, %r14, %r15, %r16}}, {{%r0, %r1, %r2, %r3}}, {{{b}}}, {{%r8, %r9, %r10, %r11}}{rest};
        st.global.v4.u32 [%out], {{%r13, %r14, %r15, %r16}};"))
}

/// Registers of A, B, C and metadata, and the words that the kernel loads.
fn operands(seed: u32) -> ([Lanes<u32, 4>; 3], [u32; 32], Vec<u32>) {
    // Bits of ordinary numbers of 16 bits, and of an f32 for C.
    let ordinary = noise(512, seed).into_iter().map(|word| word & 0xBFFF_BFFF | 0x2000_2000);
    let mut words: Vec<u32> = ordinary.collect();
    for lane in 0..32 {
        let nibbles = [0x4, 0x8, 0x9, 0xC, 0xD, 0xE];
        let random = noise(8, seed + 1 + lane);
        let metadata = random.iter().fold(0, |word, n| word << 4 | nibbles[(n % 6) as usize]);
        words[lane as usize * 16 + 12] = metadata;
    }
    let at = |lane: usize, i: usize| words[lane * 16 + i];
    let operand =
        |start: usize| std::array::from_fn(|lane| std::array::from_fn(|i| at(lane, start + i)));
    ([operand(0), operand(4), operand(8)], std::array::from_fn(|lane| at(lane, 12)), words)
}

#[test]
fn tensor_instructions_are_the_lane_model() {
    let ([a, b, c], metadata, words) = operands(3);
    let floats = c.map(|lane| lane.map(f32::from_bits));
    let bits = |d: Lanes<f32, 4>| d.map(|lane| lane.map(f32::to_bits)).concat();
    for (float, name) in [(Float::F16, "f16"), (Float::Bf16, "bf16")] {
        for selector in 0..2 {
            let line = format!("mma.sp.sync.aligned.m16n8k32.row.col.f32.{name}.{name}.f32");
            let text = product(&line, "%r4, %r5, %r6, %r7", &format!(", %r12, 0x{selector}"));
            let expected = mma_sp_float(float, &a, &b, &floats, &metadata, selector).unwrap();
            gives(text, 32, &words, &bits(expected));
        }
        let line = format!("mma.sync.aligned.m16n8k16.row.col.f32.{name}.{name}.f32");
        let expected = mma_float(float, &a, &b.map(|lane| [lane[0], lane[1]]), &floats);
        gives(product(&line, "%r4, %r5", ""), 32, &words, &bits(expected));
    }
    let text = product(
        "mma.sp.sync.aligned.m16n8k64.row.col.s32.s8.s8.s32",
        "%r4, %r5, %r6, %r7",
        ", %r12, 0x0",
    );
    let expected =
        mma_sp_s8(&a, &b, &c.map(|lane| lane.map(|word| word as i32)), &metadata).unwrap();
    gives(text, 32, &words, &expected.map(|lane| lane.map(|sum| sum as u32)).concat());
    let text = product("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32", "%r4, %r5", "");
    let expected =
        mma_s8(&a, &b.map(|lane| [lane[0], lane[1]]), &c.map(|lane| lane.map(|word| word as i32)));
    gives(text, 32, &words, &expected.map(|lane| lane.map(|sum| sum as u32)).concat());
}

#[test]
fn tensor_instructions_need_every_lane_and_defined_metadata() {
    let text = product(
        "mma.sp.sync.aligned.m16n8k64.row.col.s32.s8.s8.s32",
        "%r4, %r5, %r6, %r7",
        ", %r12, 0x0",
    );
    let (_, _, mut words) = operands(5);
    words[16 * 9 + 12] = 0x4444_4844 & !0xF00 | 0x600;
    let error = run(text, 32, &words, 128).unwrap_err().to_string();
    assert!(error.contains("lane 9's metadata has nibble 2 = 0x6"), "{error}");
    let partly = text.replace("mma.sp", "setp.ne.u32 %p1, %t, 4; @%p1 mma.sp");
    is_fault(Box::leak(partly.into_boxed_str()), 32, "lanes 0x10 of the warp are not here");
    is_fault(
        kernel(
            0,
            0,
            ".shared .align 16 .b8 x[16]; ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r1}, [x];",
        ),
        16,
        "are not here",
    );
}
