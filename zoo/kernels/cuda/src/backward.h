// The backward pass: the loop over time, from the last step to the first.
//
// The chain rule through the equations of lstm.cu, where d_x is the gradient of the loss with respect to x:
//
//   d_h += d_hidden_t                           d_c += d_h o hidden'(c')
//   d_o = d_h hidden(c')    then, where c' was not cut:
//   d_i = d_c g             d_f = d_c c         d_g = d_c i          d_c = d_c f
//   d_z = (d_i i', d_f f', d_g g', d_o o')      d_h = U d_z
//
// d_z is scaled before it is rounded to half precision, by a power of two for each row and step that is undone after
// the product. The scale brings the largest magnitude known by then to between 8 and 16:
//   largest[t]        of the gradient that comes in at step t (largest[steps]: that of the last states), and
//   maxima            of d_z and of the gradients passed on unchanged, two steps before, so that no thread has to wait.
// So a gradient may grow by a factor of 4000 a step, and may vanish as far as float32 allows.
#pragma once

#include "block.h"

extern "C" __global__ void __launch_bounds__(kThreads, 1)
    backward(const float4* __restrict__ kept, const float4* __restrict__ cells, const uint4* __restrict__ recurrent,
             const float* __restrict__ parameters, const unsigned char* __restrict__ valid,
             const float* __restrict__ d_hidden, const float* __restrict__ d_h_end, const float* __restrict__ d_c_end,
             const float* __restrict__ largest, float* __restrict__ d_z, float* __restrict__ d_h_start,
             float* __restrict__ d_c_start, float* __restrict__ d_parameters, int steps, int batch, float clip) {
  constexpr int kChunks = 6;  // four gates, c before the step, the gradient of h
  ZOO_SHARED(float4, ring, kStages * kChunks * kThreads);
  ZOO_STATIC_SHARED(Half, buffers, 2 * kRows * kWideStride);
  ZOO_STATIC_SHARED(Word, maxima, 3 * kRows);
  const Place place(batch);
  Fragments u;
  u.load(recurrent, place);
  Parameters p;
  p.load(parameters, place);

  float d_h[4], d_c[4], cell[4], d_p[5][2] = {};
#pragma unroll
  for (int e = 0; e < 4; ++e) {
    const bool there = place.there(e & 1);
    d_h[e] = there ? d_h_end[place.first() + offset(e)] : 0.0f;
    d_c[e] = there ? d_c_end[place.first() + offset(e)] : 0.0f;
  }
  // All these pointers begin at the last step and move back by one step at a time.
  const size_t step = static_cast<size_t>(batch) * kUnits;
  kept += (static_cast<size_t>(blockIdx.x + 1) * steps - 1) * 4 * kThreads + threadIdx.x;
  cells += (static_cast<size_t>(blockIdx.x + 1) * (steps + 1) - 1) * kThreads + threadIdx.x;
  from_float4(cell, *cells);
  d_hidden += (steps - 1) * step + place.first();
  d_z += ((steps - 1) * static_cast<size_t>(batch) + place.row0) * (4 * kUnits) + place.column();
  valid += (steps - 1) * static_cast<size_t>(batch) + place.row0;
  largest += steps * static_cast<size_t>(batch) + place.row0;

  auto ask = [&](int t, int stage) {
    float4* to = ring + stage * kChunks * kThreads + threadIdx.x;
    cells -= kThreads;  // c before step t
    if (t >= 0) {
#pragma unroll
      for (int gate = 0; gate < 4; ++gate) copy16(to + gate * kThreads, kept + gate * kThreads, true);
      copy16(to + 4 * kThreads, cells, true);
      if (ZOO_SEQUENCES)
#pragma unroll
        for (int e = 0; e < 4; ++e)
          copy4(reinterpret_cast<float*>(to + 5 * kThreads) + e, d_hidden + offset(e), place.there(e & 1));
    }
    kept -= 4 * kThreads;
    d_hidden -= step;
    end_of_batch();
  };
#pragma unroll
  for (int k = 0; k < kAhead; ++k) ask(steps - 1 - k, k);

  // Magnitudes for this thread's two rows, as bits of floats. `after` was known at the step after this one.
  Word incoming[2], after[2];
  bool now[2] = {true, true}, soon[2] = {true, true};
#pragma unroll
  for (int j = 0; j < 2; ++j) {
    const bool there = place.there(j);
    after[j] = there ? __float_as_uint(largest[j]) : 0;
    incoming[j] = ZOO_SEQUENCES && there ? __float_as_uint(largest[j - batch]) : 0;
    if (ZOO_MASKED) soon[j] = there && valid[j];
  }
  // The first two iterations read slots that no step has written yet, so all slots begin with the last states' maxima.
  if (threadIdx.x < 4)
    for (int k = 0; k < 3; ++k)
      for (int j = 0; j < 2; ++j) maxima[k * kRows + 2 * threadIdx.x + j] = after[j];
  largest -= batch;
  __syncthreads();

  // `slot`, the steps done modulo 3, is the place of this step's maxima. There are three places because, between two
  // barriers, one is read and one is set to 0 while slower warps still raise a third.
  for (int t = steps - 1, stage = 0, slot = 0; t >= 0; --t, stage = next(stage), slot = slot == 2 ? 0 : slot + 1) {
    int field[2];
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const Word known = maxima[(slot == 2 ? 0 : slot + 1) * kRows + 2 * (place.lane & 3) + j];  // of two steps before
      field[j] = scale_field(max(max(known, after[j]), incoming[j]));
      after[j] = incoming[j];
      now[j] = soon[j];
    }
    if (t > 0) {
      largest -= batch;
      valid -= batch;
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        if (ZOO_SEQUENCES) incoming[j] = place.there(j) ? __float_as_uint(largest[j]) : 0;
        if (ZOO_MASKED) soon[j] = place.there(j) && valid[j];
      }
    }
    wait_for_batches<kAhead - 1>();
    const float4* from = ring + stage * kChunks * kThreads + threadIdx.x;
    float gate[4][4], before[4], coming[4] = {};
