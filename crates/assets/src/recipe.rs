//! What a guest is made of: the one place that names packages, what is left out of them, and modules.

use serde::{Deserialize, Serialize};

/// Version of what this program makes from the same packages: raised whenever the code changes that.
const FORMAT: u32 = 1;

/// The list of packages and of what is done with them. Its digest is part of what identifies a build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipe {
    /// Version of the code that follows it.
    pub format: u32,
    /// Packages to install, without their dependencies; `ARCH` stands for the architecture.
    pub packages: Vec<String>,
    /// Packages that a guest does without, whoever depends on them.
    pub excluded: Vec<String>,
    /// Paths that are left out of packages: a path, or everything below it.
    pub dropped_paths: Vec<String>,
    /// Kernel modules that are left out, by path below `kernel/`.
    pub dropped_modules: Vec<String>,
    /// Modules that stand in the initial RAM disk, in this order (dependencies come first by themselves).
    pub early_modules: Vec<String>,
    /// Modules that an engine needs from the start.
    pub engine_modules: Vec<String>,
    /// Modules that the vsock channel needs.
    pub vsock_modules: Vec<String>,
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            format: FORMAT,
            // Without `git`, which `docker build` of a repository's address needs and which is larger than the rest of the tools;
            // without `kmod`, since the agent loads modules and busybox has a `modprobe` for the kernel to call.
            packages: words(
                "linux-image-cloud-ARCH containerd docker.io runc iptables tini containernetworking-plugins
                 iproute2 e2fsprogs busybox-static ca-certificates",
            ),
            // Package management, configuration on installation, other init systems, interpreters, and what only builds an
            // initial RAM disk: nothing of it runs in a guest.
            excluded: words(
                "adduser cdebconf debconf debconf-2.0 dpkg gcc-14-base init-system-helpers initramfs-tools kmod
                 libc-bin libdb5.3t64 libtirpc3t64 linux-base linux-initramfs-tool logsave openssl passwd perl perl-base
                 sensible-utils systemd sysvinit-utils tar",
            ),
            dropped_paths: words(
                "usr/share/doc usr/share/man usr/share/info usr/share/locale usr/share/lintian usr/share/bash-completion
                 usr/share/zsh usr/share/fish usr/share/bug usr/share/menu usr/share/perl5 usr/share/docker.io
                 usr/bin/containerd-shim usr/bin/containerd-shim-runc-v1 usr/bin/ss usr/sbin/arpd usr/include usr/share/gcc usr/share/gdb usr/share/libc-bin usr/share/initramfs-tools usr/share/iptables
                 usr/lib/systemd usr/lib/udev usr/lib/tmpfiles.d usr/lib/sysusers.d usr/lib/initramfs-tools
                 usr/lib/pcrlock.d usr/lib/locale usr/lib/x86_64-linux-gnu/gconv usr/lib/aarch64-linux-gnu/gconv
                 etc/init.d etc/default etc/cron.d etc/cron.daily etc/apparmor.d etc/logrotate.d
                 boot/System.map var/lib/dpkg var/cache usr/lib/debug usr/share/bcc usr/share/apport",
            ),
            dropped_modules: words(
                "drivers/accel drivers/accessibility drivers/acpi drivers/android drivers/ata drivers/auxdisplay
                 drivers/bluetooth drivers/bus drivers/cdrom drivers/comedi drivers/connector drivers/counter
                 drivers/cpufreq drivers/cxl drivers/devfreq drivers/edac drivers/extcon drivers/gnss drivers/gpu
                 drivers/greybus drivers/hid drivers/hsi drivers/hv drivers/hwmon drivers/hwtracing drivers/i2c
                 drivers/iio drivers/infiniband drivers/isdn drivers/leds drivers/macintosh drivers/mailbox
                 drivers/media drivers/memstick drivers/message drivers/mfd drivers/misc drivers/mmc drivers/most
                 drivers/mtd drivers/mux drivers/net/can drivers/net/ethernet drivers/net/fddi drivers/net/hamradio
                 drivers/net/hyperv drivers/net/ieee802154 drivers/net/phy drivers/net/plip drivers/net/usb
                 drivers/net/vmxnet3 drivers/net/wireless drivers/net/wwan drivers/net/xen-netback drivers/nfc
                 drivers/ntb drivers/nvdimm drivers/parport drivers/pcmcia drivers/perf drivers/pinctrl
                 drivers/platform drivers/power drivers/powercap drivers/pps drivers/pwm drivers/rapidio
                 drivers/regulator drivers/soc drivers/soundwire drivers/spi drivers/spmi drivers/ssb drivers/staging
                 drivers/thermal drivers/thunderbolt drivers/uio drivers/usb drivers/video drivers/virt/vboxguest
                 drivers/watchdog drivers/xen net/6lowpan net/appletalk net/atm net/ax25 net/batman-adv
                 net/bluetooth net/can net/dccp net/ieee802154 net/lapb net/mac80211 net/mac802154 net/netrom net/nfc
                 net/phonet net/qrtr net/rds net/rose net/tipc net/wireless net/x25 sound
                 fs/adfs fs/affs fs/befs fs/bcachefs fs/bfs fs/coda fs/cramfs fs/efs fs/freevxfs fs/gfs2 fs/hpfs
                 fs/jffs2 fs/jfs fs/minix fs/nilfs2 fs/ocfs2 fs/omfs fs/orangefs fs/qnx4 fs/qnx6 fs/reiserfs fs/romfs
                 fs/sysv fs/ubifs fs/ufs fs/vboxsf fs/zonefs",
            ),
            early_modules: words("virtio_mmio virtio_pci virtio_blk erofs overlay virtio_console qemu_fw_cfg"),
            engine_modules: words(
                "virtio_net ext4 bridge br_netfilter veth nf_conntrack nf_nat nf_tables nft_compat nft_chain_nat nft_ct
                 nft_nat nft_masq nft_fib nft_fib_inet x_tables xt_addrtype xt_conntrack xt_MASQUERADE xt_nat
                 xt_tcpudp xt_mark xt_comment nf_conntrack_netlink binfmt_misc fuse virtiofs virtio_balloon virtio_rng",
            ),
            vsock_modules: words("vsock vmw_vsock_virtio_transport"),
        }
    }
}

