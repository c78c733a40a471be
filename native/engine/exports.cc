// SPDX-License-Identifier: Apache-2.0
#include "engine/exports.h"

#include <algorithm>
#include <cerrno>
#include <stdexcept>
#include <system_error>
#include <utility>

#include "protocol/nbd_wire.h"

namespace ringdisk {
namespace {

uint64_t size_of(const Target& target) {
  const Capabilities& can = target.capabilities();
  return can.capacity / can.io_alignment * can.io_alignment;
}

nbd::ExportFacts facts_of(const ExportRequest& request, const Target& target) {
  const Capabilities& can = target.capabilities();
  uint16_t flags = nbd::kHasFlags | nbd::kSendFlush | nbd::kSendDf | nbd::kSendCache;
  // A flush reaches what any connection has been answered for.
  flags |= nbd::kCanMultiConn;
  if (request.read_only || can.read_only)
    flags |= nbd::kReadOnly;
  else
    flags |= nbd::kSendFua | nbd::kSendWriteZeroes | nbd::kSendFastZero |
             (can.discard ? nbd::kSendTrim : 0);
  std::vector<nbd::Context> contexts{{nbd::kAllocationContext, "base:allocation"}};
  for (const ExportedBitmap& bitmap : request.bitmaps)
    contexts.push_back({nbd::kFirstBitmapContext + static_cast<uint32_t>(contexts.size()) - 1,
                        "qemu:dirty-bitmap:" + bitmap.name});
  return {.name = request.name,
          .description = request.description,
          .size = size_of(target),
          .flags = flags,
          .block_min = can.io_alignment,
          .block_preferred = std::max(4096u, can.physical_block),
          .block_max = static_cast<uint32_t>(nbd::kPayloadBytesMax),
          .contexts = std::move(contexts)};
}

Bitmaps open_bitmaps(const ExportRequest& request) {
  Bitmaps opened;
  for (const ExportedBitmap& bitmap : request.bitmaps)
    opened.push_back(std::make_shared<Bitmap>(bitmap.path));
  return opened;
}

}  // namespace

void ExportTable::add(uint32_t handle, const ExportRequest& request, std::shared_ptr<Target> target,
                      std::shared_ptr<Limits> limits) {
  if (request.name.size() > nbd::kNameBytesMax)
    throw std::invalid_argument("an export's name has 4096 bytes at most");
  if (request.bitmaps.size() >= nbd::kContextsMax)
    throw std::invalid_argument("an export has 15 bitmaps at most");
  Bitmaps bitmaps = open_bitmaps(request);
  auto& server = servers_[request.path];
  if (server && server->has(request.name))
    throw std::system_error(EEXIST, std::generic_category(),
                            "there is an export of this name on this socket");
  if (server && server->group() != request.group)
    throw std::invalid_argument("what is exported on this socket already is for another group");
  const bool is_new = !server;
  try {
    if (is_new) server = std::make_shared<nbd::Server>(reactors_, request.path, request.group);
  } catch (...) {
    servers_.erase(request.path);
    throw;
  }
  server->add({.facts = facts_of(request, *target),
               .target = target,
               .id = handle,
               .bitmaps = std::move(bitmaps),
               .detect_zeroes = request.detect_zeroes,
               .limits = std::move(limits)});
  if (is_new) server->begin();
  exports_[handle] = {server, std::move(target)};
}

bool ExportTable::remove(uint32_t handle, std::function<void()> told) {
  const auto found = exports_.find(handle);
  if (found == exports_.end()) return false;
  const std::shared_ptr<nbd::Server> server = found->second.server;
  exports_.erase(found);
  ending_++;
  const bool is_last = std::ranges::none_of(
      exports_, [&](const auto& entry) { return entry.second.server == server; });
  if (!is_last) {
    server->remove(handle, std::move(told));
    return true;
  }
  servers_.erase(server->path());
  server->stop(std::move(told));
  return true;
}

void ExportTable::limit(uint32_t handle, const std::shared_ptr<Limits>& limits) {
  const auto found = exports_.find(handle);
  if (found == exports_.end()) throw std::invalid_argument("no such export");
  found->second.server->limit(handle, limits);
}

void ExportTable::limits_changed(const Limits& limits) {
  for (const auto& [path, server] : servers_) server->limits_changed(limits);
}

bool ExportTable::uses(const Target& target) const {
  return std::ranges::any_of(
      exports_, [&](const auto& entry) { return entry.second.target.get() == &target; });
}

void ExportTable::resized(const Target& target) {
  for (const auto& [handle, entry] : exports_)
    if (entry.target.get() == &target) entry.server->resize(handle, size_of(target));
}

std::vector<std::shared_ptr<QueueCounters>> ExportTable::counters(uint32_t handle) const {
  const auto found = exports_.find(handle);
  if (found == exports_.end()) throw std::invalid_argument("no such export");
  return found->second.server->counters(handle);
}

uint64_t ExportTable::goodbyes(uint32_t handle) const {
  const auto found = exports_.find(handle);
  if (found == exports_.end()) throw std::invalid_argument("no such export");
  return found->second.server->goodbyes(handle);
}

}  // namespace ringdisk
