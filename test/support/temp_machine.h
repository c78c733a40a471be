// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <string>

namespace ringdisk {

// A folder for one test's loopback machine; gone with the object.
class TempMachine {
 public:
  TempMachine() {
    std::string name = (std::filesystem::temp_directory_path() / "ringdisk-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp " + name);
    dir_ = name;
  }
  ~TempMachine() {
    std::error_code ignored;
    std::filesystem::remove_all(dir_, ignored);
  }
  TempMachine(const TempMachine&) = delete;
  TempMachine& operator=(const TempMachine&) = delete;

  const std::string& dir() const { return dir_; }

 private:
  std::string dir_;
};

}  // namespace ringdisk
