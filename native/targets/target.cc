// SPDX-License-Identifier: Apache-2.0
#include "targets/target.h"

#include <algorithm>

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

}  // namespace ringdisk
