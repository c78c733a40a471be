// SPDX-License-Identifier: Apache-2.0
#include "platform/loopback/frontend_buffers.h"

namespace ringdisk {

FrontendBuffers::~FrontendBuffers() {
  for (const FrontendBuffer& buffer : granted_) {
    if (domain_.revoke(buffer.gref)) domain_.free_page(buffer.page_index);
  }
  for (const uint32_t page_index : pages_) domain_.free_page(page_index);
}

FrontendBuffer FrontendBuffers::take(bool readonly) {
  if (persistent_) {
    if (granted_.empty()) {
      const uint32_t page_index = domain_.allocate_page();
      return {page_index, domain_.grant(page_index)};
    }
    const FrontendBuffer buffer = granted_.back();
    granted_.pop_back();
    return buffer;
  }
  if (pages_.empty()) pages_.push_back(domain_.allocate_page());
  const uint32_t page_index = pages_.back();
  pages_.pop_back();
  return {page_index, domain_.grant(page_index, readonly)};
}

bool FrontendBuffers::give_back(FrontendBuffer buffer) {
  if (persistent_) {
    granted_.push_back(buffer);
    return true;
  }
  if (!domain_.revoke(buffer.gref)) return false;
  pages_.push_back(buffer.page_index);
  return true;
}

}  // namespace ringdisk
