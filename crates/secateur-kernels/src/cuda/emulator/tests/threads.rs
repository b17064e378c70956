//! Lanes that part and meet, warps that wait for each other or forget to.

use super::*;

fn numbers(count: u32, number: impl FnMut(u32) -> u32) -> Vec<u32> {
    (0..count).map(number).collect()
}

#[test]
fn lanes_part_and_meet() {
    // Each lane loops as often as its number says; the vote behind it needs all of them back.
    let text = kernel(
        4,
        4,
        "
        mov.u32 %r1, 0; mov.u32 %r2, 0;
        again: setp.ge.u32 %p1, %r1, %t;
        @%p1 bra done;
        add.u32 %r2, %r2, %r1; add.u32 %r1, %r1, 1;
        bra.uni again;
        done: setp.gt.u32 %p2, %r2, 100;
        vote.sync.ballot.b32 %r3, %p2, 0xffffffff;
        popc.b32 %r3, %r3; mad.lo.u32 %r3, %r3, 1000, %r2;
        st.global.u32 [%out], %r3;",
    );
    let sum = |n: u32| n * n.saturating_sub(1) / 2;
    let many = (0..32).filter(|n| sum(*n) > 100).count() as u32;
    gives(text, 32, &[0; 32], &numbers(32, |n| 1000 * many + sum(n)));
}

#[test]
fn lanes_that_leave_are_gone() {
    let text = kernel(
        4,
        4,
        "
        setp.lt.u32 %p1, %t, 5; @%p1 ret;
        setp.ge.u32 %p2, %t, 30; @!%p2 bra others;
        st.global.u32 [%out], 9; exit;
        others: activemask.b32 %r1; st.global.u32 [%out], %r1;",
    );
    gives(
        text,
        32,
        &[0; 32],
        &numbers(32, |n| match n {
            0..5 => 0,
            30.. => 9,
            _ => 0x3FFF_FFE0,
        }),
    );
    is_fault(
        kernel(
            4,
            4,
            "
        setp.lt.u32 %p1, %t, 5; @%p1 bra over;
        vote.sync.any.pred %p2, %p1, 0xffffffff;
        over:",
        ),
        32,
        "lanes 0xffffffff are named, but 0xffffffe0 are here",
    );
}

#[test]
fn shuffles() {
    let shuffled = |line: &str, expected: fn(u32) -> u32| {
        let body = format!(
            "ld.global.u32 %r1, [%in]; {line} selp.u32 %r3, 1000, 0, %p1; add.u32 %r2, %r2, %r3; st.global.u32 [%out], %r2;"
        );
        gives(kernel(4, 4, &body), 32, &numbers(32, |n| n), &numbers(32, expected));
    };
    shuffled("shfl.sync.bfly.b32 %r2|%p1, %r1, 5, 0x1f, -1;", |n| (n ^ 5) + 1000);
    shuffled(
        "shfl.sync.down.b32 %r2|%p1, %r1, 4, 0x1f, -1;",
        |n| if n < 28 { n + 1004 } else { n },
    );
    shuffled(
        "shfl.sync.up.b32 %r2|%p1, %r1, 4, 0x0, -1;",
        |n| if n >= 4 { n - 4 + 1000 } else { n },
    );
    shuffled("shfl.sync.idx.b32 %r2|%p1, %r1, 3, 0x1f, -1;", |_| 1003);
    // Segments of eight lanes.
    shuffled("shfl.sync.idx.b32 %r2|%p1, %r1, 3, 0x181f, -1;", |n| n / 8 * 8 + 1003);
    shuffled("shfl.sync.down.b32 %r2|%p1, %r1, 4, 0x181f, -1;", |n| {
        if n % 8 < 4 { n + 1004 } else { n }
    });
}

#[test]
fn votes_and_sums_of_a_warp() {
    let text = kernel(4, 4, "
        ld.global.u32 %r1, [%in]; setp.eq.u32 %p1, %r1, 3;
        vote.sync.any.pred %p2, %p1, -1; vote.sync.all.pred %p3, %p1, -1; vote.sync.all.pred %p4, !%p1, -1;
        selp.u32 %r2, 1, 0, %p2; selp.u32 %r3, 2, 0, %p3; selp.u32 %r4, 4, 0, %p4;
        or.b32 %r2, %r2, %r3; or.b32 %r2, %r2, %r4;
        redux.sync.add.s32 %r5, %r1, -1; mad.lo.u32 %r2, %r5, 8, %r2;
        st.global.u32 [%out], %r2;");
    gives(text, 32, &numbers(32, |n| n), &[8 * 496 + 1; 32]);
}

/// Every thread writes a word to shared memory and reads that of the thread half a block away.
fn exchange(between: &str) -> &'static str {
    kernel(
        4,
        4,
        &format!(
            "
        .shared .align 4 .b8 words[256];
        ld.global.u32 %r1, [%in]; mov.u32 %r2, words; shl.b32 %r3, %t, 2; add.u32 %r4, %r2, %r3;
        st.shared.u32 [%r4], %r1;
        {between}
        xor.b32 %r3, %r3, 128; add.u32 %r4, %r2, %r3; ld.shared.u32 %r5, [%r4];
        st.global.u32 [%out], %r5;"
        ),
    )
}

