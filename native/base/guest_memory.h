// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstring>

namespace ringdisk {

// Copies memory a guest can change meanwhile. What is in `to` afterwards is all there is: the
// compiler may not go back to the source for it (XSA-155). The guest decides what is copied, and
// may tear words; whoever checks the copy finds that like any other nonsense.
inline void copy_once(void* to, const void* from, size_t bytes) {
  std::memcpy(to, from, bytes);
  asm volatile("" : : "r"(to) : "memory");
}

}  // namespace ringdisk
