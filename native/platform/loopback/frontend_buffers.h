// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "platform/loopback/domain.h"

namespace ringdisk {

// A page the backend may use for one request.
struct FrontendBuffer {
  uint32_t page_index;
  GrantRef gref;
};

// Where a queue's requests get their pages, with or without persistent grants. One thread.
class FrontendBuffers {
 public:
  // Persistent: a page stays granted, for writing too, from its first use on. Otherwise it is
  // granted anew for every request, and only for what the request needs.
  FrontendBuffers(LoopbackDomain& domain, bool persistent)
      : domain_(domain), persistent_(persistent) {}
  // The pages go back to the domain, but for those the backend still uses.
  ~FrontendBuffers();
  FrontendBuffers(const FrontendBuffers&) = delete;
  FrontendBuffers& operator=(const FrontendBuffers&) = delete;

  // `readonly`: the backend will only read it.
  FrontendBuffer take(bool readonly);
  // Returns false when the backend still uses a page it should have let go of before it answered;
  // that page is never used again.
  bool give_back(FrontendBuffer buffer);

 private:
  LoopbackDomain& domain_;
  const bool persistent_;
  std::vector<FrontendBuffer> granted_;  // persistent: pages at rest
  std::vector<uint32_t> pages_;          // otherwise
};

}  // namespace ringdisk
