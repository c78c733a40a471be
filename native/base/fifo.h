// SPDX-License-Identifier: Apache-2.0
// First in, first out, of what others own. Each has the link in itself, so nothing is allocated,
// and is in one list at a time.
#pragma once

namespace ringdisk {

template <typename T>
class Fifo {
 public:
  bool empty() const { return head_ == nullptr; }
  T* front() const { return head_; }
  void push(T& one) {
    one.next = nullptr;
    (head_ ? tail_->next : head_) = &one;
    tail_ = &one;
  }
  T* pop() {
    T* one = head_;
    if (one) head_ = one->next;
    return one;
  }
  // Takes all, leaving this list empty.
  Fifo take() {
    const Fifo all = *this;
    head_ = nullptr;
    return all;
  }

 private:
  T* head_ = nullptr;
  T* tail_ = nullptr;
};

}  // namespace ringdisk
