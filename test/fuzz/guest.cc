// SPDX-License-Identifier: Apache-2.0
#include "guest.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <system_error>

#include "platform/loopback/loopback_platform.h"

namespace ringdisk::fuzz {
namespace {

constexpr Domid kDomid = 1;
constexpr uint32_t kPages = 64;
constexpr uint32_t kDiskSectors = CheckingTarget::kBytes / kSectorBytes;
constexpr std::byte kMark{0x5a};
// A rejected request costs its ring a millisecond; far more than a few of those is never needed.
constexpr auto kPatience = std::chrono::seconds(2);

template <typename T>
void put(std::byte* to, size_t offset, T value) {
  std::memcpy(to + offset, &value, sizeof value);
}

}  // namespace

uint32_t load_index(const std::byte* ring, size_t offset) {
  uint32_t value;
  std::memcpy(&value, ring + offset, sizeof value);
  return value;
}

void store_index(std::byte* ring, size_t offset, uint32_t value) {
  std::memcpy(ring + offset, &value, sizeof value);
}

Setting take_setting(Input& input) {
  const auto flags = input.take<uint8_t>();
  Setting setting;
  setting.abi = (flags & 1) != 0 ? Abi::x86_32 : Abi::x86_64;
  setting.io_alignment = (flags & 2) != 0 ? 4096 : 512;
  setting.disk.read_only = (flags & 4) != 0;
  setting.disk.discard = (flags & 8) == 0;
  setting.disk.indirect_segments_max = (flags & 16) != 0 ? 0 : kIndirectSegmentsMax;
  setting.disk.capacity_sectors = kDiskSectors;
  setting.grants = static_cast<GrantStrategy>(input.below(3));
  setting.persistent_pages = input.take<uint8_t>();
  return setting;
}

Guest::Guest() : domain_(machine_.dir(), kDomid, kPages) {
  ring_page_ = domain_.allocate_page();
  ring_ref_ = domain_.grant(ring_page_);
  port_ = domain_.open_port();
  first_page_ = domain_.allocate_pages(kWritable + kReadonly + kForeign);
  for (uint32_t i = 0; i < kWritable + kReadonly; i++)
    grefs_.push_back(domain_.grant(first_page_ + i, i >= kWritable));
  platform_ = make_loopback_platform(machine_.dir());
  ReactorOptions options;
  options.bounce_pool_bytes = 2u << 20;
  reactor_ = std::make_unique<Reactor>(*platform_, probe_uring(), options);
}

JournalIdentity Guest::identity(const Setting& setting) const {
  JournalIdentity identity;
  identity.abi = static_cast<uint32_t>(setting.abi);
  identity.domid = kDomid;
  identity.remote_port = port_;
  identity.ring_pages = 1;
  identity.ring_refs[0] = ring_ref_;
  return identity;
}

void Guest::reset() {
  for (uint32_t i = 0; i < kWritable; i++)
    std::memset(domain_.page(first_page_ + i), 0, kPageBytes);
  for (uint32_t i = kWritable; i < kWritable + kReadonly + kForeign; i++)
    std::memset(domain_.page(first_page_ + i), static_cast<int>(kMark), kPageBytes);
}

GrantRef Guest::take_gref(Input& input) const {
  const uint32_t pick = input.below(static_cast<uint32_t>(grefs_.size()) * 4);
  if (pick >= grefs_.size() * 3) return input.take<uint32_t>() | 0x8000;  // nobody's
  return grefs_[pick % grefs_.size()];
}

void Guest::take_segments(Input& input, uint32_t count, std::byte* to) const {
  for (uint32_t i = 0; i < count; i++, to += wire::kSegmentBytes) {
    put<uint64_t>(to, 0, 0);
    put<uint32_t>(to, 0, take_gref(input));
    const auto sectors = input.take<uint8_t>();
    put<uint8_t>(to, 4, sectors == 0 ? 0 : sectors & 7);
    put<uint8_t>(to, 5, sectors == 0 ? 7 : sectors >> 4);
  }
}

void Guest::take_entry(Input& input, const Setting& setting, std::byte* to) {
  const wire::Layout& layout = wire::layout(setting.abi);
  const auto how = input.take<uint8_t>();
  if (how >= 0xe0) return input.copy(to, layout.entry_bytes);
  std::memset(to, 0, layout.entry_bytes);
  const uint8_t operation = how % 7;
  put<uint8_t>(to, 0, operation);
  put<uint64_t>(to, layout.id, input.take<uint16_t>());
  put<uint64_t>(to, layout.sector, input.take<uint16_t>() % (kDiskSectors + 64));
  if (operation == wire::kDiscard) {
    put<uint64_t>(to, layout.discard_sectors, input.take<uint8_t>());
  } else if (operation == wire::kIndirect) {
    put<uint8_t>(to, wire::kIndirectOperation, static_cast<uint8_t>(input.below(3)));
    put<uint16_t>(to, wire::kIndirectNrSegments, input.take<uint8_t>());
    // The last readable pages hold segments.
    put<uint32_t>(to, layout.indirect_grefs, how < 0xc0 ? grefs_.back() : input.take<uint32_t>());
  } else {
    const uint32_t count = operation == wire::kFlushDiskcache ? 0 : input.below(13);
    put<uint8_t>(to, wire::kNrSegments, static_cast<uint8_t>(count));
    take_segments(input, std::min(count, kDirectSegmentsMax), to + layout.segments);
  }
}

void Guest::take_indirect_pages(Input& input) {
  std::byte* page = domain_.page(first_page_ + kWritable + kReadonly - 1);
  if (!input.empty()) take_segments(input, kIndirectSegmentsMax, page);
}

uint32_t Guest::page_of(uint32_t gref) const {
  const auto found = std::ranges::find(grefs_, gref);
  if (found == grefs_.end()) return kWritable + kReadonly;  // none
  return static_cast<uint32_t>(found - grefs_.begin());
}

bool Guest::can_use(uint32_t gref, bool write) const {
  return page_of(gref) < (write ? kWritable : kWritable + kReadonly);
}

bool Guest::is_predictable(const Setting& setting, std::span<const std::byte> entry) const {
  const Asked asked = read_entry(setting.abi, entry);
  if (asked.operation == 6)
    return asked.indirect_gref != ring_ref_ && !can_use(asked.indirect_gref, true);
  return std::ranges::none_of(asked.segments, [this](const xen_abi::Segment& segment) {
    return segment.gref == ring_ref_;
  });
}

Answer Guest::deserved(const Setting& setting, std::span<const std::byte> entry) {
  const Asked asked = read_entry(setting.abi, entry);
  std::vector<xen_abi::Segment> segments = asked.segments;
  Answer answer{asked.id, answered_operation(asked), -1};
  if (asked.operation == 6 && has_segment_count(asked, setting.disk)) {
    if (!can_use(asked.indirect_gref, false)) return answer;
    const std::byte* page = domain_.page(first_page_ + page_of(asked.indirect_gref));
    segments.resize(asked.segment_count);
    std::memcpy(segments.data(), page, segments.size() * sizeof segments[0]);
  }
  answer.status = deserved_status(asked, segments, setting.disk);
  if (answer.status != 0) return answer;
  const bool to_guest = asked.operation == 0 || (asked.operation == 6 && asked.second == 0);
  for (const xen_abi::Segment& segment : segments)
    if (!can_use(segment.gref, to_guest)) answer.status = -1;
  return answer;
}

struct Guest::Events final : QueueEvents {
  void ring_broken(uint32_t, uint32_t, const char* reason) override {
    FUZZ_CHECK(reason != nullptr);
    broken++;
  }
  void queue_recovered(uint32_t, uint32_t) override {}
  void io_failing(uint32_t, uint32_t, int) override { FUZZ_CHECK(!"I/O failed"); }
  void io_recovered(uint32_t, uint32_t) override { FUZZ_CHECK(!"I/O had failed"); }
  void queue_closed(uint32_t, uint32_t, bool) override { closed.set_value(); }

