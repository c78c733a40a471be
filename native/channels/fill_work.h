// SPDX-License-Identifier: Apache-2.0
// What a fill's home has in hand: all of it is made once, and linked where it waits.
#pragma once

#include <cstdint>
#include <functional>

#include "base/chunk_locks.h"
#include "base/fifo.h"
#include "io/bounce_share.h"
#include "io/operation.h"

namespace ringdisk {

class FillHome;
template <typename>
class Errands;

// Which of them an operation belongs to: its owner.
struct FillWork {
  enum class Kind : uint8_t { use, save, background, fetch, map_write, own };
  explicit FillWork(Kind what) : kind(what) {}
  Kind kind;
};

// What a queue asks for and its channel cannot do by itself, or a step of the job. All that touches
// a chunk which is not here is carried out by the home, chunks locked.
struct FillErrand final : FillWork, ChunkLocks::Hold {
  FillErrand() : FillWork(Kind::use) {}
  void granted() override;

  FillHome* home = nullptr;
  Errands<FillErrand>* from = nullptr;  // null: the job's
  Operation* asked = nullptr;           // the queue's
  Operation operation{};                // the same, for the home's channel
  uint64_t whole_first = 0;             // chunks that are written whole: they need not be fetched
  uint64_t whole_end = 0;               // and are here afterwards
  uint64_t at = 0;                      // the first that has not been looked at
  uint32_t fetching = 0;                // chunks
  bool hungry = false;                  // for room to fetch the next
  int32_t result = 0;
  FillErrand* next = nullptr;
};

// One chunk on its way from the source.
struct FillFetch : FillWork {
  FillFetch() : FillWork(Kind::fetch) {}
  Operation operation{};
  BounceShare::Block block{};
  FillErrand* errand = nullptr;
  uint64_t chunk = 0;
  FillFetch* next = nullptr;
};

// One block of the map on its way to its medium.
struct FillMapWrite : FillWork {
  FillMapWrite() : FillWork(Kind::map_write) {}
  Operation operation{};
};

// What the home does once in a while, one after the other: reading the map, flushes, its header.
struct FillOwn : FillWork {
  FillOwn() : FillWork(Kind::own) {}
  Operation operation{};
  std::function<void(int32_t result)> then;
};

}  // namespace ringdisk
