// SPDX-License-Identifier: Apache-2.0
#include "medium/nvme_command.h"

#include <algorithm>
#include <cerrno>

#include "base/units.h"

namespace ringdisk {
namespace {

constexpr uint8_t kOpcodeFlush = 0x00;
constexpr uint8_t kOpcodeWrite = 0x01;
constexpr uint8_t kOpcodeRead = 0x02;
constexpr uint8_t kOpcodeDatasetManagement = 0x09;
constexpr uint32_t kDeallocate = 1u << 2;  // command dword 11
constexpr uint64_t kBlocksPerCommandMax = 1u << 16;

// Status code type and code, as the kernel hands them up; the bits above say how, not what.
constexpr int32_t kStatusMask = 0x7ff;
constexpr int32_t kDoNotRetry = 0x4000;

// Identify data is little-endian, whatever we are.
uint64_t little_endian(NvmeIdentifyData data, size_t offset, size_t bytes) {
  uint64_t value = 0;
  for (size_t i = bytes; i-- > 0;) value = value << 8 | data[offset + i];
  return value;
}

int32_t errno_of(int32_t status) {
  switch (status) {
    case 0x001:  // invalid command opcode
      return EOPNOTSUPP;
    case 0x002:  // invalid field in command
      return EINVAL;
    case 0x020:  // namespace is write protected
    case 0x182:  // attempted write to read-only range
      return EROFS;
    case 0x081:  // capacity exceeded
      return ENOSPC;
    case 0x082:  // namespace not ready
    case 0x370:  // host path error
    case 0x371:  // command aborted by host: a controller reset, say
      return EAGAIN;
    default:
      return EIO;
  }
}

}  // namespace

NvmeNamespaceIdentity parse_identify_namespace(NvmeIdentifyData data) {
  const uint64_t format_last = data[25];
  const uint8_t flbas = data[26];
  // Above 16 formats the index has two more bits, elsewhere in the byte.
  const size_t format = (flbas & 0xfu) | (format_last > 15 ? (flbas >> 5 & 0x3u) << 4 : 0);
  const size_t lba_format = 128 + 4 * format;
  return {.block_count = little_endian(data, 0, 8),
          .block_shift = data[lba_format + 2],
          .metadata_bytes = static_cast<uint32_t>(little_endian(data, lba_format, 2))};
}

NvmeControllerIdentity parse_identify_controller(NvmeIdentifyData data) {
  const uint8_t mdts = data[77];  // log2 in units of the controller's smallest page, >= 4 KiB
  const bool limited = mdts != 0 && mdts < 32;
  return {.transfer_bytes_max = limited ? uint64_t{kPageBytes} << mdts : UINT64_MAX,
          .volatile_write_cache = (data[525] & 1) != 0,
          .dataset_management = (little_endian(data, 520, 2) >> 2 & 1) != 0};
}

uint64_t nvme_transfer_bytes_max(const NvmeControllerIdentity& controller,
                                 uint64_t kernel_bytes_max, uint32_t segments_max,
                                 uint32_t block_shift) {
  const uint64_t block = 1ull << block_shift;
  const uint64_t by_segments = uint64_t{std::max(segments_max, 2u) - 1} * kPageBytes;
  const uint64_t bytes = std::min({controller.transfer_bytes_max, kernel_bytes_max, by_segments,
                                   kBlocksPerCommandMax << block_shift});
  return std::max(bytes / block * block, block);
}

nvme_uring_cmd encode_nvme_transfer(const NvmeGeometry& geometry, bool write, uint64_t offset,
                                    std::span<const std::byte> memory) {
  const uint64_t first_block = offset >> geometry.block_shift;
  nvme_uring_cmd command{};
  command.opcode = write ? kOpcodeWrite : kOpcodeRead;
  command.nsid = geometry.nsid;
  command.addr = reinterpret_cast<uint64_t>(memory.data());
  command.data_len = static_cast<uint32_t>(memory.size());
  command.cdw10 = static_cast<uint32_t>(first_block);
  command.cdw11 = static_cast<uint32_t>(first_block >> 32);
  command.cdw12 =
      static_cast<uint32_t>((memory.size() >> geometry.block_shift) - 1);  // counts from 0
  return command;
}

nvme_uring_cmd encode_nvme_flush(const NvmeGeometry& geometry) {
  nvme_uring_cmd command{};
  command.opcode = kOpcodeFlush;
  command.nsid = geometry.nsid;
  return command;
}

NvmeDatasetRange encode_nvme_range(const NvmeGeometry& geometry, uint64_t offset, uint64_t bytes) {
  return {.attributes = 0,
          .block_count = static_cast<uint32_t>(bytes >> geometry.block_shift),
          .first_block = offset >> geometry.block_shift};
}

nvme_uring_cmd encode_nvme_deallocate(const NvmeGeometry& geometry, const NvmeDatasetRange& range) {
  nvme_uring_cmd command{};
  command.opcode = kOpcodeDatasetManagement;
  command.nsid = geometry.nsid;
  command.addr = reinterpret_cast<uint64_t>(&range);
  command.data_len = sizeof(range);
  command.cdw10 = 0;  // one range; counts from 0
  command.cdw11 = kDeallocate;
  return command;
}

int32_t nvme_result_to_errno(int32_t result) {
  if (result <= 0) return result;
  const int32_t error = errno_of(result & kStatusMask);
  if (error == EAGAIN && (result & kDoNotRetry) != 0) return -EIO;
  return -error;
}

}  // namespace ringdisk
