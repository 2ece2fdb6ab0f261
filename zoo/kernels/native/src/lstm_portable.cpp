// The recurrence compiled for one instruction set; build.py passes the flags.
#define ZOO_ISA portable
#define ZOO_VECTOR_BYTES 16
#define ZOO_TILE_ROWS 2
#include "recurrence.h"
