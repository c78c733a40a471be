// SPDX-License-Identifier: Apache-2.0
#include "engine/fill_open.h"

#include <cerrno>
#include <utility>

namespace ringdisk {
namespace {

std::string bytes(uint64_t count) { return std::to_string(count) + " bytes"; }

bool differs(uint64_t before, uint64_t now) { return before != 0 && now != 0 && before != now; }

uint64_t identity_of(const Target& target) {
  return lasting_identity(target.facts().identity.data());
}

}  // namespace

FillOpen::FillOpen(TargetSpec spec, Open open, Reactor& reactor, Done done)
    : spec_(std::move(spec)),
      fill_(*spec_.fill),
      open_(std::move(open)),
      reactor_(reactor),
      done_(std::move(done)) {}

void FillOpen::begin() {
  TargetSpec local = fill_.local;
  local.read_only = spec_.read_only;
  next(local, &FillOpen::local_is_open);
}

void FillOpen::next(const TargetSpec& spec, Then then) {
  bool is_over = false;
  uint32_t step = 0;
  {
    const std::lock_guard lock(mutex_);
    is_over = is_cancelled_;
    step = ++step_;
    cancel_ = nullptr;
  }
  if (is_over) return fail(ECANCELED, "given up: " + spec_.path);
  Cancel cancel = open_(spec, [self = shared_from_this(), then](Workers::Opened opened) {
    (self.get()->*then)(std::move(opened));
  });
  bool is_late = false;
  {
    const std::lock_guard lock(mutex_);
    if (step != step_) return;  // it has been answered, and the next one is under way
    cancel_ = cancel;
    is_late = is_cancelled_;
  }
  if (is_late) cancel();
}

void FillOpen::cancel() {
  Cancel cancel;
  {
    const std::lock_guard lock(mutex_);
    is_cancelled_ = true;
    cancel = cancel_;
  }
  if (cancel) cancel();
}

void FillOpen::local_is_open(Workers::Opened opened) {
  if (opened.error != 0) return fail(opened.error, opened.text);
  local_ = std::move(opened.target);
  const MediumFacts& facts = local_->facts();
  parts_.map_path = fill_.map_path;
  if (parts_.map_path.empty() && facts.kind != MediumKind::file)
    return fail(EINVAL, "cannot fill " + fill_.local.path +
                            ": what is here of a disk that is no file is noted in a file of its "
                            "own; say where by fill:map=/PATH:");
  if (parts_.map_path.empty()) parts_.map_path = fill_.local.path + ".fill";
  const uint64_t chunks = fill_chunks(facts.capabilities.capacity, fill_.chunk_bytes);
  if (chunks > kFillChunksMax)
    return fail(EINVAL, "cannot fill " + fill_.local.path + " in chunks of " +
                            bytes(fill_.chunk_bytes) + ": they are too many; choose larger ones");
  TargetSpec map;
  map.kind = "file";
  map.path = parts_.map_path;
  map.read_only = spec_.read_only;
  map.create_bytes = fill_map_bytes(chunks);
  next(map, &FillOpen::map_is_open);
}

void FillOpen::map_is_open(Workers::Opened opened) {
  if (opened.error != 0) return fail(opened.error, opened.text);
  parts_.map = std::move(opened.target);
  FillHeader& found = parts_.header;
  head_ = read_fill_head(parts_.map->facts().head, found);
  if (head_ == FillHead::foreign)
    return fail(EUCLEAN, parts_.map_path + " is not the map of a fill, or it is damaged");
  if (head_ == FillHead::ours) {
    const std::string wrong = wrong_map(found);
    if (!wrong.empty()) return fail(ESTALE, wrong);
    if (found.state == FillHeader::full) {
      parts_.map->close([map = parts_.map](const TargetAnswer&) {});
      return done_({.error = 0, .text = "", .target = std::move(local_)});
    }
  }
  TargetSpec source = fill_.source;
  source.read_only = true;
  if (head_ == FillHead::fresh || !fill_.late_source)
    return next(source, &FillOpen::source_is_open);
  parts_.late_source = {
      .open = [open = open_, source](Done opened_later) { return open(source, opened_later); },
      .wrong = [self = shared_from_this(),
                found](const Target& target) { return self->wrong_source(target, found); }};
  finish();
}

std::string FillOpen::wrong_map(const FillHeader& found) const {
  if (differs(found.local_identity, identity_of(*local_)))
    return parts_.map_path + " says what is here of another disk than " + fill_.local.path +
           ": put back the one it belongs to, or remove the map to fill this one anew";
  const bool is_sound = found.chunk_bytes >= kFillChunkBytesMin &&
                        found.chunk_bytes <= kFillChunkBytesMax && found.source_bytes > 0 &&
                        (found.chunk_bytes & (found.chunk_bytes - 1)) == 0;
  const uint64_t chunks = is_sound ? fill_chunks(found.source_bytes, found.chunk_bytes) : 0;
  if (is_sound && fill_map_bytes(chunks) <= parts_.map->capabilities().capacity) return "";
  return parts_.map_path + " is damaged: it is shorter than what it says";
}

void FillOpen::source_is_open(Workers::Opened opened) {
  if (opened.error != 0)
    return fail(opened.error, "the source of " + fill_.local.path + ": " + opened.text);
  parts_.source = std::move(opened.target);
  FillHeader& header = parts_.header;
  if (head_ == FillHead::ours) {
    const std::string wrong = wrong_source(*parts_.source, header);
    if (!wrong.empty()) return fail(ESTALE, wrong);
  } else {
    header = {};
    header.chunk_bytes = fill_.chunk_bytes;
    header.source_bytes = parts_.source->capabilities().capacity;
    header.local_identity = identity_of(*local_);
    header.source_identity = identity_of(*parts_.source);
  }
  finish();
}

void FillOpen::finish() {
  const uint64_t has = local_->capabilities().capacity;
  const uint64_t wanted = parts_.header.source_bytes;
  if (wanted > has)
    return fail(EINVAL, "cannot fill " + fill_.local.path + " of " + bytes(has) +
                            " from a source of " + bytes(wanted) + ": make it at least as large");
  parts_.local = std::move(local_);
  done_({.error = 0,
         .text = "",
         .target = std::make_unique<FillTarget>(reactor_, fill_, std::move(parts_))});
}

std::string FillOpen::wrong_source(const Target& source, const FillHeader& found) const {
  const uint64_t now = source.capabilities().capacity;
  const std::string but =
      ": put back the one that " + fill_.local.path + " has been filled from until now";
  if (now != found.source_bytes)
    return "the source " + fill_.source.path + " has " + bytes(now) + ", and had " +
           bytes(found.source_bytes) + " when the fill began" + but;
  if (differs(found.source_identity, identity_of(source)))
    return "the source " + fill_.source.path + " is another medium than when the fill began" + but;
  return "";
}

// What was opened is closed with its last holder.
void FillOpen::fail(int error, const std::string& text) {
  done_({.error = error, .text = text, .target = nullptr});
}

}  // namespace ringdisk
