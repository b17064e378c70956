// Many tokens at once: how are sparse tensor cores kept busy?
//
//     y[tokens, rows] = activation(x[tokens, cols] * W[rows, cols]^T + bias[rows])
//
// with W 2:4, packed by `pack.cu` (or the same on the CPU: `secateur_storage::device_order`), x row-major, and y
// row-major in 16 bits: f16 and bf16 multiply into f32, i8 into s32, scaled per row and per token to bf16.
//
// Techniques, in the order in which they appear:
//   1. mma.sp: one instruction skips the zeros of 16 rows x 32 columns (64 of i8) of W.
//   2. Weights in the order of registers: a lane's part of a fragment is 16 contiguous bytes, so that no shuffling,
//      no swizzle and no bank conflict is left to do here. One metadata word per lane serves two instructions.
//   3. Activations in shared memory under an XOR swizzle: ldmatrix reads them without bank conflicts.
//   4. cp.async into three stages: two loads are in flight while one is multiplied, one barrier per stage.
//   5. Warp tiles of 64 x 64: shared memory hands out 24 KB for every 128 x 128 x 32 products, where 64 x 32 would
//      take 32 KB and bound the kernel (docs/kernel-gpu.md has the sum).
//   6. The epilogue turns the tile over in shared memory, so that a warp writes 256 bytes of y at a time.
//   7. Tiles are walked in groups of eight rows of tiles, so that both operands stay in L2.
//
// A block of four warps owns a tile of 128 rows x 128 tokens; a stage is 128 bytes of every token's x, which is
// 64 columns of 16 bits or 128 of i8. To the loop both are the same bytes:
//
//                     128 tokens
//                 .--------.--------.          values   [2 halves][128 rows x 32 B]   8 KB
//                 |        |        |   x      x        [128 tokens][128 B]          16 KB
//                 '--------'--------'          metadata [2 halves][128 rows x 4 B]    1 KB (i8: 8 B, 2 KB)
//      .----.     .--------.--------.
//      |    |  64 | warp 0 | warp 1 |          a half is 32 columns (64 of i8): one mma.sp deep
//      | W  |     |--------+--------|
//      |    |  64 | warp 2 | warp 3 |          in a warp: 4 fragments of 16 rows x 8 of 8 tokens,
//      '----'     '--------'--------'          128 accumulators a lane
//
// Lane l of a warp: g = l / 4, t = l % 4. An accumulator holds (row g, token 2t), (g, 2t + 1), (g + 8, 2t),
// (g + 8, 2t + 1) of its 16 x 8.
//
// threads: 128; dynamic shared memory: 76800 bytes (i8: 79872); grid: tiles of rows x tiles of tokens, in x.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

constexpr u32 ROWS = 128, TOKENS = 128, THREADS = 128, STAGES = 3, GROUP = 8;
constexpr u32 STEP = 128;                   // bytes of a token's x in a stage
constexpr u32 HALF = ROWS * 32;             // bytes of values in half a stage
constexpr u32 VALUES = 2 * HALF, X = TOKENS * STEP;
constexpr u32 Y_STRIDE = ROWS + 4;          // of the turned tile: floats from token to token

// Reads the 32 bits of a shared memory address that PTX wants.
__device__ u32 shared(const void* pointer) { return (u32)__cvta_generic_to_shared(pointer); }

// Starts a copy of 16 bytes past the registers, of which only the first `bytes` are read; the rest become zeros.
__device__ void copy_async(u32 to, const void* from, u32 bytes) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
}

// Closes a group of copies. An empty group counts too, which keeps the count right at the end of the loop.
__device__ void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until at most N of this thread's groups are still under way; a barrier then makes them everybody's.
template <int N> __device__ void copy_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory"); }

// Loads four 8 x 16-byte matrices, lane l naming row l % 8 of matrix l / 8: here 8 tokens x 64 bytes, which is all
// of B for one mma.sp.
__device__ void load_matrices(u32 (&b)[4], u32 from) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(b[0]), "=r"(b[1]), "=r"(b[2]), "=r"(b[3]) : "r"(from) : "memory");
}

