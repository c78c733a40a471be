// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <napi.h>

namespace ringdisk {

// Adds `createLoopbackGuest(machineDir, domid)` to the module's exports; once per environment.
// What it returns is NativeLoopbackGuest of src/datapath/binding.ts.
void init_loopback_guest(Napi::Env env, Napi::Object exports);

}  // namespace ringdisk
