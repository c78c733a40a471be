// SPDX-License-Identifier: Apache-2.0
#include "nbd/request.h"

#include "base/kill_point.h"

namespace ringdisk::nbd {
namespace {

// The flags that each command may have; more are a client's mistake.
uint16_t flags_of(Command command, const Agreement& agreement) {
  const uint16_t payload = agreement.extended ? uint16_t{kPayloadLength} : uint16_t{0};
  switch (command) {
    case Command::read:
      return agreement.structured ? kDf : 0;
    case Command::write:
      return kFua | payload;
    case Command::trim:
      return kFua;
    case Command::write_zeroes:
      return kFua | kNoHole | kFastZero;
    case Command::block_status:
      return kReqOne;
    case Command::disconnect:
    case Command::flush:
    case Command::cache:
      return 0;
  }
  return 0;
}

// What the export must have offered.
uint16_t needed(Command command) {
  switch (command) {
    case Command::flush:
      return kSendFlush;
    case Command::trim:
      return kSendTrim;
    case Command::write_zeroes:
      return kSendWriteZeroes;
    case Command::cache:
      return kSendCache;
    default:
      return 0;
  }
}

bool writes(Command command) {
  return command == Command::write || command == Command::trim || command == Command::write_zeroes;
}

bool moves_data(Command command) { return command == Command::read || command == Command::write; }

Error check_range(const RawRequest& raw, Command command, const ExportFacts& facts) {
  if (raw.length == 0 || raw.offset % facts.block_min != 0 || raw.length % facts.block_min != 0)
    return Error::invalid;
  if (moves_data(command) && raw.length > facts.block_max) return Error::overflow;
  if (RD_PLANTED("capacity")) return Error::none;
  if (raw.offset > facts.size || raw.length > facts.size - raw.offset)
    return writes(command) ? Error::no_space : Error::invalid;
  return Error::none;
}

}  // namespace

Decoded decode(std::span<const std::byte> in, bool extended, RawRequest& request) {
  if (in.size() < header_bytes(extended)) return Decoded::part;
  const std::byte* at = in.data();
  const uint32_t magic = extended ? kExtendedRequestMagic : kRequestMagic;
  if (get<uint32_t>(at) != magic) return Decoded::broken;
  request.flags = get<uint16_t>(at + 4);
  request.command = get<uint16_t>(at + 6);
  request.cookie = get<uint64_t>(at + 8);
  request.offset = get<uint64_t>(at + 16);
  request.length = extended ? get<uint64_t>(at + 24) : get<uint32_t>(at + 24);
  return Decoded::whole;
}

uint64_t payload_bytes(const RawRequest& raw, bool extended) {
  const bool is_write = raw.command == static_cast<uint16_t>(Command::write);
  if (extended) return raw.flags & kPayloadLength ? raw.length : 0;
  return is_write ? raw.length : 0;
}

Error validate(const RawRequest& raw, const ExportFacts& facts, const Agreement& agreement,
               Request& request) {
  if (raw.command > static_cast<uint16_t>(Command::block_status)) return Error::invalid;
  const auto command = static_cast<Command>(raw.command);
  if ((raw.flags & ~flags_of(command, agreement)) != 0) return Error::invalid;
  if (writes(command) && (facts.flags & kReadOnly)) return Error::not_permitted;
  if ((facts.flags & needed(command)) != needed(command)) return Error::invalid;
  // Without its payload a write says nothing.
  if (command == Command::write && agreement.extended && !(raw.flags & kPayloadLength))
    return Error::invalid;
  if (command == Command::block_status && agreement.contexts.empty()) return Error::invalid;
  const bool has_range = command != Command::flush && command != Command::disconnect;
  if (has_range)
    if (const Error error = check_range(raw, command, facts); error != Error::none) return error;
  request = {.command = command,
             .fua = (raw.flags & kFua) != 0,
             .no_hole = (raw.flags & kNoHole) != 0,
             .fast_zero = (raw.flags & kFastZero) != 0,
             .one_chunk = (raw.flags & (kDf | kReqOne)) != 0,
             .cookie = raw.cookie,
             .offset = has_range ? raw.offset : 0,
             .length = has_range ? raw.length : 0};
  return Error::none;
}

}  // namespace ringdisk::nbd
