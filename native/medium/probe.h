// SPDX-License-Identifier: Apache-2.0
// Questions to the kernel about a medium. None of them changes a byte of it.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>

#include "medium/facts.h"

namespace ringdisk {

inline constexpr uint32_t kIoAlignmentMax = 4096;

// What O_DIRECT asks of offsets and lengths on `fd`, a regular file opened with it: 512 or 4096.
// Nothing when the file system only pretends, or wants an alignment beyond kIoAlignmentMax.
std::optional<uint32_t> probe_direct_io(int fd);

// Bytes of an open block device. Throws std::system_error; `path` is for the message.
uint64_t block_device_bytes(int fd, const std::string& path);

// One of the request queue's limits ("discard_granularity"); a partition's queue is its disk's.
std::optional<uint64_t> read_queue_limit(dev_t device, const std::string& name);
// One of the device's own attributes, which partitions have too ("discard_alignment").
std::optional<uint64_t> read_device_attribute(dev_t device, const std::string& name);

// Fills rotational and the discard geometry of `capabilities` from sysfs.
void probe_queue(dev_t device, Capabilities& capabilities);

// Whether a block device opened for writing takes BLKDISCARD or BLKSECDISCARD (`request`).
bool takes_discard_ioctl(int fd, unsigned long request);

// Which medium an open block device is: equal texts mean the same one, whatever its path.
// `fd` may be -1: then the kernel's files alone are asked.
std::string identity_of_device(int fd, dev_t device);
std::string identity_of_file(int fd);

// The same of what lies at a path, for whoever does not serve it by itself. May wait for ever where
// the storage hangs. Throws std::system_error, or std::invalid_argument for neither of the two.
struct FoundMedium {
  bool is_device = false;
  std::string identity;
};
FoundMedium find_medium(const std::string& path);

// Whether holes can be punched into this regular file, open for writing.
bool takes_punch_hole(int fd);

}  // namespace ringdisk
