//! One instruction each, against values worked out by hand or by Rust's own arithmetic.

use super::*;

/// `line` on three words `%r1`, `%r2`, `%r3`, its result in `%r0`.
#[track_caller]
fn computes(line: &str, inputs: [u32; 3], expected: u32) {
    let body = format!(
        "ld.global.u32 %r1, [%in]; ld.global.u32 %r2, [%in+4]; ld.global.u32 %r3, [%in+8];\n\
         mov.b32 %f1, %r1; mov.b32 %f2, %r2; mov.b32 %f3, %r3; cvt.u16.u32 %h1, %r1; cvt.u16.u32 %h2, %r2;\n\
         {line}\nst.global.u32 [%out], %r0;"
    );
    let found = run(kernel(0, 0, &body), 32, &inputs, 1).unwrap();
    assert_eq!(found, [expected], "{line} of {inputs:x?} is {:#x}, not {expected:#x}", found[0]);
}

#[track_caller]
fn computes_f32(line: &str, inputs: [f32; 3], expected: f32) {
    let line = format!("{line} mov.b32 %r0, %f0;");
    computes(&line, inputs.map(f32::to_bits), expected.to_bits());
}

const MINUS: u32 = u32::MAX;

#[test]
fn integers() {
    computes("add.s32 %r0, %r1, -3;", [1, 0, 0], MINUS - 1);
    computes("sub.u32 %r0, %r1, %r2;", [1, 2, 0], MINUS);
    computes("mul.lo.s32 %r0, %r1, %r2;", [MINUS, 5, 0], MINUS - 4);
    computes("mul.hi.s32 %r0, %r1, %r2;", [MINUS, 5, 0], MINUS);
    computes("mul.hi.u32 %r0, %r1, %r2;", [MINUS, 5, 0], 4);
    computes("mad.lo.u32 %r0, %r1, %r2, %r3;", [3, 5, 7], 22);
    computes(
        "mul.wide.s32 %rd0, %r1, %r2; shr.u64 %rd0, %rd0, 32; cvt.u32.u64 %r0, %rd0;",
        [MINUS, 2, 0],
        MINUS,
    );
    computes("mul.wide.u16 %r0, %h1, %h2;", [0xFFFF, 2, 0], 0x1_FFFE);
    computes("div.s32 %r0, %r1, %r2;", [MINUS - 6, 2, 0], MINUS - 2);
    computes("rem.u32 %r0, %r1, %r2;", [17, 5, 0], 2);
    computes("min.s32 %r0, %r1, %r2;", [MINUS, 2, 0], MINUS);
    computes("min.u32 %r0, %r1, %r2;", [MINUS, 2, 0], 2);
    computes("abs.s32 %r0, %r1;", [MINUS - 4, 0, 0], 5);
    computes("neg.s32 %r0, %r1;", [5, 0, 0], MINUS - 4);
}

#[test]
fn bits() {
    computes("shl.b32 %r0, %r1, %r2;", [1, 31, 0], 1 << 31);
    computes("shl.b32 %r0, %r1, %r2;", [1, 32, 0], 0);
    computes("shr.u32 %r0, %r1, %r2;", [MINUS, 28, 0], 15);
    computes("shr.s32 %r0, %r1, %r2;", [1 << 31, 40, 0], MINUS);
    computes("not.b32 %r0, %r1;", [5, 0, 0], !5);
    computes("lop3.b32 %r0, %r1, %r2, %r3, 0x96;", [0b1100, 0b1010, 0b1111], 0b1001);
    computes("lop3.b32 %r0, %r1, %r2, %r3, 0xEA;", [0b1100, 0b1010, 0b0001], 0b1001);
    computes("bfe.u32 %r0, %r1, %r2, %r3;", [0xABCD_1234, 8, 12], 0xD12);
    computes("bfe.s32 %r0, %r1, %r2, %r3;", [0xABCD_1234, 8, 12], 0xFFFF_FD12);
    computes("bfi.b32 %r0, %r1, %r2, 4, 8;", [0xAB, 0xFFFF_FFFF, 0], 0xFFFF_FABF);
    computes("prmt.b32 %r0, %r1, %r2, %r3;", [0x0302_0180, 0x0706_0504, 0x8_7_0], 0x80FF_0780);
    computes("shf.l.wrap.b32 %r0, %r1, %r2, 8;", [0xAA00_0000, 0x1, 0], 0x1AA);
    computes("shf.r.wrap.b32 %r0, %r1, %r2, 8;", [0xAA00_0000, 0x1, 0], 0x01AA_0000);
    computes("popc.b32 %r0, %r1;", [0xF0F0, 0, 0], 8);
    computes("clz.b32 %r0, %r1;", [0xF0F0, 0, 0], 16);
    computes("brev.b32 %r0, %r1;", [1, 0, 0], 1 << 31);
    computes("mov.b32 {%h1, %h2}, %r1; mov.b32 %r0, {%h2, %h1};", [0x1111_2222, 0, 0], 0x2222_1111);
    computes("mov.b64 %rd0, {%r1, %r2}; mov.b64 {_, %r0}, %rd0;", [1, 2, 0], 2);
    computes("dp4a.s32.s32 %r0, %r1, %r2, %r3;", [0x0102_03FF, 0x0101_0102, 10], 14);
}

