// SPDX-License-Identifier: Apache-2.0
// Paths are bytes, strings of JavaScript are not. A byte b that is not part of valid UTF-8 stands
// in a string as the lone surrogate U+DC00 + b: see src/text.ts.
#pragma once

#include <napi.h>

#include <string>

namespace ringdisk {

std::string to_bytes(const Napi::String& text);
// A Value, since setting a property to a String sends it through std::string.
Napi::Value from_bytes(Napi::Env env, const std::string& bytes);

}  // namespace ringdisk
