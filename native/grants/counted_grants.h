// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <utility>

#include "metrics/counters.h"
#include "platform/platform.h"

namespace ringdisk {

// A platform's grant table, its calls counted, and pages where they are really mapped and unmapped:
// what is left after the last disconnect is a leak, whoever made it (XSA-371).
class CountedGrants final : public GrantTable {
 public:
  CountedGrants(std::unique_ptr<GrantTable> grants, ReactorCounters& counters)
      : grants_(std::move(grants)), counters_(counters) {}

  int map(Domid domid, std::span<const GrantRef> grefs, bool writable,
          GrantMapping& mapping) override {
    counters_.grant_calls.add();
    const int result = grants_->map(domid, grefs, writable, mapping);
    if (result == 0) counters_.mapped_pages.add(mapping.page_count);
    return result;
  }
  void unmap(GrantMapping& mapping) override {
    counters_.grant_calls.add();
    counters_.mapped_pages.set(counters_.mapped_pages.get() - mapping.page_count);
    grants_->unmap(mapping);
  }
  void copy(std::span<GrantCopy> batch) override {
    counters_.grant_calls.add();
    grants_->copy(batch);
  }

 private:
  std::unique_ptr<GrantTable> grants_;
  ReactorCounters& counters_;
};

}  // namespace ringdisk
