// The recurrence compiled for one instruction set; build.py passes the flags.
#define ZOO_ISA avx2
#define ZOO_VECTOR_BYTES 32
#define ZOO_TILE_ROWS 3
#include "recurrence.h"
