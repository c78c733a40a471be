// SPDX-License-Identifier: Apache-2.0
#include "addon/engine_object.h"

#include <cerrno>
#include <memory>

#include "addon/convert.h"
#include "platform/loopback/loopback_platform.h"
#include "platform/xen/xen_platform.h"

namespace ringdisk {
namespace {

class EngineObject : public Napi::ObjectWrap<EngineObject> {
 public:
  // What is thrown in C++ must not get into JavaScript's frames: it is an error there.
  template <auto Call>
  auto called(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] { return (this->*Call)(info); });
  }
  template <auto Call>
  static auto method(const char* name) {
    return InstanceMethod<&EngineObject::called<Call>>(name);
  }

  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "Engine",
                       {
                           method<&EngineObject::open_target>("openTarget"),
                           method<&EngineObject::cancel_open>("cancelOpen"),
                           method<&EngineObject::claim_target>("claimTarget"),
                           method<&EngineObject::target_waits>("targetWaits"),
                           method<&EngineObject::target_worker>("targetWorker"),
                           method<&EngineObject::fill_status>("fillStatus"),
                           method<&EngineObject::set_fill>("setFill"),
                           method<&EngineObject::refresh_target>("refreshTarget"),
                           method<&EngineObject::close_target>("closeTarget"),
                           method<&EngineObject::track_target>("trackTarget"),
                           method<&EngineObject::connect>("connect"),
                           method<&EngineObject::disconnect>("disconnect"),
                           method<&EngineObject::make_mirror>("makeMirror"),
                           method<&EngineObject::give_mirror>("giveMirror"),
                           method<&EngineObject::attach_mirror>("attachMirror"),
                           method<&EngineObject::detach_mirror>("detachMirror"),
                           method<&EngineObject::begin_switch>("beginSwitch"),
                           method<&EngineObject::decide_switch>("decideSwitch"),
                           method<&EngineObject::set_mirror>("setMirror"),
                           method<&EngineObject::end_mirror>("endMirror"),
                           method<&EngineObject::close_mirror>("closeMirror"),
                           method<&EngineObject::mirror_status>("mirrorStatus"),
                           method<&EngineObject::set_limits>("setLimits"),
                           method<&EngineObject::set_share>("setShare"),
                           method<&EngineObject::drop_limits>("dropLimits"),
                           method<&EngineObject::limit>("limit"),
                           method<&EngineObject::limit_export>("limitExport"),
                           method<&EngineObject::add_export>("addExport"),
                           method<&EngineObject::remove_export>("removeExport"),
                           method<&EngineObject::export_clients>("exportClients"),
                           method<&EngineObject::vbd_counters>("vbdCounters"),
                           method<&EngineObject::vbd_latency>("vbdLatency"),
                           method<&EngineObject::vbd_reactors>("vbdReactors"),
                           method<&EngineObject::counters>("counters"),
                           method<&EngineObject::close>("close"),
                       });
  }

  explicit EngineObject(const Napi::CallbackInfo& info) : Napi::ObjectWrap<EngineObject>(info) {
    const EngineSettings settings = to_engine_settings(info[0].As<Napi::Object>());
    on_events_ = Napi::Persistent(info[1].As<Napi::Function>());
    // The engine's events keep Node alive only while somebody waits for one: see ref().
    wake_ = Wake::New(info.Env(), "ringdisk.events", 0, 1, this);
    guarded(info.Env(), [&] {
      auto platform =
          settings.loopback ? make_loopback_platform(settings.machine_dir) : make_xen_platform();
      engine_ = std::make_unique<Engine>(std::move(platform), settings.options,
                                         [wake = wake_] { wake.NonBlockingCall(); });
    });
  }

  ~EngineObject() override {
    // Only an environment that is torn down gets here with VBDs connected. Their memory belongs to
    // the kernel until their I/O is done, so the engine is left to the end of the process.
    if (!engine_ || engine_->idle()) return;
    [[maybe_unused]] Engine* left = engine_.release();
  }

 private:
  static void on_wake(Napi::Env env, Napi::Function, EngineObject* self, std::nullptr_t*) {
    if (env != nullptr) self->deliver();
  }
  using Wake = Napi::TypedThreadSafeFunction<EngineObject, std::nullptr_t, &EngineObject::on_wake>;

  void deliver() {
    if (!engine_) return;
    const Napi::HandleScope scope(Env());
    const std::vector<EngineEvent> events = engine_->collect();
    if (events.empty()) return;
    Napi::Array array = Napi::Array::New(Env(), events.size());
    for (uint32_t i = 0; i < events.size(); i++) array[i] = from_event(Env(), events[i]);
    on_events_.Call({array});
  }

  Engine& engine() {
    if (!engine_) throw Napi::Error::New(Env(), "the engine is closed");
    return *engine_;
  }
  static uint32_t id(const Napi::CallbackInfo& info, size_t index) {
    if (!info[index].IsNumber()) throw Napi::TypeError::New(info.Env(), "a number is missing");
    return info[index].As<Napi::Number>().Uint32Value();
  }

  void open_target(const Napi::CallbackInfo& info) {
    engine().open_target(id(info, 0), to_target_spec(info[1].As<Napi::Object>()));
  }
  void cancel_open(const Napi::CallbackInfo& info) { engine().cancel_open(id(info, 0)); }
  void claim_target(const Napi::CallbackInfo& info) {
    engine().claim_target(id(info, 0), id(info, 1), to_target_claim(info[2].As<Napi::Object>()));
  }
  Napi::Value target_waits(const Napi::CallbackInfo& info) {
    return from_waits(info.Env(), engine().target_waits(id(info, 0)));
  }
  Napi::Value target_worker(const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(), engine().target_worker(id(info, 0)));
  }
  Napi::Value fill_status(const Napi::CallbackInfo& info) {
    return from_fill_status(info.Env(), engine().fill_status(id(info, 0)));
  }
  Napi::Value set_fill(const Napi::CallbackInfo& info) {
    const int64_t rate = std::max(info[1].As<Napi::Number>().Int64Value(), int64_t{0});
    const bool known =
        engine().set_fill(id(info, 0), static_cast<uint64_t>(rate), info[2].As<Napi::Boolean>());
    return Napi::Boolean::New(info.Env(), known);
  }
  void refresh_target(const Napi::CallbackInfo& info) {
    engine().refresh_target(id(info, 0), id(info, 1));
  }
  void close_target(const Napi::CallbackInfo& info) {
    engine().close_target(id(info, 0), id(info, 1));
  }
  void track_target(const Napi::CallbackInfo& info) {
    engine().track(id(info, 0), id(info, 1), to_paths(info[2].As<Napi::Array>()));
  }
  void connect(const Napi::CallbackInfo& info) {
    const ConnectRequest request = to_connect_request(info[1].As<Napi::Object>());
    engine().connect(id(info, 0), request);
  }
  void disconnect(const Napi::CallbackInfo& info) { engine().disconnect(id(info, 0), id(info, 1)); }
  void make_mirror(const Napi::CallbackInfo& info) {
    engine().make_mirror(id(info, 0), id(info, 1), to_mirror_setup(info[2].As<Napi::Object>()));
  }
  void give_mirror(const Napi::CallbackInfo& info) {
    engine().give_mirror(id(info, 0), id(info, 1), id(info, 2));
  }
  void attach_mirror(const Napi::CallbackInfo& info) {
    engine().attach_mirror(id(info, 0), id(info, 1), id(info, 2));
  }
  void detach_mirror(const Napi::CallbackInfo& info) {
    engine().detach_mirror(id(info, 0), id(info, 1));
  }
  void begin_switch(const Napi::CallbackInfo& info) {
    engine().begin_switch(id(info, 0), id(info, 1));
  }
  void decide_switch(const Napi::CallbackInfo& info) {
    const bool goes_on = info[2].As<Napi::Boolean>();
    engine().decide_switch(id(info, 0), id(info, 1), goes_on ? 0 : ECANCELED);
  }
  void set_mirror(const Napi::CallbackInfo& info) {
    engine().set_mirror(id(info, 0), to_mirror_wish(info[1].As<Napi::Object>()));
  }
  void end_mirror(const Napi::CallbackInfo& info) { engine().end_mirror(id(info, 0)); }
  void close_mirror(const Napi::CallbackInfo& info) {
    engine().close_mirror(id(info, 0), id(info, 1));
  }
  Napi::Value mirror_status(const Napi::CallbackInfo& info) {
    return from_mirror_status(info.Env(), engine().mirror_status(id(info, 0)));
  }
  static std::string name(const Napi::CallbackInfo& info, size_t index) {
    if (!info[index].IsString()) throw Napi::TypeError::New(info.Env(), "a name is missing");
    return info[index].As<Napi::String>();
  }
  void set_limits(const Napi::CallbackInfo& info) {
    engine().set_limits(name(info, 0), to_limit_rates(info[1].As<Napi::Object>()));
  }
  void set_share(const Napi::CallbackInfo& info) {
    engine().set_share(name(info, 0), name(info, 1), id(info, 2));
  }
  void drop_limits(const Napi::CallbackInfo& info) { engine().drop_limits(name(info, 0)); }
  void limit(const Napi::CallbackInfo& info) { engine().limit(id(info, 0), name(info, 1)); }
  void limit_export(const Napi::CallbackInfo& info) {
    engine().limit_export(id(info, 0), name(info, 1));
  }
  void add_export(const Napi::CallbackInfo& info) {
    engine().add_export(id(info, 0), to_export_request(info[1].As<Napi::Object>()));
  }
  void remove_export(const Napi::CallbackInfo& info) {
    engine().remove_export(id(info, 0), id(info, 1));
  }
  Napi::Value export_clients(const Napi::CallbackInfo& info) {
    const auto clients = engine().export_counters(id(info, 0));
    Napi::Object object = Napi::Object::New(info.Env());
    object["count"] = Napi::Number::New(info.Env(), static_cast<double>(clients.size()));
    object["counters"] = from_vbd_counters(info.Env(), clients);
    object["goodbyes"] =
        Napi::Number::New(info.Env(), static_cast<double>(engine().export_goodbyes(id(info, 0))));
    return object;
  }
  Napi::Value vbd_counters(const Napi::CallbackInfo& info) {
    return from_vbd_counters(info.Env(), engine().counters(id(info, 0)));
  }
  Napi::Value vbd_latency(const Napi::CallbackInfo& info) {
    return from_vbd_latency(info.Env(), engine().counters(id(info, 0)));
  }
  Napi::Value vbd_reactors(const Napi::CallbackInfo& info) {
    const std::vector<uint32_t> indices = engine().reactors_of(id(info, 0));
    Napi::Array array = Napi::Array::New(info.Env(), indices.size());
    for (uint32_t i = 0; i < indices.size(); i++) array[i] = indices[i];
    return array;
  }
  Napi::Value counters(const Napi::CallbackInfo& info) {
    return from_engine_counters(info.Env(), engine());
  }
  void close(const Napi::CallbackInfo& info) {
    if (!engine_) return;
    if (!engine_->idle()) throw Napi::Error::New(info.Env(), "VBDs are still connected");
    engine_.reset();
    wake_.Release();
  }

  std::unique_ptr<Engine> engine_;
  Napi::FunctionReference on_events_;
  Wake wake_;
};

}  // namespace

void init_engine(Napi::Env env, Napi::Object exports) {
  auto constructor =
      std::make_shared<Napi::FunctionReference>(Napi::Persistent(EngineObject::define(env)));
  exports["createEngine"] =
      Napi::Function::New(env, [constructor](const Napi::CallbackInfo& info) -> Napi::Value {
        return constructor->New({info[0], info[1]});
      });
}

}  // namespace ringdisk
