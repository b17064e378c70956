// One to sixteen tokens: how fast can a compressed weight be read?
//
//     y[tokens, rows] = activation(x[tokens, cols] * W[rows, cols]^T + bias[rows])
//
// Operands and layouts are those of `gemm.cu`. With so few tokens every weight is used a few times only, so time is
// memory traffic: 9 bits a weight of 16 (2:4 halves the values and adds 2 bits each), against 16 bits dense.
//
// Techniques, in the order in which they appear:
//   1. mma.sp even for one token: the instruction finds places for free, which would take several operations a
//      weight in ordinary arithmetic. Seven eighths of its sums may be idle; nothing waits for them.
//   2. Weights straight from memory to registers, 16 contiguous bytes a lane, each byte once, kept out of L1.
//   3. Columns are dealt out to the eight warps of a block, each with four loads under way: 36 KB a
//      multiprocessor, more than the bytes that a memory of 3.4 TB/s and 700 ns delivers between question and answer.
//   4. Activations from global memory: a warp reads columns that no other warp of the block reads, so shared memory
//      would only delay them. They stay in L1 and L2.
//   5. Sums meet in shared memory and are added in the order of warps, so that results are the same every time.
//
//             columns, 64 bytes of x at a time           A block owns 32 rows and all columns.
//            .----+----+-   -+----+----+----+-   -.
//    32 rows | w0 | w1 | ... | w7 | w0 | w1 | ... |      w0 .. w7 are its warps; one square is 1024 bytes of
//            '----+----+-   -+----+----+----+-   -'      values, 128 of metadata (i8: 256) and two mma.sp
//
// Lane l of a warp: g = l / 4, t = l % 4. Its part of x is token g, bytes 4 t .. of each 16.
//
// threads: 256; dynamic shared memory: 0 bytes; grid: 32 rows a block, in x.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

constexpr u32 ROWS = 32, THREADS = 256, WARPS = THREADS / 32, AHEAD = 4;
constexpr u32 STRIDE = 36; // of the sums in shared memory: lanes store to 8 t + g, all 32 banks

// Loads 16 bytes that nobody here reads again: past L1, which keeps x.
__device__ uint4 load_once(const u8* from) {
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(from));
  return v;
}

// The same for 4 bytes.
__device__ u32 load_word_once(const u8* from) {
  u32 v;
  asm volatile("ld.global.nc.L1::no_allocate.u32 %0, [%1];" : "=r"(v) : "l"(from));
  return v;
}

// Multiplies 16 rows x 32 columns (i8: 64) of W with 8 tokens; the selector says which lanes' metadata counts.
#define MMA_SP(SHAPE, TYPES, C, SELECTOR)                                                                     \
  asm("mma.sp.sync.aligned." SHAPE ".row.col." TYPES " {%0, %1, %2, %3}, {%4, %5, %6, %7}, "                  \
      "{%8, %9, %10, %11}, {%0, %1, %2, %3}, %12, " SELECTOR ";"                                              \
      : C(d[0]), C(d[1]), C(d[2]), C(d[3])                                                                    \
      : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b[0]), "r"(b[1]), "r"(b[2]), "r"(b[3]), "r"(metadata))

struct F16 {
  typedef float Sum;
  static constexpr u32 METADATA = 1; // words a lane for 32 rows
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
  static constexpr u32 METADATA = 1;
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
  static constexpr u32 METADATA = 2;
  template <int SELECTOR> static __device__ void mma(Sum (&d)[4], uint4 a, const u32 (&b)[4], u32 metadata) {
    MMA_SP("m16n8k64", "s32.s8.s8.s32", "+r", "0x0");
  }
  static __device__ u16 round(float value) { return Bf16::round(value); }
};

// What one lane holds of 32 rows x 64 bytes of x, for 8 or 16 tokens.
template <typename T, u32 EIGHTS> struct Fragment {
  uint4 a[2];
  u32 metadata[T::METADATA], b[EIGHTS][4];

  __device__ void load(const u8* values, const u8* metadata, const u8* const (&x)[EIGHTS], u32 left) {
    a[0] = load_once(values), a[1] = load_once(values + 512);
    for (u32 i = 0; i < T::METADATA; i++) this->metadata[i] = load_word_once(metadata + i * 128);
#pragma unroll
    for (u32 n = 0; n < EIGHTS; n++)
#pragma unroll
      for (u32 i = 0; i < 4; i++) {
        // What lies behind a token's last column is not x: it may be NaN, which no zero weight takes back.
        u32 inside = left - min(left, i * 16), word = x[n] && inside ? *(const u32*)(x[n] + i * 16) : 0;
        b[n][i] = inside < 4 ? word & (1u << inside * 8) - 1 : word;
      }
  }

  __device__ void multiply(typename T::Sum (&sums)[EIGHTS][2][4]) const {
#pragma unroll
    for (u32 n = 0; n < EIGHTS; n++) {
      T::template mma<0>(sums[n][0], a[0], b[n], metadata[0]);
      T::template mma<1>(sums[n][1], a[1], b[n], metadata[T::METADATA - 1]);
    }
  }
};

