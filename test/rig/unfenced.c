// SPDX-License-Identifier: Apache-2.0
// Preloaded into the daemon that must fail the fence's test: nothing is ever locked for it.
int flock(int fd, int operation) {
  (void)fd;
  (void)operation;
  return 0;
}
