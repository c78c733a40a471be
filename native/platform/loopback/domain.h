// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/units.h"
#include "platform/loopback/machine.h"

namespace ringdisk {

// One guest domain of the loopback machine, seen from inside: its memory, its grant table, its
// event channels. The destructor takes the domain's files away; what a backend has mapped stays
// valid for the backend. Any thread. Throws std::system_error when the machine refuses and
// std::bad_alloc when the guest's own memory or grant table is used up.
class LoopbackDomain {
 public:
  // Creates <machine_dir>/dom<domid>, replacing what an earlier guest of this domid left behind.
  LoopbackDomain(const std::string& machine_dir, Domid domid, uint32_t page_count);
  ~LoopbackDomain();
  LoopbackDomain(const LoopbackDomain&) = delete;
  LoopbackDomain& operator=(const LoopbackDomain&) = delete;

  Domid domid() const { return domid_; }
  uint32_t page_count() const { return page_count_; }

  uint32_t allocate_page();
  // The first of `count` consecutive pages, which are freed one by one. Only pages that were never
  // used before will do: meant for rings, which are few.
  uint32_t allocate_pages(uint32_t count);
  void free_page(uint32_t index);
  std::byte* page(uint32_t index) const { return memory_ + size_t{index} * kPageBytes; }

  // Lets the backend use a page. Freed grefs are handed out again last in, first out, as Linux
  // does.
  GrantRef grant(uint32_t page_index, bool readonly = false);
  // Takes the permission back. Returns false when the backend still uses the page: what is mapped
  // stays mapped, and the gref is not handed out again.
  bool revoke(GrantRef gref);
  bool in_use(GrantRef gref) const { return grants_[gref].in_use(); }
  // How many grefs the backend uses now, revoked ones included.
  uint32_t grants_in_use() const;
  // What Xen does when a backend dies: nothing is in use any more. Only while no backend lives.
  void forget_backend();

  // A new event channel. `wait` and `notify` are the guest's end of it.
  Port open_port();
  void close_port(Port port);
  void notify(Port port);
  // Sleeps until the backend notifies, and takes the event. Returns false after `timeout_ms`.
  bool wait(Port port, int timeout_ms);
  // For waiting on several ports: readable while an event is pending. wait() takes it.
  int event_fd(Port port) { return fifo(port, &Channel::to_frontend); }

 private:
  struct Channel {
    Fd to_backend;
    Fd to_frontend;
  };
  // Numbers not used yet, and those given back.
  struct Pool {
    uint32_t next;
    uint32_t end;
    std::vector<uint32_t> free;
    uint32_t take();
    uint32_t take_consecutive(uint32_t count);
  };
  int fifo(Port port, Fd Channel::* end);

  const Domid domid_;
  const std::string dir_;
  std::byte* memory_ = nullptr;
  GrantEntry* grants_ = nullptr;
  const uint32_t page_count_;
  const uint32_t grant_count_;

  mutable std::mutex mutex_;  // guards everything below
  Pool pages_;
  Pool grefs_;
  std::map<Port, Channel> channels_;
  Port next_port_ = 1;
};

}  // namespace ringdisk
