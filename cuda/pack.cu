// Lays weights out: rows of a file's blocks become tiles of 16 rows x 64 columns (quant/codes.cuh, quant/floats.cuh). Runs at
// upload, behind the copy of the file's bytes; tests/cuda/packing.rs does the same on the host, byte for byte.
//
// from: the rows of record `first` and those behind it, `row_bytes` bytes each; a record is up to 16 rows of one of the
// matrices of `rows` rows, `row_tiles` records each. to: the whole weight, `[records]` of k_tiles tiles and what stands for
// every 256 columns. Columns and rows that there are none of are laid out as blocks of zeros.
//
// Grid (records * pieces), 128 threads: a piece is 256 columns of a record, a warp lays out 64 of them. The piece goes to
// shared memory in words, whatever its alignment, so that both global reads and writes are coalesced. Up to 8 bytes behind
// the rows are read, and not used. Shared memory: 16 rows of a pitch at which the rows of a tile lie in different banks.
#include "quant/format.cuh"
#include "quant/blocks.cuh"

static constexpr int RECORD_ROWS = 16, PIECE_WORDS = (Blocks<FORMAT>::PIECE + 3) / 4;
// At least a word more than there are, for four_bytes; in words, 4 modulo 8.
static constexpr int PIECE_PITCH = 4 * ((PIECE_WORDS + 4) / 8 * 8 + 4);

// The first `n` bytes of a word, zeros behind them.
DEVICE uint32_t first_bytes(uint32_t word, int64_t n) { return n < 4 ? word & ~(ALL << (8 * int(n))) : word; }

// Rows `at` and on, of which `rows` are there, from byte `start` of each.
DEVICE void load_piece(const uint8_t* at, int64_t row_bytes, int64_t start, int rows, uint8_t* piece) {
    for (int i = threadIdx.x; i < RECORD_ROWS * PIECE_WORDS; i += blockDim.x) {
        const int row = i / PIECE_WORDS, byte = i % PIECE_WORDS * 4;
        const int64_t left = row_bytes - start - byte;
        const bool there = row < rows && left > 0;
        const uint32_t word = there ? first_bytes(four_bytes(at + row * row_bytes + start + byte), left) : 0;
        *(uint32_t*)(piece + row * PIECE_PITCH + byte) = word;
    }
}

#if FORMAT_QUANTIZED
// Indices lie as look_up (quant/codes.cuh) wants them: four nibbles in a row.
DEVICE uint32_t nibbles_in_a_row(uint32_t codes) {
    return (codes & 15) | (codes >> 4 & 0xf0) | (codes >> 8 & 0xf00) | (codes >> 12 & 0xf000);
}

template <class B>
DEVICE void store_codes(const uint32_t (&c)[8], uint8_t* tile) {
    uint4* words = (uint4*)tile + lane();
    if (B::BITS == 8) {
        words[0] = {c[0], c[1], c[2], c[3]}, words[WARP] = {c[4], c[5], c[6], c[7]};
        return;
    }
    uint32_t low[4], fifth = 0, high[2] = {0, 0};
#pragma unroll
    for (int w = 0; w < 4; w++) {
        const uint32_t a = c[w / 2 * 4 + w % 2], b = c[w / 2 * 4 + w % 2 + 2];
        low[w] = B::INDICES ? nibbles_in_a_row(a) | nibbles_in_a_row(b) << 16 : (a & 0x0f0f0f0fu) | (b & 0x0f0f0f0fu) << 4;
    }
#pragma unroll
    for (int r = 0; r < 8; r++) {
        fifth |= (c[r] >> 4 & 0x01010101u) << r;
        high[r / 4] |= (c[r] >> 4 & 0x03030303u) << (2 * (r % 4));
    }
    words[0] = {low[0], low[1], low[2], low[3]};
    uint8_t* above = tile + 16 * WARP;
    if (B::BITS == 5) ((uint32_t*)above)[lane()] = fifth;
    if (B::BITS == 6) ((uint2*)above)[lane()] = {high[0], high[1]};
}

// Lane 2 r + h has half h of row r.
template <class B>
DEVICE void store_scales(uint32_t scales, uint8_t* to) {
    if (B::SCALE == 1) to[lane()] = uint8_t(scales);
    if (B::SCALE == 2) ((uint16_t*)to)[lane()] = uint16_t(scales);
    if (B::SCALE == 4) ((uint32_t*)to)[lane()] = scales;
}

DEVICE void pack_tile(const uint8_t* piece, int tile, uint8_t* to) {
    typedef Blocks<FORMAT> B;
    const int g = lane() / 4, t = lane() % 4;
    uint32_t c[8];
#pragma unroll
    for (int r = 0; r < 8; r++) {
        c[r] = B::codes(piece + (g + r % 2 * 8) * PIECE_PITCH, tile * 64 + r / 4 * 32 + r / 2 % 2 * 16 + 4 * t);
    }
    store_codes<B>(c, to);
    store_scales<B>(B::scales(piece + lane() / 2 * PIECE_PITCH, tile, lane() % 2), to + FORMAT::SCALES);
}

// Behind the tiles of a record.
DEVICE void pack_super(const uint8_t* piece, uint8_t* to) {
    if (FORMAT::SUPER_BYTES == 0 || int(threadIdx.x) >= RECORD_ROWS) return;
    ((uint32_t*)to)[threadIdx.x] = Blocks<FORMAT>::super_scale(piece + threadIdx.x * PIECE_PITCH);
}
#else
DEVICE void pack_tile(const uint8_t* piece, int tile, uint8_t* to) {
    const int size = FORMAT::TILE_BYTES / (16 * 64), g = lane() / 4, t = lane() % 4;
#pragma unroll
    for (int r = 0; r < 8; r++) {
        const uint8_t* four = piece + (g + r % 2 * 8) * PIECE_PITCH + (tile * 64 + r / 4 * 32 + r / 2 % 2 * 16 + 4 * t) * size;
        if (size == 4) ((uint4*)to)[r * WARP + lane()] = *(const uint4*)four;
        if (size == 2) ((uint2*)to)[r * WARP + lane()] = *(const uint2*)four;
    }
}

DEVICE void pack_super(const uint8_t*, uint8_t*) {}
#endif

KERNEL(128) ENTRY(pack)(const uint8_t* from, int64_t row_bytes, int k_tiles, int rows, int row_tiles, int first, uint8_t* to) {
    const int pieces = (k_tiles + 3) / 4, piece = blockIdx.x % pieces, record = first + int(blockIdx.x / pieces);
    const int row = record % row_tiles * RECORD_ROWS;
    const int64_t before = int64_t(first / row_tiles) * rows + first % row_tiles * RECORD_ROWS;
    const uint8_t* at = from + (int64_t(record / row_tiles) * rows + row - before) * row_bytes;
    uint8_t* shared = shared_memory();
    load_piece(at, row_bytes, int64_t(piece) * Blocks<FORMAT>::PIECE, rows - row, shared);
    __syncthreads();
    to += record * (int64_t(k_tiles) * FORMAT::TILE_BYTES + int64_t(k_tiles / 4) * FORMAT::SUPER_BYTES);
    const int tile = piece * 4 + warp();
    if (tile < k_tiles) pack_tile(shared, warp(), to + int64_t(tile) * FORMAT::TILE_BYTES);
    pack_super(shared, to + int64_t(k_tiles) * FORMAT::TILE_BYTES + int64_t(piece) * FORMAT::SUPER_BYTES);
}
