// How does a dense 2:4 weight become what `gemm.cu` and `small_batch.cu` read, and dense again?
//
//     values, metadata = pack(W[rows, cols])          W[rows, cols] = unpack(values, metadata)
//
// W is row-major, its elements the bits of f16 or bf16 (pack_16) or i8 (pack_8). The result is padded with zeros to
// `rows_padded`, a multiple of 32, and to `cols_padded`, a multiple of the columns in 128 bytes of x.
//
// A warp packs one block, in the order in which a warp will load it. Lane l: g = l / 4, t = l % 4.
//
//     16 bits: 32 rows x 32 columns           i8: 16 rows x 64 columns
//     .----------------.                      .--------------------------------.
//     | 16 rows: 512 B | selector 0           | 512 B of values, 128 of        |
//     |----------------|                      | metadata, one instruction      |
//     | 16 rows: 512 B | selector 1           '--------------------------------'
//     '----------------'  128 B of metadata
//
// Of 16 bits, lane l writes the metadata of rows g + 16 (t / 2) and 8 below, columns 16 (t % 2) ..: two times four
// groups of four. Of i8 it is row g + 8 (t % 2), columns 32 (t / 2) ..: eight groups. Every group gives two values,
// and four bytes (two values of 16 bits, four of i8) are one register of some lane: row r of the block and register
// column c of its 8 belong to lane 4 (r % 8) + c % 4, register (r / 8 % 2) + 2 (c / 4).
//
// Which two places a group with fewer than two numbers stores is PyTorch's choice. A group with more is a fault: the
// first one, counted along the rows, is left in `fault`, which starts at all ones. -0.0 counts as zero.
//
// threads: 128; dynamic shared memory: 0 bytes; grid: one warp a block of W, four warps a block of threads, in x.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

constexpr u32 THREADS = 128;

// The metadata nibble of a group by which of its elements are kept, element 0 lowest; 0 where more than two are.
constexpr u64 NIBBLES = 0x000E0DCE098E498Eull;

// A block's place in W: blocks go down the rows first.
template <u32 ROWS, u32 COLS> struct Block {
  u32 index, row, col;
  bool inside;
  __device__ Block(u32 rows_padded, u32 cols_padded) {
    u32 down = rows_padded / ROWS;
    index = blockIdx.x * (THREADS / 32) + threadIdx.x / 32;
    inside = index < down * (cols_padded / COLS);
    row = index % down * ROWS, col = index / down * COLS;
  }
};

// Which register of the block's values holds row r and four bytes c of it.
__device__ u32 register_of(u32 r, u32 c) { return r / 16 * 128 + (r % 8 * 4 + c % 4) * 4 + r / 8 % 2 + c / 4 * 2; }

// Reads a group of four, zeros beyond the edges of W.
template <typename E>
__device__ void read_group(u32 (&group)[4], const E* w, u32 rows, u32 cols, u32 row, u32 col) {
  for (u32 i = 0; i < 4; i++) group[i] = row < rows && col + i < cols ? w[(u64)row * cols + col + i] : 0;
}

// The nibble of a group, whose two values come in `pair`. `zero` are the bits that a zero may have.
__device__ u32 compress(u32 (&pair)[2], const u32 (&group)[4], u32 zero, u64* fault, u64 number) {
  u32 kept = 0;
  for (u32 i = 0; i < 4; i++) kept |= ((group[i] & ~zero) != 0) << i;
  u32 nibble = (u32)(NIBBLES >> 4 * kept) & 15;
  if (nibble == 0) {
    atomicMin(fault, number);
    nibble = 0x4;
  }
  u32 first = nibble & 3, second = nibble >> 2;
  pair[0] = first == 0 ? group[0] : first == 1 ? group[1] : group[2];
  pair[1] = second == 1 ? group[1] : second == 2 ? group[2] : group[3];
  return nibble;
}