// What differs between the three types: the instruction, its accumulator, and how much metadata there is.
#define MMA_SP(SHAPE, TYPES, C, SELECTOR)                                                                     \
  asm("mma.sp.sync.aligned." SHAPE ".row.col." TYPES " {%0, %1, %2, %3}, {%4, %5, %6, %7}, "                  \
      "{%8, %9, %10, %11}, {%0, %1, %2, %3}, %12, " SELECTOR ";"                                              \
      : C(d[0]), C(d[1]), C(d[2]), C(d[3])                                                                    \
      : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b[0]), "r"(b[1]), "r"(b[2]), "r"(b[3]), "r"(metadata))

struct F16 {
  typedef float Sum;
  static constexpr u32 METADATA = 4; // bytes a row in half a stage: one word a lane for 32 rows
  template <int SELECTOR> static __device__ void mma(Sum (&d)[4], uint4 a, const u32 (&b)[4], u32 metadata) {
    if (SELECTOR == 0) MMA_SP("m16n8k32", "f32.f16.f16.f32", "+f", "0x0");
    else               MMA_SP("m16n8k32", "f32.f16.f16.f32", "+f", "0x1");
  }
  // Rounds to the nearest f16, ties to even.
  static __device__ u16 round(float value) {
    u16 bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
  }
};

struct Bf16 {
  typedef float Sum;
  static constexpr u32 METADATA = 4;
  template <int SELECTOR> static __device__ void mma(Sum (&d)[4], uint4 a, const u32 (&b)[4], u32 metadata) {
    if (SELECTOR == 0) MMA_SP("m16n8k32", "f32.bf16.bf16.f32", "+f", "0x0");
    else               MMA_SP("m16n8k32", "f32.bf16.bf16.f32", "+f", "0x1");
  }
  // Rounds to the nearest bf16, ties to even.
  static __device__ u16 round(float value) {
    u16 bits;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
  }
};

struct I8 {
  typedef int Sum;
  static constexpr u32 METADATA = 8; // one word a lane for 16 rows
  template <int SELECTOR> static __device__ void mma(Sum (&d)[4], uint4 a, const u32 (&b)[4], u32 metadata) {
    MMA_SP("m16n8k64", "s32.s8.s8.s32", "+r", "0x0");
  }
  static __device__ u16 round(float value) { return Bf16::round(value); }
};

