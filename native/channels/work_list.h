// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace ringdisk {

// First in, first out, by `link`.
template <typename T>
class WorkList {
 public:
  bool empty() const { return head_ == nullptr; }
  void push(T& one) {
    one.link = nullptr;
    (head_ ? tail_->link : head_) = &one;
    tail_ = &one;
  }
  T* pop() {
    T* one = head_;
    if (one) head_ = one->link;
    return one;
  }
  WorkList take() {
    const WorkList all = *this;
    head_ = nullptr;
    return all;
  }

 private:
  T* head_ = nullptr;
  T* tail_ = nullptr;
};

}  // namespace ringdisk
