// The recurrence compiled for one instruction set; build.py passes the flags.
// Six rows by four gates: 24 sums stay in registers, of which AVX-512 has 32.
#define ZOO_ISA avx512
#define ZOO_VECTOR_BYTES 64
#define ZOO_TILE_ROWS 6
#include "recurrence.h"
