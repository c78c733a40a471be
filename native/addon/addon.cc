// SPDX-License-Identifier: Apache-2.0
// The module: everything it exports is NativeBinding of src/datapath/binding.ts.
#include <napi.h>

#include "addon/bitmap_calls.h"
#include "addon/convert.h"
#include "addon/crash_note.h"
#include "addon/engine_object.h"
#include "addon/helper_process.h"
#include "addon/lock_file.h"
#include "addon/loopback_guest.h"
#include "addon/sd_notify.h"
#include "addon/text.h"
#include "addon/unprivileged.h"
#include "base/beside_us.h"
#include "base/peer_credentials.h"
#include "medium/probe.h"
#include "ring/journal.h"

namespace ringdisk {
namespace {

Napi::Value call_peer_credentials(const Napi::CallbackInfo& info) {
  const PeerCredentials peer = guarded(
      info.Env(), [&] { return peer_credentials(info[0].As<Napi::Number>().Int32Value()); });
  Napi::Object result = Napi::Object::New(info.Env());
  result["pid"] = Napi::Number::New(info.Env(), peer.pid);
  result["uid"] = Napi::Number::New(info.Env(), peer.uid);
  return result;
}

std::vector<std::string> to_texts(const Napi::Value& value) {
  const auto given = value.As<Napi::Array>();
  std::vector<std::string> texts;
  texts.reserve(given.Length());
  for (uint32_t index = 0; index < given.Length(); index++) {
    texts.push_back(to_bytes(given.Get(index).As<Napi::String>()));
  }
  return texts;
}

Napi::Value call_restart_unprivileged(const Napi::CallbackInfo& info) {
  const std::vector<std::string> arguments = to_texts(info[1]);
  guarded(info.Env(), [&] { restart_unprivileged(info[0].As<Napi::String>(), arguments); });
  return info.Env().Undefined();
}

Napi::Value call_begin_helper(const Napi::CallbackInfo& info) {
  const bool begun = guarded(info.Env(), [&] {
    return begin_helper(info[0].As<Napi::String>(), info[1].As<Napi::String>());
  });
  return Napi::Boolean::New(info.Env(), begun);
}

Napi::Value call_find_medium(const Napi::CallbackInfo& info) {
  const std::string path = to_bytes(info[0].As<Napi::String>());
  const FoundMedium found = guarded(info.Env(), [&] { return find_medium(path); });
  Napi::Object result = Napi::Object::New(info.Env());
  result["isDevice"] = Napi::Boolean::New(info.Env(), found.is_device);
  result["identity"] = from_bytes(info.Env(), found.identity);
  return result;
}

Napi::Value call_become_helper(const Napi::CallbackInfo& info) {
  const auto object = info[0].As<Napi::Object>();
  HelperProgram helper;
  helper.program = object.Get("program").As<Napi::String>();
  helper.arguments = to_texts(object.Get("args"));
  helper.readable = to_texts(object.Get("readable"));
  helper.writable = to_texts(object.Get("writable"));
  helper.folder = object.Get("folder").As<Napi::String>();
  helper.network = object.Get("network").As<Napi::Boolean>();
  guarded(info.Env(), [&] { become_helper(helper); });
  return info.Env().Undefined();
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  exports["version"] = Napi::Function::New(env, [](const Napi::CallbackInfo& info) -> Napi::Value {
    Napi::Object version = Napi::Object::New(info.Env());
    version["liburing"] = RINGDISK_LIBURING_VERSION;
    version["journalVersion"] = Journal::kVersion;
    version["worker"] = beside_us("ringdisk-worker");
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
  exports["peerCredentials"] = Napi::Function::New(env, call_peer_credentials);
  exports["restartUnprivileged"] = Napi::Function::New(env, call_restart_unprivileged);
  exports["beginHelper"] = Napi::Function::New(env, call_begin_helper);
  exports["findMedium"] = Napi::Function::New(env, call_find_medium);
  exports["becomeHelper"] = Napi::Function::New(env, call_become_helper);
  exports["noteCrashes"] =
      Napi::Function::New(env, [](const Napi::CallbackInfo& info) -> Napi::Value {
        guarded(info.Env(), [&] { note_crashes(info[0].As<Napi::String>()); });
        return info.Env().Undefined();
      });
  init_bitmaps(env, exports);
  init_engine(env, exports);
  init_loopback_guest(env, exports);
  return exports;
}

NODE_API_MODULE(ringdisk, init)

}  // namespace
}  // namespace ringdisk
