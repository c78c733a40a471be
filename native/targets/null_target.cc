// SPDX-License-Identifier: Apache-2.0
#include "targets/null_target.h"

#include <cerrno>
#include <charconv>
#include <cstring>
#include <stdexcept>

#include "base/assert.h"
#include "base/units.h"
#include "medium/block_map.h"
#include "targets/part.h"

namespace ringdisk {
namespace {

class NullChannel final : public TargetChannel {
 public:
  explicit NullChannel(bool read_only) : read_only_(read_only) {}

  bool start(Operation& operation) override {
    const bool discard = operation.kind == Operation::Kind::discard;
    if (discard && (read_only_ || operation.secure)) return finish(operation, -EOPNOTSUPP);
    if (operation.kind == Operation::Kind::write && read_only_) return finish(operation, -EROFS);
    if (operation.kind == Operation::Kind::read) {
      // The memory may have held another guest's data.
      std::memset(operation.memory, 0, operation.length);
    }
    if (operation.kind == Operation::Kind::map) {
      const MapExtent nothing[] = {{operation.length, MapKind::hole}, {}};
      std::memcpy(operation.memory, nothing, sizeof nothing);
    }
    return finish(operation, 0);
  }

  bool advance(Operation&, int32_t) override {
    RD_ASSERT(!"the null target submits nothing");
    return true;
  }

 private:
  const bool read_only_;
};

uint64_t parse_capacity(const std::string& text) {
  uint64_t bytes = 0;
  const char* end = text.data() + text.size();
  const auto [stopped, error] = std::from_chars(text.data(), end, bytes);
  if (error != std::errc{} || stopped != end || bytes == 0 || bytes % kSectorBytes != 0) {
    throw std::invalid_argument("cannot open the null target \"" + text +
                                "\": give its capacity in bytes, a multiple of 512");
  }
  return bytes;
}

}  // namespace

NullTarget::NullTarget(const TargetSpec& spec) {
  facts_.kind = MediumKind::null;
  Capabilities& can = facts_.capabilities;
  can.capacity = parse_capacity(spec.path);
  can.read_only = spec.read_only;
  can.discard = !spec.read_only;
  can.discard_granularity = spec.read_only ? 0 : kSectorBytes;
}

std::unique_ptr<TargetChannel> NullTarget::open_channel(const ChannelContext&) {
  return std::make_unique<NullChannel>(capabilities().read_only);
}

}  // namespace ringdisk
