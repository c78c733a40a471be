// SPDX-License-Identifier: Apache-2.0
#include "engine/fill_target.h"

#include <cerrno>
#include <future>
#include <system_error>
#include <utility>

#include "channels/fill_channel.h"
#include "engine/fill_core.h"

namespace ringdisk {

FillTarget::FillTarget(Reactor& reactor, const FillSpec& spec, Parts parts)
    : core_(std::make_shared<FillCore>(reactor, spec, std::move(parts), fenced_)) {
  facts_ = core_->local()->facts();
  facts_.kind = MediumKind::fill;
  facts_.head = {};
  Target::resize(facts_.capabilities.capacity, core_->local()->direct_end());
}

// Only where the whole data path ends without having closed it.
FillTarget::~FillTarget() {
  if (!core_->home()) return;
  std::promise<void> closed;
  core_->close([&closed](const TargetAnswer&) { closed.set_value(); });
  closed.get_future().wait();
}

void FillTarget::resize(uint64_t capacity, uint64_t direct_end) {
  core_->local()->resize(capacity, direct_end);
  Target::resize(capacity, direct_end);
}

void FillTarget::measure(Answer answer) { core_->local()->measure(std::move(answer)); }

void FillTarget::claim(const TargetClaim& claim, Answer answer, Lifted lifted) {
  if (capabilities().read_only)
    return answer({.error = EROFS,
                   .text = "a disk is filled by writing to it; attach it for writing, or use its "
                           "source"});
  core_->claim(claim, std::move(answer), std::move(lifted));
}

void FillTarget::close(Answer answer) { core_->close(std::move(answer)); }

std::vector<TargetWait> FillTarget::waits(uint64_t before_us) const {
  std::vector<TargetWait> all = core_->local()->waits(before_us);
  const auto source = core_->source();
  for (const auto& part : {core_->map(), source}) {
    if (!part) continue;
    for (TargetWait& wait : part->waits(before_us)) {
      wait.call = (part == source ? "source's " : "map's ") + wait.call;
      all.push_back(std::move(wait));
    }
  }
  return all;
}

int FillTarget::worker() const { return core_->local()->worker(); }

std::unique_ptr<TargetChannel> FillTarget::open_channel(const ChannelContext& context) {
  FillHome* home = core_->home();
  if (!home)
    throw std::system_error(EROFS, std::generic_category(),
                            "a disk that is filled is claimed first");
  return std::make_unique<FillChannel>(*home, core_->state(), core_->local()->open_channel(context),
                                       context);
}

FillStatus FillTarget::status() const {
  const FillState& state = core_->state();
  FillStatus status;
  status.chunk_bytes = state.chunk_bytes();
  status.chunks = state.chunks;
  status.full = state.straight.load(std::memory_order_acquire);
  status.here = state.chunks - state.absent.load(std::memory_order_relaxed);
  status.unsaved = state.unsaved.load(std::memory_order_relaxed);
  status.fetched_bytes = state.fetched_bytes.load(std::memory_order_relaxed);
  status.errors = state.errors.load(std::memory_order_relaxed);
  status.failing = state.failing.load(std::memory_order_relaxed);
  if (!core_->home() || !state.live) return status;
  status.rate = state.live->rate().load(std::memory_order_relaxed);
  status.paused = state.live->paused().load(std::memory_order_relaxed) != 0;
  return status;
}

void FillTarget::set(uint64_t rate, bool paused) {
  if (!core_->home() || !core_->state().live) return;
  core_->state().live->rate().store(rate, std::memory_order_relaxed);
  core_->state().live->paused().store(paused ? 1 : 0, std::memory_order_relaxed);
  core_->settings_changed();
}

}  // namespace ringdisk
