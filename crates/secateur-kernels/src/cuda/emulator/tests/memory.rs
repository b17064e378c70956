//! Accesses that are wrong, copies that nobody waited for, and what is counted.

use super::*;

#[test]
fn outside_and_misaligned() {
    is_fault(
        kernel(4, 4, "ld.global.u32 %r1, [%in+4096];"),
        32,
        "4 bytes at 0x1000001000 of global memory are outside: 4096 bytes into a buffer of 4096",
    );
    is_fault(kernel(4, 4, "ld.global.u32 %r1, [%in+-4];"), 32, "outside");
    is_fault(kernel(4, 4, "st.global.v4.u32 [%out+4088], {%r1, %r1, %r1, %r1};"), 32, "misaligned");
    is_fault(kernel(16, 4, "ld.global.v4.u32 {%r1, %r2, %r3, %r4}, [%in+4];"), 32, "misaligned");
    is_fault(kernel(128, 4, "ld.global.u64 %rd1, [%in+4092];"), 1, "misaligned");
    is_fault(kernel(4, 4, ".shared .align 8 .b8 x[64]; st.shared.u64 [x+60], 0;"), 1, "misaligned");
    is_fault(
        kernel(
            4,
            4,
            ".extern .shared .align 16 .b8 x[]; mov.u32 %r1, x; st.shared.u32 [%r1+4096], 0;",
        ),
        1,
        "outside",
    );
    is_fault(kernel(4, 4, "mov.u32 %r1, 0; st.shared.u32 [%r1], 0;"), 1, "outside");
    is_fault(
        kernel(4, 4, ".shared .align 8 .b8 x[64]; ld.shared.u32 %r1, [x];"),
        1,
        "never written",
    );
    // A fault says where.
    let error = run(kernel(4, 4, "\n\nld.global.u32 %r1, [%in+12];"), 32, &[0; 32], 32)
        .unwrap_err()
        .to_string();
    let expected = "test::k: block (0, 0, 0), warp 0, line 14 `ld.global.u32 %r1, [%in+12];`: lane 29: 4 bytes";
    assert!(error.starts_with(expected), "{error}");
}

#[test]
fn freed_memory_is_gone() {
    let emulator = Emulator::new();
    let device = emulator.device();
    let (one, two) = (device.zeros(64).unwrap(), device.upload(&[1_u8; 64]).unwrap());
    let address = one.address();
    drop(one);
    assert!(device.backend().download(address, &mut [0; 4]).is_err());
    let mut bytes = [0_u8; 64];
    two.read(&mut bytes).unwrap();
    assert_eq!(bytes, [1; 64]);
    assert!(matches!(device.zeros(2 << 30), Err(CudaError::OutOfMemory { .. })));
    assert_eq!(device.elapsed(|| Ok(())), Err(CudaError::NoClock));
}

