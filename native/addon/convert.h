// SPDX-License-Identifier: Apache-2.0
// JavaScript values to plain structs and back; the types are those of src/datapath/binding.ts. The
// facade there has checked its callers: what is wrong here is a mistake of ours and throws
// TypeError.
#pragma once

#include <napi.h>

#include <memory>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

#include "engine/engine.h"
#include "io/uring.h"

namespace ringdisk {

struct EngineSettings {
  bool loopback = false;
  std::string machine_dir;
  EngineOptions options;
};

EngineSettings to_engine_settings(const Napi::Object& object);
TargetSpec to_target_spec(const Napi::Object& object);
TargetClaim to_target_claim(const Napi::Object& object);
Napi::Array from_waits(Napi::Env env, const std::vector<TargetWait>& waits);
ConnectRequest to_connect_request(const Napi::Object& object);
LimitRates to_limit_rates(const Napi::Object& object);
ExportRequest to_export_request(const Napi::Object& object);
std::vector<std::string> to_paths(const Napi::Array& array);
MirrorSetup to_mirror_setup(const Napi::Object& object);
MirrorWish to_mirror_wish(const Napi::Object& object);

Napi::Object from_uring_features(Napi::Env env, const UringFeatures& features);
Napi::Object from_event(Napi::Env env, const EngineEvent& event);
Napi::Value from_fill_status(Napi::Env env, const std::optional<FillStatus>& status);
Napi::Value from_mirror_status(Napi::Env env, const std::optional<MirrorStatus>& status);
Napi::Object from_vbd_counters(Napi::Env env,
                               const std::vector<std::shared_ptr<QueueCounters>>& queues);
Napi::Object from_vbd_latency(Napi::Env env,
                              const std::vector<std::shared_ptr<QueueCounters>>& queues);
Napi::Object from_engine_counters(Napi::Env env, const Engine& engine);

// "ENOENT" for ENOENT.
std::string errno_name(int error);

// Native failures as JavaScript errors, with the errno's name in `code` where they have one.
template <typename Body>
auto guarded(Napi::Env env, Body body) {
  try {
    return body();
  } catch (const std::system_error& error) {
    Napi::Error wrapped = Napi::Error::New(env, error.what());
    wrapped.Set("code", errno_name(error.code().value()));
    throw wrapped;
  } catch (const std::invalid_argument& error) {
    throw Napi::RangeError::New(env, error.what());
  } catch (const Napi::Error&) {
    throw;
  } catch (const std::exception& error) {
    throw Napi::Error::New(env, error.what());
  }
}

}  // namespace ringdisk
