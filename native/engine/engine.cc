// SPDX-License-Identifier: Apache-2.0
#include "engine/engine.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <system_error>

#include "base/assert.h"
#include "base/kill_point.h"
#include "metrics/stats_page.h"

namespace ringdisk {
namespace {

// Beside the journal: whoever owns that file owns this one.
std::string stats_page_path(const std::string& journal) {
  return journal.empty() ? "" : journal + ".stats";
}

}  // namespace

Engine::Engine(std::unique_ptr<Platform> platform, const EngineOptions& options,
               std::function<void()> wake)
    : platform_(std::move(platform)),
      fill_dir_(options.fill_dir),
      budget_(options.persistent_pages_max, grant_maps_max()),
      bus_(std::make_shared<EventBus>(std::move(wake))) {
  const UringFeatures features = probe_uring();
  if (!features.available)
    throw std::system_error(features.error, std::generic_category(), "io_uring is not available");
  for (unsigned i = 0; i < options.reactors; i++) {
    ReactorOptions reactor;
    reactor.index = i;
    reactor.cpu = i < options.cpus.size() ? options.cpus[i] : -1;
    reactor.poll_budget_us = options.poll_budget_us;
    reactor.bounce_pool_bytes = options.bounce_pool_bytes;
    reactors_.push_back(std::make_unique<Reactor>(*platform_, features, reactor));
  }
  workers_ = std::make_unique<Workers>(options.worker_program);
  std::vector<Reactor*> reactors;
  for (const auto& reactor : reactors_) reactors.push_back(reactor.get());
  exports_ = std::make_unique<ExportTable>(std::move(reactors));
}

Engine::~Engine() {
  RD_ASSERT(idle());
  bus_->close();
  bus_->take();  // a target among them is closed while there are workers
}

void Engine::check(const ConnectRequest& request, const Target& target) {
  const auto refuse = [](const char* what) { throw std::invalid_argument(what); };
  if (request.queues.empty() || request.queues.size() > kQueuesPerVbdMax)
    refuse("a VBD has 1 to 16 queues");
  const size_t pages = request.queues[0].ring_refs.size();
  for (const QueueOptions& queue : request.queues)
    if (queue.ring_refs.size() != pages) refuse("all rings of a VBD have the same size");
  if (!std::has_single_bit(pages) || pages > kRingPagesMax)
    refuse("a ring has 1, 2, 4, 8 or 16 pages");
  if (request.geometry.indirect_segments_max > kIndirectSegmentsMax)
    refuse("at most 256 indirect segments");
  if (target.capabilities().read_only && !request.geometry.read_only)
    refuse("a read-only target serves read-only VBDs only");
  if (target.capabilities().one_channel && request.queues.size() > 1)
    refuse("an NBD server without multi-conn is used by one queue");
}

void Engine::connect(uint32_t command, const ConnectRequest& request) {
  const auto found = targets_.find(request.target);
  if (found == targets_.end()) return refuse(command, EBADF, "no such target");
  check(request, *found->second);
  std::shared_ptr<Limits> limits = find_limits(request.limits);
  const uint32_t handle = next_handle_++;
  auto vbd = std::make_unique<Vbd>();
  vbd->shared = std::make_shared<VbdShared>();
  VbdShared& shared = *vbd->shared;
  shared.vbd = handle;
  shared.domid = request.domid;
  shared.devid = request.devid;
  shared.abi = request.abi;
  shared.grants = request.grants;
  shared.on_error = request.on_error;
  shared.geometry = request.geometry;
  shared.capacity_sectors =
      std::max(found->second->capabilities().capacity / kSectorBytes, request.capacity_sectors_min);
  shared.persistent_pages_max =
      request.persistent_pages_max / static_cast<uint32_t>(request.queues.size());
  shared.target = found->second;
  shared.limits = vbd->limits = std::move(limits);
  if (const auto mirror = mirrors_.find(request.mirror); mirror != mirrors_.end()) {
    vbd->mirror = request.mirror;
    shared.filter = mirror->second->filter();
  }
  shared.budget = &budget_;
  shared.events = this;
  vbd->command = vbd->connect_command = command;
  vbd->queues.resize(request.queues.size());
  vbd->pending = static_cast<uint32_t>(request.queues.size());
  for (size_t i = 0; i < request.queues.size(); i++) {
    if (request.queues[i].take_over) vbd->recovering++;
    vbd->take_over |= request.queues[i].take_over;
    vbd->counters.push_back(make_counters(stats_page_path(request.queues[i].journal)));
    vbd->reactors.push_back(reactors_[next_reactor_++ % reactors_.size()].get());
  }
  Vbd& kept = *vbds_.emplace(handle, std::move(vbd)).first->second;
  for (const QueueOptions& queue : request.queues) make_queue(kept, queue);
}

void Engine::make_queue(Vbd& vbd, const QueueOptions& options) {
  Reactor& reactor = *vbd.reactors[options.index];
  auto make = [&vbd, &reactor, options, bus = bus_] {
    BusMessage message{
        .type = BusMessage::Type::queue_made, .handle = vbd.shared->vbd, .queue = options.index};
    try {
      vbd.queues[options.index] =
          std::make_unique<Queue>(reactor, vbd.shared, options, vbd.counters[options.index]);
    } catch (const std::system_error& error) {
      message.type = BusMessage::Type::queue_failed;
      message.error = error.code().value();
      message.text = error.what();
    } catch (const std::bad_alloc&) {
      message.type = BusMessage::Type::queue_failed;
      message.error = ENOMEM;
      message.text = "no memory for a queue";
    }
    bus->send(std::move(message));
  };
  if (!reactor.post(std::move(make)))
    bus_->send({.type = BusMessage::Type::queue_failed,
                .handle = vbd.shared->vbd,
                .queue = options.index,
                .error = EAGAIN,
                .text = "the reactor has too many commands waiting"});
}

// All queues could be made: from here on each shows answers and takes requests.
void Engine::start(Vbd& vbd) {
  vbd.phase = Vbd::Phase::starting;
  RD_KILL_POINT("connect:all-made");
  for (uint32_t i = 0; i < vbd.queues.size(); i++) {
    vbd.pending++;
    vbd.reactors[i]->post_always(
        [queue = vbd.queues[i].get(), handle = vbd.shared->vbd, i, bus = bus_] {
          queue->serve();
          bus->send({.type = BusMessage::Type::queue_serving, .handle = handle, .queue = i});
        });
  }
}

void Engine::disconnect(uint32_t command, uint32_t handle) {
  const auto found = vbds_.find(handle);
  if (found == vbds_.end() || found->second->phase != Vbd::Phase::connected)
    return refuse(command, EBADF, "no such connected VBD");
  Vbd& vbd = *found->second;
  vbd.command = command;
  if (!vbd.exchange) return take_down(vbd);
  vbd.phase = Vbd::Phase::closing;
  vbd.exchange->give_up();
}

void Engine::exchange(uint32_t command, uint32_t handle, StackChange change) {
  if (Vbd* vbd = find_connected(command, handle))
    begin_exchange(command, *vbd, std::move(change), vbd->mirror);
}

Engine::Vbd* Engine::find_connected(uint32_t command, uint32_t handle) {
  const auto found = vbds_.find(handle);
  if (found != vbds_.end() && found->second->phase == Vbd::Phase::connected)
    return found->second.get();
  refuse(command, EBADF, "no such connected VBD");
  return nullptr;
}

// A target that changes waits for the owner's word: he writes down first what the disk is.
void Engine::begin_exchange(uint32_t command, Vbd& vbd, StackChange change, uint32_t next_mirror) {
  if (vbd.exchange) return refuse(command, EBUSY, exchange_failure(EBUSY));
  std::vector<Exchange::Member> members;
  for (size_t i = 0; i < vbd.queues.size(); i++)
    members.push_back({vbd.reactors[i], vbd.queues[i].get()});
  const uint32_t handle = vbd.shared->vbd;
  const auto over = [bus = bus_, handle](int error) {
    bus->send({.type = BusMessage::Type::exchanged, .handle = handle, .error = error});
  };
  std::function<void()> held;
  if (change.target)
    held = [bus = bus_, command, handle] {
      bus->send({.type = BusMessage::Type::exchange_held, .command = command, .handle = handle});
    };
  vbd.exchange_command = command;
  vbd.next_mirror = next_mirror;
  vbd.next = change.target;
  vbd.exchange = std::make_shared<Exchange>(std::move(members), std::move(change), over, held);
  vbd.exchange->begin();
}

void Engine::add_export(uint32_t command, const ExportRequest& request) {
  const auto found = targets_.find(request.target);
  if (found == targets_.end()) return refuse(command, EBADF, "no such target");
  const uint32_t handle = next_handle_++;
  try {
    exports_->add(handle, request, found->second, find_limits(request.limits));
    bus_->send({.type = BusMessage::Type::export_added, .command = command, .handle = handle});
  } catch (const std::system_error& error) {
    refuse(command, error.code().value(), error.what());
  } catch (const std::invalid_argument& error) {
    refuse(command, EINVAL, error.what());
  }
}

void Engine::remove_export(uint32_t command, uint32_t handle) {
  const bool is_there = exports_->remove(handle, [bus = bus_, command, handle] {
    bus->send({.type = BusMessage::Type::export_removed, .command = command, .handle = handle});
  });
  if (!is_there) refuse(command, EBADF, "no such export");
}

void Engine::exchanged(const BusMessage& message) {
  Vbd& vbd = *vbds_.at(message.handle);
  vbd.exchange.reset();
  const std::shared_ptr<Target> next = std::exchange(vbd.next, nullptr);
  if (message.error != 0) {
    fail(vbd.exchange_command, message.error, exchange_failure(message.error));
  } else {
    if (next) vbd.shared->target = next;
    vbd.mirror = vbd.next_mirror;
    if (vbd.mirror == 0) vbd.shared->filter = nullptr;
    events_.push_back({.type = EngineEvent::Type::done,
                       .command = vbd.exchange_command,
                       .value = message.handle});
  }
  if (vbd.phase == Vbd::Phase::closing) take_down(vbd);
}

void Engine::take_down(Vbd& vbd) {
  vbd.phase = Vbd::Phase::closing;
  for (size_t i = 0; i < vbd.queues.size(); i++) {
    if (!vbd.queues[i]) continue;
    vbd.pending++;
    vbd.reactors[i]->post_always([queue = vbd.queues[i].get()] { queue->close(); });
  }
}

void Engine::ring_broken(uint32_t vbd, uint32_t queue, const char* reason) {
  bus_->send(
      {.type = BusMessage::Type::ring_broken, .handle = vbd, .queue = queue, .text = reason});
}

void Engine::queue_recovered(uint32_t vbd, uint32_t queue) {
  bus_->send({.type = BusMessage::Type::queue_recovered, .handle = vbd, .queue = queue});
}

void Engine::io_failing(uint32_t vbd, uint32_t queue, int error) {
  bus_->send({.type = BusMessage::Type::io_failing, .handle = vbd, .queue = queue, .error = error});
}

void Engine::io_recovered(uint32_t vbd, uint32_t queue) {
  bus_->send({.type = BusMessage::Type::io_recovered, .handle = vbd, .queue = queue});
}

void Engine::queue_closed(uint32_t vbd, uint32_t queue, bool drained) {
  bus_->send(
      {.type = BusMessage::Type::queue_down, .handle = vbd, .queue = queue, .drained = drained});
}

std::vector<EngineEvent> Engine::collect() {
  for (BusMessage& message : bus_->take()) handle(message);
  return std::exchange(events_, {});
}

void Engine::handle(BusMessage& message) {
  switch (message.type) {
    case BusMessage::Type::target_opened:
    case BusMessage::Type::target_refreshed:
    case BusMessage::Type::target_claimed:
    case BusMessage::Type::target_closed:
    case BusMessage::Type::target_tracked:
    case BusMessage::Type::command_failed:
      return on_target(message);
    case BusMessage::Type::fence_lifted:
      return on_fence_lifted(message);
    case BusMessage::Type::target_warned:
      return on_target_warned(message);
    case BusMessage::Type::queue_made:
    case BusMessage::Type::queue_serving:
    case BusMessage::Type::queue_failed:
    case BusMessage::Type::queue_down:
      return on_queue(message);
    case BusMessage::Type::exchanged:
      return exchanged(message);
    case BusMessage::Type::mirror_made:
    case BusMessage::Type::mirror_given:
    case BusMessage::Type::mirror_closed:
    case BusMessage::Type::mirror_changed:
    case BusMessage::Type::mirror_gone:
      return on_mirror(message);
    case BusMessage::Type::export_removed:
      exports_->removed();
      [[fallthrough]];
    case BusMessage::Type::exchange_held:
    case BusMessage::Type::export_added:
      events_.push_back(
          {.type = EngineEvent::Type::done, .command = message.command, .value = message.handle});
      return;
    case BusMessage::Type::queue_recovered:
      vbds_.at(message.handle)->recovering--;
      return tell_if_recovered(*vbds_.at(message.handle));
    case BusMessage::Type::ring_broken:
      events_.push_back({.type = EngineEvent::Type::ring_broken,
                         .text = message.text,
                         .vbd = message.handle,
                         .queue = message.queue});
      return;
    case BusMessage::Type::io_failing:
      events_.push_back({.type = EngineEvent::Type::io_failing,
                         .error = message.error,
                         .vbd = message.handle,
                         .queue = message.queue});
      return;
    case BusMessage::Type::io_recovered:
      events_.push_back(
          {.type = EngineEvent::Type::io_recovered, .vbd = message.handle, .queue = message.queue});
      return;
  }
}

void Engine::on_queue(BusMessage& message) {
  Vbd& vbd = *vbds_.at(message.handle);
  if (message.type == BusMessage::Type::queue_down) {
    vbd.queues[message.queue].reset();
    vbd.drained &= message.drained;
  }
  if (message.type == BusMessage::Type::queue_failed && vbd.error == 0) {
    vbd.error = message.error;
    vbd.text = std::move(message.text);
  }
  if (--vbd.pending == 0) settle(message.handle, vbd);
}

// All queues have reported on the phase: on to the next.
void Engine::settle(uint32_t handle, Vbd& vbd) {
  switch (vbd.phase) {
    case Vbd::Phase::making:
      if (vbd.error == 0) return start(vbd);
      take_down(vbd);
      if (vbd.pending > 0) return;  // comes back here when the good queues are down
      return end(handle, vbd);
    case Vbd::Phase::starting:
      vbd.phase = Vbd::Phase::connected;
      events_.push_back({.type = EngineEvent::Type::done, .command = vbd.command, .value = handle});
      return tell_if_recovered(vbd);
    case Vbd::Phase::connected:
      RD_ASSERT(false);  // nothing is outstanding
      return;
    case Vbd::Phase::closing:
      return end(handle, vbd);
  }
}

// Never before its connect is done, though a queue may be as fast.
void Engine::tell_if_recovered(const Vbd& vbd) {
  if (!vbd.take_over || vbd.recovering > 0 || vbd.phase != Vbd::Phase::connected) return;
  events_.push_back({.type = EngineEvent::Type::recovered, .command = vbd.connect_command});
}

void Engine::end(uint32_t handle, Vbd& vbd) {
  if (vbd.error != 0)
    fail(vbd.command, vbd.error, std::move(vbd.text));
  else
    events_.push_back(
        {.type = EngineEvent::Type::done, .command = vbd.command, .value = vbd.drained});
  vbds_.erase(handle);
}

// Found wrong at once, told like everything else: through collect().
void Engine::refuse(uint32_t command, int error, const char* text) {
  bus_->send(
      {.type = BusMessage::Type::command_failed, .command = command, .error = error, .text = text});
}

void Engine::fail(uint32_t command, int error, std::string text) {
  events_.push_back({.type = EngineEvent::Type::failed,
                     .command = command,
                     .error = error,
                     .text = std::move(text)});
}

std::vector<std::shared_ptr<QueueCounters>> Engine::counters(uint32_t vbd) const {
  const auto found = vbds_.find(vbd);
  if (found == vbds_.end()) throw std::invalid_argument("no such connected VBD");
  return found->second->counters;
}

std::vector<uint32_t> Engine::reactors_of(uint32_t vbd) const {
  const auto found = vbds_.find(vbd);
  if (found == vbds_.end()) throw std::invalid_argument("no such connected VBD");
  std::vector<uint32_t> indices;
  for (const Reactor* reactor : found->second->reactors) {
    const auto same = [reactor](const auto& one) { return one.get() == reactor; };
    const auto at = std::ranges::find_if(reactors_, same);
    indices.push_back(static_cast<uint32_t>(at - reactors_.begin()));
  }
  return indices;
}

}  // namespace ringdisk