#[test]
fn comparisons() {
    let test = |compare: &str| format!("{compare} selp.u32 %r0, 1, 0, %p1;");
    computes(&test("setp.lt.s32 %p1, %r1, %r2;"), [MINUS, 0, 0], 1);
    computes(&test("setp.lt.u32 %p1, %r1, %r2;"), [MINUS, 0, 0], 0);
    computes(&test("setp.le.u16 %p1, %h1, %h2;"), [0x1_0001, 1, 0], 1);
    computes(&test("setp.eq.s32 %p2, %r3, 0; setp.ne.and.b32 %p1, %r1, %r2, %p2;"), [1, 2, 1], 0);
    computes(&test("setp.eq.s32 %p2, %r3, 0; setp.ne.and.b32 %p1, %r1, %r2, !%p2;"), [1, 2, 1], 1);
    computes(&test("setp.gt.s32 %p2|%p1, %r1, %r2;"), [1, 2, 0], 1);
    computes(
        &test("setp.lt.s32 %p2, %r1, %r2; not.pred %p1, %p2; or.pred %p1, %p1, %p2;"),
        [1, 2, 0],
        1,
    );
    let nan = f32::NAN.to_bits();
    computes(&test("setp.lt.f32 %p1, %f1, %f2;"), [nan, 0, 0], 0);
    computes(&test("setp.ltu.f32 %p1, %f1, %f2;"), [nan, 0, 0], 1);
    computes(&test("setp.ne.f32 %p1, %f1, %f2;"), [nan, 0, 0], 0);
    computes(&test("setp.neu.f32 %p1, %f1, %f2;"), [nan, 0, 0], 1);
    computes(&test("setp.eq.f32 %p1, %f1, %f2;"), [0x8000_0000, 0, 0], 1);
    computes(&test("setp.eq.ftz.f32 %p1, %f1, %f2;"), [1, 0, 0], 1);
    computes(&test("setp.nan.f32 %p1, %f1, %f1;"), [nan, 0, 0], 1);
}

#[test]
fn floats() {
    computes_f32("add.f32 %f0, %f1, %f2;", [1.0, f32::EPSILON / 2.0, 0.0], 1.0);
    // Rounded once: the product alone would round to 1.
    let small = f32::EPSILON;
    computes_f32(
        "fma.rn.f32 %f0, %f1, %f2, %f3;",
        [1.0 + small, 1.0 - small, -1.0],
        -small * small,
    );
    computes_f32("mul.ftz.f32 %f0, %f1, %f2;", [f32::MIN_POSITIVE, -0.5, 0.0], -0.0);
    computes_f32(
        "mul.f32 %f0, %f1, %f2;",
        [f32::MIN_POSITIVE, -0.5, 0.0],
        -f32::MIN_POSITIVE / 2.0,
    );
    computes_f32("min.f32 %f0, %f1, %f2;", [f32::NAN, 3.0, 0.0], 3.0);
    computes_f32("max.f32 %f0, %f1, %f2;", [-0.0, 0.0, 0.0], 0.0);
    computes_f32("add.sat.f32 %f0, %f1, %f2;", [3.0, 4.0, 0.0], 1.0);
    computes_f32("div.rn.f32 %f0, %f1, %f2;", [1.0, 3.0, 0.0], 1.0 / 3.0);
    computes_f32("rcp.rn.f32 %f0, %f1;", [4.0, 0.0, 0.0], 0.25);
    computes_f32("sqrt.rn.f32 %f0, %f1;", [2.0, 0.0, 0.0], 2.0_f32.sqrt());
    computes_f32("ex2.approx.ftz.f32 %f0, %f1;", [-3.0, 0.0, 0.0], 0.125);
    computes_f32("lg2.approx.f32 %f0, %f1;", [8.0, 0.0, 0.0], 3.0);
    computes_f32("tanh.approx.f32 %f0, %f1;", [0.0, 0.0, 0.0], 0.0);
    computes_f32("copysign.f32 %f0, %f1, %f2;", [-1.0, 5.0, 0.0], -5.0);
    computes_f32("neg.f32 %f0, %f1;", [2.0, 0.0, 0.0], -2.0);
    computes_f32("mov.f32 %f0, 0fBF800000;", [0.0; 3], -1.0);
    computes("add.f16x2 %r0, %r1, %r2;", [0x3C00_4000, 0x3C00_3C00, 0], 0x4000_4200);
    computes(
        "fma.rn.bf16x2 %r0, %r1, %r2, %r3;",
        [0x3F80_4000, 0x4000_4000, 0x3F80_3F80],
        0x4040_40A0,
    );
}

