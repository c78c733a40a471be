// SPDX-License-Identifier: Apache-2.0
// Bitmaps as files, for the control plane: each call opens one and lets go of it. Their size is
// bounded, so that no call takes longer than some milliseconds.
#include "addon/bitmap_calls.h"

#include <array>
#include <cstring>

#include "addon/convert.h"
#include "addon/text.h"
#include "base/bitmap.h"

namespace ringdisk {
namespace {

struct StateName {
  Bitmap::State state;
  const char* name;
};
constexpr std::array kStates = {StateName{Bitmap::State::recording, "recording"},
                                StateName{Bitmap::State::disabled, "disabled"},
                                StateName{Bitmap::State::inconsistent, "inconsistent"}};

std::string path_of(const Napi::Value& value) { return to_bytes(value.As<Napi::String>()); }

double number_of(const Napi::Value& value) { return value.As<Napi::Number>().DoubleValue(); }

uint64_t whole_of(const Napi::Value& value) {
  const double number = number_of(value);
  if (!(number >= 0 && number <= 9007199254740991.0))
    throw Napi::RangeError::New(value.Env(), "a number is out of range");
  return static_cast<uint64_t>(number);
}

Bitmap::State state_of(const Napi::Value& value) {
  const std::string name = value.As<Napi::String>();
  for (const StateName& one : kStates)
    if (name == one.name) return one.state;
  throw Napi::TypeError::New(value.Env(), "unknown state " + name);
}

const char* name_of(Bitmap::State state) {
  for (const StateName& one : kStates)
    if (state == one.state) return one.name;
  return "inconsistent";
}

// (path, bytes, granularity, label, state)
void create(const Napi::CallbackInfo& info) {
  guarded(info.Env(), [&] {
    const uint64_t granularity = whole_of(info[2]);
    Bitmap::create(path_of(info[0]), whole_of(info[1]),
                   granularity > UINT32_MAX ? 0 : static_cast<uint32_t>(granularity),
                   path_of(info[3]), state_of(info[4]));
  });
}

// (path, bytes): of a disk of so many bytes.
Napi::Value look(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const Bitmap bitmap(path_of(info[0]));
    Napi::Object object = Napi::Object::New(info.Env());
    object["label"] = from_bytes(info.Env(), bitmap.label());
    object["granularity"] = bitmap.granularity();
    object["covered"] = static_cast<double>(bitmap.covered());
    object["state"] = name_of(bitmap.state());
    object["dirtyBytes"] = static_cast<double>(bitmap.set_bytes(whole_of(info[1])));
    return object;
  });
}

void set_state(const Napi::CallbackInfo& info) {
  guarded(info.Env(), [&] { Bitmap(path_of(info[0])).set_state(state_of(info[1])); });
}

// (into, from)
void merge(const Napi::CallbackInfo& info) {
  guarded(info.Env(), [&] { Bitmap(path_of(info[0])).merge(Bitmap(path_of(info[1]))); });
}

// (path, offset, end, most): [length, isSet] each, `most` of them at most.
Napi::Value runs(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const Bitmap bitmap(path_of(info[0]));
    Napi::Array all = Napi::Array::New(info.Env());
    const uint64_t end = whole_of(info[2]);
    const uint64_t most = whole_of(info[3]);
    for (uint64_t at = whole_of(info[1]); at < end && all.Length() < most;) {
      const Bitmap::Run run = bitmap.run(at, end);
      Napi::Array one = Napi::Array::New(info.Env(), 2);
      one[0u] = static_cast<double>(run.length);
      one[1u] = run.is_set;
      all[all.Length()] = one;
      at += run.length;
    }
    return all;
  });
}

// (path, firstWord, count): the bits of 64 chunks a word, the lowest bit first.
Napi::Value words(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const Bitmap bitmap(path_of(info[0]));
    const std::vector<uint64_t> found = bitmap.words(whole_of(info[1]), whole_of(info[2]));
    return Napi::Buffer<uint8_t>::Copy(info.Env(), reinterpret_cast<const uint8_t*>(found.data()),
                                       found.size() * sizeof(uint64_t));
  });
}

}  // namespace

void init_bitmaps(Napi::Env env, Napi::Object exports) {
  exports["createBitmap"] = Napi::Function::New<create>(env);
  exports["lookAtBitmap"] = Napi::Function::New<look>(env);
  exports["setBitmapState"] = Napi::Function::New<set_state>(env);
  exports["mergeBitmap"] = Napi::Function::New<merge>(env);
  exports["bitmapRuns"] = Napi::Function::New<runs>(env);
  exports["bitmapWords"] = Napi::Function::New<words>(env);
}

}  // namespace ringdisk
