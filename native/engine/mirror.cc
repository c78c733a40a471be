// SPDX-License-Identifier: Apache-2.0
#include "engine/mirror.h"

#include <cerrno>
#include <new>
#include <system_error>
#include <utility>

#include "channels/mirror_filter.h"

namespace ringdisk {

Mirror::Mirror(Reactor& reactor, std::shared_ptr<Target> source, const MirrorSetup& setup,
               std::function<void()> changed)
    : reactor_(reactor),
      source_(std::move(source)),
      changed_(std::move(changed)),
      state_(setup.map_path) {
  const auto fail = [](const char* what) {
    throw std::system_error(ESTALE, std::generic_category(), what);
  };
  if (state_.map.state() != Bitmap::State::recording) fail("this mirror has failed before");
  if (state_.map.covered() != source_->capabilities().capacity)
    fail("the map of this mirror is of a disk of another size");
  if (state_.chunk_bytes() > BouncePool::kBlockBytesMax)
    fail("the chunks of this mirror's map are too large");
  if (setup.is_new) state_.map.set(0, state_.map.covered());
  state_.wants_sync = setup.wish.sync;
  state_.paused = setup.wish.paused;
  state_.rate = setup.wish.rate;
}

void Mirror::make(Answer answer) {
  reactor_.post_always([self = shared_from_this(), answer = std::move(answer)] {
    const auto post = [self = self.get()](std::function<void()> work) {
      self->reactor_.post_always(std::move(work));
    };
    TargetAnswer result;
    try {
      self->place_ = std::make_unique<HomePlace>(self->reactor_, MirrorHome::kDepth);
      const ChannelContext& context = self->place_->context();
      self->home_ = std::make_unique<MirrorHome>(
          self->state_, context,
          MirrorHome::Setup{
              .source = self->source_->open_channel(context),
              .source_is_fenced = [source = self->source_.get()] { return source->fenced(); },
              .post = post,
              .on_change = self->changed_});
    } catch (const std::system_error& error) {
      result = {.error = error.code().value(), .text = error.what()};
    } catch (const std::bad_alloc&) {
      result = {.error = ENOMEM, .text = "no memory for a mirror"};
    }
    if (result.error != 0) self->place_.reset();
    answer(result);
  });
}

// A channel that cannot be had ends it.
void Mirror::give(std::shared_ptr<Target> destination, Answer answer) {
  destination_ = std::move(destination);
  reactor_.post_always(
      [self = shared_from_this(), target = destination_, answer = std::move(answer)] {
        if (!self->home_) return answer({.error = ECANCELED, .text = "the mirror was closed"});
        try {
          self->home_->destination_is_here(target->open_channel(self->place_->context()));
          answer({});
        } catch (const std::system_error& error) {
          self->home_->fail(error.code().value());
          answer({.error = error.code().value(), .text = error.what()});
        }
      });
}

void Mirror::tell_home(std::function<void(MirrorHome&)> what) {
  reactor_.post_always([self = shared_from_this(), what = std::move(what)] {
    if (self->home_) what(*self->home_);
  });
}

void Mirror::set(const MirrorWish& wish) {
  state_.wants_sync = wish.sync;
  state_.paused = wish.paused;
  state_.rate = wish.rate;
  tell_home([](MirrorHome& home) { home.settings_changed(); });
}

void Mirror::end(int error) {
  tell_home([error](MirrorHome& home) { home.fail(error); });
}

// Not where the home is at work.
void Mirror::close(Answer answer, std::function<void()> gone) {
  reactor_.post_always([self = shared_from_this(), answer, gone] {
    const auto source_is_free = [self, answer] { self->reactor_.later([answer] { answer({}); }); };
    const auto closed = [self, gone] {
      self->reactor_.later([self, gone] {
        self->home_.reset();
        self->place_.reset();
        gone();
      });
    };
    self->home_->close(source_is_free, closed);
  });
}

FilterMaker Mirror::filter() {
  return [self = shared_from_this()](const ChannelContext& context) {
    return std::make_unique<MirrorFilter>(*self->home_, self->state_, context);
  };
}

MirrorStatus Mirror::status() const {
  MirrorStatus status;
  status.bytes = state_.map.covered();
  status.behind_bytes =
      std::min(state_.behind.load(std::memory_order_relaxed) * state_.chunk_bytes(), status.bytes);
  status.copied_bytes = state_.copied_bytes.load(std::memory_order_relaxed);
  status.speed = state_.speed.load(std::memory_order_relaxed);
  status.source_errors = state_.source_errors.load(std::memory_order_relaxed);
  status.sync = state_.wants_sync.load(std::memory_order_relaxed);
  status.has_destination = state_.has_destination.load(std::memory_order_relaxed);
  status.swept = state_.swept.load(std::memory_order_relaxed);
  const bool is_over = state_.over.load(std::memory_order_acquire);
  status.ready = state_.ready.load(std::memory_order_acquire);
  status.error = is_over ? state_.error.load(std::memory_order_relaxed) : 0;
  return status;
}

}  // namespace ringdisk
