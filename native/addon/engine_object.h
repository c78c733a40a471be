// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <napi.h>

namespace ringdisk {

// Adds `createEngine(options, onEvents)` to the module's exports; once per environment. What it
// returns is NativeEngine of src/datapath/binding.ts.
void init_engine(Napi::Env env, Napi::Object exports);

}  // namespace ringdisk