// The exact GELU (Hendrycks & Gimpel 2016), and a ReLU that keeps NaN.
__device__ float activate(float value, u32 activation) {
  if (activation == 1) return value < 0.0f ? 0.0f : value;
  if (activation == 2) return 0.5f * value * (1.0f + erff(value * 0.70710678f));
  return value;
}

// `rows` and `row_bytes` are W's own: rows, and bytes of a token's x; `rows_padded` and `stages`, of 128 bytes of x,
// are what it is packed to. Strides count bytes of x and numbers of y, from a token to the next; x is read in words of
// 4 bytes. `bias` and the scales, one for each row and one for each token, may be null.
template <typename T, u32 EIGHTS>
__device__ void small_batch(const u8* values, const u8* metadata, const u8* x, u16* y, const float* bias,
                            const float* row_scales, const float* token_scales, u32 rows, u32 rows_padded,
                            u32 row_bytes, u32 stages, u32 tokens, u64 x_stride, u64 y_stride, u32 activation) {
  __shared__ typename T::Sum memory[WARPS][EIGHTS * 8][STRIDE];
  u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4, row = blockIdx.x * ROWS;

  u64 values_step = (u64)rows_padded * 32, metadata_step = (u64)rows_padded * 4 * T::METADATA;
  values += (u64)row * 32 + lane * 16, metadata += (u64)row * 4 * T::METADATA + lane * 4;
  const u8* mine[EIGHTS];
  for (u32 n = 0; n < EIGHTS; n++) mine[n] = n * 8 + g < tokens ? x + (n * 8 + g) * x_stride + t * 4 : nullptr;

  // Squares `warp`, `warp + 8` and so on are this warp's; four are under way while one is multiplied.
  typename T::Sum sums[EIGHTS][2][4] = {};
  Fragment<T, EIGHTS> ahead[AHEAD];
  u32 squares = stages * 2;
  auto load = [&](Fragment<T, EIGHTS>& fragment, u32 square) {
    const u8* at[EIGHTS];
    u32 before = square * 64 + t * 4;
    for (u32 n = 0; n < EIGHTS; n++) at[n] = mine[n] ? mine[n] + square * 64 : nullptr;
    fragment.load(values + square * values_step, metadata + square * metadata_step, at,
                  row_bytes - min(row_bytes, before));
  };
#pragma unroll
  for (u32 i = 0; i < AHEAD; i++)
    if (warp + i * WARPS < squares) load(ahead[i], warp + i * WARPS);
  for (u32 square = warp; square < squares; square += AHEAD * WARPS)
#pragma unroll
    for (u32 i = 0; i < AHEAD; i++)
      if (square + i * WARPS < squares) {
        ahead[i].multiply(sums);
        if (square + (i + AHEAD) * WARPS < squares) load(ahead[i], square + (i + AHEAD) * WARPS);
      }

#pragma unroll
  for (u32 n = 0; n < EIGHTS; n++)
#pragma unroll
    for (u32 i = 0; i < 2; i++)
#pragma unroll
      for (u32 e = 0; e < 4; e++) memory[warp][n * 8 + 2 * t + e % 2][i * 16 + e / 2 * 8 + g] = sums[n][i][e];
  __syncthreads();

  row += lane;
  for (u32 n = warp; n < tokens && row < rows; n += WARPS) {
    typename T::Sum sum = 0;
    for (u32 w = 0; w < WARPS; w++) sum += memory[w][n][lane];
    float value = (float)sum;
    if (row_scales) value *= row_scales[row];
    if (token_scales) value *= token_scales[n];
    if (bias) value += bias[row];
    y[n * y_stride + row] = T::round(activate(value, activation));
  }
}

#define KERNEL(NAME, TYPE, EIGHTS)                                                                                \
  extern "C" __global__ void __launch_bounds__(THREADS, 2)                                                        \
      NAME(const u8* values, const u8* metadata, const u8* x, u16* y, const float* bias, const float* row_scales, \
           const float* token_scales, u32 rows, u32 rows_padded, u32 row_bytes, u32 stages, u32 tokens,           \
           u64 x_stride, u64 y_stride, u32 activation) {                                                          \
    small_batch<TYPE, EIGHTS>(values, metadata, x, y, bias, row_scales, token_scales, rows, rows_padded,          \
                              row_bytes, stages, tokens, x_stride, y_stride, activation);                         \
  }
KERNEL(small_batch_8_f16, F16, 1)
KERNEL(small_batch_16_f16, F16, 2)
KERNEL(small_batch_8_bf16, Bf16, 1)
KERNEL(small_batch_16_bf16, Bf16, 2)
KERNEL(small_batch_8_i8, I8, 1)
KERNEL(small_batch_16_i8, I8, 2)
