// SPDX-License-Identifier: Apache-2.0
// Copied bytes of any ABI to a Request. Decoding judges nothing: validate() does.
#pragma once

#include <cstddef>
#include <span>

#include "protocol/abi.h"
#include "protocol/request.h"

namespace ringdisk {

Request decode(Abi abi, std::span<const std::byte, wire::kEntryBytesMax> bytes);

}  // namespace ringdisk
