// SPDX-License-Identifier: Apache-2.0
// The smallest backend that can serve a blkif queue, with faults on demand: it proves the loopback
// frontend without any of ringdisk's data path.
#pragma once

#include <doctest/doctest.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "platform/loopback/guest.h"
#include "platform/platform.h"
#include "protocol/abi.h"

namespace ringdisk {

enum class Fault {
  none,
  misplaced_write,    // one sector too far
  lost_write,         // answered, never written
  write_past_sector,  // a read touches the byte behind its last sector
  keep_mapped,        // answers before it lets go of the page
  unknown_id,
  wrong_operation,
  response_flood,  // a response index beyond the requests
  error_status,
  silence,
};

// The medium all queues share.
struct EchoDisk {
  std::vector<std::byte> bytes;
  std::mutex mutex;
};

// Serves one queue on its own thread until destroyed.
class EchoBackend {
 public:
  EchoBackend(Platform& platform, Domid domid, const LoopbackGuest::Transport& transport, Abi abi,
              EchoDisk& disk)
      : domid_(domid),
        layout_(wire::layout(abi)),
        entries_(wire::ring_entries(abi, static_cast<uint32_t>(transport.ring_refs.size()))),
        disk_(disk),
        grants_(platform.open_grant_table()),
        channels_(platform.open_event_channels()) {
    REQUIRE(grants_->map(domid, transport.ring_refs, true, ring_) == 0);
    REQUIRE(channels_->bind(domid, transport.event_channel, port_) == 0);
    thread_ = std::thread([this] { serve(); });
  }
  ~EchoBackend() {
    stopping_ = true;
    thread_.join();
    channels_->unbind(port_);
    for (GrantMapping& mapping : kept_) grants_->unmap(mapping);
    grants_->unmap(ring_);
  }

  std::atomic<Fault> fault{Fault::none};
  std::atomic<uint64_t> indirect_requests{0};
  std::atomic<uint64_t> writable_maps_refused{0};
  std::atomic<uint64_t> offset_segments{0};

 private:
  static constexpr int kPollMs = 20;

  template <typename T>
  static T get(const std::byte* from, size_t offset) {
    T value;
    std::memcpy(&value, from + offset, sizeof(value));
    return value;
  }
  uint32_t load(size_t offset) {
    auto* word = reinterpret_cast<uint32_t*>(ring_.address + offset);
    return std::atomic_ref<uint32_t>(*word).load();
  }
  void store(size_t offset, uint32_t value) {
    auto* word = reinterpret_cast<uint32_t*>(ring_.address + offset);
    std::atomic_ref<uint32_t>(*word).store(value);
  }
  std::byte* entry(uint32_t index) {
    return ring_.address + wire::kRingHeaderBytes + (index & (entries_ - 1)) * layout_.entry_bytes;
  }

  void serve() {
    std::array<Port, 1> ports;
    while (!stopping_) {
      pollfd readable{channels_->fd(), POLLIN, 0};
      if (::poll(&readable, 1, kPollMs) <= 0) continue;
      if (channels_->port_calls()->take_pending(ports) == 0) continue;
      do {
        while (next_ != load(wire::kReqProd)) serve_one();
        store(wire::kReqEvent, next_ + 1);
      } while (next_ != load(wire::kReqProd));
      channels_->port_calls()->unmask(port_);
    }
  }

  void serve_one() {
    std::array<std::byte, wire::kEntryBytesMax> request;
    std::memcpy(request.data(), entry(next_), layout_.entry_bytes);
    const uint32_t position = next_++;
    if (fault == Fault::silence) return;
    uint8_t operation = get<uint8_t>(request.data(), 0);
    int16_t status = wire::kOkay;
    if (operation == wire::kDiscard) {
      discard(request.data());
    } else if (operation != wire::kFlushDiskcache) {
      status = transfer(request.data(), operation);
    }
    if (fault == Fault::error_status) status = wire::kError;
    if (fault == Fault::wrong_operation) operation = wire::kDiscard;
    uint64_t id = get<uint64_t>(request.data(), layout_.id);
    if (fault == Fault::unknown_id) id += 1u << 16;
    respond(position, id, operation, status);
  }

