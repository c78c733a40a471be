// SPDX-License-Identifier: Apache-2.0
// Opened targets: what is asked of them, and what comes back.
#include <algorithm>
#include <atomic>
#include <cerrno>
#include <stdexcept>
#include <string>
#include <system_error>

#include "engine/engine.h"
#include "engine/fill_open.h"
#include "targets/null_target.h"

namespace ringdisk {
namespace {

constexpr uint64_t kLongUs = 1'000'000;

BusMessage failure(uint32_t command, const TargetAnswer& answer) {
  return {.type = BusMessage::Type::command_failed,
          .command = command,
          .error = answer.error,
          .text = answer.text};
}

// Of any kind that is no composition of others. Any thread; returns how it is given up.
FillOpen::Cancel open_plain(Workers& workers, const TargetSpec& spec,
                            const Workers::OnOpened& done) {
  if (spec.kind != "null") {
    const uint64_t ticket = workers.open(spec, done);
    return [&workers, ticket] { workers.cancel_open(ticket); };
  }
  try {
    done({.error = 0, .text = "", .target = std::make_unique<NullTarget>(spec)});
  } catch (const std::invalid_argument& error) {
    done({.error = EINVAL, .text = error.what(), .target = nullptr});
  }
  return [] {};
}

}  // namespace

void Engine::open_target(uint32_t command, const TargetSpec& spec) {
  const auto opened = [bus = bus_, command](Workers::Opened result) {
    if (result.error != 0)
      return bus->send(failure(command, {.error = result.error, .text = result.text}));
    bus->send({.type = BusMessage::Type::target_opened,
               .command = command,
               .target = std::move(result.target)});
  };
  if (spec.kind != "fill") {
    opening_[command] = open_plain(*workers_, spec, opened);
    return;
  }
  if (!spec.fill) return refuse(command, EINVAL, "a fill has a disk and a source");
  const auto open = [&workers = *workers_](const TargetSpec& part, Workers::OnOpened done) {
    return open_plain(workers, part, done);
  };
  Reactor& reactor = *reactors_[next_reactor_++ % reactors_.size()];
  auto fill = std::make_shared<FillSpec>(*spec.fill);
  fill->live_dir = fill_dir_;
  TargetSpec whole = spec;
  whole.fill = std::move(fill);
  auto opening = std::make_shared<FillOpen>(whole, open, reactor, opened);
  opening_[command] = [opening] { opening->cancel(); };
  opening->begin();
}

void Engine::cancel_open(uint32_t open_command) {
  const auto found = opening_.find(open_command);
  if (found != opening_.end()) found->second();
}

FillTarget* Engine::find_fill(uint32_t target) const {
  const auto found = targets_.find(target);
  return found == targets_.end() ? nullptr : dynamic_cast<FillTarget*>(found->second.get());
}

std::optional<FillStatus> Engine::fill_status(uint32_t target) const {
  const FillTarget* fill = find_fill(target);
  return fill ? std::optional(fill->status()) : std::nullopt;
}

bool Engine::set_fill(uint32_t target, uint64_t rate, bool paused) {
  FillTarget* fill = find_fill(target);
  if (fill) fill->set(rate, paused);
  return fill != nullptr;
}

void Engine::claim_target(uint32_t command, uint32_t handle, const TargetClaim& claim) {
  const auto found = targets_.find(handle);
  if (found == targets_.end()) return refuse(command, EBADF, "no such target");
  const auto claimed = [bus = bus_, command, handle](const TargetAnswer& answer) {
    if (answer.error != 0) return bus->send(failure(command, answer));
    bus->send({.type = BusMessage::Type::target_claimed,
               .command = command,
               .handle = handle,
               .fenced = answer.fenced,
               .text = answer.text});
  };
  found->second->claim(claim, claimed, [bus = bus_, handle](const std::string& warning) {
    bus->send({.type = BusMessage::Type::fence_lifted, .handle = handle, .text = warning});
  });
}

void Engine::refresh_target(uint32_t command, uint32_t handle) {
  const auto found = targets_.find(handle);
  if (found == targets_.end()) return refuse(command, EBADF, "no such target");
  found->second->measure([bus = bus_, command, handle](const TargetAnswer& answer) {
    if (answer.error != 0) return bus->send(failure(command, answer));
    bus->send({.type = BusMessage::Type::target_refreshed,
               .command = command,
               .handle = handle,
               .capacity = answer.capacity,
               .direct_end = answer.direct_end});
  });
}

void Engine::close_target(uint32_t command, uint32_t handle) {
  const auto found = targets_.find(handle);
  if (found == targets_.end()) return refuse(command, EBADF, "no such target");
  for (const auto& [id, vbd] : vbds_)
    if (vbd->shared->target == found->second)
      return refuse(command, EBUSY, "a VBD is still connected to this target");
  for (const auto& [id, mirror] : mirrors_)
    if (mirror->uses(*found->second)) return refuse(command, EBUSY, "this target is mirrored");
  if (exports_->uses(*found->second))
    return refuse(command, EBUSY, "this target is still exported");
  found->second->close([bus = bus_, command, handle](const TargetAnswer&) {
    bus->send({.type = BusMessage::Type::target_closed, .command = command, .handle = handle});
  });
  targets_.erase(handle);
}

void Engine::track(uint32_t command, uint32_t handle, const std::vector<std::string>& bitmaps) {
  const auto found = targets_.find(handle);
  if (found == targets_.end()) return refuse(command, EBADF, "no such target");
  std::shared_ptr<Bitmaps> opened;
  try {
    if (!bitmaps.empty()) opened = std::make_shared<Bitmaps>();
    for (const std::string& path : bitmaps) opened->push_back(std::make_shared<Bitmap>(path));
  } catch (const std::system_error& error) {
    return refuse(command, error.code().value(), error.what());
  }
  found->second->track(std::move(opened));
  const auto left = std::make_shared<std::atomic<size_t>>(reactors_.size());
  for (const auto& reactor : reactors_)
    reactor->post_always([reactor = reactor.get(), left, bus = bus_, command, handle] {
      reactor->look_at_targets();
      if (--*left == 0)
        bus->send({.type = BusMessage::Type::target_tracked, .command = command, .handle = handle});
    });
}

std::vector<TargetWait> Engine::target_waits(uint32_t target) const {
  const auto found = targets_.find(target);
  if (found == targets_.end()) return {};
  const uint64_t now = Reactor::now_us();
  return found->second->waits(now > kLongUs ? now - kLongUs : 0);
}

int Engine::target_worker(uint32_t target) const {
  const auto found = targets_.find(target);
  return found == targets_.end() ? 0 : found->second->worker();
}

void Engine::on_target(BusMessage& message) {
  opening_.erase(message.command);
  switch (message.type) {
    case BusMessage::Type::command_failed:
      return fail(message.command, message.error, std::move(message.text));
    case BusMessage::Type::target_opened:
      return target_opened(message);
    case BusMessage::Type::target_refreshed:
      return tell_of_target(message);
    case BusMessage::Type::target_claimed:
      return target_claimed(message);
    default:
      events_.push_back(
          {.type = EngineEvent::Type::done, .command = message.command, .value = message.handle});
  }
}

void Engine::target_claimed(const BusMessage& message) {
  EngineEvent event{.type = EngineEvent::Type::done,
                    .command = message.command,
                    .value = message.handle,
                    .fenced = message.fenced};
  if (const auto found = targets_.find(message.handle); found != targets_.end()) {
    if (!message.text.empty()) found->second->warn(message.text);
    event.facts = found->second->facts();
  }
  events_.push_back(std::move(event));
}

void Engine::target_opened(BusMessage& message) {
  const uint32_t handle = next_handle_++;
  targets_.emplace(handle, message.target);
  message.target->on_warning([bus = bus_, handle](const std::string& text) {
    bus->send({.type = BusMessage::Type::target_warned, .handle = handle, .text = text});
  });
  events_.push_back({.type = EngineEvent::Type::done,
                     .command = message.command,
                     .value = handle,
                     .facts = message.target->facts()});
}

bool Engine::is_used(const std::shared_ptr<Target>& target) const {
  const auto has = [&target](const auto& one) { return one.second->shared->target == target; };
  return std::ranges::any_of(vbds_, has) || exports_->uses(*target);
}

void Engine::tell_of_target(const BusMessage& message) {
  EngineEvent event{
      .type = EngineEvent::Type::done, .command = message.command, .value = message.handle};
  if (const auto found = targets_.find(message.handle); found != targets_.end()) {
    // Whoever uses it goes on as before: what he was told he may still write, and it may be that
    // the medium gets its size back.
    if (const uint64_t bytes = found->second->capabilities().capacity;
        message.capacity < bytes && is_used(found->second))
      return fail(message.command, ERANGE,
                  "it has " + std::to_string(message.capacity) + " bytes and is used with " +
                      std::to_string(bytes));
    found->second->resize(message.capacity, message.direct_end);
    event.facts = found->second->facts();
    grow(found->second);
    exports_->resized(*found->second);
  }
  events_.push_back(std::move(event));
}

void Engine::on_fence_lifted(const BusMessage& message) {
  for (const auto& reactor : reactors_)
    reactor->post_always([reactor = reactor.get()] { reactor->activate_blocked(); });
  events_.push_back(
      {.type = EngineEvent::Type::fence_lifted, .value = message.handle, .text = message.text});
}

void Engine::on_target_warned(const BusMessage& message) {
  const auto found = targets_.find(message.handle);
  if (found == targets_.end()) return;
  found->second->warn(message.text);
  events_.push_back({.type = EngineEvent::Type::target_warned,
                     .value = message.handle,
                     .facts = found->second->facts(),
                     .text = message.text});
}

// Connected VBDs may use the new end at once; the guest learns of it from the control plane.
void Engine::grow(const std::shared_ptr<Target>& target) {
  const uint64_t sectors = target->capabilities().capacity / kSectorBytes;
  for (const auto& [id, vbd] : vbds_)
    if (vbd->shared->target == target && vbd->shared->capacity_sectors < sectors)
      vbd->shared->capacity_sectors = sectors;
}

}  // namespace ringdisk
