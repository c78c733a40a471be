// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "channels/fill_home.h"
#include "channels/fill_state.h"
#include "engine/fill_target.h"
#include "engine/home_place.h"
#include "reactor/reactor.h"

namespace ringdisk {

// What is behind a FillTarget, and stays until the last answer is given. The parts are claimed on
// whichever thread answers the one before, one after the other; then all is the reactor's.
class FillCore : public std::enable_shared_from_this<FillCore> {
 public:
  FillCore(Reactor& reactor, const FillSpec& spec, FillTarget::Parts parts,
           std::shared_ptr<std::atomic<bool>> fenced);

  void claim(const TargetClaim& claim, Target::Answer answer, Target::Lifted lifted);
  void close(Target::Answer answer);

  const std::shared_ptr<Target>& local() const { return local_; }
  const std::shared_ptr<Target>& map() const { return map_; }
  // Null once it has been let go of.
  std::shared_ptr<Target> source() const;
  FillState& state() { return state_; }
  FillHome* home() const { return home_now_.load(std::memory_order_acquire); }
  void settings_changed();

 private:
  // One try to claim it. Each part may say that a dead process's I/O is under way.
  struct Attempt {
    Target::Answer answer;
    Target::Lifted lifted;
    std::string warnings;
    std::string lifted_warnings;  // on the reactor's thread
    std::atomic<int> holding{1};  // fences, and one until all is claimed
  };
  using Try = std::shared_ptr<Attempt>;

  void claim_part(const Try& attempt, const std::shared_ptr<Target>& part, const TargetClaim& claim,
                  std::function<void()> then);
  void make_home(const Try& attempt);
  void loaded(const Try& attempt, int error, const std::string& text);
  void release(const Try& attempt, bool is_last_claim, const std::string& warning);
  void let_source_go();
  // fill_source.cc
  void open_source();
  void source_is_open(const std::shared_ptr<Target>& target, int error);
  void source_is_claimed(const std::shared_ptr<Target>& target, const TargetAnswer& answer);
  void source_failed(int error);
  void stop_opening_source();
  void drop_home(std::function<void()> then);
  void close_parts(Target::Answer answer);

  Reactor& reactor_;
  const std::string live_path_;
  const uint64_t rate_;
  const std::shared_ptr<std::atomic<bool>> fenced_;
  const std::shared_ptr<Target> local_;
  const std::shared_ptr<Target> map_;
  mutable std::mutex mutex_;  // guards source_
  std::shared_ptr<Target> source_;
  FillState state_;
  // On the reactor's thread.
  struct SourceAlarm final : Alarm {
    FillCore* core = nullptr;
    void on_alarm(uint64_t) override { core->open_source(); }
  };
  const FillSource late_source_;
  FillSource::Cancel cancel_source_;
  SourceAlarm source_alarm_;
  uint64_t source_delay_us_ = 0;
  bool source_is_late_ = false;  // it is opened, or to be opened again
  bool loading_ = false;
  bool closing_ = false;
  std::function<void()> after_load_;  // it was closed meanwhile
  std::unique_ptr<HomePlace> place_;
  std::unique_ptr<FillHome> home_;
  std::atomic<FillHome*> home_now_{nullptr};
};

}  // namespace ringdisk
