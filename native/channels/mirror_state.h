// SPDX-License-Identifier: Apache-2.0
// What all channels of a mirrored disk share, and what can be looked at of it. The home
// (mirror_home.h) alone changes it, but for what its owner wishes.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

#include "base/bitmap.h"

namespace ringdisk {

struct MirrorState {
  // A map that was made for it, or was left by a process that died: a bit is set for each chunk of
  // which the two ends may differ. Throws std::system_error.
  explicit MirrorState(const std::string& map_path) : map(map_path) {}

  // It says `inconsistent` once the mirror has failed: no successor goes on with it.
  Bitmap map;

  // What its owner wishes.
  std::atomic<bool> wants_sync{false};
  std::atomic<bool> paused{false};
  std::atomic<uint64_t> rate{0};  // of the job, bytes a second; 0: as fast as it goes

  // A guest's write is answered when both ends have it. Else when the source has it, and the job
  // copies it later.
  std::atomic<bool> sync{false};
  // Nothing is mirrored any more: the source alone is the disk.
  std::atomic<bool> over{false};
  std::atomic<int> error{0};  // then: why; ECANCELED: it was ended
  // Both ends are alike but for what is under way, and what was flushed of one is durable on both.
  std::atomic<bool> ready{false};
  std::atomic<bool> has_destination{false};
  // Every chunk was looked at once: what is behind now was written since.
  std::atomic<bool> swept{false};

  std::atomic<uint64_t> behind{0};  // chunks that are to be copied
  std::atomic<uint64_t> copied_bytes{0};
  std::atomic<uint64_t> speed{0};  // of the job, bytes a second; 0: not known
  std::atomic<uint64_t> source_errors{0};

  uint64_t chunk_bytes() const { return map.granularity(); }
  uint64_t chunks() const { return map.chunks(); }
};

}  // namespace ringdisk
