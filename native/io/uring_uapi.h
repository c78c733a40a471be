// SPDX-License-Identifier: Apache-2.0
// The kernel interface that is newer than the oldest headers we build with (Debian 12). Whether the
// running kernel has it is probed, never assumed.
#pragma once

#include <linux/ioctl.h>

#ifndef BLOCK_URING_CMD_DISCARD
#define BLOCK_URING_CMD_DISCARD _IO(0x12, 0)  // offset in addr, length in addr3
#endif