  void respond(uint32_t position, uint64_t id, uint8_t operation, int16_t status) {
    std::byte* to = entry(position);
    std::memcpy(to + wire::kResponseId, &id, sizeof(id));
    std::memcpy(to + wire::kResponseOperation, &operation, sizeof(operation));
    std::memcpy(to + wire::kResponseStatus, &status, sizeof(status));
    const uint32_t before = position;
    store(wire::kRspProd, position + 1 + (fault == Fault::response_flood ? entries_ : 0));
    if (position + 1 - load(wire::kRspEvent) < position + 1 - before ||
        fault == Fault::response_flood) {
      channels_->notify(port_);
    }
  }

  void discard(const std::byte* request) {
    const auto sector = get<uint64_t>(request, layout_.sector);
    const auto count = get<uint64_t>(request, layout_.discard_sectors);
    const std::lock_guard lock(disk_.mutex);
    std::memset(disk_.bytes.data() + sector * kSectorBytes, 0, count * kSectorBytes);
  }

  // Carries out a read or write of either kind; `operation` becomes what it really is.
  int16_t transfer(const std::byte* request, uint8_t& operation) {
    uint32_t count = get<uint8_t>(request, wire::kNrSegments);
    std::vector<std::byte> segments(request + layout_.segments, request + layout_.entry_bytes);
    if (operation == wire::kIndirect) {
      indirect_requests++;
      operation = get<uint8_t>(request, wire::kIndirectOperation);
      count = get<uint16_t>(request, wire::kIndirectNrSegments);
      segments.resize(kPageBytes);
      std::array copies{GrantCopy{segments.data(), get<GrantRef>(request, layout_.indirect_grefs),
                                  0, kPageBytes, domid_, false, false}};
      grants_->copy(copies);
      if (!copies[0].ok) return wire::kError;
    }
    auto sector = get<uint64_t>(request, layout_.sector);
    for (uint32_t i = 0; i < count; i++) {
      const std::byte* segment = segments.data() + i * wire::kSegmentBytes;
      const auto first = get<uint8_t>(segment, 4);
      const auto last = get<uint8_t>(segment, 5);
      if (!move(operation, get<GrantRef>(segment, 0), first, last, sector)) return wire::kError;
      sector += last - first + 1u;
    }
    return wire::kOkay;
  }

  bool move(uint8_t operation, GrantRef gref, uint32_t first, uint32_t last, uint64_t sector) {
    const bool to_guest = operation == wire::kRead;
    if (first > 0) offset_segments++;
    GrantMapping mapping;
    // What the guest only lets us read must not be mappable for writing.
    if (!to_guest && grants_->map(domid_, std::array{gref}, true, mapping) == 0) {
      grants_->unmap(mapping);
    } else if (!to_guest) {
      writable_maps_refused++;
    }
    if (grants_->map(domid_, std::array{gref}, to_guest, mapping) != 0) return false;
    copy_sectors(to_guest, mapping.address + size_t{first} * kSectorBytes, last - first + 1,
                 sector);
    if (fault == Fault::write_past_sector && to_guest && last + 1 < kSectorsPerPage) {
      mapping.address[(size_t{last} + 1) * kSectorBytes] = std::byte{0};
    }
    if (fault == Fault::keep_mapped) {
      kept_.push_back(mapping);
    } else {
      grants_->unmap(mapping);
    }
    return true;
  }

  void copy_sectors(bool to_guest, std::byte* memory, uint32_t count, uint64_t sector) {
    if (!to_guest && fault == Fault::lost_write) return;
    if (!to_guest && fault == Fault::misplaced_write) sector++;
    const std::lock_guard lock(disk_.mutex);
    std::byte* disk = disk_.bytes.data() + sector * kSectorBytes;
    std::memcpy(to_guest ? memory : disk, to_guest ? disk : memory, size_t{count} * kSectorBytes);
  }

  const Domid domid_;
  const wire::Layout& layout_;
  const uint32_t entries_;
  EchoDisk& disk_;
  std::unique_ptr<GrantTable> grants_;
  std::unique_ptr<EventChannels> channels_;
  GrantMapping ring_;
  std::vector<GrantMapping> kept_;
  Port port_ = 0;
  uint32_t next_ = 0;
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

}  // namespace ringdisk
