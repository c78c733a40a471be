// SPDX-License-Identifier: Apache-2.0
// JavaScript values to what the loopback guest takes, and back. What is not as
// src/datapath/binding.ts says throws TypeError.
#pragma once

#include <napi.h>

#include <cstdint>
#include <string>

#include "platform/loopback/workload.h"
#include "protocol/abi.h"

namespace ringdisk {

// An integer from 0 to `max`; `name` is what the error calls it.
uint64_t to_uint(Napi::Value value, const char* name, double max);
std::string to_string(Napi::Value value, const char* name);

struct QueueSetup {
  uint32_t ring_page_order;
  Abi abi;
};
QueueSetup to_queue_setup(Napi::Value value);

struct FrontendSetup {
  uint32_t indirect_segments;
  bool persistent_grants;
};
FrontendSetup to_frontend_setup(Napi::Value value);

Workload to_workload(Napi::Value value);
Napi::Object from_workload_result(Napi::Env env, const WorkloadResult& result);

}  // namespace ringdisk