#[test]
fn elements_of_every_width() {
    let text = kernel(0, 0, "
        ld.global.s8 %r1, [%in]; ld.global.u8 %r2, [%in]; ld.global.s16 %r3, [%in+2]; ld.global.v2.u16 {%h1, %h2}, [%in];
        st.global.u32 [%out], %r1; st.global.u32 [%out+4], %r2; st.global.u32 [%out+8], %r3;
        st.global.v2.u16 [%out+12], {%h2, %h1}; st.global.u8 [%out+16], %r3;
        ld.global.nc.L1::no_allocate.L2::128B.v2.b64 {%rd1, %rd2}, [%in]; st.global.b64 [%out+24], %rd2;");
    let out = [0xFFFF_FF80, 0x80, 0xFFFF_8001, 0x0280_8001, 0x01, 0, 3, 4];
    gives(text, 1, &[0x8001_0280, 2, 3, 4], &out);
}

#[test]
fn constants_and_generic_addresses() {
    let text = kernel(0, 4, "
        .shared .align 4 .b8 x[4]; st.shared.u32 [x], 40;
        mov.u64 %rd1, x; cvta.shared.u64 %rd2, %rd1; ld.u32 %r1, [%rd2];
        ld.u32 %r2, [%in]; add.u32 %r1, %r1, %r2;
        { .reg .u64 %rd1; .reg .u32 %r2; cvta.to.shared.u64 %rd1, %rd2; cvt.u32.u64 %r2, %rd1; ld.shared.u32 %r2, [%r2]; add.u32 %r1, %r1, %r2; }
        add.u32 %r1, %r1, %r2; st.global.u32 [%out], %r1;");
    let text: &'static str =
        Box::leak(format!(".const .align 4 .u32 table[3] = {{5, 6, 7}};\n{text}").into_boxed_str());
    let text: &'static str = Box::leak(
        text.replace(
            "st.global.u32 [%out], %r1;",
            "ld.const.u32 %r3, [table+8]; add.u32 %r1, %r1, %r3; st.global.u32 [%out], %r1;",
        )
        .into_boxed_str(),
    );
    gives(text, 1, &[2], &[40 + 2 + 40 + 2 + 7]);
}

/// Every thread copies 16 bytes into shared memory and, after `then`, reads those of the thread `away`.
fn copies(source: &str, then: &str, away: u32) -> &'static str {
    kernel(
        16,
        16,
        &format!(
            "
        .extern .shared .align 16 .b8 x[];
        mov.u32 %r1, x; shl.b32 %r2, %t, 4; add.u32 %r3, %r1, %r2;
        cp.async.cg.shared.global [%r3], [%in], 16{source};
        cp.async.commit_group;
        {then}
        xor.b32 %r2, %r2, {}; add.u32 %r3, %r1, %r2;
        ld.shared.v4.u32 {{%r4, %r5, %r6, %r7}}, [%r3];
        st.global.v4.u32 [%out], {{%r4, %r5, %r6, %r7}};",
            16 * away
        ),
    )
}

#[test]
fn copies_that_are_waited_for() {
    let input: Vec<u32> = (0..256).collect();
    gives(copies("", "cp.async.wait_group 0;", 0), 64, &input, &input);
    gives(copies("", "cp.async.wait_all; bar.warp.sync -1;", 0), 64, &input, &input);
    let away = |threads: u32| -> Vec<u32> { input.iter().map(|n| n ^ (4 * threads)).collect() };
    gives(copies("", "cp.async.wait_group 0; bar.warp.sync -1;", 1), 64, &input, &away(1));
    gives(copies("", "cp.async.wait_group 0; bar.sync 0;", 32), 64, &input, &away(32));
    // Only the first six bytes are read, the others are zeros; and none of an address that means nothing.
    let cut: Vec<u32> = input.chunks(4).flat_map(|c| [c[0], c[1] & 0xFFFF, 0, 0]).collect();
    gives(copies(", 6", "cp.async.wait_group 0;", 0), 64, &input, &cut);
    gives(copies(", 0", "cp.async.wait_group 0;", 0), 64, &[0], &[0; 256]);
}

#[test]
fn copies_that_are_not() {
    is_fault(copies("", "", 0), 64, "is still under way");
    is_fault(copies("", "cp.async.wait_group 1;", 0), 64, "is still under way");
    is_fault(copies("", "bar.sync 0;", 0), 64, "is still under way");
    is_fault(copies("", "cp.async.wait_group 0;", 1), 64, "waited for only by its own thread");
    is_fault(
        copies("", "bar.sync 0; cp.async.wait_group 0;", 1),
        64,
        "waited for only by its own thread",
    );
    is_fault(
        copies("", "cp.async.wait_group 0; cp.async.cg.shared.global [%r3], [%in], 16;", 0),
        64,
        "is still under way",
    );
    // A barrier before the wait is none: the other warp's copy is under way, or has no barrier behind it.
    for schedule in Schedule::ALL {
        let text = copies("", "bar.sync 0; cp.async.wait_group 0;", 32);
        let found = run_on(&Emulator::with_schedule(schedule), text, 64, &[0; 256], 256);
        assert!(found.is_err_and(|error| error.to_string().contains("race")));
    }
    // What another warp still reads must not be overwritten.
    let overwrite = |between: &str| {
        copies(
            "",
            &format!(
                "
        cp.async.wait_group 0; bar.sync 0;
        xor.b32 %r8, %r2, 512; add.u32 %r8, %r1, %r8; ld.shared.u32 %r9, [%r8]; {between}
        cp.async.cg.shared.global [%r3], [%in], 16; cp.async.wait_all;"
            ),
            0,
        )
    };
    is_fault(overwrite(""), 64, "race");
    let input: Vec<u32> = (0..256).collect();
    gives(overwrite("bar.sync 0;"), 64, &input, &input);
}

