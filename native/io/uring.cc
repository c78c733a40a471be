// SPDX-License-Identifier: Apache-2.0
#include "io/uring.h"

#include <poll.h>

#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

#include "base/assert.h"

namespace ringdisk {
namespace {

// Far more than one submission queue, because operations of many queues are under way at once. If
// even that is too small the kernel keeps the rest and says CQ_OVERFLOW: slower, nothing lost.
constexpr unsigned kCompletionEntries = 4096;

// Interruptions and moments of pressure are not failures: what was not submitted stays reserved and
// goes with the next call. Anything else means completions may be lost.
void check_enter(int rc) {
  RD_ASSERT(rc >= 0 || rc == -EINTR || rc == -ETIME || rc == -EAGAIN || rc == -EBUSY ||
            rc == -ENOMEM);
}

__kernel_timespec to_timespec(uint64_t us) {
  __kernel_timespec time{};
  time.tv_sec = static_cast<int64_t>(us / 1'000'000);
  time.tv_nsec = static_cast<int64_t>(us % 1'000'000 * 1000);
  return time;
}

}  // namespace

Uring::Uring(const UringFeatures& features) : features_(features) {
  io_uring_params params{};
  params.flags = features.setup_flags;
  params.cq_entries = kCompletionEntries;
  const int rc = io_uring_queue_init_params(kSubmissionEntries, &ring_, &params);
  if (rc < 0) {
    throw std::system_error(-rc, std::generic_category(), "the kernel refuses an io_uring");
  }
  // Spares the kernel a look-up per call; a kernel without it works the same.
  (void)io_uring_register_ring_fd(&ring_);
}

Uring::~Uring() { io_uring_queue_exit(&ring_); }

io_uring_sqe* Uring::reserve() {
  io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
  while (sqe == nullptr) {
    enter();
    // Old kernels take no submission while completions overflow: make room for them here, without
    // running anybody's callback.
    collect();
    sqe = io_uring_get_sqe(&ring_);
  }
  std::memset(sqe, 0, sizeof(*sqe));
  return sqe;
}

void Uring::watch(int fd, Wakeup wakeup) {
  watched_fds_[static_cast<size_t>(wakeup)] = fd;
  arm(wakeup);
}

void Uring::arm(Wakeup wakeup) {
  io_uring_sqe* sqe = reserve();
  io_uring_prep_poll_add(sqe, watched_fds_[static_cast<size_t>(wakeup)], POLLIN);
  sqe->user_data = static_cast<uint64_t>(wakeup);
}

// Without the flag (Linux 5.16 and older) success is reported as Wakeup::none.
void Uring::keep_quiet(io_uring_sqe* sqe) const {
  sqe->user_data = static_cast<uint64_t>(Wakeup::none);
  if ((ring_.features & IORING_FEAT_CQE_SKIP) != 0) sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
}

// What may not block and has nothing to read is polled by the kernel and read then.
void Uring::read_when_readable(int fd, std::span<std::byte> buffer, Wakeup wakeup) {
  io_uring_sqe* sqe = reserve();
  io_uring_prep_read(sqe, fd, buffer.data(), static_cast<unsigned>(buffer.size()), 0);
  sqe->user_data = static_cast<uint64_t>(wakeup);
}

void Uring::write(int fd, uint32_t word) {
  io_uring_sqe* sqe = reserve();
  uint32_t& place = words_[next_word_++ % words_.size()];
  place = word;
  io_uring_prep_write(sqe, fd, &place, sizeof place, 0);
  keep_quiet(sqe);
}

void Uring::wake_at(uint64_t at_us) {
  __kernel_timespec at = to_timespec(at_us);
  io_uring_sqe* sqe = reserve();
  io_uring_prep_timeout(sqe, &at, 0, IORING_TIMEOUT_ABS);
  sqe->user_data = static_cast<uint64_t>(Wakeup::alarm);
  // The kernel reads the time when it takes the entry. As in reserve(), an old one may want room
  // first.
  do {
    enter();
    collect();
  } while (io_uring_sq_ready(&ring_) > 0);
}

bool Uring::kernel_work_pending() const {
  const unsigned flags = __atomic_load_n(ring_.sq.kflags, __ATOMIC_RELAXED);
  return (flags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
}

void Uring::enter() {
  const unsigned before = io_uring_sq_ready(&ring_);
  const int rc = io_uring_submit_and_get_events(&ring_);
  check_enter(rc);
  counters_.enter_calls++;
  counters_.submissions += before - io_uring_sq_ready(&ring_);
}

void Uring::submit() {
  if (io_uring_sq_ready(&ring_) > 0 || kernel_work_pending()) enter();
}

void Uring::sleep(uint64_t timeout_us) {
  if (reaped_.operations != nullptr || reaped_.event_channel || reaped_.mailbox || reaped_.alarm ||
      reaped_.lanes)
    return submit();
  __kernel_timespec timeout = to_timespec(timeout_us);
  const unsigned before = io_uring_sq_ready(&ring_);
  io_uring_cqe* first = nullptr;
  const int rc = io_uring_submit_and_wait_timeout(
      &ring_, &first, 1, timeout_us == UINT64_MAX ? nullptr : &timeout, nullptr);
  check_enter(rc);
  counters_.enter_calls++;
  counters_.sleeps++;
  counters_.submissions += before - io_uring_sq_ready(&ring_);
}

void Uring::take(const io_uring_cqe& completion) {
  if (completion.user_data >= kWakeupKinds) {
    auto* operation = static_cast<Operation*>(io_uring_cqe_get_data(&completion));
    operation->part_result = completion.res;
    operation->next = nullptr;
    if (!operation->waits_for_client) operations_in_flight_--;
    *reaped_tail_ = operation;
    reaped_tail_ = &operation->next;
    return;
  }
  const auto wakeup = static_cast<Wakeup>(completion.user_data);
  if (watched_fds_[completion.user_data] >= 0) {
    RD_ASSERT(completion.res >= 0 || completion.res == -ECANCELED || completion.res == -ENOMEM);
    disarmed_[completion.user_data] = true;
  }
  if (wakeup == Wakeup::mailbox) reaped_.mailbox = true;
  if (wakeup == Wakeup::alarm) reaped_.alarm = true;
  if (wakeup == Wakeup::lanes) reaped_.lanes = true;
  if (wakeup != Wakeup::event_channel) return;
  reaped_.event_channel = true;
  const int error = completion.res < 0 ? -completion.res : 0;
  reaped_.events_lost =
      error != 0 && error != EAGAIN && error != EINTR && error != ECANCELED && error != ENOMEM;
  // A read that failed found nothing: whoever asked for it asks again.
  reaped_.event_bytes = completion.res > 0 ? static_cast<uint32_t>(completion.res) : 0;
}

void Uring::collect() {
  unsigned head = 0;
  unsigned count = 0;
  io_uring_cqe* completion = nullptr;
  io_uring_for_each_cqe(&ring_, head, completion) {
    take(*completion);
    count++;
  }
  io_uring_cq_advance(&ring_, count);
}

Uring::Reaped Uring::reap() {
  collect();
  // Outside collect(), because arming may need room and collect again.
  for (const Wakeup wakeup : {Wakeup::event_channel, Wakeup::mailbox}) {
    if (std::exchange(disarmed_[static_cast<size_t>(wakeup)], false)) arm(wakeup);
  }
  reaped_tail_ = &reaped_.operations;
  return std::exchange(reaped_, Reaped{});
}

bool Uring::register_buffer(std::span<std::byte> memory) {
  const iovec region{memory.data(), memory.size()};
  return io_uring_register_buffers(&ring_, &region, 1) == 0;
}

}  // namespace ringdisk
