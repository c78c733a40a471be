// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <liburing.h>
#include <sys/mman.h>

#include <chrono>
#include <cstdlib>
#include <stdexcept>
#include <system_error>
#include <vector>

#include "base/fd.h"
#include "base/units.h"
#include "io/uring.h"
#include "measurements.h"

namespace ringdisk::bench {
namespace {

constexpr size_t kHugePageBytes = 2u << 20;

using Clock = std::chrono::steady_clock;

// The same set-up flags, registered memory and O_DIRECT as a reactor and its targets use.
class Loop {
 public:
  explicit Loop(const Settings& settings)
      : settings_(settings),
        fd_(Fd::checked(::open(settings.path.c_str(), O_RDWR | O_DIRECT | O_CLOEXEC),
                        settings.path)),
        schedule_(settings.workload(), 0, 1),
        started_(settings.depth) {
    io_uring_params params{};
    params.flags = probe_uring().setup_flags;
    params.cq_entries = 4096;
    check(io_uring_queue_init_params(512, &ring_, &params), "set-up");
    (void)io_uring_register_ring_fd(&ring_);
    memory_ = static_cast<std::byte*>(std::aligned_alloc(kHugePageBytes, bytes()));
    ::madvise(memory_, bytes(), MADV_HUGEPAGE);  // as the bounce pool's
    std::fill_n(memory_, bytes(), std::byte{0x5a});
    const iovec region{memory_, bytes()};
    check(io_uring_register_buffers(&ring_, &region, 1), "registering memory");
  }

  ~Loop() {
    io_uring_queue_exit(&ring_);
    std::free(memory_);
  }

  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  void run() {
    const uint64_t cpu_before = thread_cpu_ns("");
    const Clock::time_point start = Clock::now();
    const Clock::time_point deadline =
        settings_.bytes > 0 ? Clock::time_point::max()
                            : start + std::chrono::milliseconds(settings_.milliseconds);
    for (uint32_t slot = 0; slot < settings_.depth; slot++) submit(slot, start);
    while (in_flight_ > 0) {
      check(io_uring_submit_and_wait(&ring_, 1), "waiting");
      reap(deadline);
    }
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    JsonLine line;
    line.add("ios", latency_.count()).add("seconds", seconds).add(latency_);
    line.add("cpuNs", thread_cpu_ns("") - cpu_before).print();
  }

 private:
  size_t bytes() const {
    const size_t needed = size_t{settings_.depth} * settings_.block;
    return (needed + kHugePageBytes - 1) / kHugePageBytes * kHugePageBytes;
  }

  static void check(int result, const char* what) {
    if (result < 0 && result != -EINTR)
      throw std::system_error(-result, std::generic_category(), what);
  }

  void submit(uint32_t slot, Clock::time_point now) {
    const std::optional<Block> block = schedule_.next();
    if (!block) return;
    io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
    io_uring_prep_rw(settings_.is_write() ? IORING_OP_WRITE_FIXED : IORING_OP_READ_FIXED, sqe,
                     fd_.get(), memory_ + size_t{slot} * settings_.block,
                     static_cast<unsigned>(settings_.block), block->sector * kSectorBytes);
    sqe->buf_index = 0;
    sqe->user_data = slot;
    started_[slot] = now;
    in_flight_++;
  }

  void reap(Clock::time_point deadline) {
    unsigned head = 0, count = 0;
    io_uring_cqe* completion = nullptr;
    io_uring_for_each_cqe(&ring_, head, completion) {
      if (completion->res != static_cast<int>(settings_.block))
        throw std::runtime_error("a transfer ended with " + std::to_string(completion->res));
      const auto slot = static_cast<uint32_t>(completion->user_data);
      const Clock::time_point now = Clock::now();
      latency_.record(static_cast<uint64_t>((now - started_[slot]).count()));
      in_flight_--;
      count++;
      if (now < deadline) submit(slot, now);
    }
    io_uring_cq_advance(&ring_, count);
  }

  const Settings& settings_;
  Fd fd_;
  BlockSchedule schedule_;
  std::vector<Clock::time_point> started_;
  LatencyHistogram latency_;
  io_uring ring_{};
  std::byte* memory_ = nullptr;
  uint32_t in_flight_ = 0;
};

}  // namespace

void measure_uring(const Settings& settings) { Loop(settings).run(); }

}  // namespace ringdisk::bench
