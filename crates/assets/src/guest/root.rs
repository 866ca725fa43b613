//! The root: what packages bring, and the little that their installation scripts would have done.

use super::libraries;
use super::modules::Modules;
use crate::error::{Error, Result};
use crate::image::tree::Tree;
use crate::recipe::Recipe;

/// Turns the packages' files into a root; gives back the modules of its kernel and that kernel's version.
pub(crate) fn complete(tree: &mut Tree, recipe: &Recipe) -> Result<(Modules, String)> {
    let version = kernel_version(tree)?;
    let directory = format!("usr/lib/modules/{version}");
    let modules = Modules::unpack(tree, &directory)?;
    let (dependencies, aliases) = modules.indices(&directory);
    tree.file(&format!("{directory}/modules.dep"), dependencies);
    tree.file(&format!("{directory}/modules.alias"), aliases);
    tree.file(
        "usr/lib/modules/load-order",
        load_order(&modules, &recipe.engine_modules, &recipe.early_modules),
    );
    tree.file(
        "usr/lib/modules/load-order-vsock",
        load_order(&modules, &recipe.vsock_modules, &recipe.early_modules),
    );
    tree.retain(|path| path != "boot" && !path.starts_with("boot/"));
    directories(tree);
    accounts(tree);
    links(tree);
    certificates(tree);
    libraries::check(tree)?;
    Ok((modules, version))
}

/// The packaged kernel: `boot/vmlinuz-VERSION`.
pub(crate) fn kernel_version(tree: &Tree) -> Result<String> {
    let found = tree.below("boot").find_map(|(path, _)| path.strip_prefix("boot/vmlinuz-"));
    found.map(str::to_owned).ok_or_else(|| Error::Incomplete { what: "kernel (boot/vmlinuz-*)".to_owned() })
}

