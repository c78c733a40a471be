// SPDX-License-Identifier: Apache-2.0
#include "engine/fill_core.h"

#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <system_error>
#include <utility>

namespace ringdisk {
namespace {

// By the map's path: who finds the map finds this one.
std::string live_path(const std::string& folder, const std::string& map_path) {
  if (folder.empty()) return "";
  ::mkdir(folder.c_str(), 0700);  // where it cannot be made the map says so
  std::array<char, 32> name{};
  std::snprintf(name.data(), name.size(), "/%016" PRIx64 ".map", hash_of(map_path));
  return folder + name.data();
}

void add_line(std::string& lines, const std::string& line) {
  if (line.empty()) return;
  if (!lines.empty()) lines += "\n";
  lines += line;
}

}  // namespace

FillCore::FillCore(Reactor& reactor, const FillSpec& spec, FillTarget::Parts parts,
                   std::shared_ptr<std::atomic<bool>> fenced)
    : reactor_(reactor),
      live_path_(live_path(spec.live_dir, parts.map_path)),
      rate_(spec.rate),
      fenced_(std::move(fenced)),
      local_(std::move(parts.local)),
      map_(std::move(parts.map)),
      source_(std::move(parts.source)),
      late_source_(std::move(parts.late_source)) {
  source_alarm_.core = this;
  state_.header = parts.header;
  state_.chunks = fill_chunks(parts.header.source_bytes, parts.header.chunk_bytes);
  state_.absent = state_.chunks;
}

std::shared_ptr<Target> FillCore::source() const {
  const std::lock_guard lock(mutex_);
  return source_;
}

// The disk first: who has it has all of it. Two homes of one map would not know of each other,
// though their disks may be shared. A source may be read by many, and be written by nobody.
void FillCore::claim(const TargetClaim& claim, Target::Answer answer, Target::Lifted lifted) {
  auto attempt = std::make_shared<Attempt>();
  attempt->answer = std::move(answer);
  attempt->lifted = std::move(lifted);
  const TargetClaim alone{.share = false, .take_over = claim.take_over};
  claim_part(attempt, local_, claim, [self = shared_from_this(), attempt, alone] {
    self->claim_part(attempt, self->map_, alone, [self, attempt, alone] {
      const auto go_on = [self, attempt] {
        self->reactor_.post_always([self, attempt] { self->make_home(attempt); });
      };
      const std::shared_ptr<Target> source = self->source();
      if (!source) return go_on();  // it comes later
      self->claim_part(attempt, source, alone, go_on);
    });
  });
}

void FillCore::claim_part(const Try& attempt, const std::shared_ptr<Target>& part,
                          const TargetClaim& claim, std::function<void()> then) {
  const auto claimed = [self = shared_from_this(), attempt,
                        then = std::move(then)](const TargetAnswer& answer) {
    if (answer.error != 0) return attempt->answer(answer);
    add_line(attempt->warnings, answer.text);
    if (answer.fenced) {
      attempt->holding++;
      self->fenced_->store(true, std::memory_order_release);
    }
    then();
  };
  part->claim(claim, claimed, [self = shared_from_this(), attempt](const std::string& warning) {
    self->reactor_.post_always(
        [self, attempt, warning] { self->release(attempt, false, warning); });
  });
}

// From here on the reactor's thread.
void FillCore::make_home(const Try& attempt) {
  if (closing_) return attempt->answer({.error = ECANCELED, .text = "it was closed"});
  loading_ = true;
  try {
    place_ = std::make_unique<HomePlace>(reactor_, FillHome::kDepth);
    const ChannelContext& context = place_->context();
    FillHome::Setup setup;
    setup.local = local_->open_channel(context);
    setup.map = map_->open_channel(context);
    if (const std::shared_ptr<Target> now = source()) setup.source = now->open_channel(context);
    setup.local_alignment = local_->capabilities().io_alignment;
    setup.live_path = live_path_;
    setup.rate = rate_;
    setup.post = [this](std::function<void()> work) { reactor_.post_always(std::move(work)); };
    setup.on_full = [this] { let_source_go(); };
    home_ = std::make_unique<FillHome>(state_, context, std::move(setup));
  } catch (const std::system_error& error) {
    return loaded(attempt, error.code().value(), error.what());
  } catch (const std::bad_alloc&) {
    return loaded(attempt, ENOMEM, "no memory for a fill");
  }
  home_->load([self = shared_from_this(), attempt](int error, const std::string& text) {
    // Not here: the home is at work.
    self->reactor_.later([self, attempt, error, text] { self->loaded(attempt, error, text); });
  });
}

void FillCore::loaded(const Try& attempt, int error, const std::string& text) {
  loading_ = false;
  if (after_load_)
    return drop_home([attempt, close = std::exchange(after_load_, nullptr)] {
      attempt->answer({.error = ECANCELED, .text = "it was closed"});
      close();
    });
  if (error != 0)
    return drop_home([attempt, error, text] { attempt->answer({.error = error, .text = text}); });
  home_now_.store(home_.get(), std::memory_order_release);
  const bool is_full = state_.straight.load(std::memory_order_relaxed);
  source_is_late_ = late_source_.open && !source() && !is_full;
  if (source_is_late_) open_source();
  release(attempt, true, "");
}

// The last of what holds it lets it go.
void FillCore::release(const Try& attempt, bool is_last_claim, const std::string& warning) {
  add_line(attempt->lifted_warnings, warning);
  const bool is_free = --attempt->holding == 0;
  if (is_free) {
    fenced_->store(false, std::memory_order_release);
    if (home_ && !closing_) home_->begin();
  }
  if (is_last_claim) {
    add_line(attempt->warnings, std::exchange(attempt->lifted_warnings, ""));
    attempt->answer({.text = attempt->warnings, .fenced = !is_free});
  } else if (is_free) {
    attempt->lifted(attempt->lifted_warnings);
  }
}

void FillCore::settings_changed() {
  reactor_.post_always([self = shared_from_this()] {
    if (self->home_) self->home_->settings_changed();
  });
}

void FillCore::let_source_go() {
  stop_opening_source();
  std::shared_ptr<Target> source;
  {
    const std::lock_guard lock(mutex_);
    source.swap(source_);
  }
  if (source) source->close([source](const TargetAnswer&) {});
  place_->give_memory_back();
}

// One that is being claimed is closed when its map has been read, or could not be.
void FillCore::close(Target::Answer answer) {
  home_now_.store(nullptr, std::memory_order_release);
  reactor_.post_always([self = shared_from_this(), answer = std::move(answer)] {
    self->closing_ = true;
    std::function<void()> parts = [self, answer] { self->close_parts(answer); };
    if (self->loading_)
      self->after_load_ = std::move(parts);
    else
      self->drop_home(std::move(parts));
  });
}

// On the reactor's thread, whose lanes its channels have. Not while it is at work.
void FillCore::drop_home(std::function<void()> then) {
  stop_opening_source();
  const auto drop = [self = shared_from_this(), then = std::move(then)] {
    self->home_.reset();
    self->place_.reset();
    then();
  };
  if (!home_) return drop();
  home_->close([self = shared_from_this(), drop] { self->reactor_.later(drop); });
}

void FillCore::close_parts(Target::Answer answer) {
  const auto map_is_closed = [self = shared_from_this(), answer](const TargetAnswer&) {
    const std::shared_ptr<Target> source = self->source();
    if (source)
      source->close(answer);
    else
      answer({});
  };
  local_->close([self = shared_from_this(), map_is_closed](const TargetAnswer&) {
    self->map_->close(map_is_closed);
  });
}

}  // namespace ringdisk
