// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

namespace ringdisk {

// Copies memory a guest can change meanwhile: each word is read exactly once, and the compiler may
// not go back to the source for it (XSA-155). `bytes` is a multiple of 4; both ends are 4-byte
// aligned.
inline void copy_once(void* to, const void* from, size_t bytes) {
  const auto* source = static_cast<const volatile uint32_t*>(from);
  auto* target = static_cast<uint32_t*>(to);
  for (size_t i = 0; i < bytes / sizeof(uint32_t); i++) target[i] = source[i];
}

}  // namespace ringdisk
