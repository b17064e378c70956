// Does this card place registers where the layouts say, and how often can it issue the instruction?
//
// The self-test (probe_*) is one instruction of one warp: registers in, registers out, so that the CPU's model of the
// lanes can be held against the silicon. The rates (rate_*) are the same instruction over and over, eight independent
// sums a warp and nothing loaded or stored meanwhile: what no kernel can exceed. Dense `mma` stands beside them, for
// what a zero saves at most.
//
//     rate: 8 warps a block, 2 blocks a multiprocessor      sums s0 .. s7 of a warp: no instruction waits for the one
//           .----.----.-   -.----.                          before it, only for the one eight before it
//     issue | s0 | s1 | ... | s7 | s0 ...
//           '----'----'-   -'----'
//
// threads: probe 32, rate 256; dynamic shared memory: 0 bytes; grid: probe 1, rate two blocks a multiprocessor.

typedef unsigned int u32;

// Multiplies 16 rows x 32 columns (i8: 64) with 8 tokens; the selector says which lanes' metadata counts.
#define MMA_SP(SHAPE, TYPES, C, SELECTOR)                                                                     \
  asm volatile("mma.sp.sync.aligned." SHAPE ".row.col." TYPES " {%0, %1, %2, %3}, {%4, %5, %6, %7}, "         \
      "{%8, %9, %10, %11}, {%0, %1, %2, %3}, %12, " SELECTOR ";"                                              \
      : C(d[0]), C(d[1]), C(d[2]), C(d[3])                                                                    \
      : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b.x), "r"(b.y), "r"(b.z), "r"(b.w), "r"(metadata))

// The dense instruction of the same sums and half the columns.
#define MMA(SHAPE, TYPES, C)                                                                                  \
  asm volatile("mma.sync.aligned." SHAPE ".row.col." TYPES " {%0, %1, %2, %3}, {%4, %5, %6, %7}, "            \
      "{%8, %9}, {%0, %1, %2, %3};"                                                                           \
      : C(d[0]), C(d[1]), C(d[2]), C(d[3])                                                                    \
      : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b.x), "r"(b.y))

// Every lane's four registers of A and of B, its metadata, and its four sums, which start at what `d` holds.
#define PROBE(NAME, SUM, SHAPE, TYPES, C, SELECTOR)                                              \
  extern "C" __global__ void NAME(const uint4* as, const uint4* bs, const u32* words, SUM* ds) { \
    u32 lane = threadIdx.x, metadata = words[lane];                                              \
    uint4 a = as[lane], b = bs[lane];                                                            \
    SUM d[4] = {ds[lane * 4], ds[lane * 4 + 1], ds[lane * 4 + 2], ds[lane * 4 + 3]};             \
    MMA_SP(SHAPE, TYPES, C, SELECTOR);                                                           \
    for (u32 i = 0; i < 4; i++) ds[lane * 4 + i] = d[i];                                         \
  }
PROBE(probe_f16_0, float, "m16n8k32", "f32.f16.f16.f32", "+f", "0x0")
PROBE(probe_f16_1, float, "m16n8k32", "f32.f16.f16.f32", "+f", "0x1")
PROBE(probe_bf16_0, float, "m16n8k32", "f32.bf16.bf16.f32", "+f", "0x0")
PROBE(probe_bf16_1, float, "m16n8k32", "f32.bf16.bf16.f32", "+f", "0x1")
PROBE(probe_i8_0, int, "m16n8k64", "s32.s8.s8.s32", "+r", "0x0")

// `times` rounds of eight instructions. The operands are `seed` in every register, and the sums are stored, so that
// nothing of it can be left out. Dense instructions have no use for the metadata.
#define RATE(NAME, SUM, INSTRUCTION)                                                                       \
  extern "C" __global__ void __launch_bounds__(256) NAME(SUM* out, u32 seed, u32 metadata, u32 times) {    \
    uint4 a = make_uint4(seed, seed, seed, seed), b = a;                                                   \
    SUM sums[8][4] = {};                                                                                   \
    for (u32 i = 0; i < times; i++)                                                                        \
      _Pragma("unroll") for (u32 j = 0; j < 8; j++) {                                                      \
        SUM(&d)[4] = sums[j];                                                                              \
        INSTRUCTION;                                                                                       \
      }                                                                                                    \
    SUM sum = 0;                                                                                           \
    for (u32 j = 0; j < 8; j++) sum += sums[j][0] + sums[j][1] + sums[j][2] + sums[j][3];                  \
    out[blockIdx.x * 256 + threadIdx.x] = sum;                                     \
  }
RATE(rate_sparse_f16, float, MMA_SP("m16n8k32", "f32.f16.f16.f32", "+f", "0x0"))
RATE(rate_sparse_bf16, float, MMA_SP("m16n8k32", "f32.bf16.bf16.f32", "+f", "0x0"))
RATE(rate_sparse_i8, int, MMA_SP("m16n8k64", "s32.s8.s8.s32", "+r", "0x0"))
RATE(rate_dense_f16, float, MMA("m16n8k16", "f32.f16.f16.f32", "+f"))
RATE(rate_dense_bf16, float, MMA("m16n8k16", "f32.bf16.bf16.f32", "+f"))
RATE(rate_dense_i8, int, MMA("m16n8k32", "s32.s8.s8.s32", "+r"))
