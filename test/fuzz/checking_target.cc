// SPDX-License-Identifier: Apache-2.0
#include "checking_target.h"

#include <cstring>

#include "input.h"

namespace ringdisk::fuzz {
namespace {

class CheckingChannel final : public TargetChannel {
 public:
  explicit CheckingChannel(const Target& target)
      : capabilities_(target.capabilities()), bitmaps_(target.tracked()) {}

  bool start(Operation& operation) override {
    using Kind = Operation::Kind;
    operation.result = 0;
    if (operation.kind == Kind::flush) return true;
    FUZZ_CHECK(operation.length > 0 && operation.length <= capabilities_.capacity);
    FUZZ_CHECK(operation.offset <= capabilities_.capacity - operation.length);
    FUZZ_CHECK((operation.offset | operation.length) % capabilities_.io_alignment == 0);
    FUZZ_CHECK(operation.kind == Kind::read || !capabilities_.read_only);
    if (operation.kind != Kind::read && bitmaps_) check_marked(operation);
    if (operation.kind != Kind::discard) touch(operation);
    return true;
  }
  bool advance(Operation&, int32_t) override { return true; }

 private:
  void check_marked(const Operation& operation) const {
    const uint64_t end = operation.offset + operation.length;
    for (const auto& bitmap : *bitmaps_) {
      const Bitmap::Run run = bitmap->run(operation.offset, end);
      FUZZ_CHECK(run.is_set && run.length == operation.length);
    }
  }
  void touch(const Operation& operation) {
    FUZZ_CHECK(reinterpret_cast<uintptr_t>(operation.memory) % kPageBytes == 0);
    auto* memory = reinterpret_cast<volatile uint8_t*>(operation.memory);
    for (size_t i = 0; i < operation.length; i += kSectorBytes)
      if (operation.kind == Operation::Kind::read)
        memory[i] = 0;
      else
        sum_ = static_cast<uint8_t>(sum_ + memory[i]);
  }

  const Capabilities& capabilities_;
  const std::shared_ptr<const Bitmaps> bitmaps_;
  uint8_t sum_ = 0;
};

}  // namespace

CheckingTarget::CheckingTarget(uint32_t io_alignment, bool read_only) {
  Capabilities& can = facts_.capabilities;
  can.capacity = kBytes;
  can.io_alignment = io_alignment;
  can.read_only = read_only;
  can.discard = !read_only;
}

std::unique_ptr<TargetChannel> CheckingTarget::open_channel(const ChannelContext&) {
  return std::make_unique<CheckingChannel>(*this);
}

}  // namespace ringdisk::fuzz
