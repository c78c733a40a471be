// SPDX-License-Identifier: Apache-2.0
// The engine's sets of limits, and which VBD has which.
#include <stdexcept>
#include <utility>

#include "base/clock.h"
#include "engine/engine.h"

namespace ringdisk {

void Engine::set_limits(const std::string& name, const LimitRates& rates) {
  std::shared_ptr<Limits>& limits = limits_[name];
  if (!limits) limits = std::make_shared<Limits>();
  limits->set(rates, clock_ns());
  for (const auto& [handle, vbd] : vbds_)
    if (vbd->limits && vbd->limits->is_of(*limits))
      tell_queues(*vbd, [](RequestEngine& requests) { requests.limits_changed(); });
  exports_->limits_changed(*limits);
}

// Who has the share before keeps it until it is told: what waits is counted by its weight.
void Engine::set_share(const std::string& name, const std::string& group, uint32_t weight) {
  const std::shared_ptr<Limits> of = find_limits(group);
  if (!of || !of->is_group() || weight == 0 || weight > kWeightMax)
    throw std::invalid_argument("no share of a group");
  std::shared_ptr<Limits>& share = limits_[name];
  if (!share || !share->is_share(of, weight)) share = std::make_shared<Limits>(of, weight);
}

void Engine::limit_export(uint32_t handle, const std::string& name) {
  exports_->limit(handle, find_limits(name));
}

void Engine::limit(uint32_t handle, const std::string& name) {
  const auto found = vbds_.find(handle);
  if (found == vbds_.end() || found->second->phase != Vbd::Phase::connected)
    throw std::invalid_argument("no such connected VBD");
  Vbd& vbd = *found->second;
  std::shared_ptr<Limits> limits = find_limits(name);
  if (vbd.limits == limits) return;
  vbd.limits = limits;
  tell_queues(vbd, [limits](RequestEngine& requests) { requests.limit(limits); });
}

std::shared_ptr<Limits> Engine::find_limits(const std::string& name) const {
  if (name.empty()) return nullptr;
  const auto found = limits_.find(name);
  if (found == limits_.end()) throw std::invalid_argument("no such limits");
  return found->second;
}

// Where requests may wait: not before its queues serve, nor when they close. A close is posted
// after this, so the queues are there when it runs. Nothing bounds these but what an operator asks.
void Engine::tell_queues(const Vbd& vbd, const std::function<void(RequestEngine&)>& what) {
  if (vbd.phase != Vbd::Phase::connected && vbd.phase != Vbd::Phase::starting) return;
  for (size_t i = 0; i < vbd.queues.size(); i++)
    vbd.reactors[i]->post_always([queue = vbd.queues[i].get(), what] { what(queue->requests()); });
}

}  // namespace ringdisk
