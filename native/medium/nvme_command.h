// SPDX-License-Identifier: Apache-2.0
// NVMe as bytes: identify data in, commands out. Pure; numbers and field names are those of the NVM
// Express Base and NVM Command Set specifications.
#pragma once

#include <linux/nvme_ioctl.h>

#include <cstddef>
#include <cstdint>
#include <span>

namespace ringdisk {

inline constexpr size_t kNvmeIdentifyBytes = 4096;
using NvmeIdentifyData = std::span<const uint8_t, kNvmeIdentifyBytes>;

struct NvmeNamespaceIdentity {
  uint64_t block_count;
  uint32_t block_shift;  // of the LBA format in use
  uint32_t metadata_bytes;
};
NvmeNamespaceIdentity parse_identify_namespace(NvmeIdentifyData data);

struct NvmeControllerIdentity {
  uint64_t transfer_bytes_max;  // UINT64_MAX: no limit
  bool volatile_write_cache;
  bool dataset_management;
};
NvmeControllerIdentity parse_identify_controller(NvmeIdentifyData data);

// What a channel needs to know of its namespace.
struct NvmeGeometry {
  uint32_t nsid = 0;
  uint32_t block_shift = 0;
  uint64_t transfer_bytes_max = 0;  // per command, a multiple of the block
  bool volatile_write_cache = false;
  uint32_t commands_max = 64;  // in flight per channel
};

// The largest transfer one command can carry: the controller's limit, the kernel's (in bytes and in
// segments, of which a transfer that starts inside a page needs one more) and the command's 16-bit
// block count, whichever is smallest.
uint64_t nvme_transfer_bytes_max(const NvmeControllerIdentity& controller,
                                 uint64_t kernel_bytes_max, uint32_t segments_max,
                                 uint32_t block_shift);

// `offset` and the memory's size are multiples of the block.
nvme_uring_cmd encode_nvme_transfer(const NvmeGeometry& geometry, bool write, uint64_t offset,
                                    std::span<const std::byte> memory);
nvme_uring_cmd encode_nvme_flush(const NvmeGeometry& geometry);

// The one range of a deallocate command: memory the controller reads.
struct NvmeDatasetRange {
  uint32_t attributes;
  uint32_t block_count;
  uint64_t first_block;
};
NvmeDatasetRange encode_nvme_range(const NvmeGeometry& geometry, uint64_t offset, uint64_t bytes);
nvme_uring_cmd encode_nvme_deallocate(const NvmeGeometry& geometry, const NvmeDatasetRange& range);

// A completion's result (0, -errno or an NVMe status) as 0 or -errno. A status that asks to come
// again becomes -EAGAIN.
int32_t nvme_result_to_errno(int32_t result);

}  // namespace ringdisk
