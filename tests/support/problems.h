#pragma once

#include <iterator>
#include <vector>

#include "kernels/api/problem.h"

/// The problem lists that tests of every backend share.
///   edge:  1x1 images, 1 and 3 channels, odd and prime sizes, every kernel size, both strides,
///   padding
///          from none to the largest: whatever is not a multiple of any tile;
///   srgan: the real layers of generator, discriminator and VGG19 with their channel counts, on
///   small
///          images, so that the double-precision oracle stays quick.
namespace subpix::tests {

using kernels::ChannelProblem;
using kernels::Conv2dProblem;
using kernels::DenseProblem;
using kernels::Index;
using kernels::NormProblem;
using kernels::PoolProblem;
using kernels::ShuffleProblem;
using kernels::VariationProblem;

inline std::vector<Conv2dProblem> conv2d_edge_problems() {
  std::vector<Conv2dProblem> list = {
      // n, h, w, c, k, r, s, stride, pad
      {1, 1, 1, 1, 1, 1, 1, 1, 0},
      {1, 1, 1, 1, 1, 3, 3, 1, 1},
      {1, 1, 1, 3, 5, 9, 9, 1, 4},
      {2, 1, 1, 2, 3, 3, 3, 2, 1},
      {1, 1, 1, 4, 2, 9, 9, 1, 8},
      {2, 1, 7, 3, 4, 3, 3, 1, 1},
      {1, 9, 1, 5, 3, 5, 5, 2, 2},
      {1, 9, 9, 2, 3, 9, 9, 1, 0},
      {3, 4, 4, 3, 1, 1, 1, 2, 0},
      {1, 6, 5, 3, 2, 1, 3, 1, 0},
      {1, 5, 6, 2, 5, 5, 3, 1, 2},
      {2, 6, 7, 3, 4, 3, 7, 2, 1},
      {1, 17, 33, 1, 64, 3, 3, 1, 1},
      {5, 3, 3, 7, 11, 3, 3, 1, 2},
      {1, 19, 3, 17, 19, 3, 3, 2, 1},
      {1, 6, 10, 65, 33, 3, 3, 1, 1},
      {1, 2, 2, 130, 67, 3, 3, 1, 1},
      {2, 11, 35, 8, 16, 3, 3, 1, 1},
      {1, 16, 16, 16, 16, 3, 3, 2, 1},
      {1, 12, 14, 3, 9, 9, 9, 1, 4},
      {1, 7, 9, 24, 3, 9, 9, 1, 4},
      {1, 9, 31, 32, 4, 3, 3, 1, 1},

      // A second chunk of 64 channels that is not full, on either side, and every padding.
      {1, 5, 9, 40, 72, 3, 3, 1, 1},
      {3, 5, 6, 72, 40, 3, 3, 1, 2},
      {2, 6, 7, 136, 32, 1, 3, 1, 0},
      {1, 7, 6, 32, 40, 5, 3, 1, 2},
      // Up to four channels on one side, multiples of 8 on the other.
      {2, 13, 9, 3, 8, 3, 3, 2, 1},
      {1, 11, 14, 4, 72, 7, 7, 2, 3},
      {1, 9, 9, 2, 8, 9, 9, 1, 0},
      {1, 7, 8, 3, 72, 3, 5, 1, 1},
      {1, 5, 6, 72, 3, 3, 3, 1, 0},
      {1, 6, 5, 16, 31, 3, 1, 1, 0},
      // Channels in eights, for 16-byte accesses: kernels wider than the image, parities without
      // taps or pixels, chunks of several taps in one step.
      {1, 3, 5, 8, 11, 3, 3, 1, 1},
      {2, 7, 5, 8, 8, 5, 5, 2, 1},
      {2, 5, 6, 24, 40, 3, 3, 2, 0},
      {1, 5, 7, 40, 24, 1, 1, 2, 0},
      {1, 3, 4, 48, 72, 7, 3, 2, 2},
      {1, 4, 5, 16, 8, 9, 9, 1, 8},
  };
  // Channels in packs of 16 bytes, on one side or both: filters that are not square, images smaller
  // than any tile, the largest padding.
  const Conv2dProblem packed[] = {
      {1, 9, 18, 2, 24, 5, 3, 1, 1}, {1, 10, 7, 8, 4, 3, 5, 1, 2},   {1, 4, 5, 8, 2, 3, 3, 1, 2},
      {1, 7, 9, 16, 8, 3, 5, 2, 1},  {1, 6, 11, 8, 8, 7, 9, 1, 3},   {2, 5, 6, 8, 16, 1, 1, 2, 0},
      {9, 2, 3, 8, 8, 3, 3, 1, 1},   {1, 33, 8, 16, 24, 1, 1, 1, 0},
  };
  list.insert(list.end(), std::begin(packed), std::end(packed));
  // Every kernel size on two odd images, without padding and at the same size, with both strides.
  for (const Index kernel : {1, 3, 5, 7, 9})
    for (const Index stride : {1, 2}) {
      list.push_back({2, 13, 9, 3, 5, kernel, kernel, stride, 0});
      list.push_back({1, 5, 7, 3, 6, kernel, kernel, stride, kernel / 2});
    }
  return list;
}

inline std::vector<Conv2dProblem> conv2d_srgan_problems() {
  return {
      {2, 12, 12, 3, 64, 9, 9, 1, 4},    // generator: head
      {2, 12, 12, 64, 64, 3, 3, 1, 1},   // residual blocks and trunk
      {1, 12, 12, 64, 256, 3, 3, 1, 1},  // before the shuffle
      {1, 24, 24, 64, 3, 9, 9, 1, 4},    // tail
      {2, 16, 16, 3, 64, 3, 3, 1, 1},    // discriminator and VGG19: first
      {1, 24, 24, 64, 64, 3, 3, 2, 1},   // discriminator
      {1, 12, 12, 64, 128, 3, 3, 1, 1},  {1, 12, 12, 128, 128, 3, 3, 2, 1},
      {1, 6, 6, 128, 256, 3, 3, 1, 1},   {1, 6, 6, 256, 256, 3, 3, 2, 1},
      {1, 3, 3, 256, 512, 3, 3, 1, 1},   {1, 4, 4, 512, 512, 3, 3, 2, 1},
      {1, 3, 3, 512, 512, 3, 3, 1, 1},    // VGG19: conv5
      {1, 184, 184, 20, 20, 1, 1, 1, 0},  // pixels enough for the tiles of large images
  };
}

inline std::vector<NormProblem> norm_problems() {
  return {
      {.rows = 1, .c = 1},        {.rows = 1, .c = 5},
      {.rows = 2, .c = 3},        {.rows = 35, .c = 1},
      {.rows = 117, .c = 17},     {.rows = 63, .c = 65},
      {.rows = 9, .c = 513},      {.rows = 37, .c = 4, .eps = 1e-3f, .momentum = 0.25f},
      {.rows = 2 * 144, .c = 64}, {.rows = 2 * 576, .c = 128},
      {.rows = 4 * 36, .c = 512}, {.rows = 4097, .c = 3},
  };
}

inline std::vector<ChannelProblem> channel_problems() {
  return {
      {1, 1, false},    {1, 3, true},    {35, 3, false},    {117, 17, true},
      {117, 17, false}, {63, 65, true},  {9, 513, false},   {4097, 1, false},
      {288, 64, false}, {288, 64, true}, {577, 256, false}, {577, 256, true},
  };
}

/// Sizes around vector and block widths, and one large enough to be split between threads.
inline std::vector<Index> element_counts() {
  return {1,  2,  3,   4,   5,   7,   8,    15,   16,   17,    31,
          33, 64, 127, 129, 255, 257, 1000, 1023, 4096, 10007, 70001};
}

inline std::vector<ShuffleProblem> shuffle_problems() {
  return {
      {1, 1, 1, 1, 2}, {1, 1, 1, 3, 1},   {2, 3, 5, 1, 3},    {1, 5, 7, 3, 2},
      {3, 4, 1, 7, 4}, {1, 13, 9, 17, 2}, {1, 12, 12, 64, 2}, {2, 3, 5, 8, 3},
  };
}

inline std::vector<PoolProblem> pool_problems() {
  return {
      {1, 2, 2, 1},  {1, 3, 3, 1},   {2, 5, 7, 3},  {1, 13, 9, 17},  {3, 2, 9, 5},
      {1, 8, 8, 64}, {1, 6, 4, 130}, {2, 5, 7, 16}, {3, 21, 38, 16},  // several blocks of threads
                                                                      // that take 16 bytes
  };
}

inline std::vector<DenseProblem> dense_problems() {
  return {
      {1, 1, 1},    {1, 7, 1},    {3, 1, 5},      {2, 17, 19},    {5, 65, 33},
      {16, 64, 3},  {7, 130, 67}, {2, 4608, 128}, {2, 18432, 16}, {16, 1024, 1},
      {37, 96, 24}, {70, 72, 40}, {33, 40, 66},   {3, 24, 530},
  };
}

inline std::vector<VariationProblem> variation_problems(bool squared) {
  const float scale = 0.125f;
  return {
      {1, 1, 1, 1, scale, squared},   {1, 1, 5, 3, scale, squared},  {2, 7, 1, 1, scale, squared},
      {1, 2, 2, 3, scale, squared},   {2, 5, 7, 3, scale, squared},  {1, 13, 9, 17, scale, squared},
      {1, 24, 24, 3, scale, squared}, {2, 6, 8, 1, scale, squared},  {1, 5, 3, 8, scale, squared},
      {3, 37, 40, 3, scale, squared}, {1, 9, 2, 32, scale, squared},
  };
}

}  // namespace subpix::tests
