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
//   2. Columns are dealt out to the eight warps of a block. A warp shares nothing with the others until the end, so
//      the loop has no barrier.
//   3. cp.async into a ring of five places for each warp (four where they are larger): four squares are under way while
//      one is multiplied, 36 KB a block, more than the bytes that a memory of 4.8 TB/s and 700 ns has under way for
//      each multiprocessor. Registers would not do: the compiler has six counters to wait with and waits for more than
//      it needs; `wait_group` waits for exactly the oldest. Three blocks fit on a multiprocessor of sm_90, two on sm_80.
//   4. Weights are copied as they lie and read back 16 bytes a lane. Each byte is read once, past L1.
//   5. The copies cut off activations at the last column and the last token: zeros are filled in for what is not there.
//   6. Sums meet in shared memory and are added in the order of warps, so that results are the same every time.
//
//             columns, 64 bytes of x at a time           A block owns 32 rows and all columns.
//            .----+----+-   -+----+----+----+-   -.
//    32 rows | w0 | w1 | ... | w7 | w0 | w1 | ... |      w0 .. w7 are its warps; one square is 1024 bytes of
//            '----+----+-   -+----+----+----+-   -'      values, 128 of metadata (i8: 256), two mma.sp, and
//                                                        512 bytes of x for every eight tokens
//
// Lane l of a warp: g = l / 4, t = l % 4.
//
// threads: 256; dynamic shared memory: 66560 bytes (8 tokens), 69632 (16), i8: 57344 and 73728; grid: 32 rows a block,
// in x.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

constexpr u32 ROWS = 32, THREADS = 256, WARPS = THREADS / 32;
constexpr u32 VALUES = 1024, X = 512; // bytes of a square
constexpr u32 STRIDE = 36;            // of the sums in shared memory: lanes store to 8 t + g, all 32 banks

// Reads the 32 bits of a shared memory address that PTX wants.
__device__ u32 shared(const void* pointer) { return (u32)__cvta_generic_to_shared(pointer); }

// Starts a copy of 16 bytes past the registers, of which only the first `bytes` are read; the rest become zeros.
__device__ void copy_async(u32 to, const void* from, u32 bytes) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
}

// Closes a group of copies. An empty group counts too, which keeps the count right at the end of the loop.
__device__ void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until at most N of this lane's groups are still under way; __syncwarp() then makes them the warp's.
template <int N> __device__ void copy_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory"); }

// Loads four 8 x 16-byte matrices, lane l naming row l % 8 of matrix l / 8: here 8 tokens x 64 bytes, which is all
// of B for one mma.sp.
__device__ void load_matrices(u32 (&b)[4], u32 from) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(b[0]), "=r"(b[1]), "=r"(b[2]), "=r"(b[3]) : "r"(from) : "memory");
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

// The exact GELU (Hendrycks & Gimpel 2016), and a ReLU that keeps NaN.
__device__ float activate(float value, u32 activation) {
  if (activation == 1) return value < 0.0f ? 0.0f : value;
  if (activation == 2) return 0.5f * value * (1.0f + erff(value * 0.70710678f));
  return value;
}

