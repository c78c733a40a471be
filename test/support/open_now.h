// SPDX-License-Identifier: Apache-2.0
// Targets opened and claimed by real workers, one step after the other.
#pragma once

#include <future>
#include <memory>
#include <stdexcept>
#include <system_error>
#include <utility>

#include "targets/null_target.h"
#include "targets/workers.h"

namespace ringdisk {

// Of the whole test program.
inline Workers& test_workers() {
  static Workers workers;
  return workers;
}

[[noreturn]] inline void throw_refusal(int error, const std::string& text) {
  if (error == EINVAL) throw std::invalid_argument(text);
  throw std::system_error(error, std::generic_category(), text);
}

inline TargetAnswer answer_of(const std::function<void(Target::Answer)>& ask) {
  std::promise<TargetAnswer> answered;
  ask([&answered](TargetAnswer answer) { answered.set_value(std::move(answer)); });
  TargetAnswer answer = answered.get_future().get();
  if (answer.error != 0) throw_refusal(answer.error, answer.text);
  return answer;
}

// Not claimed: what an offer does.
inline std::unique_ptr<Target> open_only(const TargetSpec& spec) {
  if (spec.kind == "null") return std::make_unique<NullTarget>(spec);
  std::promise<Workers::Opened> opened;
  test_workers().open(spec,
                      [&opened](Workers::Opened result) { opened.set_value(std::move(result)); });
  Workers::Opened result = opened.get_future().get();
  if (result.error != 0) throw_refusal(result.error, result.text);
  return std::move(result.target);
}

inline TargetAnswer claim_now(Target& target, const TargetClaim& claim = {}) {
  return answer_of([&](Target::Answer answer) { target.claim(claim, std::move(answer), nullptr); });
}

inline std::unique_ptr<Target> open_target(const TargetSpec& spec, const TargetClaim& claim = {}) {
  std::unique_ptr<Target> target = open_only(spec);
  claim_now(*target, claim);
  return target;
}

inline void measure_now(Target& target) {
  const TargetAnswer size =
      answer_of([&](Target::Answer answer) { target.measure(std::move(answer)); });
  target.resize(size.capacity, size.direct_end);
}

inline void close_now(std::unique_ptr<Target> target) {
  answer_of([&](Target::Answer answer) { target->close(std::move(answer)); });
}

}  // namespace ringdisk
