// SPDX-License-Identifier: Apache-2.0
#include "targets/target.h"

#include <algorithm>
#include <utility>

#include "base/units.h"

namespace ringdisk {

void Target::warn(const std::string& sentence) {
  std::string all = facts_.warnings.data();
  if (all.find(sentence) != std::string::npos) return;
  if (!all.empty()) all += '\n';
  all += sentence;
  const size_t kept = std::min(all.size(), facts_.warnings.size() - 1);
  std::copy_n(all.begin(), kept, facts_.warnings.begin());
  facts_.warnings[kept] = '\0';
}

std::shared_ptr<ChunkLocks> Target::block_locks() {
  const std::lock_guard lock(mutex_);
  if (!block_locks_ && capabilities().io_alignment > kSectorBytes)
    block_locks_ = std::make_shared<ChunkLocks>();
  return block_locks_;
}

void Target::succeed(Target& before) {
  std::shared_ptr<ChunkLocks> locks = before.block_locks();
  const std::lock_guard lock(mutex_);
  block_locks_ = std::move(locks);
}

}  // namespace ringdisk
