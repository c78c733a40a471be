// SPDX-License-Identifier: Apache-2.0
#include "target/nvme_target.h"

#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <array>
#include <filesystem>
#include <stdexcept>

#include "base/units.h"
#include "io/uring.h"
#include "target/block_target.h"
#include "target/nvme_channel.h"
#include "target/open_path.h"
#include "target/probe.h"

namespace ringdisk {
namespace {

constexpr uint8_t kAdminIdentify = 0x06;
constexpr uint32_t kIdentifyNamespace = 0;  // CNS values
constexpr uint32_t kIdentifyController = 1;

using IdentifyBuffer = std::array<uint8_t, kNvmeIdentifyBytes>;

[[noreturn]] void refuse(const std::string& path, const std::string& reason) {
  throw std::invalid_argument("cannot serve " + path + ": " + reason);
}

void require_passthrough(const std::string& path) {
  const UringFeatures features = probe_uring();
  if (features.big_entries && features.uring_cmd) return;
  throw std::system_error(EOPNOTSUPP, std::generic_category(),
                          "cannot serve " + path +
                              " by NVMe passthrough: this kernel's io_uring has no commands with "
                              "big entries (Linux 5.19 has); use its block device");
}

IdentifyBuffer identify(int fd, const std::string& path, uint32_t nsid, uint32_t what) {
  IdentifyBuffer data{};
  nvme_admin_cmd command{};
  command.opcode = kAdminIdentify;
  command.nsid = nsid;
  command.addr = reinterpret_cast<uint64_t>(data.data());
  command.data_len = data.size();
  command.cdw10 = what;
  const int rc = ioctl(fd, NVME_IOCTL_ADMIN_CMD, &command);
  if (rc != 0) {
    throw std::system_error(rc < 0 ? errno : EIO, std::generic_category(),
                            "cannot identify the NVMe namespace " + path);
  }
  return data;
}

// "/dev/nvme0n1" for the generic device that sysfs calls "ng0n1", whatever its path is here.
std::string block_path_of(const std::string& path, dev_t generic) {
  const std::string link =
      "/sys/dev/char/" + std::to_string(major(generic)) + ":" + std::to_string(minor(generic));
  std::error_code error;
  const std::string name = std::filesystem::read_symlink(link, error).filename();
  if (error || !name.starts_with("ng")) {
    refuse(path, "it is not an NVMe generic device (/dev/ng*)");
  }
  return "/dev/nvme" + name.substr(2);
}

}  // namespace

NvmeTarget::NvmeTarget(const TargetSpec& spec) : path_(spec.path) {
  const struct stat status = stat_target(spec, S_IFCHR);
  require_passthrough(path_);
  fd_ = open_path(spec, 0);
  fence_ = std::make_unique<Fence>(fd_.get(), path_, spec.read_only, spec.take_over);
  claim(spec, status.st_rdev);
  capabilities_.read_only = spec.read_only;
  capabilities_.direct = true;
  identify();
  capabilities_.capacity = measure();
  if (capabilities_.capacity == 0) refuse(path_, "the namespace has no size");
}

void NvmeTarget::claim(const TargetSpec& spec, dev_t generic) {
  TargetSpec block = spec;
  block.path = block_path_of(path_, generic);
  block_device_ = stat_target(block, S_IFBLK).st_rdev;
  claim_ = claim_block_device(block);
}

void NvmeTarget::identify() {
  const int nsid = ioctl(fd_.get(), NVME_IOCTL_ID);
  if (nsid <= 0) refuse(path_, "it is not an NVMe namespace");
  geometry_.nsid = static_cast<uint32_t>(nsid);
  const NvmeNamespaceIdentity name_space = identify_namespace();
  if (name_space.metadata_bytes != 0) refuse(path_, "its LBA format carries metadata");
  if (name_space.block_shift != 9 && name_space.block_shift != 12) {
    refuse(path_, "its blocks have neither 512 nor 4096 bytes");
  }
  const IdentifyBuffer data = ringdisk::identify(fd_.get(), path_, 0, kIdentifyController);
  const NvmeControllerIdentity controller = parse_identify_controller(data);
  geometry_.block_shift = name_space.block_shift;
  geometry_.volatile_write_cache = controller.volatile_write_cache;
  const uint64_t segments_max = read_queue_limit(block_device_, "max_segments").value_or(1);
  const uint64_t kernel_kib =
      read_queue_limit(block_device_, "max_hw_sectors_kb").value_or(kPageBytes / 1024);
  geometry_.transfer_bytes_max = nvme_transfer_bytes_max(
      controller, kernel_kib * 1024, static_cast<uint32_t>(segments_max), geometry_.block_shift);

  capabilities_.io_alignment = 1u << geometry_.block_shift;
  capabilities_.physical_block = static_cast<uint32_t>(
      read_queue_limit(block_device_, "physical_block_size").value_or(capabilities_.io_alignment));
  capabilities_.discard = controller.dataset_management && !capabilities_.read_only;
  probe_queue(block_device_, capabilities_);
}

NvmeNamespaceIdentity NvmeTarget::identify_namespace() const {
  return parse_identify_namespace(
      ringdisk::identify(fd_.get(), path_, geometry_.nsid, kIdentifyNamespace));
}

uint64_t NvmeTarget::measure() const {
  return identify_namespace().block_count << geometry_.block_shift;
}

std::unique_ptr<TargetChannel> NvmeTarget::open_channel(Uring& uring, Offload&) {
  return std::make_unique<NvmeChannel>(fd_.get(), geometry_, capabilities_, uring);
}

}  // namespace ringdisk