// A block's part of the problem, and how it is loaded.
template <typename T> struct Tile {
  static constexpr u32 METADATA = 2 * ROWS * T::METADATA;
  static constexpr u32 STAGE = VALUES + X + METADATA;

  const u8 *values, *metadata; // of this tile's rows in the first half of the next stage
  const u8* x;                 // where this thread's chunk of its first token is in the next stage
  u64 values_half, metadata_half, x_step; // to the next half; sixteen tokens on
  u32 values_left, metadata_left; // bytes of this tile's rows: less than 128 rows at W's lower end
  u32 tokens_left, bytes_left;    // tokens from this thread's first one to the end; bytes of a token from its chunk on
  u32 to;                         // shared memory

  // Starts loading the next stage: every thread copies four chunks of values, eight of x and up to one of metadata.
  __device__ void load(u32 place) {
    u32 to = this->to + place * STAGE, thread = threadIdx.x;
    const u8* from = values;
    for (u32 half = 0; half < 2; half++, from += values_half)
      for (u32 i = 0; i < 2; i++) {
        u32 at = (i * THREADS + thread) * 16;
        copy_async(to + half * HALF + at, from + at, at < values_left ? 16 : 0);
      }
    values = from;
    // Eight threads copy a token's 128 bytes; chunk c of token n goes to place c ^ (n % 8) of its 128.
    u32 token = thread / 8, left = min(bytes_left, 16);
    u32 x_to = to + VALUES + token * STEP + (thread % 8 ^ token % 8) * 16;
    from = x;
    for (u32 i = 0; i < TOKENS / 16; i++, from += x_step)
      copy_async(x_to + i * 16 * STEP, from, i * 16 < tokens_left ? left : 0);
    x += STEP, bytes_left -= min(bytes_left, STEP);
    // Below W's lower end values are zero, and zeros are no metadata that the instruction takes: read row 0's again.
    u32 at = thread % (METADATA / 32) * 16, half = thread / (METADATA / 32);
    if (half < 2)
      copy_async(to + VALUES + X + half * (METADATA / 2) + at,
                 metadata + half * metadata_half + (at < metadata_left ? at : 0), 16);
    metadata += 2 * metadata_half;
  }

  // Multiplies half a stage into a warp's 64 rows x 64 tokens.
  __device__ void multiply(u32 place, u32 half, typename T::Sum (&sums)[4][8][4], const u8* memory) const {
    u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32, from = place * STAGE;
    u32 swizzled = (lane / 8 ^ lane % 8) * 16, tokens = warp % 2 * 64 + lane % 8;
    u32 b_at = to + from + VALUES + tokens * STEP + (swizzled ^ half * 64);
    const u8* a_at = memory + from + half * HALF + warp / 2 * 2048 + lane * 16;
    const u8* metadata_at = memory + from + VALUES + X + half * (METADATA / 2) + warp / 2 * 64 * T::METADATA + lane * 4;
    uint4 a[4];
    u32 words[4];
#pragma unroll
    for (u32 i = 0; i < 4; i++) {
      a[i] = *(const uint4*)(a_at + i * 512);
      words[i] = *(const u32*)(metadata_at + i * 16 * T::METADATA / 128 * 128);
    }
#pragma unroll
    for (u32 j = 0; j < 8; j++) {
      u32 b[4];
      load_matrices(b, b_at + j * 8 * STEP);
      T::template mma<0>(sums[0][j], a[0], b, words[0]);
      T::template mma<1>(sums[1][j], a[1], b, words[1]);
      T::template mma<0>(sums[2][j], a[2], b, words[2]);
      T::template mma<1>(sums[3][j], a[3], b, words[3]);
    }
  }
};

// The exact GELU (Hendrycks & Gimpel 2016), and a ReLU that keeps NaN.
__device__ float activate(float value, u32 activation) {
  if (activation == 1) return value < 0.0f ? 0.0f : value;
  if (activation == 2) return 0.5f * value * (1.0f + erff(value * 0.70710678f));
  return value;
}

