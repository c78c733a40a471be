// SPDX-License-Identifier: Apache-2.0
#include "addon/loopback_guest.h"

#include <pthread.h>

#include <array>
#include <cmath>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "platform/loopback/guest.h"

namespace ringdisk {

namespace {

constexpr double kSafeIntegerMax = 9007199254740991.0;  // Number.MAX_SAFE_INTEGER

uint64_t to_uint(Napi::Value value, const char* name, double max) {
  const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : -1;
  // The negation also catches NaN.
  if (!(number >= 0 && number <= max) || std::trunc(number) != number) {
    throw Napi::TypeError::New(value.Env(), std::string(name) + " must be an integer from 0 to " +
                                                std::to_string(static_cast<uint64_t>(max)));
  }
  return static_cast<uint64_t>(number);
}

Napi::Object to_object(Napi::Value value, const char* name) {
  if (!value.IsObject()) {
    throw Napi::TypeError::New(value.Env(), std::string(name) + " must be an object");
  }
  return value.As<Napi::Object>();
}

std::string to_string(Napi::Value value, const char* name) {
  if (!value.IsString()) {
    throw Napi::TypeError::New(value.Env(), std::string(name) + " must be a string");
  }
  return value.As<Napi::String>();
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

Abi to_abi(Napi::Value value) {
  const std::string name = to_string(value, "abi");
  if (name == "x86_32") return Abi::x86_32;
  if (name == "x86_64" || name == "native") return Abi::x86_64;
  throw Napi::TypeError::New(value.Env(), "abi is unknown: " + name);
}

Napi::Object to_js(Napi::Env env, const WorkloadResult& result) {
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

// Calls `body`; what our own code throws becomes a JavaScript Error.
template <typename Body>
auto guarded(Napi::Env env, Body body) {
  try {
    return body();
  } catch (const Napi::Error&) {
    throw;
  } catch (const std::exception& error) {
    throw Napi::Error::New(env, error.what());
  }
}

// All members run on the JavaScript thread; only Run::work does not.
class LoopbackGuestObject : public Napi::ObjectWrap<LoopbackGuestObject> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit LoopbackGuestObject(const Napi::CallbackInfo& info);

 private:
  static void on_finished(Napi::Env env, Napi::Function callback, LoopbackGuestObject* self,
                          void* data);
  using Finished = Napi::TypedThreadSafeFunction<LoopbackGuestObject, void, on_finished>;

  // One workload: its thread, and the promise it settles.
  struct Run {
    Run(Napi::Env env, const Workload& what)
        : workload(what), deferred(Napi::Promise::Deferred::New(env)) {}

    const Workload workload;
    WorkloadControl control;
    Napi::Promise::Deferred deferred;
    Finished finished;
    std::unique_ptr<WorkloadResult> result;  // or
    std::string error;
    std::thread thread;

    void work(LoopbackGuest& guest);
  };

  Napi::Value create_queue(const Napi::CallbackInfo& info);
  void start(const Napi::CallbackInfo& info);
  Napi::Value run(const Napi::CallbackInfo& info);
  Napi::Value progress(const Napi::CallbackInfo& info);
  void cancel(const Napi::CallbackInfo& info);
  Napi::Value grants_in_use(const Napi::CallbackInfo& info);
  void destroy_queues(const Napi::CallbackInfo& info);
  void close(const Napi::CallbackInfo& info);

  LoopbackGuest& guest(Napi::Env env);       // throws once closed
  LoopbackGuest& idle_guest(Napi::Env env);  // and while a workload runs
  void launch(Napi::Env env, const Workload& workload);
  void settle(Napi::Env env);
  static void tear_down(void* self);

  std::unique_ptr<LoopbackGuest> guest_;
  std::unique_ptr<Run> run_;  // while one is under way
  uint64_t last_requests_ = 0;
  uint64_t last_bytes_ = 0;
  bool closed_ = false;
};

Napi::Function LoopbackGuestObject::define(Napi::Env env) {
  return DefineClass(env, "LoopbackGuest",
                     {
                         InstanceMethod<&LoopbackGuestObject::create_queue>("createQueue"),
                         InstanceMethod<&LoopbackGuestObject::start>("start"),
                         InstanceMethod<&LoopbackGuestObject::run>("run"),
                         InstanceMethod<&LoopbackGuestObject::progress>("progress"),
                         InstanceMethod<&LoopbackGuestObject::cancel>("cancel"),
                         InstanceMethod<&LoopbackGuestObject::grants_in_use>("grantsInUse"),
                         InstanceMethod<&LoopbackGuestObject::destroy_queues>("destroyQueues"),
                         InstanceMethod<&LoopbackGuestObject::close>("close"),
                     });
}

LoopbackGuestObject::LoopbackGuestObject(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<LoopbackGuestObject>(info) {
  const std::string machine_dir = to_string(info[0], "machineDir");
  const auto domid = static_cast<Domid>(to_uint(info[1], "domid", UINT16_MAX));
  guarded(info.Env(), [&] { guest_ = std::make_unique<LoopbackGuest>(machine_dir, domid); });
}

LoopbackGuest& LoopbackGuestObject::guest(Napi::Env env) {
  if (closed_) throw Napi::Error::New(env, "the loopback guest is closed");
  return *guest_;
}

LoopbackGuest& LoopbackGuestObject::idle_guest(Napi::Env env) {
  LoopbackGuest& open = guest(env);
  if (run_) throw Napi::Error::New(env, "a workload is running: cancel it and await its promise");
  return open;
}

Napi::Value LoopbackGuestObject::create_queue(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const Napi::Object options = to_object(info[0], "options");
  const auto order = static_cast<uint32_t>(field(options, "ringPageOrder", kRingPageOrderMax));
  const Abi abi = to_abi(options.Get("abi"));
  LoopbackGuest& idle = idle_guest(env);
  const auto transport = guarded(env, [&] { return idle.create_queue(order, abi); });
  Napi::Array ring_refs = Napi::Array::New(env);
  for (const GrantRef gref : transport.ring_refs) {
    ring_refs.Set(ring_refs.Length(), Napi::Number::New(env, gref));
  }
  Napi::Object queue = Napi::Object::New(env);
  queue.Set("ringRefs", ring_refs);
  queue.Set("eventChannel", Napi::Number::New(env, transport.event_channel));
  return queue;
}

void LoopbackGuestObject::start(const Napi::CallbackInfo& info) {
  const Napi::Object options = to_object(info[0], "options");
  const auto segments =
      static_cast<uint32_t>(field(options, "indirectSegments", kIndirectSegmentsMax));
  const bool persistent = options.Get("persistentGrants").ToBoolean();
  LoopbackGuest& idle = idle_guest(info.Env());
  guarded(info.Env(), [&] { idle.start(segments, persistent); });
}

// Whatever is wrong with the call rejects the promise: a caller has one place to look.
Napi::Value LoopbackGuestObject::run(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  try {
    idle_guest(env);
    const Workload workload = to_workload(info[0]);
    guarded(env, [&] { launch(env, workload); });
    return run_->deferred.Promise();
  } catch (const Napi::Error& error) {
    const auto rejected = Napi::Promise::Deferred::New(env);
    rejected.Reject(error.Value());
    return rejected.Promise();
  }
}

void LoopbackGuestObject::launch(Napi::Env env, const Workload& workload) {
  auto run = std::make_unique<Run>(env, workload);
  run->finished = Finished::New(env, "ringdisk.loopback_guest", 1, 1, this);
  try {
    run->thread = std::thread([&guest = *guest_, raw = run.get()] { raw->work(guest); });
  } catch (...) {
    run->finished.Release();
    throw;
  }
  // Added after `finished`, so it is called before `finished` goes: the thread ends in between.
  napi_add_env_cleanup_hook(env, tear_down, this);
  Ref();  // the object outlives its workload
  run_ = std::move(run);
}

void LoopbackGuestObject::Run::work(LoopbackGuest& guest) {
  pthread_setname_np(pthread_self(), "rd-guest");
  try {
    result = guest.run(workload, control);
  } catch (const std::exception& exception) {
    error = exception.what();
  }
  finished.NonBlockingCall();
}

void LoopbackGuestObject::on_finished(Napi::Env env, Napi::Function, LoopbackGuestObject* self,
                                      void*) {
  // Without an environment it is being torn down, and so is the object.
  if (static_cast<napi_env>(env) != nullptr) self->settle(env);
}

void LoopbackGuestObject::settle(Napi::Env env) {
  const std::unique_ptr<Run> run = std::move(run_);
  run->thread.join();
  run->finished.Release();
  napi_remove_env_cleanup_hook(env, tear_down, this);
  last_requests_ = run->control.requests;
  last_bytes_ = run->control.bytes;
  if (closed_) guest_.reset();
  if (run->result) {
    run->deferred.Resolve(to_js(env, *run->result));
  } else {
    run->deferred.Reject(Napi::Error::New(env, run->error).Value());
  }
  Unref();
}

void LoopbackGuestObject::tear_down(void* self) {
  Run& run = *static_cast<LoopbackGuestObject*>(self)->run_;
  run.control.cancelled = true;
  run.thread.join();
}

Napi::Value LoopbackGuestObject::progress(const Napi::CallbackInfo& info) {
  const uint64_t requests = run_ ? run_->control.requests.load() : last_requests_;
  const uint64_t bytes = run_ ? run_->control.bytes.load() : last_bytes_;
  Napi::Object object = Napi::Object::New(info.Env());
  object.Set("requests", Napi::Number::New(info.Env(), static_cast<double>(requests)));
  object.Set("bytes", Napi::Number::New(info.Env(), static_cast<double>(bytes)));
  return object;
}

void LoopbackGuestObject::cancel(const Napi::CallbackInfo&) {
  if (run_) run_->control.cancelled = true;
}

Napi::Value LoopbackGuestObject::grants_in_use(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), guest(info.Env()).grants_in_use());
}

void LoopbackGuestObject::destroy_queues(const Napi::CallbackInfo& info) {
  idle_guest(info.Env()).destroy_queues();
}

void LoopbackGuestObject::close(const Napi::CallbackInfo&) {
  closed_ = true;
  if (run_) {
    run_->control.cancelled = true;  // settle() lets the guest go
  } else {
    guest_.reset();
  }
}

}  // namespace

void init_loopback_guest(Napi::Env env, Napi::Object exports) {
  const auto constructor = std::make_shared<Napi::FunctionReference>();
  *constructor = Napi::Persistent(LoopbackGuestObject::define(env));
  exports.Set("createLoopbackGuest",
              Napi::Function::New(
                  env,
                  [constructor](const Napi::CallbackInfo& info) -> Napi::Value {
                    return constructor->New({info[0], info[1]});
                  },
                  "createLoopbackGuest"));
}

}  // namespace ringdisk
