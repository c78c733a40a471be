// SPDX-License-Identifier: Apache-2.0
// How the loopback machine lies on disk. One folder per guest, so that a guest may live in another
// process than its backend and outlive it:
//
//   <machine>/dom<id>/memory             the guest's pages, side by side (sparse)
//   <machine>/dom<id>/grants             array of GrantEntry, indexed by gref
//   <machine>/dom<id>/port<N>.to_backend, port<N>.to_frontend
//                                        FIFOs: an event channel is one byte or none in each
//
// The guest creates and owns all of it; for the backend every one of these files is hostile input.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

#include "base/fd.h"
#include "base/units.h"

namespace ringdisk {

// Bounds on what a guest can make the backend map: 4 GiB of memory, four grants per page.
inline constexpr uint32_t kLoopbackPagesMax = 1u << 20;
inline constexpr uint32_t kLoopbackGrantsMax = 4 * kLoopbackPagesMax;
// Capacity of an event channel's FIFO: a full one is as pending as one can be.
inline constexpr int kLoopbackFifoBytes = 4096;

// One grant reference. Permission and use count share a word, so that a grant cannot be taken back
// between the check and the use.
struct GrantEntry {
  static constexpr uint32_t kGranted = 1;
  static constexpr uint32_t kReadonly = 2;
  static constexpr uint32_t kOneUse = 4;  // the count takes the bits above the flags

  std::atomic<uint32_t> state;
  std::atomic<uint32_t> page;  // index into `memory`; written before kGranted is set

  // Backend: takes one use and sets `page_index` (not yet checked against the memory's size).
  // Returns 0, -EINVAL when not granted or -EACCES when granted for reading only.
  int take_use(bool writable, uint32_t& page_index);
  void drop_use() { state.fetch_sub(kOneUse, std::memory_order_release); }
  bool in_use() const { return state.load(std::memory_order_acquire) >= kOneUse; }
};
static_assert(sizeof(GrantEntry) == 8);
static_assert(std::atomic<uint32_t>::is_always_lock_free);

std::string domain_dir(const std::string& machine_dir, Domid domid);
std::string memory_path(const std::string& domain_dir);
std::string grants_path(const std::string& domain_dir);
std::string to_backend_path(const std::string& domain_dir, Port port);
std::string to_frontend_path(const std::string& domain_dir, Port port);

// Opens a FIFO for both reading and writing, so that it never blocks, hangs up or breaks when the
// other end is away. Not valid, with errno set, when the path is anything but a FIFO.
Fd open_fifo(const std::string& path);
// Writes the one byte; a full FIFO is pending already.
void raise_event(int fifo);
// Empties the FIFO. Returns whether an event was pending.
bool drain_events(int fifo);

}  // namespace ringdisk
