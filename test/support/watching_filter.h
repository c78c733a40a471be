// SPDX-License-Identifier: Apache-2.0
// A filter that changes nothing and sees everything: each operation's beginning and its end.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "base/assert.h"
#include "channels/filter.h"
#include "io/operation.h"

namespace ringdisk {

// What all filters of a test have seen, of whichever queue.
struct Watched {
  std::atomic<uint64_t> started{0};
  std::atomic<int> in_flight{0};
  std::atomic<int> by_way_of_another{0};  // in flight, and handed on by a filter before this one
  std::atomic<int> filters{0};            // that exist
  // An operation has come by the one way while another was in flight by the other.
  std::atomic<int> both_ways{0};
};

class WatchingFilter final : public Filter, private OperationSink {
 public:
  WatchingFilter(uint32_t id, Watched& watched, const ChannelContext& context)
      : Filter(id), watched_(watched), notes_(context.depth) {
    for (Note& note : notes_) free_.push_back(&note);
    watched_.filters++;
  }
  ~WatchingFilter() override { watched_.filters--; }

  bool start(Operation& operation) override {
    RD_ASSERT(!free_.empty());
    Note& note = *free_.back();
    free_.pop_back();
    const bool from_another = dynamic_cast<WatchingFilter*>(operation.sink) != nullptr;
    note = {operation.sink, operation.owner, from_another};
    operation.sink = this;
    operation.owner = &note;
    watched_.started++;
    const int all = ++watched_.in_flight;
    if (from_another) watched_.by_way_of_another++;
    const int others =
        from_another ? all - watched_.by_way_of_another : +watched_.by_way_of_another;
    if (others > 0) watched_.both_ways++;
    if (!hand_on(operation)) return false;
    restore(operation);
    return true;
  }

 private:
  struct Note {
    OperationSink* sink = nullptr;
    void* owner = nullptr;
    bool from_another = false;
  };

  void restore(Operation& operation) {
    Note& note = *static_cast<Note*>(operation.owner);
    operation.sink = note.sink;
    operation.owner = note.owner;
    if (note.from_another) watched_.by_way_of_another--;
    watched_.in_flight--;
    free_.push_back(&note);
  }
  void finished(Operation& operation) override {
    restore(operation);
    operation.sink->finished(operation);
  }

  Watched& watched_;
  std::vector<Note> notes_;
  std::vector<Note*> free_;
};

inline StackChange put_watching(uint32_t id, Watched& watched) {
  return {.make = [id, &watched](const ChannelContext& context) {
    return std::make_unique<WatchingFilter>(id, watched, context);
  }};
}

inline StackChange remove_filter(uint32_t id) { return {.goes = id}; }

}  // namespace ringdisk