#[test]
fn conversions() {
    let f = |value: f32| [value.to_bits(), 0, 0];
    computes("cvt.rni.s32.f32 %r0, %f1;", f(2.5), 2);
    computes("cvt.rni.s32.f32 %r0, %f1;", f(-3.5), MINUS - 3);
    computes("cvt.rzi.s32.f32 %r0, %f1;", f(-3.9), MINUS - 2);
    computes("cvt.rzi.u32.f32 %r0, %f1;", f(-3.9), 0);
    computes("cvt.rni.sat.s8.f32 %h1, %f1; cvt.s32.s8 %r0, %h1;", f(-300.0), MINUS - 127);
    computes("cvt.rzi.s32.f32 %r0, %f1;", f(1e20), i32::MAX as u32);
    computes("cvt.rzi.s32.f32 %r0, %f1;", f(f32::NAN), 0);
    computes(
        "cvt.rn.f32.s32 %f0, %r1; mov.b32 %r0, %f0;",
        [16_777_217, 0, 0],
        16_777_216_f32.to_bits(),
    );
    computes(
        "cvt.rn.f32.u32 %f0, %r1; mov.b32 %r0, %f0;",
        [MINUS, 0, 0],
        4_294_967_296_f32.to_bits(),
    );
    computes("cvt.s16.s8 %h3, %h1; cvt.s32.s16 %r0, %h3;", [0x180, 0, 0], MINUS - 127);
    computes("cvt.sat.s8.s32 %r0, %r1;", [1000, 0, 0], 127);
    // Ties go to the even neighbour: 2049 lies between 2048 and 2050, 2051 between 2050 and 2052.
    let f16 = "cvt.rn.f16.f32 %h1, %f1; cvt.u32.u16 %r0, %h1;";
    computes(f16, f(2049.0), 0x6800);
    computes(f16, f(2051.0), 0x6802);
    computes(f16, f(65520.0), 0x7C00);
    computes(f16, f(65519.0), 0x7BFF);
    computes(f16, f(f32::from_bits(0x3300_0000)), 0);
    computes(f16, f(f32::from_bits(0x3300_0001)), 1);
    let bf16 = "cvt.rn.bf16.f32 %h1, %f1; cvt.u32.u16 %r0, %h1;";
    computes(bf16, [0x3F80_8000, 0, 0], 0x3F80);
    computes(bf16, [0x3F81_8000, 0, 0], 0x3F82);
    computes(bf16, [0x3F80_8001, 0, 0], 0x3F81);
    computes("cvt.rn.f16x2.f32 %r0, %f1, %f2;", [1_f32.to_bits(), 2_f32.to_bits(), 0], 0x3C00_4000);
    computes(
        "cvt.rn.bf16x2.f32 %r0, %f1, %f2;",
        [1_f32.to_bits(), 2_f32.to_bits(), 0],
        0x3F80_4000,
    );
    computes("cvt.f32.f16 %f0, %h1; mov.b32 %r0, %f0;", [0xC200, 0, 0], (-3_f32).to_bits());
    computes("cvt.pack.sat.s8.s32.b32 %r0, %r1, %r2, %r3;", [300, MINUS, 0x1234], 0x1234_7FFF);
}
