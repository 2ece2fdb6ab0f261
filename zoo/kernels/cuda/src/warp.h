// The operations of a whole warp: matrix products of 16 x 8 tiles by the tensor cores, and their operands in shared
// memory.
//
// A lane is (r, q) = (lane / 4, lane % 4). Of a 16 x 8 result it holds four elements e: row r + 8 * (e / 2), column
// 2 q + e % 2. The layouts are those of "mma.m16n8k16" in the PTX instruction set manual.
#pragma once

#ifndef ZOO_EMULATED  // the tests' emulator replaces these functions on a processor without tensor cores

#define ZOO_STATIC_SHARED(TYPE, NAME, COUNT) __shared__ __align__(16) TYPE NAME[COUNT]
#define ZOO_SHARED(TYPE, NAME, COUNT) extern __shared__ __align__(16) TYPE NAME[]  // COUNT: by the launch

namespace zoo {

typedef unsigned int Word;    // two numbers of half precision, the first in the low bits
typedef unsigned short Half;  // one number of half precision, as bits

#ifdef ZOO_BFLOAT16
#define ZOO_HALF "bf16"
#else
#define ZOO_HALF "f16"
#endif

// c += a b, where a is 16 x 16 and b is 16 x 8.
ZOO_INLINE void multiply_add(float* c, const Word* a, Word b0, Word b1) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." ZOO_HALF "." ZOO_HALF
               ".f32 "
               "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

ZOO_INLINE Word pack(float low, float high) {
  Word word;
  asm("cvt.rn." ZOO_HALF "x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  return word;
}

ZOO_INLINE Word shared_address(const void* p) { return static_cast<Word>(__cvta_generic_to_shared(p)); }

// Four tiles of 8 x 8: the second operands of two products. Lane l names row l % 8 of tile l / 8.
ZOO_INLINE void load_tiles(Word* b, const Half* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(b[0]), "=r"(b[1]), "=r"(b[2]), "=r"(b[3])
               : "r"(shared_address(row))
               : "memory");
}

// Store the four elements of each lane in rows of shared memory, transposed: element e of lane (r, q) becomes
// base[(2 q + e % 2) * stride + r + 8 * (e / 2)].
ZOO_INLINE void store_transposed(Half* base, int stride, const float* x, int lane) {
  const Word upper = pack(x[0], x[1]), lower = pack(x[2], x[3]);
#if __CUDA_ARCH__ >= 900  // the first architecture with stmatrix
  Half* row = base + (lane & 7) * stride + ((lane >> 3) & 1) * 8;
  asm volatile("stmatrix.sync.aligned.m8n8.x2.trans.shared.b16 [%0], {%1,%2};"
               :
               : "r"(shared_address(row)), "r"(upper), "r"(lower)
               : "memory");
#else
  Half* place = base + 2 * (lane & 3) * stride + (lane >> 2);
  place[0] = static_cast<Half>(upper);
  place[stride] = static_cast<Half>(upper >> 16);
  place[8] = static_cast<Half>(lower);
  place[stride + 8] = static_cast<Half>(lower >> 16);
#endif
}

// === Asynchronous copies: a thread waits only for those that it started ===

// Copy 16 bytes, or write 16 zero bytes unless `there`.
ZOO_INLINE void copy16(float4* to, const float4* from, bool there) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
               :
               : "r"(shared_address(to)), "l"(from), "r"(there ? 16 : 0)
               : "memory");
}

// Copy 4 bytes, or write 4 zero bytes unless `there`.
ZOO_INLINE void copy4(float* to, const float* from, bool there) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;"
               :
               : "r"(shared_address(to)), "l"(from), "r"(there ? 4 : 0)
               : "memory");
}

ZOO_INLINE void end_of_batch() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Wait until at most `N` batches of copies are unfinished.
template <int N>
ZOO_INLINE void wait_for_batches() {
  asm volatile("cp.async.wait_group %0;" : : "n"(N) : "memory");
}

// The largest value of the lanes (0..7, q). The values are bits of floats >= 0, which compare as integers do.
ZOO_INLINE Word largest_of_column(Word bits) {
#pragma unroll
  for (int distance = 4; distance <= 16; distance *= 2) bits = max(bits, __shfl_xor_sync(0xffffffffu, bits, distance));
  return bits;
}

ZOO_INLINE void raise_to(Word* place, Word bits) { atomicMax(place, bits); }

}  // namespace zoo

#endif  // ZOO_EMULATED
