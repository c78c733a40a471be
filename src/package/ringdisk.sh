#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The command of a package: by the Node that the package ringdisk-node carries, if that is
# installed, else by the host's.
node=/usr/lib/ringdisk/node
[ -x "$node" ] || node=/usr/bin/node
exec "$node" /usr/lib/ringdisk/dist/ringdisk.cjs "$@"
