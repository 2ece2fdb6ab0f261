// The LSTM over a whole sequence in one kernel, forward and backward.
//
//   i = input_gate(z_i)   f = forget_gate(z_f)   g = candidate(z_c)   o = output_gate(z_o),   z = x W + b + h U
//   c' = clip(f c + i g)                          h' = o hidden(c')
//
// A block has 8 rows of the batch and all units, and the loop over time is inside it: rows never meet, so blocks never
// wait for each other. A warp has 16 units in all four gates. Its part of U stays in registers for the whole sequence,
// as first operands of tensor-core products of which the batch is the narrow side. Only h (backward: the gradient of z)
// passes through shared memory, in half precision and in two buffers, with one barrier a step. States, sums and
// activations are float32. What a step reads from global memory is requested kAhead steps in advance.
//
// These macros select the variant:
//   ZOO_UNITS                                  n, a multiple of 32 up to 128
//   ZOO_STAGES                                 of the ring buffer for the inputs of coming steps: kAhead + 1
//   ZOO_INPUT_GATE ... ZOO_OUTPUT_GATE, ZOO_CANDIDATE, ZOO_HIDDEN   rows of activations.h
//   ZOO_BFLOAT16                               defined: bfloat16 operands, else float16
//   ZOO_MASKED                                 steps may be invalid: both states stay as they are
//   ZOO_CLIPPED                                the cell state is held in [-clip, clip]
//   ZOO_KEEP                                   forward: keep what the backward pass needs
//   ZOO_SEQUENCES                              forward: return h of every step; backward: every h has a gradient
//   ZOO_LEARNED                                bit k: activation k learns its parameter
//
// Layouts, in floats; b rows, t steps, n units, B blocks of 8 rows:
//   z, d_z        (t, b, 4 n), the columns in the order (warp, r, half, gate): unit 16 warp + 8 half + r
//   recurrent     (warp, gate, n / 16, lane, 8) halves: first operands, made by fragments() in lstm.py
//   kept          (B, t, 4, threads) float4: for each gate its value or preactivation, see kSaves
//   cells         (B, t + 1, threads) float4: c before the first step and after each
//   parameters    (5, n)
//   valid         (t, b) bytes
//   hidden        (t, b, n)
#include "backward.h"
#include "forward.h"
