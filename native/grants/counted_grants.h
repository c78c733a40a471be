// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <utility>

#include "metrics/counters.h"
#include "platform/platform.h"

namespace ringdisk {

// A platform's grant table, counted where pages are really mapped and unmapped: what is left after
// the last disconnect is a leak, whoever made it (XSA-371).
class CountedGrants final : public GrantTable {
 public:
  CountedGrants(std::unique_ptr<GrantTable> grants, Counter& mapped_pages)
      : grants_(std::move(grants)), mapped_pages_(mapped_pages) {}

  int map(Domid domid, std::span<const GrantRef> grefs, bool writable,
          GrantMapping& mapping) override {
    const int result = grants_->map(domid, grefs, writable, mapping);
    if (result == 0) mapped_pages_.add(mapping.page_count);
    return result;
  }
  void unmap(GrantMapping& mapping) override {
    mapped_pages_.set(mapped_pages_.get() - mapping.page_count);
    grants_->unmap(mapping);
  }
  void copy(std::span<GrantCopy> batch) override { grants_->copy(batch); }

 private:
  std::unique_ptr<GrantTable> grants_;
  Counter& mapped_pages_;
};

}  // namespace ringdisk