#[test]
fn warps_meet_at_barriers() {
    gives(exchange("bar.sync 0;"), 64, &numbers(64, |n| n), &numbers(64, |n| n ^ 32));
    gives(exchange("barrier.sync 0;"), 64, &numbers(64, |n| n), &numbers(64, |n| n ^ 32));
}

#[test]
fn a_missing_barrier_is_seen() {
    // The first to run reads what is not there, the second one what has no barrier behind it.
    is_fault(exchange(""), 64, "never written");
    // Read, then overwritten: right in one order, and a race in each.
    let text = |between: &str| {
        kernel(
            4,
            4,
            &format!(
                "
        .shared .align 4 .b8 words[256];
        mov.u32 %r2, words; shl.b32 %r3, %t, 2; add.u32 %r4, %r2, %r3; xor.b32 %r5, %r4, 128;
        st.shared.u32 [%r4], %t; bar.sync 0;
        ld.shared.u32 %r6, [%r5]; {between} st.shared.u32 [%r4], %r6;"
            ),
        )
    };
    is_fault(text(""), 64, "race");
    gives(text("bar.sync 0;"), 64, &[0; 64], &[]);
    // One lane of each warp writes the same word.
    let first = "and.b32 %r1, %t, 31; setp.eq.u32 %p1, %r1, 0;";
    let body = format!(".shared .align 4 .b8 word[4]; {first} @%p1 st.shared.u32 [word], %t;");
    is_fault(kernel(4, 4, &body), 64, "has no barrier behind it");
    gives(kernel(4, 4, &body), 32, &[0; 32], &[]);
}

#[test]
fn lanes_in_step_are_not_synchronised() {
    let text = |between: &str| {
        kernel(
            4,
            4,
            &format!(
                ".shared .align 4 .b8 words[256];
                mov.u32 %r2, words; shl.b32 %r3, %t, 2; add.u32 %r4, %r2, %r3; xor.b32 %r5, %r4, 4;
                st.shared.u32 [%r4], %t; {between}
                ld.shared.u32 %r6, [%r5]; st.global.u32 [%out], %r6;"
            ),
        )
    };
    is_fault(text(""), 64, "has no bar.warp.sync behind it");
    gives(text("bar.warp.sync 0xffffffff;"), 64, &[0; 64], &numbers(64, |n| n ^ 1));
    // Nor may two lanes store to one word at once.
    let word = ".shared .align 4 .b8 word[4]; st.shared.u32 [word], %t;";
    is_fault(kernel(4, 4, word), 32, "has no bar.warp.sync behind it");
}

#[test]
fn atomics_may_meet() {
    let text = |last: &str| {
        kernel(
            4,
            0,
            &format!(
                "
        .shared .align 4 .b8 sum[4];
        setp.ne.u32 %p1, %t, 0; @%p1 bra on; st.shared.u32 [sum], 0;
        on: bar.sync 0; ld.global.u32 %r1, [%in];
        atom.shared.add.u32 %r2, [sum], %r1; {last} ld.shared.u32 %r3, [sum];
        @!%p1 st.global.u32 [%out], %r3;
        red.global.max.u32 [%out+4], %r1; atom.global.cas.b32 %r4, [%out+8], 0, %r1;
        atom.global.add.u32 %r4, [%out+12], 1;"
            ),
        )
    };
    gives(text("bar.sync 0;"), 64, &[3; 64], &[192, 3, 3, 64]);
    is_fault(text(""), 64, "race");
}

#[test]
fn barriers_that_some_do_not_reach() {
    is_fault(
        kernel(4, 4, "setp.eq.u32 %p1, %t, 3; @%p1 bra over; bar.sync 0; over:"),
        64,
        "do not reach",
    );
    is_fault(
        kernel(4, 4, "setp.lt.u32 %p1, %t, 32; @%p1 bra a; bar.sync 0; ret; a: bar.sync 1;"),
        64,
        "deadlock",
    );
    // A warp that has ended counts as there.
    gives(kernel(4, 4, "setp.lt.u32 %p1, %t, 32; @%p1 ret; bar.sync 0;"), 64, &[0; 64], &[]);
}

#[test]
fn special_registers() {
    let text = kernel(4, 4, "
        mov.u32 %r1, %laneid; mov.u32 %r2, %warpid; mov.u32 %r3, %ntid.x; mov.u32 %r4, %nctaid.y; mov.u32 %r5, %lanemask_lt;
        popc.b32 %r5, %r5;
        mad.lo.u32 %r1, %r2, 100, %r1; mad.lo.u32 %r1, %r3, 1000, %r1; mad.lo.u32 %r1, %r4, 100000, %r1;
        mad.lo.u32 %r1, %r5, 1000000, %r1; st.global.u32 [%out], %r1;");
    gives(text, 64, &[0; 64], &numbers(64, |n| 164_000 + n / 32 * 100 + n % 32 * 1_000_001));
}
