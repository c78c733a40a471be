// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace ringdisk {

// Tells the service manager about our state (sd_notify(3)'s protocol): Node has no datagram socket
// for it. False when nobody listens (no NOTIFY_SOCKET) or the message could not be sent.
bool sd_notify(const std::string& state);

}  // namespace ringdisk
