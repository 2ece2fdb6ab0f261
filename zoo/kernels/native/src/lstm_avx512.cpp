// The recurrence compiled for one instruction set; build.py passes the flags.
#define ZOO_ISA avx512
#define ZOO_VECTOR_BYTES 64
#define ZOO_TILE_ROWS 6
#include "recurrence.h"
