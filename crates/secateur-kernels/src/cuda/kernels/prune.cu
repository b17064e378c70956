// Which two of every four weights stay? Those of the largest magnitude.
//
//     W[rows, cols] = W where it is kept, +0.0 elsewhere          (2:4 along a row; cols is a multiple of four)
//
// Han et al. 2015 by magnitude, Mishra et al. 2021 (arXiv:2104.08378) by groups of four. Of equal magnitudes the lower
// index stays, as everywhere in secateur, so that masks are the CPU's to the bit. A NaN has no magnitude: it is kept,
// and the first group that has one, counted along the rows, is left in `fault`, which starts at all ones.
//
// A thread prunes one group, in registers: one load, six comparisons, one store. Bits of f32, f16 and bf16 without
// their sign are in the order of magnitudes, so no thread has to know what they mean. All there is to gain is memory
// traffic, and each byte is read once and written once, 32 groups a warp side by side.
//
//     |w0| > |w1|   |w0| > |w2|   |w0| > |w3|             a weight stays if fewer than two others come before it:
//                   |w1| > |w2|   |w1| > |w3|             those that are larger, and equal ones of a lower index
//                                 |w2| > |w3|
//
// threads: 256; dynamic shared memory: 0 bytes; grid: one thread a group, in x.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

constexpr u32 THREADS = 256;

// Four elements that are loaded and stored as one.
template <typename E> struct alignas(4 * sizeof(E)) Four {
  E e[4];
};

// The bits of a magnitude, in the order of magnitudes; infinity is the largest that is none of NaN.
struct F32 {
  typedef u32 Bits;
  static constexpr u32 INFINITY_BITS = 0x7F800000;
  static __device__ u32 magnitude(u32 bits) { return bits & 0x7FFFFFFF; }
};
struct F16 {
  typedef u16 Bits;
  static constexpr u32 INFINITY_BITS = 0x7C00;
  static __device__ u32 magnitude(u32 bits) { return bits & 0x7FFF; }
};
struct Bf16 {
  typedef u16 Bits;
  static constexpr u32 INFINITY_BITS = 0x7F80;
  static __device__ u32 magnitude(u32 bits) { return bits & 0x7FFF; }
};
struct I8 {
  typedef u8 Bits;
  static constexpr u32 INFINITY_BITS = 128;
  static __device__ u32 magnitude(u32 bits) { return bits < 128 ? bits : 256 - bits; }
};

template <typename T> __device__ void prune(typename T::Bits* weights, u64* fault, u64 groups) {
  u64 group = (u64)blockIdx.x * THREADS + threadIdx.x;
  if (group >= groups) return;
  Four<typename T::Bits>* at = (Four<typename T::Bits>*)weights + group;
  Four<typename T::Bits> w = *at;
  u32 before[4] = {};
#pragma unroll
  for (u32 i = 0; i < 4; i++) {
    if (T::magnitude(w.e[i]) > T::INFINITY_BITS) atomicMin(fault, group);
#pragma unroll
    for (u32 j = i + 1; j < 4; j++) {
      bool later = T::magnitude(w.e[j]) > T::magnitude(w.e[i]);
      before[i] += later, before[j] += !later;
    }
  }
#pragma unroll
  for (u32 i = 0; i < 4; i++)
    if (before[i] >= 2) w.e[i] = 0;
  *at = w;
}

#define KERNEL(NAME, TYPE)                                                \
  extern "C" __global__ void __launch_bounds__(THREADS)                   \
      NAME(TYPE::Bits* weights, u64* fault, u64 groups) {                 \
    prune<TYPE>(weights, fault, groups);                                  \
  }
KERNEL(prune_f32, F32)
KERNEL(prune_f16, F16)
KERNEL(prune_bf16, Bf16)
KERNEL(prune_i8, I8)
