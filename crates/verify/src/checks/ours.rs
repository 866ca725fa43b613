//! Programs of our own, in an image that holds nothing else: no libc takes part.

use dhow_model::Arch;
use dhow_model::translator::Translator;

use super::{Check, Gate, words};
use crate::images::Image;
use crate::judge::{Expect, Text};

/// Any user but root; its lowest eight bits are not 0.
const USER: &str = "65534:65534";
const USER_STATUS: i64 = 65534 & 0xff;
/// `EPERM`, `EIO` and `ENOSYS`: how the kernel, a seccomp filter or a translator says no.
const REFUSALS: [i64; 3] = [1, 5, 38];

pub(super) fn machine(name: &'static str, arch: Arch) -> Check {
    let about = "a static program runs: what it says the machine is, both outputs, arguments, exit status";
    Check::new(Gate::A, name, about, Image::Programs, words(&["/machine", "one", "two words"]))
        .expects(Expect::says(arch.kernel()).exits(&[23]).complains(Text::Is("static".to_owned())))
}

pub(super) fn checks(arch: Arch, translator: Option<&Translator>) -> Vec<Check> {
    let ours =
        |name, about, command: &[&str]| Check::new(Gate::B, name, about, Image::Programs, words(command));
    let mut checks = vec![
        ours("setuid", "a set-user-ID program gets its owner's rights", &["/setuid"]).run_as(USER).gap(
            translator,
            "set-user-ID",
            Expect::says("").exits(&[USER_STATUS]),
        ),
        ours("unreadable", "a program that may be executed and not read", &["/unreadable"])
            .run_as(USER)
            .expects(Expect::says("").exits(&[USER_STATUS]))
            .gap(
                translator,
                "programs that can be executed and not read",
                Expect { exit: vec![1, 126, 127, 255], stdout: Text::Is(String::new()), stderr: Text::Any },
            ),
        ours("ptrace", "a program may be traced, as debuggers and strace need it", &["/ptrace"]).gap(
            translator,
            "ptrace",
            Expect::says("").exits(&REFUSALS),
        ),
    ];
    if arch == Arch::Amd64 {
        // Whatever is claimed must run; nothing claimed is honest.
        let about = "what the processor claims of AVX and AVX2 can be executed";
        checks.push(ours("avx", about, &["/avx"]).expects(Expect::says("").exits(&[0, 1, 3])));
    }
    checks
}
