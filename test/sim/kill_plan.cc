// SPDX-License-Identifier: Apache-2.0
#include "kill_plan.h"

#include <array>

#include "random.h"

namespace ringdisk::sim {
namespace {

constexpr std::array kKillPoints = {
    KnownKillPoint{"connect:mapped", 4},       KnownKillPoint{"connect:journal-nearly", 1},
    KnownKillPoint{"connect:journal", 4},      KnownKillPoint{"connect:bound", 4},
    KnownKillPoint{"connect:made", 4},         KnownKillPoint{"connect:all-made", 1},
    KnownKillPoint{"connect:serving", 4},      KnownKillPoint{"connect:ready", 4},
    KnownKillPoint{"recover:sorted", 4},       KnownKillPoint{"recover:noted", 4},
    KnownKillPoint{"recover:one-freed", 2},    KnownKillPoint{"recover:one-redelivered", 2},
    KnownKillPoint{"recover:redelivered", 4},  KnownKillPoint{"recover:batch-accepted", 2},
    KnownKillPoint{"take:one-copied", 100},    KnownKillPoint{"take:copied", 30},
    KnownKillPoint{"take:checked", 30},        KnownKillPoint{"dispatch:attached", 30},
    KnownKillPoint{"dispatch:prepared", 30},   KnownKillPoint{"submit:entered", 200},
    KnownKillPoint{"advance:completed", 100},  KnownKillPoint{"retry:waiting", 10},
    KnownKillPoint{"answer:before-done", 100}, KnownKillPoint{"answer:done", 100},
    KnownKillPoint{"answer:written", 100},     KnownKillPoint{"publish:before", 30},
    KnownKillPoint{"publish:shown", 30},       KnownKillPoint{"publish:noted", 30},
    KnownKillPoint{"publish:one-freed", 100},  KnownKillPoint{"publish:freed", 30},
    KnownKillPoint{"disconnect:asked", 4},     KnownKillPoint{"disconnect:drained", 4},
    KnownKillPoint{"disconnect:unmapped", 4},  KnownKillPoint{"disconnect:unbound", 4},
    KnownKillPoint{"disconnect:discarded", 4}, KnownKillPoint{"mark:marked", 100},
};

// Each costs a tenth of a second, the shortest wait before another try.
constexpr uint32_t kFaultyPercent = 3;
constexpr uint32_t kFewRequests = 20;
constexpr uint32_t kRequests = 150;

KillPlan pick(uint64_t seed, uint64_t cycle, const std::string& only) {
  Random random(seed, Random::Stream::kill, cycle);
  KillPlan plan;
  plan.requests = random.percent(30) ? random.below(kFewRequests) : random.below(kRequests);
  const uint32_t roll = random.below(100);
  const KnownKillPoint* point = &kKillPoints[random.below(kKillPoints.size())];
  for (const KnownKillPoint& one : kKillPoints)
    if (only == one.name) point = &one;
  // Killed from outside, at no particular step, or not before it has disconnected.
  if (only.empty() && roll < 20) {
    plan.disconnect = roll < 4;
    return plan;
  }
  plan.kill_point = point->name;
  plan.count = 1 + random.below(point->spread);
  plan.disconnect = plan.kill_point.starts_with("disconnect:");
  return plan;
}

}  // namespace

std::span<const KnownKillPoint> known_kill_points() { return kKillPoints; }

// Some steps of a recovery are only taken when the life before ended at the right step.
KillPlan plan_kill(uint64_t seed, uint64_t cycle, const std::string& only) {
  KillPlan plan = pick(seed, cycle, only);
  const std::string next = pick(seed, cycle + 1, only).kill_point;
  if (next != only && next == "recover:one-freed") plan.kill_point = "publish:noted";
  if (next != only && next.starts_with("recover:one-re")) plan.kill_point = "answer:written";
  const bool by_chance = Random(seed, Random::Stream::fault, cycle).percent(kFaultyPercent);
  // At a disconnect what fails would be answered so.
  plan.faulty = !plan.disconnect && (by_chance || plan.kill_point.starts_with("retry:"));
  return plan;
}

}  // namespace ringdisk::sim
