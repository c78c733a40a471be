// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <napi.h>

namespace ringdisk {

void init_bitmaps(Napi::Env env, Napi::Object exports);

}  // namespace ringdisk