extern "C" __global__ void __launch_bounds__(THREADS, 8)
    pack_16(const u16* w, u32* values, u32* metadata, u64* fault, u32 rows, u32 cols, u32 rows_padded, u32 cols_padded) {
  Block<32, 32> block(rows_padded, cols_padded);
  if (!block.inside) return;
  u32 lane = threadIdx.x % 32, g = lane / 4, t = lane % 4, word = 0;
  for (u32 low = 0; low < 2; low++)
    for (u32 i = 0; i < 4; i++) {
      u32 r = g + 16 * (t / 2) + 8 * low, c = t % 2 * 4 + i, group[4], pair[2];
      read_group(group, w, rows, cols, block.row + r, block.col + c * 4);
      u64 number = (u64)(block.row + r) * ((cols + 3) / 4) + block.col / 4 + c;
      word |= compress(pair, group, 0x8000, fault, number) << 16 * low + 4 * i;
      values[block.index * 256 + register_of(r, c)] = pair[0] | pair[1] << 16;
    }
  metadata[block.index * 32 + lane] = word;
}

extern "C" __global__ void __launch_bounds__(THREADS, 8)
    pack_8(const u8* w, u32* values, u32* metadata, u64* fault, u32 rows, u32 cols, u32 rows_padded, u32 cols_padded) {
  Block<16, 64> block(rows_padded, cols_padded);
  if (!block.inside) return;
  u32 lane = threadIdx.x % 32, g = lane / 4, t = lane % 4, word = 0;
  u32 r = g + 8 * (t % 2);
  for (u32 i = 0; i < 4; i++) {
    u32 bytes = 0;
    for (u32 half = 0; half < 2; half++) {
      u32 c = t / 2 * 8 + i * 2 + half, group[4], pair[2];
      read_group(group, w, rows, cols, block.row + r, block.col + c * 4);
      u64 number = (u64)(block.row + r) * ((cols + 3) / 4) + block.col / 4 + c;
      word |= compress(pair, group, 0, fault, number) << 4 * (2 * i + half);
      bytes |= (pair[0] | pair[1] << 8) << 16 * half;
    }
    values[block.index * 128 + register_of(r, t / 2 * 4 + i)] = bytes;
  }
  metadata[block.index * 32 + lane] = word;
}

// Writes a group of four that stores a pair, inside the edges of W.
template <typename E>
__device__ void write_group(E* w, u32 nibble, u32 first, u32 second, u32 rows, u32 cols, u32 row, u32 col) {
  for (u32 i = 0; i < 4; i++)
    if (row < rows && col + i < cols)
      w[(u64)row * cols + col + i] = i == (nibble & 3) ? first : i == nibble >> 2 ? second : 0;
}

extern "C" __global__ void __launch_bounds__(THREADS, 8)
    unpack_16(u16* w, const u32* values, const u32* metadata, u32 rows, u32 cols, u32 rows_padded, u32 cols_padded) {
  Block<32, 32> block(rows_padded, cols_padded);
  if (!block.inside) return;
  u32 lane = threadIdx.x % 32, g = lane / 4, t = lane % 4, word = metadata[block.index * 32 + lane];
  for (u32 low = 0; low < 2; low++)
    for (u32 i = 0; i < 4; i++) {
      u32 r = g + 16 * (t / 2) + 8 * low, c = t % 2 * 4 + i;
      u32 pair = values[block.index * 256 + register_of(r, c)];
      write_group(w, word >> 16 * low + 4 * i & 15, pair & 0xFFFF, pair >> 16, rows, cols, block.row + r,
                  block.col + c * 4);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, 8)
    unpack_8(u8* w, const u32* values, const u32* metadata, u32 rows, u32 cols, u32 rows_padded, u32 cols_padded) {
  Block<16, 64> block(rows_padded, cols_padded);
  if (!block.inside) return;
  u32 lane = threadIdx.x % 32, g = lane / 4, t = lane % 4, word = metadata[block.index * 32 + lane];
  u32 r = g + 8 * (t % 2);
  for (u32 i = 0; i < 4; i++) {
    u32 bytes = values[block.index * 128 + register_of(r, t / 2 * 4 + i)];
    for (u32 half = 0; half < 2; half++) {
      u32 pair = bytes >> 16 * half;
      write_group(w, word >> 4 * (2 * i + half) & 15, pair & 0xFF, pair >> 8 & 0xFF, rows, cols, block.row + r,
                  block.col + (t / 2 * 8 + i * 2 + half) * 4);
    }
  }
}
