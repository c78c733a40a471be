// SPDX-License-Identifier: Apache-2.0
#include "addon/loopback_convert.h"

#include <array>
#include <cmath>
#include <optional>
#include <utility>

namespace ringdisk {

namespace {

constexpr double kSafeIntegerMax = 9007199254740991.0;  // Number.MAX_SAFE_INTEGER

Napi::Object to_object(Napi::Value value, const char* name) {
  if (!value.IsObject()) {
    throw Napi::TypeError::New(value.Env(), std::string(name) + " must be an object");
  }
  return value.As<Napi::Object>();
}

uint64_t field(Napi::Object object, const char* name, double max = kSafeIntegerMax) {
  return to_uint(object.Get(name), name, max);
}

std::optional<uint64_t> optional_field(Napi::Object object, const char* name) {
  if (object.Get(name).IsUndefined()) return std::nullopt;
  return field(object, name);
}

Workload::Operation to_operation(Napi::Value value) {
  using Operation = Workload::Operation;
  constexpr std::array<std::pair<const char*, Operation>, 8> kOperations{{
      {"write", Operation::write},
      {"read", Operation::read},
      {"verify", Operation::verify},
      {"randwrite", Operation::randwrite},
      {"randread", Operation::randread},
      {"flush", Operation::flush},
      {"discard", Operation::discard},
      {"barrier", Operation::barrier},
  }};
  const std::string name = to_string(value, "operation");
  for (const auto& [known, operation] : kOperations) {
    if (name == known) return operation;
  }
  throw Napi::TypeError::New(value.Env(), "operation is unknown: " + name);
}

Abi to_abi(Napi::Value value) {
  const std::string name = to_string(value, "abi");
  if (name == "x86_32") return Abi::x86_32;
  if (name == "x86_64" || name == "native") return Abi::x86_64;
  throw Napi::TypeError::New(value.Env(), "abi is unknown: " + name);
}

}  // namespace

uint64_t to_uint(Napi::Value value, const char* name, double max) {
  const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : -1;
  // The negation also catches NaN.
  if (!(number >= 0 && number <= max) || std::trunc(number) != number) {
    throw Napi::TypeError::New(value.Env(), std::string(name) + " must be an integer from 0 to " +
                                                std::to_string(static_cast<uint64_t>(max)));
  }
  return static_cast<uint64_t>(number);
}

std::string to_string(Napi::Value value, const char* name) {
  if (!value.IsString()) {
    throw Napi::TypeError::New(value.Env(), std::string(name) + " must be a string");
  }
  return value.As<Napi::String>();
}

QueueSetup to_queue_setup(Napi::Value value) {
  const Napi::Object object = to_object(value, "options");
  const auto order = static_cast<uint32_t>(field(object, "ringPageOrder", kRingPageOrderMax));
  return {order, to_abi(object.Get("abi"))};
}

FrontendSetup to_frontend_setup(Napi::Value value) {
  const Napi::Object object = to_object(value, "options");
  const Napi::Value persistent = object.Get("persistentGrants");
  if (!persistent.IsBoolean()) {
    throw Napi::TypeError::New(value.Env(), "persistentGrants must be a boolean");
  }
  const auto segments =
      static_cast<uint32_t>(field(object, "indirectSegments", kIndirectSegmentsMax));
  return {segments, persistent.As<Napi::Boolean>()};
}

Workload to_workload(Napi::Value value) {
  const Napi::Object object = to_object(value, "workload");
  Workload workload;
  workload.operation = to_operation(object.Get("operation"));
  workload.block_bytes = field(object, "blockBytes");
  workload.depth = static_cast<uint32_t>(field(object, "depth", UINT32_MAX));
  workload.offset = field(object, "offset");
  workload.length = field(object, "length");
  workload.bytes = optional_field(object, "bytes");
  workload.milliseconds = optional_field(object, "milliseconds");
  workload.seed = field(object, "seed");
  return workload;
}

Napi::Object from_workload_result(Napi::Env env, const WorkloadResult& result) {
  const auto set = [env](Napi::Object object, const char* name, auto number) {
    object.Set(name, Napi::Number::New(env, static_cast<double>(number)));
  };
  Napi::Object latency = Napi::Object::New(env);
  set(latency, "min", result.latency.min_us());
  set(latency, "p50", result.latency.percentile_us(0.5));
  set(latency, "p90", result.latency.percentile_us(0.9));
  set(latency, "p99", result.latency.percentile_us(0.99));
  set(latency, "p999", result.latency.percentile_us(0.999));
  set(latency, "max", result.latency.max_us());
  Napi::Object object = Napi::Object::New(env);
  set(object, "requests", result.requests);
  set(object, "bytes", result.bytes);
  set(object, "errors", result.errors);
  set(object, "mismatches", result.mismatches);
  set(object, "seconds", result.seconds);
  object.Set("latencyUs", latency);
  set(object, "notificationsSent", result.notifications_sent);
  set(object, "notificationsReceived", result.notifications_received);
  return object;
}

}  // namespace ringdisk
