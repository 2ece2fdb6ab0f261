// The recurrence compiled for one instruction set; build.py passes the flags.
// Three rows by four gates: 12 sums stay in registers, of which AVX2 has 16.
#define ZOO_ISA avx2
#define ZOO_VECTOR_BYTES 32
#define ZOO_TILE_ROWS 3
#include "recurrence.h"
