// SPDX-License-Identifier: Apache-2.0
// A life that must not begin: one queue's journal is spoilt, so none of the VBD's queues may show
// an answer, replay a request or change a journal.
#include <fstream>
#include <iterator>

#include "base/units.h"
#include "random.h"
#include "run.h"

namespace ringdisk::sim {
namespace {

constexpr uint32_t kChance = 10;  // percent of the cycles

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void write_file(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

}  // namespace

void Run::try_spoilt_journal(uint64_t cycle) {
  Random random(options_.seed, Random::Stream::spoil, cycle);
  if (queues_.size() < 2 || !random.percent(kChance)) return;
  std::vector<std::string> journals;
  for (size_t i = 0; i < queues_.size(); i++) {
    if (!has_journal(i)) return;
    journals.push_back(read_file(journal(i)));
  }
  const size_t victim = random.below(queues_.size());
  const std::string whole = journals[victim];
  // The first record's state.
  journals[victim][kPageBytes] = '?';
  write_file(journal(victim), journals[victim]);
  start({});
  await_refusal("queue " + std::to_string(victim));
  if (reap_all()) throw Violation("an answer was shown beside a spoilt journal");
  for (size_t i = 0; i < queues_.size(); i++)
    if (read_file(journal(i)) != journals[i])
      throw Violation("a journal was changed beside a spoilt one");
  write_file(journal(victim), whole);
  result_.refusals++;
}

// The backend names the queue as it complains; what its death would leave is cleared up.
void Run::await_refusal(const std::string& queue) {
  while (backend_->listen() && backend_->complaint().find(queue) == std::string::npos) {
    if (backend_->connected()) throw Violation("a spoilt journal was taken over");
    wait();
  }
  if (!backend_->complaint().starts_with("cannot take over"))
    throw Violation("the backend said: " + backend_->complaint());
  if (domain_.grants_in_use() != 0) throw Violation("pages are in use after a refusal");
  backend_->kill();
  while (backend_->listen()) wait();
  backend_.reset();
  domain_.forget_backend();
}

}  // namespace ringdisk::sim
