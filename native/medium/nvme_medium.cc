// SPDX-License-Identifier: Apache-2.0
#include "medium/nvme_medium.h"

#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <stdexcept>
#include <utility>

#include "base/units.h"
#include "medium/open_path.h"
#include "medium/probe.h"

namespace ringdisk {
namespace {

constexpr uint8_t kAdminIdentify = 0x06;
constexpr uint32_t kIdentifyNamespace = 0;  // CNS values
constexpr uint32_t kIdentifyController = 1;

constexpr uint64_t kNvmeTagsDefault = 256;

using IdentifyBuffer = std::array<uint8_t, kNvmeIdentifyBytes>;

[[noreturn]] void refuse(const std::string& path, const std::string& reason) {
  throw std::invalid_argument("cannot serve " + path + ": " + reason);
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

NvmeMedium::NvmeMedium(const MediumSpec& spec) : path_(spec.path) {
  stat_target(spec, S_IFCHR);
  fd_ = open_path(spec, 0);
  find_block_device(spec);
  facts_.kind = MediumKind::nvme;
  facts_.capabilities.read_only = spec.read_only;
  facts_.capabilities.direct = true;
  identify();
  facts_.capabilities.capacity = measure().capacity;
  if (facts_.capabilities.capacity == 0) refuse(path_, "the namespace has no size");
  set_identity("nvme " + std::to_string(facts_.nvme.nsid) + " " +
               identity_of_device(-1, block_device_));
  // A command either starts or is refused; see NvmeGeometry::commands_max.
  facts_.reads_without_waiting = true;
  facts_.writes_without_waiting = true;
}

NvmeMedium::NvmeMedium(const MediumSpec& spec, const MediumFacts& facts, Fd fd) : path_(spec.path) {
  facts_ = facts;
  fd_ = std::move(fd);
  find_block_device(spec);
}

void NvmeMedium::find_block_device(const MediumSpec& spec) {
  struct stat status{};
  if (::fstat(fd(), &status) != 0)
    throw std::system_error(errno, std::generic_category(), "cannot look at " + path_);
  MediumSpec block = spec;
  block.path = block_path_ = block_path_of(path_, status.st_rdev);
  block.kind = "block";
  block_device_ = stat_target(block, S_IFBLK).st_rdev;
  claim_ = std::make_unique<Claim>(fd(), path_, spec.read_only, block_path_);
}

void NvmeMedium::identify() {
  const int nsid = ioctl(fd(), NVME_IOCTL_ID);
  if (nsid <= 0) refuse(path_, "it is not an NVMe namespace");
  facts_.nvme.nsid = static_cast<uint32_t>(nsid);
  const NvmeNamespaceIdentity name_space = identify_namespace();
  if (name_space.metadata_bytes != 0) refuse(path_, "its LBA format carries metadata");
  if (name_space.block_shift != 9 && name_space.block_shift != 12) {
    refuse(path_, "its blocks have neither 512 nor 4096 bytes");
  }
  const IdentifyBuffer data = ringdisk::identify(fd(), path_, 0, kIdentifyController);
  const NvmeControllerIdentity controller = parse_identify_controller(data);
  facts_.nvme.block_shift = name_space.block_shift;
  facts_.nvme.volatile_write_cache = controller.volatile_write_cache;
  const uint64_t segments_max = read_queue_limit(block_device_, "max_segments").value_or(1);
  const uint64_t kernel_kib =
      read_queue_limit(block_device_, "max_hw_sectors_kb").value_or(kPageBytes / 1024);
  // So many that no command of ours has to wait for a tag, whichever queues meet in one of the
  // controller's: who waited would do so in the kernel, for as long as the device hangs.
  const uint64_t tags = read_queue_limit(block_device_, "nr_requests").value_or(kNvmeTagsDefault);
  facts_.nvme.commands_max = static_cast<uint32_t>(std::clamp<uint64_t>(tags / 16, 4, 256));
  facts_.nvme.transfer_bytes_max = nvme_transfer_bytes_max(
      controller, kernel_kib * 1024, static_cast<uint32_t>(segments_max), facts_.nvme.block_shift);

  facts_.capabilities.io_alignment = 1u << facts_.nvme.block_shift;
  facts_.capabilities.physical_block =
      static_cast<uint32_t>(read_queue_limit(block_device_, "physical_block_size")
                                .value_or(facts_.capabilities.io_alignment));
  facts_.capabilities.discard = controller.dataset_management && !facts_.capabilities.read_only;
  probe_queue(block_device_, facts_.capabilities);
}

NvmeNamespaceIdentity NvmeMedium::identify_namespace() const {
  return parse_identify_namespace(
      ringdisk::identify(fd(), path_, facts_.nvme.nsid, kIdentifyNamespace));
}

Medium::Size NvmeMedium::measure() const {
  const uint64_t bytes = identify_namespace().block_count << facts_.nvme.block_shift;
  return {bytes, bytes};
}

}  // namespace ringdisk
