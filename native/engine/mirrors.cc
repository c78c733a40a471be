// SPDX-License-Identifier: Apache-2.0
// Mirrors as their owner sees them. One belongs to a target, and outlives connections of the VBD
// that uses it; each of those has its filter from the first request on. What order the steps have
// is the owner's: make, give, attach; then detach, or switch; close.
#include <cerrno>
#include <system_error>
#include <utility>

#include "channels/mirror_filter.h"
#include "engine/engine.h"

namespace ringdisk {

Mirror* Engine::find_mirror(uint32_t command, uint32_t mirror) {
  const auto found = mirrors_.find(mirror);
  if (found != mirrors_.end()) return found->second.get();
  refuse(command, EBADF, "no such mirror");
  return nullptr;
}

void Engine::make_mirror(uint32_t command, uint32_t target, const MirrorSetup& setup) {
  const auto found = targets_.find(target);
  if (found == targets_.end()) return refuse(command, EBADF, "no such target");
  const uint32_t handle = next_handle_++;
  Reactor& reactor = *reactors_[next_reactor_++ % reactors_.size()];
  const auto changed = [bus = bus_, handle] {
    bus->send({.type = BusMessage::Type::mirror_changed, .handle = handle});
  };
  try {
    mirrors_[handle] = std::make_shared<Mirror>(reactor, found->second, setup, changed);
  } catch (const std::system_error& error) {
    mirrors_.erase(handle);
    return refuse(command, error.code().value(), error.what());
  }
  mirrors_[handle]->make([bus = bus_, command, handle](const TargetAnswer& answer) {
    bus->send({.type = BusMessage::Type::mirror_made,
               .command = command,
               .handle = handle,
               .error = answer.error,
               .text = answer.text});
  });
}

void Engine::give_mirror(uint32_t command, uint32_t handle, uint32_t destination) {
  Mirror* mirror = find_mirror(command, handle);
  if (!mirror) return;
  const auto found = targets_.find(destination);
  if (found == targets_.end()) return refuse(command, EBADF, "no such target");
  const Capabilities& source = mirror->source()->capabilities();
  const Capabilities& there = found->second->capabilities();
  const bool fits = there.capacity >= source.capacity && !there.read_only &&
                    there.io_alignment <= source.io_alignment && !mirror->destination();
  if (!fits || found->second == mirror->source())
    return refuse(command, EINVAL, "the destination does not fit");
  mirror->give(found->second, [bus = bus_, command, handle](const TargetAnswer& answer) {
    bus->send({.type = BusMessage::Type::mirror_given,
               .command = command,
               .handle = handle,
               .error = answer.error,
               .text = answer.text});
  });
}

void Engine::attach_mirror(uint32_t command, uint32_t vbd_handle, uint32_t handle) {
  Vbd* vbd = find_connected(command, vbd_handle);
  Mirror* mirror = vbd ? find_mirror(command, handle) : nullptr;
  if (!mirror) return;
  if (vbd->mirror != 0 || vbd->shared->target != mirror->source())
    return refuse(command, EINVAL, "it is mirrored already, or is another target's");
  begin_exchange(command, *vbd, {.make = mirror->filter()}, handle);
}

void Engine::detach_mirror(uint32_t command, uint32_t handle) {
  if (Vbd* vbd = find_connected(command, handle))
    begin_exchange(command, *vbd, {.goes = MirrorFilter::kId}, 0);
}

void Engine::begin_switch(uint32_t command, uint32_t handle) {
  Vbd* vbd = find_connected(command, handle);
  Mirror* mirror = vbd ? find_mirror(command, vbd->mirror) : nullptr;
  if (!mirror) return;
  const std::shared_ptr<Target>& next = mirror->destination();
  if (next && next->capabilities().one_channel)
    return refuse(command, EINVAL, "the destination takes one channel, which the mirror has");
  if (!next || !mirror->status().ready)
    return refuse(command, EAGAIN, "the destination is not ready");
  next->succeed(*mirror->source());
  begin_exchange(command, *vbd, {.target = next}, 0);
}

// Nothing is under way now: what is ready stays so, and the destination has all of it even where it
// fails from now on.
void Engine::decide_switch(uint32_t command, uint32_t handle, int error) {
  const auto found = vbds_.find(handle);
  if (found == vbds_.end() || !found->second->exchange)
    return refuse(command, EBADF, "no such switch");
  found->second->exchange_command = command;
  found->second->exchange->decide(error);
}

void Engine::set_mirror(uint32_t handle, const MirrorWish& wish) {
  if (const auto found = mirrors_.find(handle); found != mirrors_.end()) found->second->set(wish);
}

void Engine::end_mirror(uint32_t handle) {
  if (const auto found = mirrors_.find(handle); found != mirrors_.end())
    found->second->end(ECANCELED);
}

void Engine::close_mirror(uint32_t command, uint32_t handle) {
  Mirror* mirror = find_mirror(command, handle);
  if (!mirror) return;
  for (const auto& [id, vbd] : vbds_)
    if (vbd->mirror == handle || (vbd->exchange && vbd->next_mirror == handle))
      return refuse(command, EBUSY, "a VBD has this mirror still");
  const auto source_is_free = [bus = bus_, command, handle](const TargetAnswer&) {
    bus->send({.type = BusMessage::Type::mirror_closed, .command = command, .handle = handle});
  };
  mirror->close(source_is_free, [bus = bus_, handle] {
    bus->send({.type = BusMessage::Type::mirror_gone, .handle = handle});
  });
}

std::optional<MirrorStatus> Engine::mirror_status(uint32_t handle) const {
  const auto found = mirrors_.find(handle);
  return found == mirrors_.end() ? std::nullopt : std::optional(found->second->status());
}

void Engine::on_mirror(const BusMessage& message) {
  using Type = BusMessage::Type;
  if (message.type == Type::mirror_changed) {
    if (mirrors_.contains(message.handle))
      events_.push_back({.type = EngineEvent::Type::mirror_changed, .value = message.handle});
    return;
  }
  if (message.type == Type::mirror_gone) {
    mirrors_.erase(message.handle);
    events_.push_back({.type = EngineEvent::Type::mirror_gone, .value = message.handle});
    return;
  }
  if (message.type == Type::mirror_closed)
    if (const auto found = mirrors_.find(message.handle); found != mirrors_.end())
      found->second->let_source_go();
  if (message.type == Type::mirror_made && message.error != 0) mirrors_.erase(message.handle);
  if (message.error != 0) return fail(message.command, message.error, message.text);
  events_.push_back(
      {.type = EngineEvent::Type::done, .command = message.command, .value = message.handle});
}

}  // namespace ringdisk
