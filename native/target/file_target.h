// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>

#include "base/fd.h"
#include "target/target.h"

namespace ringdisk {

// A regular file. Bypasses the page cache where its file system can.
class FileTarget final : public Target {
 public:
  explicit FileTarget(const TargetSpec& spec);

  uint64_t measure() const override;
  std::unique_ptr<TargetChannel> open_channel(Uring& uring, Offload& offload) override;

 private:
  void open_direct(const TargetSpec& spec);

  std::string path_;
  Fd fd_;
};

}  // namespace ringdisk