// `rows` and `row_bytes` are W's own: rows, and bytes of a token's x; `rows_padded` and `stages`, of 128 bytes of x, are
// what it is packed to. Strides count bytes of x and numbers of y, from a token to the next; x starts at a multiple of
// 16 bytes and its stride is one, y's of 8 bytes. `bias` and the scales, one for each row and one for each token, may
// be null.
template <typename T>
__device__ void gemm(const u8* values, const u8* metadata, const u8* x, u16* y, const float* bias,
                     const float* row_scales, const float* token_scales, u32 rows, u32 rows_padded, u32 row_bytes,
                     u32 stages, u32 tokens, u64 x_stride, u64 y_stride, u32 activation) {
  extern __shared__ __align__(128) u8 memory[];
  u32 thread = threadIdx.x, lane = thread % 32, warp = thread / 32, g = lane / 4, t = lane % 4;

  // Which tile: down a group of eight row tiles first, then on to the next tokens.
  u32 row_tiles = (rows + ROWS - 1) / ROWS, token_tiles = (tokens + TOKENS - 1) / TOKENS;
  u32 group = blockIdx.x / (GROUP * token_tiles), within = blockIdx.x % (GROUP * token_tiles);
  u32 height = min(GROUP, row_tiles - group * GROUP);
  u32 row = (group * GROUP + within % height) * ROWS, token = within / height * TOKENS;

  Tile<T> tile;
  tile.values_half = (u64)rows_padded * 32, tile.metadata_half = (u64)rows_padded * T::METADATA;
  tile.values = values + (u64)row * 32, tile.metadata = metadata + (u64)row * T::METADATA;
  tile.values_left = (rows_padded - row) * 32, tile.metadata_left = (rows_padded - row) * T::METADATA;
  tile.x_step = 16 * x_stride, tile.bytes_left = row_bytes - min(row_bytes, thread % 8 * 16), tile.to = shared(memory);
  u32 first = token + thread / 8;
  tile.tokens_left = tokens - min(tokens, first);
  tile.x = x + first * x_stride + thread % 8 * 16;

  typename T::Sum sums[4][8][4] = {};
  u32 ahead = 0;
  for (; ahead < STAGES - 1; ahead++) {
    if (ahead < stages) tile.load(ahead);
    copy_commit();
  }
  for (u32 stage = 0, place = 0; stage < stages; stage++, ahead++) {
    copy_wait<STAGES - 2>();
    // This stage is there, and every warp is done with the one before, whose place is loaded next.
    __syncthreads();
    if (ahead < stages) tile.load(place == 0 ? STAGES - 1 : place - 1);
    copy_commit();
    tile.multiply(place, 0, sums, memory);
    tile.multiply(place, 1, sums, memory);
    place = place + 1 == STAGES ? 0 : place + 1;
  }
  __syncthreads();

  // Turn the tile over: y is written along rows of W, sums lie along tokens. Lanes store to 8 t + g, all 32 banks.
  float* turned = (float*)memory;
  float* to = turned + (warp % 2 * 64 + 2 * t) * Y_STRIDE + warp / 2 * 64 + g;
#pragma unroll
  for (int i = 0; i < 4; i++)
#pragma unroll
    for (int j = 0; j < 8; j++)
#pragma unroll
      for (int e = 0; e < 4; e++) to[(j * 8 + e % 2) * (int)Y_STRIDE + i * 16 + e / 2 * 8] = (float)sums[i][j][e];
  __syncthreads();

  // A warp writes a token's 128 rows, four to a lane; the last ones of a ragged W number by number.
  row += lane * 4;
  float scales[4], adds[4];
  for (u32 e = 0; e < 4; e++) {
    bool inside = row + e < rows;
    scales[e] = row_scales && inside ? row_scales[row + e] : 1.0f;
    adds[e] = bias && inside ? bias[row + e] : 0.0f;
  }
  for (u32 n = warp; n < TOKENS && token + n < tokens; n += THREADS / 32) {
    float4 from = *(const float4*)(turned + n * Y_STRIDE + lane * 4);
    float scale = token_scales ? token_scales[token + n] : 1.0f, sums[4] = {from.x, from.y, from.z, from.w};
    u16 out[4];
#pragma unroll
    for (u32 e = 0; e < 4; e++) out[e] = T::round(activate(sums[e] * scales[e] * scale + adds[e], activation));
    u16* to = y + (token + n) * y_stride + row;
    if (row + 4 <= rows) *(uint2*)to = make_uint2(out[0] | (u32)out[1] << 16, out[2] | (u32)out[3] << 16);
    else
#pragma unroll
      for (u32 e = 0; e < 4; e++)
        if (row + e < rows) to[e] = out[e];
  }
}

#define KERNEL(NAME, TYPE)                                                                                        \
  extern "C" __global__ void __launch_bounds__(THREADS, 2)                                                        \
      NAME(const u8* values, const u8* metadata, const u8* x, u16* y, const float* bias, const float* row_scales, \
           const float* token_scales, u32 rows, u32 rows_padded, u32 row_bytes, u32 stages, u32 tokens,           \
           u64 x_stride, u64 y_stride, u32 activation) {                                                          \
    gemm<TYPE>(values, metadata, x, y, bias, row_scales, token_scales, rows, rows_padded, row_bytes, stages,      \
               tokens, x_stride, y_stride, activation);                                                           \
  }
KERNEL(gemm_f16, F16)
KERNEL(gemm_bf16, Bf16)
KERNEL(gemm_i8, I8)