#[test]
fn late_copies_read_late() {
    let text = copies("", "st.global.u32 [%in], 1; cp.async.wait_group 0;", 0);
    for (copies, first) in [(Copies::Early, 9), (Copies::Late, 1)] {
        let emulator = Emulator::with_schedule(Schedule { warps: Warps::Forward, copies });
        assert_eq!(run_on(&emulator, text, 32, &[9; 128], 128).unwrap()[..2], [first, 9]);
    }
}

#[test]
fn bytes_sectors_and_banks_are_counted() {
    let emulator = Emulator::new();
    let shared = |stride: u32| {
        kernel(
            4,
            4,
            &format!(
                "
        .extern .shared .align 16 .b8 x[]; mov.u32 %r1, x; mad.lo.u32 %r1, %t, {stride}, %r1;
        ld.global.u32 %r2, [%in]; st.shared.u32 [%r1], %r2; st.global.u16 [%out], %r2;"
            ),
        )
    };
    for (stride, wavefronts) in [(4, 1), (8, 2), (128, 32), (132, 1)] {
        let text: &'static str = shared(stride);
        let device = emulator.device();
        let (from, to) = (device.upload(&[0_u32; 32]).unwrap(), device.zeros(128).unwrap());
        let arguments = [Argument::Address(from.address()), Argument::Address(to.address())];
        let ptx = Ptx { name: "test", text };
        device
            .backend()
            .launch(&Launch {
                ptx,
                function: "k",
                grid: [1; 3],
                threads: 32,
                shared_bytes: 8192,
                arguments: &arguments,
            })
            .unwrap();
        let counts = emulator.counts();
        assert_eq!((counts.global_load_bytes, counts.global_load_sectors), (128, 4));
        assert_eq!((counts.global_store_bytes, counts.global_store_sectors), (64, 4));
        assert_eq!(
            (counts.shared_accesses, counts.shared_wavefronts, counts.shared_wavefronts_ideal),
            (1, wavefronts, 1)
        );
        assert_eq!(counts.loaded_from(from.address()), 128);
        assert_eq!(counts.loaded_from(to.address()), 0);
        assert_eq!(counts.instructions, 14);
    }
    assert_eq!(emulator.launches().len(), 4);
    run_on(&emulator, copies("", "cp.async.wait_all; bar.sync 0;", 0), 64, &[0; 256], 256).unwrap();
    let counts = emulator.counts();
    assert_eq!(
        (counts.global_load_bytes, counts.global_load_sectors, counts.barriers),
        (1024, 32, 2)
    );
    assert_eq!(
        (counts.shared_accesses, counts.shared_wavefronts, counts.bank_conflicts()),
        (4, 16, 0)
    );
}

#[test]
fn what_is_written_twice_is_seen_where_asked_for() {
    let text = kernel(4, 0, "st.global.u32 [%out], 1;");
    assert!(run(text, 32, &[0; 32], 1).is_ok());
    let error = run_on(&Emulator::new().written_once(), text, 32, &[0; 32], 1).unwrap_err();
    assert!(error.to_string().contains("written twice"), "{error}");
    let text = kernel(4, 4, "st.global.u32 [%out], 1; st.global.u32 [%out], 2;");
    assert!(run_on(&Emulator::new().written_once(), text, 32, &[0; 32], 32).is_ok());
}