impl Recipe {
    /// Digest of the recipe.
    #[must_use]
    pub fn digest(&self) -> String {
        let text = serde_json::to_vec(self).unwrap_or_default();
        crate::hash::bytes(&text)
    }

    /// The packages for an architecture.
    #[must_use]
    pub fn packages_for(&self, arch: dhow_model::Arch) -> Vec<String> {
        self.packages.iter().map(|name| name.replace("ARCH", arch.debian())).collect()
    }

    /// Whether a path of a package goes into the guest.
    #[must_use]
    pub fn keeps(&self, path: &str) -> bool {
        let under = |rule: &String, path: &str| {
            path.strip_prefix(rule.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if self.dropped_paths.iter().any(|rule| under(rule, path)) {
            return false;
        }
        let module = path.strip_prefix("usr/lib/modules/").and_then(|path| path.split_once("/kernel/"));
        !module.is_some_and(|(_, module)| self.dropped_modules.iter().any(|rule| under(rule, module)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documentation_and_drivers_of_real_hardware_are_left_out() {
        let recipe = Recipe::default();
        let table = [
            ("usr/sbin/dockerd", true),
            ("usr/share/doc/docker.io/copyright", false),
            ("usr/share/document", true),
            ("usr/lib/modules/6.12/kernel/drivers/net/veth.ko.xz", true),
            ("usr/lib/modules/6.12/kernel/drivers/net/ethernet/intel/e1000.ko.xz", false),
            ("usr/lib/modules/6.12/modules.builtin", true),
        ];
        for (path, kept) in table {
            assert_eq!(recipe.keeps(path), kept, "{path}");
        }
    }
}