#pragma unroll
    for (int k = 0; k < 4; ++k) from_float4(gate[k], from[k * kThreads]);
    from_float4(before, from[4 * kThreads]);
    if (ZOO_SEQUENCES) from_float4(coming, from[5 * kThreads]);
    ask(t - kAhead, stage == 0 ? kStages - 1 : stage - 1);

    float d[4][4];
    Word highest[2] = {0, 0};
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int half = e >> 1;
      float i, f, g, o, y, i_slope, f_slope, g_slope, o_slope, y_slope;
      value_and_slope<InputGate>(gate[0][e], p.p[0][half], i, i_slope);
      value_and_slope<ForgetGate>(gate[1][e], p.p[1][half], f, f_slope);
      value_and_slope<Candidate>(gate[2][e], p.p[2][half], g, g_slope);
      value_and_slope<OutputGate>(gate[3][e], p.p[3][half], o, o_slope);
      y = Hidden::value(cell[e], p.p[4][half]);
      y_slope = Hidden::slope(Hidden::kSaves == kInput ? cell[e] : y, p.p[4][half]);

      const float upstream = d_h[e] + coming[e];
      float d_cell = fmaf(upstream * o, y_slope, d_c[e]);
      if (ZOO_CLIPPED) {
        const float uncut = fmaf(f, before[e], i * g);
        d_cell = uncut > clip || uncut < -clip ? 0.0f : d_cell;
      }
      // A masked step leaves the states as they are, so its d_z is 0 and both gradients pass through it.
      const bool moves = !ZOO_MASKED || now[e & 1];
      d[0][e] = moves ? d_cell * g * i_slope : 0.0f;
      d[1][e] = moves ? d_cell * before[e] * f_slope : 0.0f;
      d[2][e] = moves ? d_cell * i * g_slope : 0.0f;
      d[3][e] = moves ? upstream * y * o_slope : 0.0f;
      if (ZOO_LEARNED) {
        const float by_parameter[5] = {d_cell * g * learned_slope<InputGate>(gate[0][e], p.p[0][half], 0),
                                       d_cell * before[e] * learned_slope<ForgetGate>(gate[1][e], p.p[1][half], 0),
                                       d_cell * i * learned_slope<Candidate>(gate[2][e], p.p[2][half], 0),
                                       upstream * y * learned_slope<OutputGate>(gate[3][e], p.p[3][half], 0),
                                       upstream * o * learned_slope<Hidden>(cell[e], p.p[4][half], 0)};
#pragma unroll
        for (int k = 0; k < 5; ++k)
          if ((ZOO_LEARNED >> k) & 1) d_p[k][half] += moves ? by_parameter[k] : 0.0f;
      }
      d_c[e] = moves ? d_cell * f : d_c[e];
      d_h[e] = moves ? 0.0f : upstream;
      cell[e] = before[e];
