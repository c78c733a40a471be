// SPDX-License-Identifier: Apache-2.0
#include "addon/loopback_guest.h"

#include <pthread.h>

#include <exception>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "addon/loopback_convert.h"
#include "platform/loopback/guest.h"

namespace ringdisk {

namespace {

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
  void forget_backend(const Napi::CallbackInfo& info);
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
                         InstanceMethod<&LoopbackGuestObject::forget_backend>("forgetBackend"),
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
  const QueueSetup setup = to_queue_setup(info[0]);
  LoopbackGuest& idle = idle_guest(env);
  const auto transport =
      guarded(env, [&] { return idle.create_queue(setup.ring_page_order, setup.abi); });
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
  const FrontendSetup setup = to_frontend_setup(info[0]);
  LoopbackGuest& idle = idle_guest(info.Env());
  guarded(info.Env(), [&] { idle.start(setup.indirect_segments, setup.persistent_grants); });
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
    run->deferred.Resolve(from_workload_result(env, *run->result));
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

void LoopbackGuestObject::forget_backend(const Napi::CallbackInfo& info) {
  guest(info.Env()).forget_backend();
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
