// SPDX-License-Identifier: Apache-2.0
#include "channels/fill_map.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <system_error>
#include <vector>

#include "temp_machine.h"

namespace ringdisk {
namespace {

FillHeader some_header() {
  FillHeader header;
  header.chunk_bytes = kFillChunkBytesDefault;
  header.source_bytes = 1000 * uint64_t{kFillChunkBytesDefault} + 512;
  header.id = {1, 2};
  header.checksum = header.computed_checksum();
  return header;
}

std::vector<std::byte> bytes_of(const FillHeader& header) {
  std::vector<std::byte> bytes(kFillBlockBytes);
  std::memcpy(bytes.data(), &header, sizeof header);
  return bytes;
}

TEST_CASE("fill map: a header is read as it was written") {
  FillHeader found;
  CHECK(read_fill_head(bytes_of(some_header()), found) == FillHead::ours);
  CHECK(found.source_bytes == some_header().source_bytes);
  CHECK(found.id == some_header().id);
  CHECK(read_fill_head(std::vector<std::byte>(kFillBlockBytes), found) == FillHead::fresh);
}

TEST_CASE("fill map: whatever byte is changed, it is no header any more") {
  const std::vector<std::byte> good = bytes_of(some_header());
  for (size_t at = 0; at < sizeof(FillHeader); at++) {
    std::vector<std::byte> bad = good;
    bad[at] ^= std::byte{0x10};
    FillHeader found;
    CHECK(read_fill_head(bad, found) == FillHead::foreign);
  }
}

TEST_CASE("fill map: identities that outlive a start of the host") {
  const auto same = [](const char* one, const char* other) {
    return lasting_identity(one) == lasting_identity(other);
  };
  CHECK(same("file device 8:1 inode 7 born 5.1", "file device 259:3 inode 7 born 5.1"));
  CHECK_FALSE(same("file device 8:1 inode 7 born 5.1", "file device 8:1 inode 8 born 5.1"));
  CHECK_FALSE(same("wwid naa.5000", "wwid naa.5001"));
  CHECK(lasting_identity("wwid naa.5000") != 0);
  CHECK(lasting_identity("device 7:0 sequence 12") == 0);
  CHECK(lasting_identity("") == 0);
}

TEST_CASE("fill map: in memory it outlives its process, for the same map alone") {
  const TempMachine machine;
  const std::string path = machine.dir() + "/live";
  {
    const FillLive live(path, some_header());
    CHECK(live.words()[0] == 0);
    live.words()[3] = 5;
    live.rate() = 1000;
    live.paused() = 1;
  }
  {
    const FillLive live(path, some_header());
    CHECK(live.words()[3] == 5);
    CHECK(live.rate() == 1000);
    CHECK(live.paused() == 1);
  }
  FillHeader other = some_header();
  other.id = {1, 3};
  {
    FillLive live(path, other);
    CHECK(live.words()[3] == 0);
    CHECK(live.rate() == 0);
    live.discard();
  }
  CHECK(::access(path.c_str(), F_OK) != 0);
}

TEST_CASE("fill map: a file in memory that was never finished, or is no map, is made anew") {
  const TempMachine machine;
  const std::string path = machine.dir() + "/live";
  std::ofstream(path) << std::string(fill_map_bytes(1001), 'x');
  const FillLive live(path, some_header());
  CHECK(live.words()[0] == 0);
  CHECK_THROWS_AS(FillLive(machine.dir() + "/none/live", some_header()), std::system_error);
}

}  // namespace
}  // namespace ringdisk
