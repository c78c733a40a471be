// SPDX-License-Identifier: Apache-2.0
// Opened targets: what is asked of them, and what comes back.
#include <cerrno>
#include <stdexcept>

#include "engine/engine.h"
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

}  // namespace

void Engine::open_target(uint32_t command, const TargetSpec& spec) {
  if (spec.kind == "null") {
    try {
      bus_->send({.type = BusMessage::Type::target_opened,
                  .command = command,
                  .target = std::make_shared<NullTarget>(spec)});
    } catch (const std::invalid_argument& error) {
      refuse(command, EINVAL, error.what());
    }
    return;
  }
  opening_[command] = workers_->open(spec, [bus = bus_, command](Workers::Opened opened) {
    if (opened.error != 0)
      return bus->send(failure(command, {.error = opened.error, .text = opened.text}));
    bus->send({.type = BusMessage::Type::target_opened,
               .command = command,
               .target = std::move(opened.target)});
  });
}

void Engine::cancel_open(uint32_t open_command) {
  const auto found = opening_.find(open_command);
  if (found != opening_.end()) workers_->cancel_open(found->second);
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
  if (exports_->uses(*found->second))
    return refuse(command, EBUSY, "this target is still exported");
  found->second->close([bus = bus_, command, handle](const TargetAnswer&) {
    bus->send({.type = BusMessage::Type::target_closed, .command = command, .handle = handle});
  });
  targets_.erase(handle);
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

void Engine::tell_of_target(const BusMessage& message) {
  EngineEvent event{
      .type = EngineEvent::Type::done, .command = message.command, .value = message.handle};
  if (const auto found = targets_.find(message.handle); found != targets_.end()) {
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
