// The forward pass: the loop over time.
#pragma once

#include "block.h"

extern "C" __global__ void __launch_bounds__(kThreads, 1)
    forward(const float* __restrict__ z, const uint4* __restrict__ recurrent, const float* __restrict__ h_start,
            const float* __restrict__ c_start, const float* __restrict__ parameters,
            const unsigned char* __restrict__ valid, float* __restrict__ hidden, float* __restrict__ h_end,
            float* __restrict__ c_end, float4* __restrict__ kept, float4* __restrict__ cells, int steps, int batch,
            float clip) {
  ZOO_SHARED(float4, ring, kStages * 4 * kThreads);
  ZOO_STATIC_SHARED(Half, buffers, 2 * kRows * kStride);
  const Place place(batch);
  Fragments u;
  u.load(recurrent, place);
  Parameters p;
  p.load(parameters, place);

  float h[4], c[4];
#pragma unroll
  for (int e = 0; e < 4; ++e) {
    const bool there = place.there(e & 1);
    h[e] = there ? h_start[place.first() + offset(e)] : 0.0f, c[e] = there ? c_start[place.first() + offset(e)] : 0.0f;
  }
  store_transposed(buffers + place.warp * 16, kStride, h, place.lane);
  // Pointers that move on with the steps, and an exponential without a clamp, brought a step at 128 units from 431 to
  // 256 instructions.
  kept += static_cast<size_t>(blockIdx.x) * steps * 4 * kThreads + threadIdx.x;
  cells += static_cast<size_t>(blockIdx.x) * (steps + 1) * kThreads + threadIdx.x;
  if (ZOO_KEEP) *cells = to_float4(c);

  // Chunk j * 2 + half of a stage has the four gates of row j and one unit. Each call requests the next step.
  const size_t step = static_cast<size_t>(batch) * kUnits;
  const float* asked = z + static_cast<size_t>(place.row0) * (4 * kUnits) + place.column();
  auto ask = [&](int t, int stage) {
    if (t < steps)
#pragma unroll
      for (int chunk = 0; chunk < 4; ++chunk)
        copy16(ring + (stage * 4 + chunk) * kThreads + threadIdx.x,
               reinterpret_cast<const float4*>(asked + (chunk >> 1) * (4 * kUnits) + (chunk & 1) * 4),
               place.there(chunk >> 1));
    asked += 4 * step;
    end_of_batch();
  };
#pragma unroll
  for (int t = 0; t < kAhead; ++t) ask(t, t);
  bool now[2] = {true, true}, soon[2] = {true, true};
  valid += place.row0;
  if (ZOO_MASKED)
    for (int j = 0; j < 2; ++j) soon[j] = place.there(j) && valid[j];
  hidden += place.first();
  __syncthreads();

  for (int t = 0, stage = 0; t < steps; ++t, stage = next(stage)) {
    wait_for_batches<kAhead - 1>();
    float sum[4][4];
#pragma unroll
    for (int chunk = 0; chunk < 4; ++chunk) {
      const float4 gates = ring[(stage * 4 + chunk) * kThreads + threadIdx.x];
      const int e = (chunk & 1) * 2 + (chunk >> 1);
      sum[0][e] = gates.x, sum[1][e] = gates.y, sum[2][e] = gates.z, sum[3][e] = gates.w;
    }
    // Into the stage that was read at the step before. A thread reads only what it copied, so this needs no barrier.
    ask(t + kAhead, stage == 0 ? kStages - 1 : stage - 1);
    if (ZOO_MASKED) {
      if (t + 1 < steps) valid += batch;
      for (int j = 0; j < 2; ++j) now[j] = soon[j], soon[j] = place.there(j) && valid[j];
    }

    const Half* read = buffers + (t & 1) * kRows * kStride + (place.lane & 7) * kStride + (place.lane >> 3) * 8;
#pragma unroll
    for (int k = 0; k < kTiles; k += 2) {
      Word b[4];
      load_tiles(b, read + k * 16);
#pragma unroll
      for (int gate = 0; gate < 4; ++gate) multiply_add(sum[gate], u.a[gate][k], b[0], b[1]);
#pragma unroll
      for (int gate = 0; gate < 4; ++gate) multiply_add(sum[gate], u.a[gate][k + 1], b[2], b[3]);
    }

    // i, f, g, o = activations of z;  c' = clip(f c + i g);  h' = o hidden(c')
    float keep[4][4];
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int half = e >> 1;
      const float i = InputGate::value(sum[0][e], p.p[0][half]), f = ForgetGate::value(sum[1][e], p.p[1][half]);
      const float g = Candidate::value(sum[2][e], p.p[2][half]), o = OutputGate::value(sum[3][e], p.p[3][half]);
      float cell = fmaf(f, c[e], i * g);
      if (ZOO_CLIPPED) cell = cell > clip ? clip : cell < -clip ? -clip : cell;
      const float output = o * Hidden::value(cell, p.p[4][half]);
      const bool moves = !ZOO_MASKED || now[e & 1];
      c[e] = moves ? cell : c[e];
      h[e] = moves ? output : h[e];
      keep[0][e] = kept_of<InputGate>(sum[0][e], i), keep[1][e] = kept_of<ForgetGate>(sum[1][e], f);
      keep[2][e] = kept_of<Candidate>(sum[2][e], g), keep[3][e] = kept_of<OutputGate>(sum[3][e], o);
    }
    // Two buffers: slower warps may still read h of this step, so a single barrier a step is enough.
    store_transposed(buffers + ((t + 1) & 1) * kRows * kStride + place.warp * 16, kStride, h, place.lane);
    if (ZOO_SEQUENCES || ZOO_KEEP) {
#pragma unroll
      for (int e = 0; e < 4; ++e)
        if (place.there(e & 1)) hidden[offset(e)] = h[e];
      hidden += step;
    }
    if (ZOO_KEEP) {
#pragma unroll
      for (int gate = 0; gate < 4; ++gate) kept[gate * kThreads] = to_float4(keep[gate]);
      kept += 4 * kThreads;
      cells += kThreads;
      *cells = to_float4(c);
    }
    __syncthreads();
  }
#pragma unroll
  for (int e = 0; e < 4; ++e)
    if (place.there(e & 1)) h_end[place.first() + offset(e)] = h[e], c_end[place.first() + offset(e)] = c[e];
}
