// SPDX-License-Identifier: Apache-2.0
// One guest and its disk through many lives of the backend.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "backend_process.h"
#include "disk_model.h"
#include "kill_plan.h"
#include "platform/loopback/domain.h"
#include "sim_queue.h"

namespace ringdisk::sim {

// What the seed decides, unless the command line does.
struct Layout {
  std::string grants;  // persistent, copy or map
  uint32_t queues;
  uint32_t ring_page_order;
  Abi abi;
};
Layout plan_layout(uint64_t seed);

struct RunOptions {
  uint64_t seed = 1;
  uint32_t cycles = 50;
  std::string kill_point{};  // empty: any
  Layout layout;
  std::string backend;  // path of recovery_backend
  std::string dir;      // empty folder on tmpfs
};

struct RunResult {
  Tally tally;
  uint64_t kills = 0;
  uint64_t clear_chunks = 0;  // that a bitmap had clear, rightly
  uint64_t refusals = 0;      // take-overs that had to be refused, and were
  std::map<std::string, uint64_t> kills_by_point;
};

class Run {
 public:
  explicit Run(const RunOptions& options);
  // Throws Violation.
  RunResult go();

 private:
  void cycle(const KillPlan& plan);
  // spoilt_journal.cc
  void try_spoilt_journal(uint64_t cycle);
  void await_refusal(const std::string& queue);
  // bitmap_check.cc
  void check_bitmap(uint64_t cycle);
  void renew_bitmap();
  // The last life: everything is answered, read back and let go.
  void settle();
  void start(const KillPlan& plan);
  // False: it died first.
  bool wait_until_connected();
  bool work(uint64_t until);
  bool wait_until_disconnected();
  void bury();
  void read_everything();

  bool reap_all();
  void submit_some(uint64_t until);
  uint32_t in_flight() const;
  // Until somebody says something; throws Violation when nobody does.
  void wait();
  void check_complaint() const;
  std::string journal(size_t queue) const;
  bool has_journal(size_t queue) const;

  const RunOptions options_;
  const std::string target_;
  const std::string bitmap_;
  std::string before_;  // the disk's content when the bitmap was made
  LoopbackDomain domain_;
  DiskModel model_;
  RunResult result_;
  std::vector<std::unique_ptr<SimQueue>> queues_;
  std::optional<BackendProcess> backend_;
  uint64_t next_request_ = 1;
  size_t next_queue_ = 0;
};

}  // namespace ringdisk::sim
