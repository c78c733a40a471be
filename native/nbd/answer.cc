// SPDX-License-Identifier: Apache-2.0
// Data and results on their way: into the engine's memory, and out to the client.
#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "nbd/connection.h"

namespace ringdisk::nbd {

void Connection::fetch(std::span<Slot* const> writes) {
  for (Slot* slot : writes) {
    Part& part = ours(*slot);
    const size_t bytes = part.valid.sector_count * kSectorBytes;
    if (!part.payload) {
      std::memset(part.data(), 0, bytes);
      continue;
    }
    std::memcpy(part.data(), part.payload, bytes);
    setup_.counters->copied_bytes.add(bytes);
    part.fetched = true;
    unfetched_--;
  }
}

void Connection::deliver(std::span<Slot* const> reads) {
  if (closing_) return;
  for (Slot* slot : reads) {
    if (slot->valid.kind == ValidRequest::Kind::map)
      deliver_map(ours(*slot));
    else
      deliver(ours(*slot));
  }
}

void Connection::deliver(Part& part) {
  Task& task = *part.task;
  const uint64_t offset = part.valid.sector * kSectorBytes;
  const uint64_t length = part.valid.sector_count * kSectorBytes;
  const bool is_all = length == task.request.length;
  std::array<std::byte, kReplyBytesMax> header;
  if (style_.structured || !task.answers) {
    const size_t bytes = put_data_header(header.data(), style_, task.request.cookie, offset,
                                         static_cast<uint32_t>(length), is_all);
    out_.add(std::span(header).first(bytes));
  }
  out_.add({part.data(), length});
  setup_.counters->copied_bytes.add(length);
  task.answers = true;
  // A simple answer says by its length alone that it is over.
  task.answered = is_all || !style_.structured;
  keep_promise(part);
}

// What it was to bring is in out_, or does not come.
void Connection::keep_promise(Part& part) { promised_ -= std::exchange(part.promise, 0); }

void Connection::answer(std::span<Slot* const> over) {
  for (Slot* slot : over) part_over(ours(*slot));
  setup_.counters->answered.add(over.size());
  setup_.counters->batches.add();
  reactor_.note_answers(static_cast<uint32_t>(over.size()));
}

void Connection::part_over(Part& part) {
  Task& task = *part.task;
  keep_promise(part);
  if (!part.fetched) unfetched_--;
  const bool has_no_way = part.result == -EOPNOTSUPP && part.valid.zeroes != Zeroes::no;
  task.parts--;
  parts_->release(part);
  if (has_no_way && !task.request.fast_zero && !closing_) {
    task.by_writing = true;
    task.begun = 0;
    again_.push_back(&task);
    return;
  }
  if (part.result < 0 && task.error == Error::none) task.error = error_of(-part.result);
  end_if_over(task);
}

void Connection::end_if_over(Task& task) {
  if (task.parts > 0 || &task == current_) return;
  if (task.error == Error::none && task.request.fua && !task.flushed && !closing_) {
    task.flushed = true;
    // One part of it has just come back, or none was needed.
    return hand_over(*make_part(task, ValidRequest::Kind::flush, 0));
  }
  promised_ -= kReplyBytesMax;
  const bool is_broken = task.error != Error::none && task.answers && !style_.structured;
  // The client takes what follows for its data, whatever it is.
  if (is_broken)
    close();
  else if (task.error != Error::none || !task.answered)
    put_result(task.request.cookie, task.request.offset, task.error);
  if (alone_ == &task) alone_ = nullptr;
  free_tasks_.push_back(&task);
}

void Connection::put_result(uint64_t cookie, uint64_t offset, Error error) {
  if (closing_) return;
  std::array<std::byte, kReplyBytesMax> bytes;
  out_.add(std::span(bytes).first(nbd::put_result(bytes.data(), style_, cookie, offset, error)));
}

}  // namespace ringdisk::nbd