/// Paths in the guest, one a line, without what the initial RAM disk has loaded.
fn load_order(modules: &Modules, names: &[String], early: &[String]) -> String {
    let words = |names: &[String]| modules.in_order(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let early = words(early);
    words(names)
        .iter()
        .filter(|module| !early.contains(module))
        .map(|module| format!("/{}\n", module.path))
        .collect()
}

/// Mount points, and directories that programs expect. Where they write, the agent puts memory or the data disk.
fn directories(tree: &mut Tree) {
    for path in [
        "dev",
        "proc",
        "sys",
        "run",
        "mnt",
        "media",
        "srv",
        "home",
        "opt",
        "var",
        "var/lib",
        "var/log",
        "var/cache",
        "var/lib/docker",
        "var/lib/containerd",
        "var/lib/dhow",
        "etc",
        "etc/docker",
        "etc/containerd",
        "etc/cni",
        "etc/cni/net.d",
        "usr/local",
        "usr/local/bin",
    ] {
        if tree.get(path).is_none() {
            tree.directory(path);
        }
    }
    use crate::image::tree::Content::Directory;
    tree.insert("root", 0o700, Directory);
    tree.insert("tmp", 0o1777, Directory);
    tree.insert("var/tmp", 0o1777, Directory);
}

/// What Debian's `base-passwd` and `base-files` say, reduced to what a guest has.
fn accounts(tree: &mut Tree) {
    tree.file(
        "etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    );
    tree.file(
        "etc/group",
        "root:x:0:\nadm:x:4:\ntty:x:5:\ndisk:x:6:\nkmem:x:15:\ndocker:x:999:\nnogroup:x:65534:\n",
    );
    tree.file(
        "etc/nsswitch.conf",
        "passwd: files\ngroup: files\nhosts: files dns\nnetworks: files\nprotocols: files\nservices: files\n",
    );
    tree.file("etc/hosts", "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n");
    tree.file("etc/subuid", "");
    tree.file("etc/subgid", "");
    tree.file(
        "usr/lib/os-release",
        "PRETTY_NAME=\"Dhow (Debian GNU/Linux 13)\"\nNAME=\"Dhow\"\nID=dhow\nID_LIKE=debian\nVERSION_ID=\"13\"\nVERSION_CODENAME=trixie\n",
    );
    tree.symlink("etc/os-release", "../usr/lib/os-release");
    // An empty file that a bind mount can cover; the data of the machine is not the image's.
    tree.file("etc/machine-id", "");
    tree.symlink("etc/mtab", "../proc/self/mounts");
    tree.symlink("etc/resolv.conf", "../run/dhow/resolv.conf");
}

fn links(tree: &mut Tree) {
    for (path, target) in [("bin", "usr/bin"), ("sbin", "usr/sbin"), ("lib", "usr/lib")] {
        tree.symlink(path, target);
    }
    if tree.get("usr/lib64").is_some() {
        tree.symlink("lib64", "usr/lib64");
    }
    tree.symlink("var/run", "../run");
    tree.symlink("var/lock", "../run/lock");
    // update-alternatives of the package iptables.
    for family in ["iptables", "ip6tables"] {
        for tool in ["", "-save", "-restore"] {
            tree.symlink(&format!("usr/sbin/{family}{tool}"), "xtables-nft-multi");
        }
    }
    // A shell and the tools that people and the kernel expect; programs that a package brings come first.
    let busybox = "usr/bin/busybox";
    if tree.get(busybox).is_some() {
        for name in BUSYBOX_BIN.split_whitespace() {
            link_free(tree, &format!("usr/bin/{name}"), "busybox");
        }
        for name in BUSYBOX_SBIN.split_whitespace() {
            link_free(tree, &format!("usr/sbin/{name}"), "../bin/busybox");
        }
    }
    link_free(tree, "usr/bin/docker-init", "tini-static");
}

fn link_free(tree: &mut Tree, path: &str, target: &str) {
    let (bin, sbin) = (path.replace("/sbin/", "/bin/"), path.replace("/bin/", "/sbin/"));
    if tree.get(&bin).is_none() && tree.get(&sbin).is_none() {
        tree.symlink(path, target);
    }
}

/// `modprobe` is what the kernel calls for a module that it misses (kernel.modprobe).
const BUSYBOX_SBIN: &str = "arp blkdiscard blockdev depmod fdisk fstrim ifconfig insmod lsmod modinfo modprobe mdev rmmod route \
    sysctl switch_root losetup";
const BUSYBOX_BIN: &str = "sh ash awk base64 basename cat chgrp chmod chown chroot clear cmp cp cpio cut date dd df dirname dmesg du \
    echo ed egrep env expr false fgrep find free fsfreeze fuser getopt grep gunzip gzip head hexdump hostid hostname id install \
    ionice kill killall less ln logger ls lsscsi md5sum mkdir mkfifo mknod mktemp more mount mv nc netstat nproc nsenter nslookup od \
    paste patch pgrep pidof ping ping6 pkill printf ps pwd readlink realpath renice reset rm rmdir sed seq setpriv setsid \
    sha1sum sha256sum sha512sum shuf sleep sort stat strings stty sync tail tar taskset tee telnet test time timeout top \
    touch tr traceroute true truncate tty umount uname uniq unshare unxz unzip uptime usleep vi watch wc wget which whoami \
    xargs xxd xz xzcat yes zcat";

/// What `update-ca-certificates` does: one file with all certificates, in the order of their names.
fn certificates(tree: &mut Tree) {
    let mut bundle = Vec::new();
    for (path, _) in tree.below("usr/share/ca-certificates") {
        if let (Some(bytes), true) = (tree.bytes(path), path.ends_with(".crt")) {
            bundle.extend_from_slice(bytes);
            if !bundle.ends_with(b"\n") {
                bundle.push(b'\n');
            }
        }
    }
    if !bundle.is_empty() {
        tree.retain(|path| !path.starts_with("usr/share/ca-certificates"));
        tree.file("etc/ssl/certs/ca-certificates.crt", bundle);
    }
}