#pragma unroll
      for (int k = 0; k < 4; ++k) highest[e & 1] = max(highest[e & 1], __float_as_uint(fabsf(d[k][e])));
      highest[e & 1] = max(highest[e & 1], max(__float_as_uint(fabsf(d_c[e])), __float_as_uint(fabsf(d_h[e]))));
    }

    float scale[2];
#pragma unroll
    for (int j = 0; j < 2; ++j) scale[j] = __uint_as_float(static_cast<Word>(field[j]) << 23);
    Half* write = buffers + (t & 1) * kRows * kWideStride + place.warp * 16;
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const float scaled[4] = {d[k][0] * scale[0], d[k][1] * scale[1], d[k][2] * scale[0], d[k][3] * scale[1]};
      store_transposed(write + k * kUnits, kWideStride, scaled, place.lane);
    }
#pragma unroll
    for (int chunk = 0; chunk < 4; ++chunk) {
      const int j = chunk >> 1, half = chunk & 1, e = half * 2 + j;
      if (place.there(j))
        *reinterpret_cast<float4*>(d_z + j * (4 * kUnits) + 4 * half) = make_float4(d[0][e], d[1][e], d[2][e], d[3][e]);
    }
    d_z -= 4 * step;
    if (threadIdx.x < kRows) maxima[slot * kRows + threadIdx.x] = 0;
    __syncthreads();

#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const Word bits = largest_of_column(highest[j]);
      if (place.lane < 4) raise_to(&maxima[slot * kRows + 2 * place.lane + j], bits);
    }
    float sum[4][4] = {};
    const Half* read = buffers + (t & 1) * kRows * kWideStride + (place.lane & 7) * kWideStride + (place.lane >> 3) * 8;
#pragma unroll
    for (int k = 0; k < kTiles; k += 2)
#pragma unroll
      for (int g = 0; g < 4; ++g) {
        Word b[4];
        load_tiles(b, read + g * kUnits + k * 16);
        multiply_add(sum[g], u.a[g][k], b[0], b[1]);
        multiply_add(sum[g], u.a[g][k + 1], b[2], b[3]);
      }
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      // The reciprocal of the scale, a power of two: its exponent field is 127 - (field - 127).
      const float undo = __uint_as_float(static_cast<Word>(254 - field[e & 1]) << 23);
      d_h[e] += ((sum[0][e] + sum[1][e]) + (sum[2][e] + sum[3][e])) * undo;
    }
  }

#pragma unroll
  for (int e = 0; e < 4; ++e)
    if (place.there(e & 1))
      d_h_start[place.first() + offset(e)] = d_h[e], d_c_start[place.first() + offset(e)] = d_c[e];
  if (ZOO_LEARNED)
#pragma unroll
    for (int k = 0; k < 5; ++k)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        // The four lanes with the same units hold the sums of different rows; one lane writes for all of them.
        float total = d_p[k][half];
        total += __shfl_xor_sync(0xffffffffu, total, 1);
        total += __shfl_xor_sync(0xffffffffu, total, 2);
        if ((place.lane & 3) == 0) d_parameters[(blockIdx.x * 5 + k) * kUnits + place.unit0 + 8 * half] = total;
      }
}
