// SPDX-License-Identifier: Apache-2.0
#include "addon/convert.h"

#include <array>
#include <cstring>
#include <sstream>

#include "addon/text.h"
#include "metrics/counter_names.h"

namespace ringdisk {
namespace {

[[noreturn]] void reject(const Napi::Env& env, const std::string& what) {
  throw Napi::TypeError::New(env, what);
}

uint32_t number(const Napi::Object& object, const char* key) {
  const Napi::Value value = object.Get(key);
  if (!value.IsNumber()) reject(object.Env(), std::string(key) + " must be a number");
  const double number = value.As<Napi::Number>().DoubleValue();
  if (!(number >= 0 && number <= UINT32_MAX))
    reject(object.Env(), std::string(key) + " is out of range");
  return static_cast<uint32_t>(number);
}

uint64_t whole_number(const Napi::Object& object, const char* key) {
  const Napi::Value value = object.Get(key);
  if (!value.IsNumber()) reject(object.Env(), std::string(key) + " must be a number");
  const int64_t number = value.As<Napi::Number>().Int64Value();
  if (number < 0) reject(object.Env(), std::string(key) + " is out of range");
  return static_cast<uint64_t>(number);
}

bool boolean(const Napi::Object& object, const char* key) {
  const Napi::Value value = object.Get(key);
  if (!value.IsBoolean()) reject(object.Env(), std::string(key) + " must be a boolean");
  return value.As<Napi::Boolean>();
}

std::string string(const Napi::Object& object, const char* key) {
  const Napi::Value value = object.Get(key);
  if (!value.IsString()) reject(object.Env(), std::string(key) + " must be a string");
  return to_bytes(value.As<Napi::String>());
}

Napi::Array array(const Napi::Object& object, const char* key) {
  const Napi::Value value = object.Get(key);
  if (!value.IsArray()) reject(object.Env(), std::string(key) + " must be an array");
  return value.As<Napi::Array>();
}

template <typename T>
std::vector<T> numbers(const Napi::Object& object, const char* key) {
  const Napi::Array values = array(object, key);
  std::vector<T> result;
  result.reserve(values.Length());
  for (uint32_t i = 0; i < values.Length(); i++)
    result.push_back(static_cast<T>(values.Get(i).As<Napi::Number>().Uint32Value()));
  return result;
}

QueueOptions to_queue(const Napi::Object& object, uint32_t index) {
  return {index, numbers<GrantRef>(object, "ringRefs"), number(object, "eventChannel"),
          string(object, "journal"), boolean(object, "takeOver")};
}

Abi to_abi(const Napi::Object& object) {
  const std::string abi = string(object, "abi");
  if (abi == "x86_32") return Abi::x86_32;
  if (abi == "x86_64" || abi == "native") return Abi::x86_64;
  reject(object.Env(), "unknown abi " + abi);
}

GrantStrategy to_grants(const Napi::Object& object) {
  const std::string grants = string(object, "grants");
  if (grants == "persistent") return GrantStrategy::persistent;
  if (grants == "copy") return GrantStrategy::copy;
  if (grants == "map") return GrantStrategy::map;
  reject(object.Env(), "unknown grants strategy " + grants);
}

OnError to_on_error(const Napi::Object& object) {
  const std::string on_error = string(object, "onError");
  if (on_error == "report") return OnError::report;
  if (on_error == "stop") return OnError::stop;
  reject(object.Env(), "unknown onError " + on_error);
}

// In the order of MediumKind.
constexpr std::array kKindNames = {"file", "block", "nvme", "null", "fill", "nbd"};

Napi::Array from_lines(Napi::Env env, const std::string& text) {
  Napi::Array lines = Napi::Array::New(env);
  std::istringstream all(text);
  std::string line;
  while (std::getline(all, line)) lines[lines.Length()] = line;
  return lines;
}

Napi::Object from_facts(Napi::Env env, const MediumFacts& facts) {
  const Capabilities& capabilities = facts.capabilities;
  Napi::Object object = Napi::Object::New(env);
  object["capacity"] = static_cast<double>(capabilities.capacity);
  object["ioAlignment"] = capabilities.io_alignment;
  object["physicalBlock"] = capabilities.physical_block;
  object["readOnly"] = capabilities.read_only;
  object["direct"] = capabilities.direct;
  object["discard"] = capabilities.discard;
  object["secureDiscard"] = capabilities.secure_discard;
  object["discardGranularity"] = capabilities.discard_granularity;
  object["discardAlignment"] = capabilities.discard_alignment;
  object["rotational"] = capabilities.rotational;
  object["oneChannel"] = capabilities.one_channel;
  object["kind"] = kKindNames[static_cast<size_t>(facts.kind)];
  object["identity"] = facts.identity.data();
  object["warnings"] = from_lines(env, facts.warnings.data());
  return object;
}

static_assert(static_cast<size_t>(ValidRequest::Kind::discard) == std::size(kOperationNames) - 1);

Napi::Object from_histogram(Napi::Env env, const LatencyHistogram& histogram) {
  Napi::Array buckets = Napi::Array::New(env);
  for (size_t i = 0; i < LatencyHistogram::kBucketCount; i++) {
    if (histogram.count_in(i) == 0) continue;
    Napi::Array bucket = Napi::Array::New(env, 2);
    bucket[0u] = static_cast<double>(LatencyHistogram::bucket_end(i)) / 1e3;
    bucket[1u] = static_cast<double>(histogram.count_in(i));
    buckets[buckets.Length()] = bucket;
  }
  Napi::Object object = Napi::Object::New(env);
  object["count"] = static_cast<double>(histogram.count());
  object["sumUs"] = histogram.sum_us();
  object["maxUs"] = histogram.max_us();
  object["buckets"] = buckets;
  return object;
}

const char* event_name(EngineEvent::Type type) {
  switch (type) {
    case EngineEvent::Type::done:
      return "done";
    case EngineEvent::Type::failed:
      return "failed";
    case EngineEvent::Type::recovered:
      return "recovered";
    case EngineEvent::Type::ring_broken:
      return "ring-broken";
    case EngineEvent::Type::io_failing:
      return "io-failing";
    case EngineEvent::Type::io_recovered:
      return "io-recovered";
    case EngineEvent::Type::fence_lifted:
      return "fence-lifted";
    case EngineEvent::Type::target_warned:
      return "target-warned";
    case EngineEvent::Type::mirror_changed:
      return "mirror-changed";
    case EngineEvent::Type::mirror_gone:
      return "mirror-gone";
  }
  return "unknown";
}

}  // namespace

std::string errno_name(int error) {
  const char* name = ::strerrorname_np(error);
  return name ? name : "E" + std::to_string(error);
}

EngineSettings to_engine_settings(const Napi::Object& object) {
  EngineSettings settings;
  settings.loopback = string(object, "platform") == "loopback";
  if (settings.loopback) settings.machine_dir = string(object, "machineDir");
  settings.options.reactors = number(object, "reactors");
  settings.options.cpus = numbers<int>(object, "cpus");
  settings.options.poll_budget_us = number(object, "pollBudgetUs");
  settings.options.bounce_pool_bytes = number(object, "bouncePoolBytes");
  settings.options.persistent_pages_max = number(object, "persistentPagesMax");
  settings.options.fill_dir = string(object, "fillDir");
  if (settings.options.reactors < 1 || settings.options.reactors > 64)
    reject(object.Env(), "reactors must be 1 to 64");
  return settings;
}

TargetSpec to_target_spec(const Napi::Object& object) {
  TargetSpec spec{string(object, "kind"), string(object, "path"), boolean(object, "readOnly")};
  if (object.Has("keepsNothing")) spec.keeps_nothing = boolean(object, "keepsNothing");
  if (!object.Has("fill") || !object.Get("fill").IsObject()) return spec;
  const auto given = object.Get("fill").As<Napi::Object>();
  auto fill = std::make_shared<FillSpec>();
  fill->local = to_target_spec(given.Get("local").As<Napi::Object>());
  fill->source = to_target_spec(given.Get("source").As<Napi::Object>());
  fill->map_path = string(given, "mapPath");
  fill->chunk_bytes = number(given, "chunkBytes");
  fill->rate = whole_number(given, "rate");
  fill->late_source = boolean(given, "lateSource");
  spec.fill = std::move(fill);
  return spec;
}

TargetClaim to_target_claim(const Napi::Object& object) {
  return {boolean(object, "share"), boolean(object, "takeOver")};
}

ExportRequest to_export_request(const Napi::Object& object) {
  ExportRequest request{.target = number(object, "target"),
                        .path = string(object, "path"),
                        .name = string(object, "name"),
                        .description = string(object, "description"),
                        .read_only = boolean(object, "readOnly"),
                        .detect_zeroes = boolean(object, "detectZeroes"),
                        .limits = string(object, "limits")};
  if (object.Has("group")) request.group = number(object, "group");
  const Napi::Array bitmaps = array(object, "bitmaps");
  for (uint32_t i = 0; i < bitmaps.Length(); i++) {
    const auto bitmap = bitmaps.Get(i).As<Napi::Object>();
    request.bitmaps.push_back({string(bitmap, "name"), string(bitmap, "path")});
  }
  return request;
}

std::vector<std::string> to_paths(const Napi::Array& array) {
  std::vector<std::string> paths;
  for (uint32_t i = 0; i < array.Length(); i++)
    paths.push_back(to_bytes(array.Get(i).As<Napi::String>()));
  return paths;
}

MirrorWish to_mirror_wish(const Napi::Object& object) {
  return {.sync = boolean(object, "sync"),
          .paused = boolean(object, "paused"),
          .rate = whole_number(object, "rate")};
}

MirrorSetup to_mirror_setup(const Napi::Object& object) {
  return {.map_path = string(object, "mapPath"),
          .is_new = boolean(object, "isNew"),
          .wish = to_mirror_wish(object)};
}

LimitRates to_limit_rates(const Napi::Object& object) {
  return {.operations = {.both = whole_number(object, "iops"),
                         .reads = whole_number(object, "readIops"),
                         .writes = whole_number(object, "writeIops")},
          .bytes = {.both = whole_number(object, "bps"),
                    .reads = whole_number(object, "readBps"),
                    .writes = whole_number(object, "writeBps")},
          .operations_burst = whole_number(object, "burst"),
          .bytes_burst = whole_number(object, "burstBytes")};
}

ConnectRequest to_connect_request(const Napi::Object& object) {
  ConnectRequest request;
  request.target = number(object, "target");
  request.domid = static_cast<Domid>(number(object, "domid"));
  request.devid = number(object, "devid");
  request.abi = to_abi(object);
  request.grants = to_grants(object);
  request.on_error = to_on_error(object);
  request.geometry.indirect_segments_max =
      static_cast<uint16_t>(std::min(number(object, "indirectSegmentsMax"), 0xffffu));
  request.capacity_sectors_min = whole_number(object, "sectors");
  request.geometry.read_only = boolean(object, "readOnly");
  request.geometry.discard = boolean(object, "discard");
  request.geometry.secure_discard = boolean(object, "secureDiscard");
  request.persistent_pages_max = number(object, "persistentPagesMax");
  request.limits = string(object, "limits");
  if (object.Has("mirror")) request.mirror = number(object, "mirror");
  const Napi::Array queues = array(object, "queues");
  for (uint32_t i = 0; i < queues.Length(); i++)
    request.queues.push_back(to_queue(queues.Get(i).As<Napi::Object>(), i));
  return request;
}

Napi::Object from_uring_features(Napi::Env env, const UringFeatures& features) {
  Napi::Object object = Napi::Object::New(env);
  object["available"] = features.available;
  if (!features.available) object["error"] = errno_name(features.error);
  object["singleIssuer"] = features.single_issuer;
  object["deferTaskrun"] = features.defer_taskrun;
  object["coopTaskrun"] = features.coop_taskrun;
  object["bigEntries"] = features.big_entries;
  object["uringCommand"] = features.uring_cmd;
  return object;
}

Napi::Object from_event(Napi::Env env, const EngineEvent& event) {
  Napi::Object object = Napi::Object::New(env);
  object["type"] = event_name(event.type);
  switch (event.type) {
    case EngineEvent::Type::done:
      object["command"] = event.command;
      object["value"] = event.value;
      if (event.facts) {
        object["capabilities"] = from_facts(env, *event.facts);
        object["fenced"] = event.fenced;
      }
      break;
    case EngineEvent::Type::failed:
      object["command"] = event.command;
      object["code"] = errno_name(event.error);
      object["message"] = from_bytes(env, event.text);
      break;
    case EngineEvent::Type::recovered:
      object["command"] = event.command;
      break;
    case EngineEvent::Type::fence_lifted:
      object["target"] = event.value;
      if (!event.text.empty()) object["warning"] = event.text;
      break;
    case EngineEvent::Type::mirror_changed:
    case EngineEvent::Type::mirror_gone:
      object["mirror"] = event.value;
      break;
    case EngineEvent::Type::target_warned:
      object["target"] = event.value;
      object["message"] = from_bytes(env, event.text);
      if (event.facts) object["capabilities"] = from_facts(env, *event.facts);
      break;
    case EngineEvent::Type::ring_broken:
      object["vbd"] = event.vbd;
      object["queue"] = event.queue;
      object["reason"] = event.text;
      break;
    case EngineEvent::Type::io_failing:
      object["vbd"] = event.vbd;
      object["queue"] = event.queue;
      object["error"] = errno_name(event.error);
      break;
    case EngineEvent::Type::io_recovered:
      object["vbd"] = event.vbd;
      object["queue"] = event.queue;
      break;
  }
  return object;
}

Napi::Array from_waits(Napi::Env env, const std::vector<TargetWait>& waits) {
  const uint64_t now = Reactor::now_us();
  Napi::Array all = Napi::Array::New(env, waits.size());
  for (uint32_t i = 0; i < waits.size(); i++) {
    Napi::Object wait = Napi::Object::New(env);
    wait["call"] = waits[i].call;
    wait["sinceMs"] = static_cast<double>((now - waits[i].since_us) / 1000);
    wait["count"] = waits[i].count;
    if (!waits[i].why.empty()) wait["why"] = waits[i].why;
    all[i] = wait;
  }
  return all;
}

Napi::Value from_fill_status(Napi::Env env, const std::optional<FillStatus>& status) {
  if (!status) return env.Null();
  Napi::Object object = Napi::Object::New(env);
  object["chunkBytes"] = static_cast<double>(status->chunk_bytes);
  object["chunks"] = static_cast<double>(status->chunks);
  object["here"] = static_cast<double>(status->here);
  object["unsaved"] = static_cast<double>(status->unsaved);
  object["fetchedBytes"] = static_cast<double>(status->fetched_bytes);
  object["errors"] = static_cast<double>(status->errors);
  object["failing"] = status->failing == 0 ? "" : errno_name(status->failing);
  object["rate"] = static_cast<double>(status->rate);
  object["paused"] = status->paused;
  object["full"] = status->full;
  return object;
}

Napi::Value from_mirror_status(Napi::Env env, const std::optional<MirrorStatus>& status) {
  if (!status) return env.Null();
  Napi::Object object = Napi::Object::New(env);
  object["bytes"] = static_cast<double>(status->bytes);
  object["behindBytes"] = static_cast<double>(status->behind_bytes);
  object["copiedBytes"] = static_cast<double>(status->copied_bytes);
  object["speed"] = static_cast<double>(status->speed);
  object["sourceErrors"] = static_cast<double>(status->source_errors);
  object["sync"] = status->sync;
  object["ready"] = status->ready;
  object["hasDestination"] = status->has_destination;
  object["swept"] = status->swept;
  object["error"] = status->error == 0 ? "" : errno_name(status->error);
  return object;
}

Napi::Object from_vbd_counters(Napi::Env env,
                               const std::vector<std::shared_ptr<QueueCounters>>& queues) {
  Napi::Object object = Napi::Object::New(env);
  for (const CounterName& entry : kCounterNames) {
    uint64_t sum = 0;
    for (const auto& queue : queues) sum += ((*queue).*entry.counter).get();
    object[entry.name] = static_cast<double>(sum);
  }
  return object;
}

Napi::Object from_vbd_latency(Napi::Env env,
                              const std::vector<std::shared_ptr<QueueCounters>>& queues) {
  Napi::Object object = Napi::Object::New(env);
  for (size_t i = 0; i < std::size(kOperationNames); i++) {
    LatencyHistogram all;
    for (const auto& queue : queues) all.merge(queue->latency[i]);
    object[kOperationNames[i]] = from_histogram(env, all);
  }
  LatencyHistogram tokens;
  for (const auto& queue : queues) tokens.merge(queue->waited_for_tokens);
  object["tokens"] = from_histogram(env, tokens);
  return object;
}

Napi::Object from_engine_counters(Napi::Env env, const Engine& engine) {
  Napi::Object object = Napi::Object::New(env);
  Napi::Array reactors = Napi::Array::New(env);
  uint64_t mapped = 0;
  uint64_t ports = 0;
  for (uint32_t i = 0; i < engine.reactors().size(); i++) {
    const ReactorCounters& counters = engine.reactors()[i]->counters();
    mapped += counters.mapped_pages.get();
    ports += counters.bound_ports.get();
    Napi::Object reactor = Napi::Object::New(env);
    reactor["sleeps"] = static_cast<double>(counters.sleeps.get());
    reactor["wakeups"] = static_cast<double>(counters.wakeups.get());
    reactor["uringEnters"] = static_cast<double>(counters.uring_enters.get());
    reactor["submissions"] = static_cast<double>(counters.submissions.get());
    reactor["grantCalls"] = static_cast<double>(counters.grant_calls.get());
    reactor["eventReads"] = static_cast<double>(counters.event_reads.get());
    reactor["eventUnmasks"] = static_cast<double>(counters.event_unmasks.get());
    reactor["bounceBytes"] = static_cast<double>(counters.bounce_bytes.get());
    reactors[i] = reactor;
  }
  object["mappedPages"] = static_cast<double>(mapped);
  object["boundPorts"] = static_cast<double>(ports);
  object["reactors"] = reactors;
  return object;
}

}  // namespace ringdisk
