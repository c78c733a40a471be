// SPDX-License-Identifier: Apache-2.0
// A connection's own memory: what came from a client and was not looked at yet, and what waits to
// be sent. Nobody else needs it, so a client that is slow keeps nothing that another wants.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <span>

namespace ringdisk::nbd {

// Anonymous memory that costs nothing until it is used.
class LazyMemory {
 public:
  explicit LazyMemory(size_t bytes);  // throws std::bad_alloc
  ~LazyMemory();
  LazyMemory(const LazyMemory&) = delete;
  LazyMemory& operator=(const LazyMemory&) = delete;

  std::byte* data() const { return data_; }
  size_t size() const { return size_; }
  // Its content is lost.
  void give_back();

 private:
  std::byte* data_;
  size_t size_;
};

// Bytes in order, taken off the front. What is behind the front stays where it is until compact().
class InBuffer {
 public:
  explicit InBuffer(size_t bytes) : memory_(bytes) {}

  std::span<const std::byte> bytes() const { return {memory_.data() + begin_, end_ - begin_}; }
  void take(size_t count) { begin_ += count; }
  std::span<std::byte> room() const { return {memory_.data() + end_, memory_.size() - end_}; }
  void add(size_t count) { end_ += count; }
  size_t capacity() const { return memory_.size(); }
  // While nobody has an address into it.
  void compact() {
    if (begin_ == 0) return;
    std::memmove(memory_.data(), memory_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  void give_back() { memory_.give_back(); }

 private:
  LazyMemory memory_;
  size_t begin_ = 0;
  size_t end_ = 0;
};

// A ring of bytes.
class OutBuffer {
 public:
  explicit OutBuffer(size_t bytes) : memory_(bytes) {}

  size_t used() const { return used_; }
  size_t room() const { return memory_.size() - used_; }
  // No more than room().
  void add(std::span<const std::byte> bytes) {
    const size_t at = (front_ + used_) % memory_.size();
    const size_t first = std::min(bytes.size(), memory_.size() - at);
    std::memcpy(memory_.data() + at, bytes.data(), first);
    std::memcpy(memory_.data(), bytes.data() + first, bytes.size() - first);
    used_ += bytes.size();
  }
  // As much of what is there as lies in one piece.
  std::span<std::byte> front() const {
    return {memory_.data() + front_, std::min(used_, memory_.size() - front_)};
  }
  void take(size_t count) {
    used_ -= count;
    front_ = used_ == 0 ? 0 : (front_ + count) % memory_.size();
  }
  void give_back() { memory_.give_back(); }

 private:
  LazyMemory memory_;
  size_t front_ = 0;
  size_t used_ = 0;
};

}  // namespace ringdisk::nbd
