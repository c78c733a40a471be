// SPDX-License-Identifier: Apache-2.0
// What a frontend puts into a ring entry, as C structs: written down from the field lists of Xen's
// public io/blkif.h, independently of native/protocol/abi.h, so that each can convict the other.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ringdisk::xen_abi {

struct [[gnu::packed]] Segment {
  uint32_t gref;
  uint8_t first_sect;
  uint8_t last_sect;
  uint16_t padding;
};

// A 64-bit frontend: the compiler aligns `id` to 8 bytes.
namespace x86_64 {
struct [[gnu::packed]] ReadWrite {
  uint8_t operation;
  uint8_t nr_segments;
  uint16_t handle;
  uint32_t padding;
  uint64_t id;
  uint64_t sector_number;
  Segment seg[11];
};
struct [[gnu::packed]] Discard {
  uint8_t operation;
  uint8_t flag;
  uint16_t handle;
  uint32_t padding;
  uint64_t id;
  uint64_t sector_number;
  uint64_t nr_sectors;
};
struct [[gnu::packed]] Indirect {
  uint8_t operation;
  uint8_t indirect_op;
  uint16_t nr_segments;
  uint32_t padding;
  uint64_t id;
  uint64_t sector_number;
  uint16_t handle;
  uint16_t padding2;
  uint32_t indirect_grefs[8];
};
struct [[gnu::packed]] Response {
  uint64_t id;
  uint8_t operation;
  uint8_t padding;
  int16_t status;
  uint32_t padding2;
};
union Entry {
  ReadWrite rw;
  Discard discard;
  Indirect indirect;
  Response response;
};
static_assert(sizeof(Entry) == 112 && sizeof(Response) == 16);
}  // namespace x86_64

// A 32-bit frontend: `id` is aligned to 4 bytes only.
namespace x86_32 {
struct [[gnu::packed]] ReadWrite {
  uint8_t operation;
  uint8_t nr_segments;
  uint16_t handle;
  uint64_t id;
  uint64_t sector_number;
  Segment seg[11];
};
struct [[gnu::packed]] Discard {
  uint8_t operation;
  uint8_t flag;
  uint16_t handle;
  uint64_t id;
  uint64_t sector_number;
  uint64_t nr_sectors;
};
struct [[gnu::packed]] Indirect {
  uint8_t operation;
  uint8_t indirect_op;
  uint16_t nr_segments;
  uint64_t id;
  uint64_t sector_number;
  uint16_t handle;
  uint16_t padding;
  uint32_t indirect_grefs[8];
};
struct [[gnu::packed]] Response {
  uint64_t id;
  uint8_t operation;
  uint8_t padding;
  int16_t status;
};
union Entry {
  ReadWrite rw;
  Discard discard;
  Indirect indirect;
  Response response;
};
static_assert(sizeof(Entry) == 108 && sizeof(Response) == 12);
}  // namespace x86_32

// The head of a shared ring (io/ring.h).
struct RingHeader {
  uint32_t req_prod;
  uint32_t req_event;
  uint32_t rsp_prod;
  uint32_t rsp_event;
  uint8_t padding[48];
};
static_assert(sizeof(RingHeader) == 64);

}  // namespace ringdisk::xen_abi
