// SPDX-License-Identifier: Apache-2.0
// One measurement of the loopback benchmark, in a process of its own: see bench/loopback.mjs.
#include <cstdio>
#include <exception>
#include <string>

#include "measurements.h"

int main(int argc, char** argv) {
  using namespace ringdisk::bench;
  try {
    const std::string what = argc > 1 ? argv[1] : "";
    const Settings settings = parse_settings(argc - 2, argv + 2);
    if (what == "limit")
      measure_limit(settings);
    else if (what == "ringdisk")
      measure_ringdisk(settings);
    else if (what == "uring")
      measure_uring(settings);
    else
      throw std::invalid_argument("usage: ringdisk_bench limit|ringdisk|uring [name=value ...]");
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "ringdisk_bench: %s\n", error.what());
    return 1;
  }
}
