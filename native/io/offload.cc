// SPDX-License-Identifier: Apache-2.0
#include "io/offload.h"

#include <cerrno>
#include <csignal>
#include <cstring>
#include <utility>

#include "base/assert.h"

namespace ringdisk {
namespace {

// What to do lives in the operation's scratch space, so that submitting never allocates.
struct Job {
  Offload::Work work;
  int fd;
};
static_assert(sizeof(Job) <= sizeof(Operation::scratch));

}  // namespace

void Offload::List::push(Operation& operation) {
  operation.next = nullptr;
  *tail = &operation;
  tail = &operation.next;
}

Operation* Offload::List::pop() {
  Operation* first = head;
  head = first->next;
  if (head == nullptr) tail = &head;
  return first;
}

Operation* Offload::List::take_all() {
  tail = &head;
  return std::exchange(head, nullptr);
}

Offload::Offload(std::function<void()> wake) : wake_(std::move(wake)) {}

Offload::~Offload() {
  {
    const std::lock_guard lock(mutex_);
    RD_ASSERT(waiting_.head == nullptr && finished_.head == nullptr);
    stopping_ = true;
  }
  changed_.notify_one();
  if (started_) pthread_join(thread_, nullptr);
}

bool Offload::start_thread() {
  // Signals are for the process's main thread, so the helper is born with all of them blocked.
  sigset_t all;
  sigset_t previous;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &previous);
  started_ = pthread_create(&thread_, nullptr, &Offload::entry, this) == 0;
  pthread_sigmask(SIG_SETMASK, &previous, nullptr);
  return started_;
}

void Offload::submit(Operation& operation, Work work, int fd) {
  const Job job{work, fd};
  std::memcpy(operation.scratch, &job, sizeof(job));
  const bool running = started_ || start_thread();
  {
    const std::lock_guard lock(mutex_);
    operation.part_result = -EAGAIN;
    (running ? waiting_ : finished_).push(operation);
  }
  if (running) {
    changed_.notify_one();
  } else {
    wake_();
  }
}

Operation* Offload::collect() {
  const std::lock_guard lock(mutex_);
  return finished_.take_all();
}

void* Offload::entry(void* self) {
  pthread_setname_np(pthread_self(), "rd-offload");
  static_cast<Offload*>(self)->run();
  return nullptr;
}

void Offload::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return stopping_ || waiting_.head != nullptr; });
    if (waiting_.head == nullptr) return;
    Operation* operation = waiting_.pop();
    lock.unlock();
    Job job;
    std::memcpy(&job, operation->scratch, sizeof(job));
    const int32_t result = job.work(*operation, job.fd);
    lock.lock();
    operation->part_result = result;
    finished_.push(*operation);
    lock.unlock();
    wake_();
    lock.lock();
  }
}

}  // namespace ringdisk
