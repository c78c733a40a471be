// SPDX-License-Identifier: Apache-2.0
#include "settings.h"

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <stdexcept>

namespace ringdisk::bench {

Workload Settings::workload() const {
  Workload workload;
  workload.operation = is_write() ? Workload::Operation::randwrite : Workload::Operation::randread;
  workload.block_bytes = block;
  workload.depth = depth;
  workload.length = region;
  if (bytes > 0) workload.bytes = bytes;
  if (bytes == 0) workload.milliseconds = milliseconds;
  return workload;
}

Settings parse_settings(int count, char** arguments) {
  Settings settings;
  const auto text = [](std::string& to) { return [&to](const std::string& value) { to = value; }; };
  const auto number = [](auto& to) {
    return [&to](const std::string& value) {
      to = static_cast<std::remove_reference_t<decltype(to)>>(std::stoull(value));
    };
  };
  const std::map<std::string, std::function<void(const std::string&)>> known{
      {"machine", text(settings.machine)},     {"kind", text(settings.kind)},
      {"path", text(settings.path)},           {"grants", text(settings.grants)},
      {"operation", text(settings.operation)}, {"block", number(settings.block)},
      {"depth", number(settings.depth)},       {"queues", number(settings.queues)},
      {"reactors", number(settings.reactors)}, {"ring_order", number(settings.ring_order)},
      {"poll_us", number(settings.poll_us)},   {"region", number(settings.region)},
      {"bytes", number(settings.bytes)},       {"milliseconds", number(settings.milliseconds)},
      {"journal", number(settings.journal)},   {"callgrind", number(settings.callgrind)},
      {"bitmaps", number(settings.bitmaps)},
  };
  for (int i = 0; i < count; i++) {
    const std::string argument = arguments[i];
    const size_t equals = argument.find('=');
    const auto found = known.find(argument.substr(0, equals));
    if (equals == std::string::npos || found == known.end()) {
      throw std::invalid_argument("\"" + argument + "\" is no name=value that is known");
    }
    found->second(argument.substr(equals + 1));
  }
  return settings;
}

uint64_t thread_cpu_ns(const std::string& name) {
  uint64_t sum = 0;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::string comm;
    std::getline(std::ifstream(task.path() / "comm"), comm);
    if (!comm.starts_with(name)) continue;
    uint64_t running = 0;
    std::ifstream(task.path() / "schedstat") >> running;
    sum += running;
  }
  return sum;
}

JsonLine& JsonLine::add(const std::string& name, double value) {
  char digits[64];
  std::snprintf(digits, sizeof digits, "%.9g", value);
  text_ += (text_.empty() ? "" : ",") + ("\"" + name + "\":") + digits;
  return *this;
}

JsonLine& JsonLine::add(const std::string& name, uint64_t value) {
  text_ += (text_.empty() ? "" : ",") + ("\"" + name + "\":") + std::to_string(value);
  return *this;
}

JsonLine& JsonLine::add(const LatencyHistogram& latency) {
  return add("p50Us", latency.percentile_us(0.5))
      .add("p99Us", latency.percentile_us(0.99))
      .add("p999Us", latency.percentile_us(0.999));
}

void JsonLine::print() const { std::printf("{%s}\n", text_.c_str()); }

}  // namespace ringdisk::bench
