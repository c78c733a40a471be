// SPDX-License-Identifier: Apache-2.0
#include "disk_model.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/assert.h"
#include "base/units.h"
#include "platform/loopback/pattern.h"

namespace ringdisk::sim {
namespace {

using Words = std::array<uint64_t, kSectorBytes / sizeof(uint64_t)>;

Words content(uint64_t id, bool zero, uint64_t sector) {
  Words words{};
  if (!zero) fill_sector(reinterpret_cast<std::byte*>(words.data()), id, sector);
  return words;
}

}  // namespace

DiskModel::DiskModel(uint64_t sectors) : sectors_(sectors, Versions{{0, true, false, 0, 0}}) {}

void DiskModel::write_begins(uint64_t id, uint64_t sector, uint64_t count) {
  begin(id, false, sector, count);
}

void DiskModel::discard_begins(uint64_t id, uint64_t sector, uint64_t count) {
  begin(id, true, sector, count);
}

void DiskModel::write_ends(uint64_t id, uint64_t sector, uint64_t count) { end(id, sector, count); }

void DiskModel::discard_ends(uint64_t id, uint64_t sector, uint64_t count) {
  end(id, sector, count);
}

void DiskModel::begin(uint64_t id, bool discard, uint64_t sector, uint64_t count) {
  now_++;
  for (uint64_t i = sector; i < sector + count; i++)
    sectors_[i].push_back({id, discard, discard, now_, kInFlight});
}

// Also forgets what no read can see any more, so that versions stay as few as requests in flight.
void DiskModel::end(uint64_t id, uint64_t sector, uint64_t count) {
  now_++;
  const Time oldest_read = reads_.empty() ? now_ + 1 : *reads_.begin();
  for (uint64_t i = sector; i < sector + count; i++) {
    Versions& versions = sectors_[i];
    const auto found = std::ranges::find(versions, id, &Version::id);
    RD_ASSERT(found != versions.end());
    found->ended = now_;
    Versions kept;
    for (const Version& version : versions)
      if (!replaced(versions, version, oldest_read)) kept.push_back(version);
    versions = std::move(kept);
  }
}

// Whether a write that began after `version` was answered has itself been answered before `at`.
bool DiskModel::replaced(const Versions& versions, const Version& version, Time at) {
  return std::ranges::any_of(versions, [&](const Version& later) {
    return !later.hint && version.ended < later.begun && later.ended < at;
  });
}

DiskModel::Time DiskModel::read_begins() {
  reads_.insert(++now_);
  return now_;
}

std::string DiskModel::read_ends(Time begun, uint64_t sector, std::span<const std::byte> bytes) {
  now_++;
  reads_.erase(reads_.find(begun));
  for (; !bytes.empty(); bytes = bytes.subspan(kSectorBytes), sector++)
    if (std::string wrong = check_sector(begun, sector, bytes.first(kSectorBytes)); !wrong.empty())
      return wrong;
  return {};
}

std::string DiskModel::check_sector(Time begun, uint64_t sector, std::span<const std::byte> bytes) {
  Words found;
  std::memcpy(found.data(), bytes.data(), sizeof found);
  Versions& versions = sectors_[sector];
  const bool quiet = std::ranges::all_of(
      versions, [begun](const Version& version) { return version.ended < begun; });
  // Reads that began while a write was under way may have seen what was there before.
  const Time oldest_read = reads_.empty() ? begun : std::min(begun, *reads_.begin());
  const bool settled = std::ranges::all_of(
      versions, [oldest_read](const Version& version) { return version.ended < oldest_read; });
  std::vector<Words> legal;
  for (const Version& version : versions) {
    if (replaced(versions, version, begun)) continue;
    legal.push_back(content(version.id, version.zero, sector));
    if (legal.back() != found) continue;
    if (settled) versions = Versions{Version(version)};
    return {};
  }
  // A write under way may be half done, word by word, between what was there and what it brings.
  const auto explained = [&](size_t word) {
    return std::ranges::any_of(legal, [&](const Words& one) { return one[word] == found[word]; });
  };
  size_t word = 0;
  while (word < found.size() && explained(word)) word++;
  if (!quiet && word == found.size()) return {};
  std::string text = "sector " + std::to_string(sector) + " is none of";
  for (const Version& version : versions)
    text += " " + std::string(version.zero ? "zero@" : "write@") + std::to_string(version.id) +
            (version.ended == kInFlight ? "(in flight)" : "");
  return text;
}

}  // namespace ringdisk::sim
