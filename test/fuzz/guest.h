// SPDX-License-Identifier: Apache-2.0
// A hostile guest on the loopback machine, and a reactor that serves it: made once, used for every
// input.
#pragma once

#include <array>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "checking_target.h"
#include "input.h"
#include "platform/loopback/domain.h"
#include "ring/queue.h"
#include "rules.h"
#include "temp_machine.h"

namespace ringdisk::fuzz {

inline constexpr uint32_t kEntries = 32;  // of a ring of one page
using Page = std::array<std::byte, kPageBytes>;

// What the input decides of a connection.
struct Setting {
  Abi abi;
  GrantStrategy grants;
  uint32_t io_alignment;
  uint32_t persistent_pages;
  Geometry disk;
};
Setting take_setting(Input& input);

struct Answer {
  uint64_t id;
  uint8_t operation;
  int16_t status;
  auto operator<=>(const Answer&) const = default;
};

class Guest {
 public:
  static constexpr uint32_t kWritable = 24;  // pages granted for reading and writing
  static constexpr uint32_t kReadonly = 8;   // pages granted for reading only
  static constexpr uint32_t kForeign = 8;    // pages granted to nobody

  Guest();

  std::byte* ring() { return domain_.page(ring_page_); }
  const std::string& dir() const { return machine_.dir(); }
  JournalIdentity identity(const Setting& setting) const;
  // Every page as it was made, but for the ring.
  void reset();

  // An entry into `to`: mostly of the kind a frontend would write, sometimes any bytes at all.
  void take_entry(Input& input, const Setting& setting, std::byte* to);
  // Segments into the pages that indirect requests name.
  void take_indirect_pages(Input& input);

  // Whether what is read to carry it out stays as it is: its list of segments is in no page that
  // a read may write to, and none of its pages is the ring itself.
  bool is_predictable(const Setting& setting, std::span<const std::byte> entry) const;
  // The answer an entry deserves, grants included.
  Answer deserved(const Setting& setting, std::span<const std::byte> entry);

  struct Outcome {
    std::string refused{};  // why there was no connection at all; empty: there was one
    int broken = 0;
  };
  // Serves the ring until so many answers were published, or that takes too long, and disconnects.
  Outcome serve(const Setting& setting, const std::string& journal, bool take_over,
                uint32_t answers);
  // Those published behind `from`.
  std::vector<Answer> published(const Setting& setting, uint32_t from) const;
  // Nothing is held, and no page changed that nobody may write.
  void check_untouched();

 private:
  struct Events;
  std::shared_ptr<const Bitmaps> new_bitmap() const;
  GrantRef take_gref(Input& input) const;
  void take_segments(Input& input, uint32_t count, std::byte* to) const;
  bool can_use(uint32_t gref, bool write) const;
  uint32_t page_of(uint32_t gref) const;

  TempMachine machine_;
  LoopbackDomain domain_;
  std::unique_ptr<Platform> platform_;
  std::unique_ptr<Reactor> reactor_;
  GrantBudget budget_{4096};
  uint32_t ring_page_;
  GrantRef ring_ref_;
  Port port_;
  uint32_t first_page_;
  std::vector<GrantRef> grefs_;  // writable ones, then those for reading only
};

uint32_t load_index(const std::byte* ring, size_t offset);
void store_index(std::byte* ring, size_t offset, uint32_t value);

}  // namespace ringdisk::fuzz
