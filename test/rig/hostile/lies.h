// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stddef.h>

#include "frontend.h"

struct lie {
  const char* name;
  // Begins connected; may leave everything in any state.
  void (*tell)(struct frontend* self);
};

// Each ends with a lie without a name.
extern const struct lie request_lies[], node_lies[], queue_lies[];
