// SPDX-License-Identifier: Apache-2.0
// What a mirror's home has in hand: all of it is made once, and linked where it waits.
#pragma once

#include <cstdint>
#include <functional>

#include "base/chunk_locks.h"
#include "base/fifo.h"
#include "io/bounce_share.h"
#include "io/operation.h"

namespace ringdisk {

class MirrorHome;
template <typename>
class Errands;

// Which of them an operation belongs to: its owner.
struct MirrorWork {
  enum class Kind : uint8_t { source, destination, copy, own };
  explicit MirrorWork(Kind what) : kind(what) {}
  Kind kind;
};

// A write, discard or flush of a queue's. Locked are its sectors, so that what overlaps comes to
// both ends in one order.
struct MirrorErrand final : MirrorWork, ChunkLocks::Hold {
  MirrorErrand() : MirrorWork(Kind::source) {}
  void granted() override;

  MirrorHome* home = nullptr;
  Errands<MirrorErrand>* from = nullptr;
  Operation* asked = nullptr;  // the queue's
  Operation operation{};       // the same, for the source
  uint64_t first_chunk = 0;    // that it touches
  uint64_t end_chunk = 0;
  uint64_t whole_first = 0;  // that it covers
  uint64_t whole_end = 0;
  bool both = false;    // it goes to both ends
  bool spoils = false;  // and they differ by it
  uint32_t parts = 0;   // under way
  int32_t result = 0;
  MirrorErrand* next = nullptr;
};

// The destination's part of an errand, with memory of its own: where the destination hangs, the
// guest is answered, and its memory is another request's by then.
struct MirrorWrite final : MirrorWork {
  MirrorWrite() : MirrorWork(Kind::destination) {}
  Operation operation{};
  BounceShare::Block block{};
  MirrorErrand* errand = nullptr;  // null: nobody waits for it
  uint64_t since_us = 0;           // 0: it is not under way
  MirrorWrite* next = nullptr;
};

// A step of the job: one chunk that is read and written, or some in a row that are zeroed.
struct MirrorCopy final : MirrorWork, ChunkLocks::Hold {
  MirrorCopy() : MirrorWork(Kind::copy) {}
  void granted() override;

  enum class Stage : uint8_t { idle, waiting, reading, writing };
  MirrorHome* home = nullptr;
  Stage stage = Stage::idle;
  Operation operation{};
  BounceShare::Block block{};
  uint64_t first_chunk = 0;
  uint64_t end_chunk = 0;
  bool zeroes = false;   // the source has none but zeroes there
  bool locked = false;   // nothing of the guest's is under way there
  bool spoiled = false;  // something was
  uint64_t since_us = 0;
  MirrorCopy* next = nullptr;
};

// What the home does once in a while, one after the other: looking for holes, a flush.
struct MirrorOwn final : MirrorWork {
  MirrorOwn() : MirrorWork(Kind::own) {}
  Operation operation{};
  std::function<void(int32_t result)> then;
  uint64_t since_us = 0;  // 0: it is not the destination's
};

}  // namespace ringdisk