// `rows` and `row_bytes` are W's own: rows, and bytes of a token's x; `rows_padded` and `stages`, of 128 bytes of x,
// are what it is packed to. Strides count bytes of x and numbers of y, from a token to the next; x starts at a multiple
// of 16 bytes and its stride is one. `bias` and the scales, one for each row and one for each token, may be null.
template <typename T, u32 EIGHTS, u32 PLACES>
__device__ void small_batch(const u8* values, const u8* metadata, const u8* x, u16* y, const float* bias,
                            const float* row_scales, const float* token_scales, u32 rows, u32 rows_padded,
                            u32 row_bytes, u32 stages, u32 tokens, u64 x_stride, u64 y_stride, u32 activation) {
  constexpr u32 METADATA = 128 * T::METADATA, SQUARE = VALUES + METADATA + EIGHTS * X;
  extern __shared__ __align__(128) u8 memory[];
  u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4, row = blockIdx.x * ROWS;

  u64 values_step = (u64)rows_padded * 32, metadata_step = (u64)rows_padded * 4 * T::METADATA;
  values += (u64)row * 32 + lane * 16, metadata += (u64)row * 4 * T::METADATA + lane * 16;
  // Lane l copies chunk t of token g, to place t ^ (g / 2 % 4) of the token's 64 bytes: eight tokens of one chunk
  // are then eight different 16 bytes of the banks.
  const u8* chunk[EIGHTS];
  u32 present[EIGHTS];
  for (u32 n = 0; n < EIGHTS; n++) {
    u32 token = n * 8 + g;
    chunk[n] = x + (token < tokens ? token : 0) * x_stride + t * 16;
    present[n] = token < tokens ? row_bytes - min(row_bytes, t * 16) : 0;
  }
  u8* ring = memory + warp * PLACES * SQUARE;
  u32 ring_at = shared(ring), squares = stages * 2;
  u32 x_at = VALUES + METADATA + g * 64 + (t ^ g / 2 % 4) * 16;
  u32 b_at = VALUES + METADATA + lane % 8 * 64 + (lane / 8 ^ lane % 8 / 2) * 16;

  auto load = [&](u32 square, u32 place) {
    u32 to = ring_at + place * SQUARE;
    copy_async(to + lane * 16, values + square * values_step, 16);
    copy_async(to + 512 + lane * 16, values + square * values_step + 512, 16);
    if (lane < METADATA / 16) copy_async(to + VALUES + lane * 16, metadata + square * metadata_step, 16);
    for (u32 n = 0; n < EIGHTS; n++)
      copy_async(to + x_at + n * X, chunk[n] + square * 64, min(present[n] - min(present[n], square * 64), 16));
  };

  // Squares `warp`, `warp + 8` and so on are this warp's.
  typename T::Sum sums[EIGHTS][2][4] = {};
  u32 ahead = warp;
  for (u32 place = 0; place < PLACES - 1; place++, ahead += WARPS) {
    if (ahead < squares) load(ahead, place);
    copy_commit();
  }
  for (u32 square = warp, place = 0; square < squares; square += WARPS, ahead += WARPS) {
    copy_wait<PLACES - 2>();
    // This square is there, and every lane is done with the one before, whose place is loaded next.
    __syncwarp();
    if (ahead < squares) load(ahead, place == 0 ? PLACES - 1 : place - 1);
    copy_commit();
    const u8* from = ring + place * SQUARE;
    uint4 a0 = *(const uint4*)(from + lane * 16), a1 = *(const uint4*)(from + 512 + lane * 16);
    u32 first = *(const u32*)(from + VALUES + lane * 4);
    u32 second = *(const u32*)(from + VALUES + METADATA - 128 + lane * 4);
#pragma unroll
    for (u32 n = 0; n < EIGHTS; n++) {
      u32 b[4];
      load_matrices(b, ring_at + place * SQUARE + b_at + n * X);
      T::template mma<0>(sums[n][0], a0, b, first);
      T::template mma<1>(sums[n][1], a1, b, second);
    }
    place = place + 1 == PLACES ? 0 : place + 1;
  }
  __syncthreads();

  auto meeting = (typename T::Sum(*)[EIGHTS * 8][STRIDE])memory; // [WARPS]
#pragma unroll
  for (u32 n = 0; n < EIGHTS; n++)
#pragma unroll
    for (u32 i = 0; i < 2; i++)
#pragma unroll
      for (u32 e = 0; e < 4; e++) meeting[warp][n * 8 + 2 * t + e % 2][i * 16 + e / 2 * 8 + g] = sums[n][i][e];
  __syncthreads();

  row += lane;
  for (u32 n = warp; n < tokens && row < rows; n += WARPS) {
    typename T::Sum sum = 0;
    for (u32 w = 0; w < WARPS; w++) sum += meeting[w][n][lane];
    float value = (float)sum;
    if (row_scales) value *= row_scales[row];
    if (token_scales) value *= token_scales[n];
    if (bias) value += bias[row];
    y[n * y_stride + row] = T::round(activate(value, activation));
  }
}

#define KERNEL(NAME, TYPE, EIGHTS, PLACES)                                                                        \
  extern "C" __global__ void __launch_bounds__(THREADS, 2)                                                        \
      NAME(const u8* values, const u8* metadata, const u8* x, u16* y, const float* bias, const float* row_scales, \
           const float* token_scales, u32 rows, u32 rows_padded, u32 row_bytes, u32 stages, u32 tokens,           \
           u64 x_stride, u64 y_stride, u32 activation) {                                                          \
    small_batch<TYPE, EIGHTS, PLACES>(values, metadata, x, y, bias, row_scales, token_scales, rows, rows_padded,  \
                                      row_bytes, stages, tokens, x_stride, y_stride, activation);                 \
  }
KERNEL(small_batch_8_f16, F16, 1, 5)
KERNEL(small_batch_16_f16, F16, 2, 4)
KERNEL(small_batch_8_bf16, Bf16, 1, 5)
KERNEL(small_batch_16_bf16, Bf16, 2, 4)
KERNEL(small_batch_8_i8, I8, 1, 4)
KERNEL(small_batch_16_i8, I8, 2, 4)
