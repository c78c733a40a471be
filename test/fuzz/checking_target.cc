// SPDX-License-Identifier: Apache-2.0
#include "checking_target.h"

#include <cstring>
#include <span>

#include "input.h"

namespace ringdisk::fuzz {
namespace {

class CheckingChannel final : public TargetChannel {
 public:
  explicit CheckingChannel(const Capabilities& capabilities) : capabilities_(capabilities) {}

  bool start(Operation& operation) override {
    using Kind = Operation::Kind;
    operation.result = 0;
    if (operation.kind == Kind::flush) return true;
    FUZZ_CHECK(operation.length > 0 && operation.length <= capabilities_.capacity);
    FUZZ_CHECK(operation.offset <= capabilities_.capacity - operation.length);
    FUZZ_CHECK((operation.offset | operation.length) % capabilities_.io_alignment == 0);
    FUZZ_CHECK(operation.kind == Kind::read || !capabilities_.read_only);
    if (operation.kind != Kind::discard) touch(operation);
    return true;
  }
  bool advance(Operation&, int32_t) override { return true; }

 private:
  void touch(const Operation& operation) {
    uint64_t bytes = 0;
    for (const iovec& part : std::span(operation.iovecs, operation.iovec_count)) {
      FUZZ_CHECK(part.iov_len > 0 && part.iov_len % capabilities_.io_alignment == 0);
      FUZZ_CHECK(reinterpret_cast<uintptr_t>(part.iov_base) % capabilities_.memory_alignment == 0);
      bytes += part.iov_len;
      const std::span memory(static_cast<volatile uint8_t*>(part.iov_base), part.iov_len);
      for (size_t i = 0; i < memory.size(); i += kSectorBytes)
        if (operation.kind == Operation::Kind::read)
          memory[i] = 0;
        else
          sum_ = static_cast<uint8_t>(sum_ + memory[i]);
    }
    FUZZ_CHECK(bytes == operation.length);
  }

  const Capabilities& capabilities_;
  uint8_t sum_ = 0;
};

}  // namespace

CheckingTarget::CheckingTarget(uint32_t io_alignment, bool read_only) {
  capabilities_.capacity = kBytes;
  capabilities_.io_alignment = io_alignment;
  capabilities_.memory_alignment = io_alignment;
  capabilities_.read_only = read_only;
  capabilities_.discard = !read_only;
}

std::unique_ptr<TargetChannel> CheckingTarget::open_channel(Uring&, Offload&) {
  return std::make_unique<CheckingChannel>(capabilities_);
}

}  // namespace ringdisk::fuzz
