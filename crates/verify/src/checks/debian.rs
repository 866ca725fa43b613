//! glibc, a real shell, an interpreter, compilers, a JIT, Go, musl and the package manager, in Debian's packages.

use std::sync::LazyLock;

use dhow_model::Arch;

use super::{Check, Gate, shell, words};
use crate::images::Image;
use crate::judge::{Expect, Text, digest};

const PUBLIC: &str = "debian:stable-slim";
const PYTHON: &str = "python:3-slim";

pub(super) fn checks(arch: Arch) -> Vec<Check> {
    let check = |name, about, command| Check::new(Gate::B, name, about, Image::Debian, command);
    let has =
        |words: String| Expect { exit: vec![0], stdout: Text::Has(words), stderr: Text::Is(String::new()) };
    let kernel = arch.kernel();
    let loader = format!("/lib/ld-musl-{kernel}.so.1");
    vec![
        check("glibc", "a dynamically linked program", words(&["getconf", "GNU_LIBC_VERSION"]))
            .public(PUBLIC)
            .expects(has("glibc 2.".to_owned())),
        check(
            "shell",
            "bash: functions, arithmetic, process substitution, patterns",
            words(&["bash", "-c", BASH]),
        )
        .public(PUBLIC)
        .expects(Expect::says("1,4,9,16,25\ntwo\nb\nchild 3")),
        check("coreutils", "20,000 lines shuffled, sorted and hashed", shell(COREUTILS))
            .public(PUBLIC)
            .expects(Expect::says(format!("{}  -", *LINES_DIGEST))),
        check("python", "an interpreter: modules, floating point, a subprocess", python(PYTHON_CODE))
            .patient()
            .public(PYTHON)
            .expects(Expect::says(format!("{kernel} [1, 2.5] 9 cca20389 56888193 0.30000000000000004"))),
        check("python threads", "16 threads, a lock and a queue", python(PYTHON_THREADS))
            .patient()
            .public(PYTHON)
            .expects(Expect::says("32000 16")),
        check("jit", "LuaJIT compiles a loop as it runs", words(&["luajit", "-e", &lua()]))
            .patient()
            .expects(Expect::says(format!("true\t{}", *LUA_ANSWER))),
        check("compiler", "a C compiler compiles and links for glibc", compile("", "answer.c"))
            .patient()
            .expects(Expect::says("42 of 8 bytes")),
        check(
            "threads",
            "POSIX threads: a mutex, thread-local data, a barrier",
            compile("-lpthread", "threads.c"),
        )
        .patient()
        .expects(Expect::says("400000 4")),
        check(
            "faults",
            "a program catches its own SEGV on another stack, timers, a child's death",
            compile("", "faults.c"),
        )
        .patient()
        .expects(Expect::says("caught 3\nalarms 3\nchild 9")),
        // musl's loader is its libc, and a program: it says what it is, and that it was not told what to load. Debian's tcc cannot link
        // musl's static library on Arm64, so that a program of our own would test tcc.
        check("musl", "a program on musl: its loader starts, by itself", words(&[&loader]))
            .public("alpine:latest")
            .expects(Expect {
                exit: vec![1],
                stdout: Text::Is(String::new()),
                stderr: Text::Has(format!("musl libc ({kernel})")),
            }),
        check(
            "go",
            "a Go program, with its own scheduler and signal handling",
            shell("gosu --version && gosu 1234 id -u"),
        )
        .patient()
        .expects(has(format!("linux/{arch}"))),
        check(
            "package manager",
            "dpkg builds a package, apt installs it and runs its script",
            shell(PACKAGE),
        )
        .patient()
        .public(PUBLIC)
        .expects(Expect::says(format!("{arch}\nconfigured configure\ndhow-p 1"))),
    ]
}

const BASH: &str = "set -o pipefail
f() { local x=$1; echo $((x * x)); }
for i in {1..5}; do f $i; done | paste -sd,
read a b < <(echo one two); echo $b
[[ abc =~ ^a(.)c$ ]] && echo ${BASH_REMATCH[1]}
(exit 3) & wait $!; echo child $?";

const COREUTILS: &str = "seq 1 20000 | shuf | sort -n | sha256sum";

const PYTHON_CODE: &str = "import hashlib, json, platform, subprocess
r = subprocess.run(['sh', '-c', 'exit 9']).returncode
print(platform.machine(), json.dumps([1, 2.5]), r, hashlib.sha256(b'dhow').hexdigest()[:8], pow(3, 1000, 10**9 + 7), 0.1 + 0.2)";

const PYTHON_THREADS: &str = "import queue, threading
q, n, lock = queue.Queue(), [0], threading.Lock()
def work():
    for _ in range(2000):
        with lock:
            n[0] += 1
    q.put(1)
threads = [threading.Thread(target=work) for _ in range(16)]
[t.start() for t in threads]
[t.join() for t in threads]
print(n[0], q.qsize())";

const PACKAGE: &str = "set -e
mkdir -p /tmp/p/DEBIAN /var/lib/dpkg /var/lib/apt/lists/partial /var/cache/apt/archives/partial /opt
[ -e /var/lib/dpkg/status ] || touch /var/lib/dpkg/status
dpkg --print-architecture
printf 'Package: dhow-p\\nVersion: 1\\nArchitecture: all\\nMaintainer: D <d@example.org>\\nDescription: d\\n' >/tmp/p/DEBIAN/control
printf '#!/bin/sh\\necho configured $1 >/opt/configured\\n' >/tmp/p/DEBIAN/postinst
chmod 755 /tmp/p/DEBIAN/postinst
dpkg-deb -b /tmp/p /tmp/p.deb >/tmp/log 2>&1 || { cat /tmp/log >&2; exit 1; }
apt-get -y -o APT::Sandbox::User=root install /tmp/p.deb >/tmp/log 2>&1 || { cat /tmp/log >&2; exit 1; }
cat /opt/configured
dpkg-query -W -f '${Package} ${Version}\\n' dhow-p";

/// Programs that are compiled where they run.
pub(crate) const SOURCES: [(&str, &str); 3] = [
    ("opt/dhow/answer.c", include_str!("answer.c")),
    ("opt/dhow/threads.c", include_str!("threads.c")),
    ("opt/dhow/faults.c", include_str!("faults.c")),
];

const LUA_TURNS: u64 = 5_000_000;
static LUA_ANSWER: LazyLock<u64> = LazyLock::new(|| remainders(LUA_TURNS));
static LINES_DIGEST: LazyLock<String> = LazyLock::new(|| lines_digest(20_000));

fn lua() -> String {
    format!("local s = 0 for i = 1, {LUA_TURNS} do s = (s + i % 7) % 1000003 end print((jit.status()), s)")
}

/// What the loop comes to.
fn remainders(turns: u64) -> u64 {
    (1..=turns).fold(0, |sum, i| (sum + i % 7) % 1_000_003)
}

fn lines_digest(lines: u32) -> String {
    let text: String = (1..=lines).map(|line| format!("{line}\n")).collect();
    digest(text.as_bytes())
}

fn python(code: &str) -> Vec<String> {
    words(&["python3", "-c", code])
}

fn compile(libraries: &str, file: &str) -> Vec<String> {
    shell(&format!("tcc -o /tmp/it /opt/dhow/{file} {libraries} && exec /tmp/it"))
}
