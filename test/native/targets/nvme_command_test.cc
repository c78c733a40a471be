// SPDX-License-Identifier: Apache-2.0
#include "medium/nvme_command.h"

#include <doctest/doctest.h>

#include <array>
#include <cerrno>
#include <vector>

namespace ringdisk {
namespace {

using Data = std::array<uint8_t, kNvmeIdentifyBytes>;

NvmeGeometry geometry_of(uint32_t block_shift) {
  return {.nsid = 3,
          .block_shift = block_shift,
          .transfer_bytes_max = 1 << 20,
          .volatile_write_cache = true};
}

TEST_CASE("nvme: the namespace's size and the format in use") {
  Data data{};
  data[1] = 0x10;      // 4096 blocks
  data[25] = 1;        // two formats
  data[26] = 1;        // the second
  data[128 + 2] = 9;   // 512 bytes
  data[132 + 0] = 8;   // with metadata
  data[132 + 2] = 12;  // 4096 bytes
  NvmeNamespaceIdentity identity = parse_identify_namespace(data);
  CHECK(identity.block_count == 4096);
  CHECK(identity.block_shift == 12);
  CHECK(identity.metadata_bytes == 8);
  data[26] = 0;
  identity = parse_identify_namespace(data);
  CHECK(identity.block_shift == 9);
  CHECK(identity.metadata_bytes == 0);
}

TEST_CASE("nvme: a format index above 15 has bits elsewhere, which mean nothing below") {
  Data data{};
  data[128 + 4 * 1 + 2] = 9;
  data[128 + 4 * 17 + 2] = 12;
  data[26] = 0x21;
  data[25] = 20;
  CHECK(parse_identify_namespace(data).block_shift == 12);
  data[25] = 3;
  CHECK(parse_identify_namespace(data).block_shift == 9);
}

TEST_CASE("nvme: what the controller can do") {
  Data data{};
  NvmeControllerIdentity identity = parse_identify_controller(data);
  CHECK(identity.transfer_bytes_max == UINT64_MAX);
  CHECK_FALSE(identity.volatile_write_cache);
  CHECK_FALSE(identity.dataset_management);
  data[77] = 7;
  data[525] = 1;
  data[520] = 4;
  identity = parse_identify_controller(data);
  CHECK(identity.transfer_bytes_max == 512 * 1024);
  CHECK(identity.volatile_write_cache);
  CHECK(identity.dataset_management);
}

TEST_CASE("nvme: the smallest limit of a transfer counts") {
  const NvmeControllerIdentity unlimited{UINT64_MAX, true, true};
  const NvmeControllerIdentity small{8192, true, true};
  CHECK(nvme_transfer_bytes_max(small, 1 << 20, 128, 9) == 8192);
  CHECK(nvme_transfer_bytes_max(unlimited, 262144, 128, 9) == 262144);
  CHECK(nvme_transfer_bytes_max(unlimited, 1 << 20, 128, 9) == 127 * 4096);
  CHECK(nvme_transfer_bytes_max(unlimited, UINT64_MAX, 1 << 20, 9) == 65536 * 512);
  CHECK(nvme_transfer_bytes_max(unlimited, 6000, 128, 12) == 4096);
  CHECK(nvme_transfer_bytes_max(unlimited, 512, 1, 12) == 4096);
}

TEST_CASE("nvme: transfer commands") {
  const std::vector<std::byte> memory(8192);
  const NvmeGeometry geometry = geometry_of(12);
  const uint64_t offset = 0x1'2345'6789ull << 12;
  const nvme_uring_cmd write = encode_nvme_transfer(geometry, true, offset, memory);
  CHECK(write.opcode == 1);
  CHECK(write.nsid == 3);
  CHECK(write.addr == reinterpret_cast<uint64_t>(memory.data()));
  CHECK(write.data_len == 8192);
  CHECK(write.cdw10 == 0x23456789);
  CHECK(write.cdw11 == 1);
  CHECK(write.cdw12 == 1);
  CHECK(write.metadata == 0);
  const nvme_uring_cmd read =
      encode_nvme_transfer(geometry, false, 0, std::span(memory).first(4096));
  CHECK(read.opcode == 2);
  CHECK(read.data_len == 4096);
  CHECK(read.cdw10 == 0);
  CHECK(read.cdw12 == 0);
}

TEST_CASE("nvme: flush and deallocate commands") {
  const NvmeGeometry geometry = geometry_of(9);
  const nvme_uring_cmd flush = encode_nvme_flush(geometry);
  CHECK(flush.opcode == 0);
  CHECK(flush.nsid == 3);
  CHECK(flush.data_len == 0);
  const NvmeDatasetRange range = encode_nvme_range(geometry, 1 << 20, 32 << 20);
  CHECK(range.first_block == 2048);
  CHECK(range.block_count == 65536);
  static_assert(sizeof(NvmeDatasetRange) == 16);
  const nvme_uring_cmd deallocate = encode_nvme_deallocate(geometry, range);
  CHECK(deallocate.opcode == 9);
  CHECK(deallocate.addr == reinterpret_cast<uint64_t>(&range));
  CHECK(deallocate.data_len == 16);
  CHECK(deallocate.cdw10 == 0);
  CHECK(deallocate.cdw11 == 4);
}

TEST_CASE("nvme: statuses become errnos") {
  CHECK(nvme_result_to_errno(0) == 0);
  CHECK(nvme_result_to_errno(-EINTR) == -EINTR);
  CHECK(nvme_result_to_errno(0x001) == -EOPNOTSUPP);
  CHECK(nvme_result_to_errno(0x4002) == -EINVAL);
  CHECK(nvme_result_to_errno(0x020) == -EROFS);
  CHECK(nvme_result_to_errno(0x081) == -ENOSPC);
  CHECK(nvme_result_to_errno(0x281) == -EIO);
  CHECK(nvme_result_to_errno(0x082) == -EAGAIN);
  CHECK(nvme_result_to_errno(0x4082) == -EIO);
}

}  // namespace
}  // namespace ringdisk
