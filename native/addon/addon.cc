// SPDX-License-Identifier: Apache-2.0
// The module: everything it exports is NativeBinding of src/datapath/binding.ts.
#include <napi.h>

#include "addon/convert.h"
#include "addon/crash_note.h"
#include "addon/engine_object.h"
#include "addon/lock_file.h"
#include "addon/loopback_guest.h"
#include "addon/sd_notify.h"
#include "blkif/journal.h"

namespace ringdisk {
namespace {

Napi::Object init(Napi::Env env, Napi::Object exports) {
  exports["version"] = Napi::Function::New(env, [](const Napi::CallbackInfo& info) -> Napi::Value {
    Napi::Object version = Napi::Object::New(info.Env());
    version["liburing"] = RINGDISK_LIBURING_VERSION;
    version["journalVersion"] = Journal::kVersion;
    return version;
  });
  exports["probeUring"] =
      Napi::Function::New(env, [](const Napi::CallbackInfo& info) -> Napi::Value {
        return from_uring_features(info.Env(), probe_uring());
      });
  exports["sdNotify"] = Napi::Function::New(env, [](const Napi::CallbackInfo& info) -> Napi::Value {
    return Napi::Boolean::New(info.Env(), sd_notify(info[0].As<Napi::String>()));
  });
  exports["lockFile"] = Napi::Function::New(env, [](const Napi::CallbackInfo& info) -> Napi::Value {
    const bool locked = guarded(info.Env(), [&] { return lock_file(info[0].As<Napi::String>()); });
    return Napi::Boolean::New(info.Env(), locked);
  });
  exports["noteCrashes"] =
      Napi::Function::New(env, [](const Napi::CallbackInfo& info) -> Napi::Value {
        guarded(info.Env(), [&] { note_crashes(info[0].As<Napi::String>()); });
        return info.Env().Undefined();
      });
  init_engine(env, exports);
  init_loopback_guest(env, exports);
  return exports;
}

NODE_API_MODULE(ringdisk, init)

}  // namespace
}  // namespace ringdisk