  std::promise<void> closed;
  int broken = 0;
};

// All of it on the reactor's thread, step by step, so that one input always does the same.
// Clear: what is marked in it now is what this input has written.
std::shared_ptr<const Bitmaps> Guest::new_bitmap() const {
  const std::string path = machine_.dir() + "/bitmap";
  ::unlink(path.c_str());
  Bitmap::create(path, CheckingTarget::kBytes, Bitmap::kGranularityMin, "");
  return std::make_shared<const Bitmaps>(Bitmaps{std::make_shared<Bitmap>(path)});
}

Guest::Outcome Guest::serve(const Setting& setting, const std::string& journal, bool take_over,
                            uint32_t answers) {
  Events events;
  auto shared = std::make_shared<VbdShared>();
  shared->domid = kDomid;
  shared->abi = setting.abi;
  shared->grants = setting.grants;
  shared->geometry = setting.disk;
  shared->capacity_sectors = setting.disk.capacity_sectors;
  shared->persistent_pages_max = setting.persistent_pages;
  shared->target = std::make_shared<CheckingTarget>(setting.io_alignment, setting.disk.read_only);
  shared->target->track(new_bitmap());
  shared->budget = &budget_;
  shared->events = &events;
  const QueueOptions options{0, {ring_ref_}, port_, journal, take_over};
  const uint32_t from = load_index(ring(), wire::kRspProd);
  std::unique_ptr<Queue> queue;
  Outcome outcome;
  reactor_->post([&] {
    try {
      queue =
          std::make_unique<Queue>(*reactor_, shared, options, std::make_shared<QueueCounters>());
    } catch (const std::system_error& error) {
      outcome.refused = error.what();
      return events.closed.set_value();
    }
    queue->serve();
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    do {
      queue->poll();
      queue->finish();
    } while (events.broken == 0 && load_index(ring(), wire::kRspProd) - from < answers &&
             std::chrono::steady_clock::now() < deadline);
    queue->close();
  });
  events.closed.get_future().wait();
  // Behind whatever the reactor still does in the round that let go of the queue.
  std::promise<void> over;
  reactor_->post([&over] { over.set_value(); });
  over.get_future().wait();
  outcome.broken = events.broken;
  return outcome;
}

std::vector<Answer> Guest::published(const Setting& setting, uint32_t from) const {
  const std::byte* ring = domain_.page(ring_page_);
  const uint32_t count = load_index(ring, wire::kRspProd) - from;
  FUZZ_CHECK(count <= kEntries);
  std::vector<Answer> answers;
  for (uint32_t i = from; i != from + count; i++) {
    const std::byte* entry = ring + wire::kRingHeaderBytes +
                             (i & (kEntries - 1)) * wire::layout(setting.abi).entry_bytes;
    Answer answer;
    std::memcpy(&answer.id, entry, sizeof answer.id);
    std::memcpy(&answer.operation, entry + 8, sizeof answer.operation);
    std::memcpy(&answer.status, entry + 10, sizeof answer.status);
    answers.push_back(answer);
  }
  return answers;
}

void Guest::check_untouched() {
  FUZZ_CHECK(domain_.grants_in_use() == 0);
  FUZZ_CHECK(budget_.used() == 0);
  const auto is_marked = [](std::byte byte) { return byte == kMark; };
  for (uint32_t i = kWritable; i < kWritable + kReadonly + kForeign; i++) {
    if (i == kWritable + kReadonly - 1) continue;  // holds segments
    const std::byte* page = domain_.page(first_page_ + i);
    FUZZ_CHECK(std::all_of(page, page + kPageBytes, is_marked));
  }
}

}  // namespace ringdisk::fuzz
