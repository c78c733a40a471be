// SPDX-License-Identifier: Apache-2.0
#include "base/beside_us.h"

#include <dlfcn.h>
#include <unistd.h>

#include <array>
#include <cstdlib>

namespace ringdisk {
namespace {

std::string program_path() {
  std::array<char, 4096> path{};
  const ssize_t length = ::readlink("/proc/self/exe", path.data(), path.size() - 1);
  return length > 0 ? std::string(path.data(), static_cast<size_t>(length)) : "";
}

}  // namespace

std::string beside_us(const std::string& name) {
  Dl_info info{};
  std::string us = program_path();
  if (::dladdr(reinterpret_cast<void*>(&beside_us), &info) != 0 && info.dli_fname &&
      std::string(info.dli_fname).ends_with(".node"))
    us = info.dli_fname;
  return us.substr(0, us.rfind('/') + 1) + name;
}

}  // namespace ringdisk
