// SPDX-License-Identifier: Apache-2.0
// Kills the data path at every step that recovery depends on, thousands of times, and checks each
// answer and each byte against a model of the disk. See test/README.md.
#include <getopt.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <string>

#include "io/uring.h"
#include "run.h"

namespace ringdisk::sim {
namespace {

struct Options {
  uint64_t seed = 1;
  uint32_t runs = 1;
  uint32_t cycles = 50;
  std::string kill_point;
  std::string grants;
  uint32_t queues = 0;
  std::string folder = std::filesystem::exists("/dev/shm")
                           ? "/dev/shm"
                           : std::filesystem::temp_directory_path().string();
  bool all_points = false;  // fail unless every kill point killed
};

constexpr const char* kUsage =
    "usage: recovery_sim [--seed N] [--runs N] [--cycles N] [--kill-point NAME]\n"
    "                    [--grants persistent|copy|map] [--queues N] [--folder DIR]\n"
    "                    [--all-points]\n";

Options parse(int argc, char** argv) {
  static const option kLong[] = {
      {"seed", 1, nullptr, 's'},       {"runs", 1, nullptr, 'r'},       {"cycles", 1, nullptr, 'c'},
      {"kill-point", 1, nullptr, 'k'}, {"grants", 1, nullptr, 'g'},     {"queues", 1, nullptr, 'q'},
      {"folder", 1, nullptr, 'f'},     {"all-points", 0, nullptr, 'a'}, {nullptr, 0, nullptr, 0}};
  Options options;
  for (int letter; (letter = ::getopt_long(argc, argv, "", kLong, nullptr)) != -1;) {
    const std::string value = optarg ? optarg : "";
    switch (letter) {
      case 's':
        options.seed = std::stoull(value);
        break;
      case 'r':
        options.runs = static_cast<uint32_t>(std::stoul(value));
        break;
      case 'c':
        options.cycles = static_cast<uint32_t>(std::stoul(value));
        break;
      case 'k':
        options.kill_point = value;
        break;
      case 'g':
        options.grants = value;
        break;
      case 'q':
        options.queues = static_cast<uint32_t>(std::stoul(value));
        break;
      case 'f':
        options.folder = value;
        break;
      case 'a':
        options.all_points = true;
        break;
      default:
        std::fputs(kUsage, stderr);
        std::exit(2);
    }
  }
  const auto is_asked = [&](const KnownKillPoint& one) { return options.kill_point == one.name; };
  if (!options.kill_point.empty() && std::ranges::none_of(known_kill_points(), is_asked)) {
    std::fputs("no such kill point\n", stderr);
    std::exit(2);
  }
  return options;
}

std::string replay(const Options& options, uint64_t seed) {
  std::string text =
      "recovery_sim --seed " + std::to_string(seed) + " --cycles " + std::to_string(options.cycles);
  if (!options.kill_point.empty()) text += " --kill-point " + options.kill_point;
  if (!options.grants.empty()) text += " --grants " + options.grants;
  if (options.queues > 0) text += " --queues " + std::to_string(options.queues);
  return text;
}

RunResult run_one(const Options& options, uint64_t seed, const std::string& backend) {
  std::string dir = options.folder + "/ringdisk-sim-XXXXXX";
  if (!::mkdtemp(dir.data())) throw std::system_error(errno, std::generic_category(), dir);
  RunOptions run{.seed = seed,
                 .cycles = options.cycles,
                 .kill_point = options.kill_point,
                 .layout = plan_layout(seed),
                 .backend = backend,
                 .dir = dir};
  if (!options.grants.empty()) run.layout.grants = options.grants;
  if (options.queues > 0) run.layout.queues = options.queues;
  const auto clean = [&dir] { std::filesystem::remove_all(dir); };
  try {
    const RunResult result = Run(run).go();
    clean();
    return result;
  } catch (...) {
    clean();
    throw;
  }
}

void add(RunResult& total, const RunResult& one) {
  total.tally.submitted += one.tally.submitted;
  total.tally.answered += one.tally.answered;
  total.tally.refused += one.tally.refused;
  total.tally.sectors_checked += one.tally.sectors_checked;
  total.kills += one.kills;
  total.refusals += one.refusals;
  total.clear_chunks += one.clear_chunks;
  for (const auto& [name, count] : one.kills_by_point) total.kills_by_point[name] += count;
}

// Returns whether every known kill point killed at least once.
bool print_points(const RunResult& total) {
  bool all = true;
  for (const KnownKillPoint& point : known_kill_points()) {
    const auto found = total.kills_by_point.find(point.name);
    const uint64_t count = found == total.kills_by_point.end() ? 0 : found->second;
    std::printf("  %-26s %llu\n", point.name, static_cast<unsigned long long>(count));
    all &= count > 0;
  }
  return all;
}

int main_loop(const Options& options, const std::string& backend) {
  const auto started = std::chrono::steady_clock::now();
  RunResult total;
  for (uint64_t seed = options.seed; seed < options.seed + options.runs; seed++) {
    try {
      add(total, run_one(options, seed, backend));
    } catch (const std::exception& error) {
      std::cout << "FAILED: " << error.what() << "\n  replay: " << replay(options, seed) << "\n";
      return 1;
    }
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - started;
  const bool all = print_points(total);
  std::cout << total.kills << " kills in " << took.count() << " s, " << total.tally.answered
            << " requests answered exactly once (" << total.tally.refused
            << " refused as they had to be), " << total.tally.sectors_checked
            << " sectors checked, " << total.refusals << " spoilt journals refused, "
            << total.clear_chunks << " unmarked chunks unchanged\n";
  if (all || !options.all_points) return 0;
  std::cout << "FAILED: a kill point never killed\n";
  return 1;
}

}  // namespace
}  // namespace ringdisk::sim

int main(int argc, char** argv) {
  const auto options = ringdisk::sim::parse(argc, argv);
  if (!ringdisk::probe_uring().available) {
    std::puts("skipped: no io_uring");
    return 0;
  }
  const auto self = std::filesystem::canonical("/proc/self/exe").parent_path();
  return ringdisk::sim::main_loop(options, self / "recovery_backend");
}
