// The recurrence compiled for one instruction set; build.py passes the flags.
// Two rows by four gates: 8 sums stay in registers, of which SSE has 16.
#define ZOO_ISA portable
#define ZOO_VECTOR_BYTES 16
#define ZOO_TILE_ROWS 2
#include "recurrence.h"
