// SPDX-License-Identifier: Apache-2.0
// What a measurement is asked to do, and what it says: one line of JSON on standard output.
#pragma once

#include <cstdint>
#include <string>

#include "metrics/latency_histogram.h"
#include "platform/loopback/workload.h"

namespace ringdisk::bench {

// From arguments "name=value"; throws std::invalid_argument for any other name.
struct Settings {
  std::string machine;             // folder of the loopback machine
  std::string kind = "null";       // of the target
  std::string path;                // of the target; null: its capacity in bytes
  std::string grants = "copy";     // or persistent, map
  std::string operation = "read";  // or write; random
  uint64_t block = 4096;           // bytes per request
  uint32_t depth = 32;             // per queue
  uint32_t queues = 1;
  uint32_t reactors = 1;
  uint32_t ring_order = 0;
  uint32_t poll_us = 50;         // poll budget
  uint64_t region = 256u << 20;  // bytes of the target that are used
  uint64_t bytes = 0;            // to move; 0: for as long as `milliseconds` say
  uint64_t milliseconds = 1000;
  bool journal = true;
  bool callgrind = false;  // see callgrind.cc
  uint32_t bitmaps = 0;    // that writes are marked in

  bool is_write() const { return operation == "write"; }
  Workload workload() const;
};

Settings parse_settings(int count, char** arguments);

// Nanoseconds of CPU that this process's threads of that name have used; "": all threads.
uint64_t thread_cpu_ns(const std::string& name);

// A JSON object under construction.
class JsonLine {
 public:
  JsonLine& add(const std::string& name, double value);
  JsonLine& add(const std::string& name, uint64_t value);
  JsonLine& add(const LatencyHistogram& latency);
  void print() const;

 private:
  std::string text_;
};

}  // namespace ringdisk::bench
