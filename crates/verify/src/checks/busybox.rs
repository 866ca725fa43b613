//! What shells and processes do, with a static busybox.

use std::sync::LazyLock;

use dhow_model::Arch;

use super::{Check, Gate, shell, words};
use crate::images::Image;
use crate::judge::{Expect, Text, digest};

/// The same in a public image.
const PUBLIC: &str = "busybox:stable";
/// Eight MiB of lines as long as pages, since the engine's log has a record for each, and how fast it writes them is nobody's question.
const LARGE: usize = 8 << 20;
const LINE: usize = 4096;
static LARGE_DIGEST: LazyLock<String> = LazyLock::new(|| digest(large().as_bytes()));

pub(super) fn checks(arch: Arch) -> Vec<Check> {
    let script = |name, about, text: &str| {
        Check::new(Gate::B, name, about, Image::Busybox, shell(text)).public(PUBLIC)
    };
    vec![
        script("busybox", "a static busybox and its applets", "uname -m; echo b a c | tr ' ' '\\n' | sort | tr -d '\\n'")
            .expects(Expect::says(format!("{}\nabc", arch.kernel()))),
        Check::new(
            Gate::B,
            "arguments",
            "a program's own name, arguments with spaces, the environment",
            Image::Busybox,
            words(&["sh", "-c", "echo \"$0|$1|$2|$HOME\"", "my name", "", "two  words"]),
        )
        .public(PUBLIC)
        .expects(Expect::says("my name||two  words|/root")),
        script(
            "exit status",
            "all 256 exit statuses, of processes that fork and of programs that are executed",
            "i=0; while [ $i -le 255 ]; do (exit $i); [ $? = $i ] || echo fork $i; i=$((i+1)); done
             for i in 0 1 2 42 125 126 127 128 137 200 254 255; do sh -c \"exit $i\"; [ $? = $i ] || echo exec $i; done
             exit 77",
        )
        .expects(Expect::says("").exits(&[77])),
        script(
            "signals",
            "death by each signal, handlers, ignored ones",
            "for s in HUP INT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM; do
               sh -c \"kill -$s \\$\\$; sleep 1\" 2>/dev/null; printf '%s ' $?; done; echo
             trap 'echo handled' USR1; kill -USR1 $$; trap '' TERM; kill -TERM $$; echo alive",
        )
        .expects(Expect {
            exit: vec![0],
            stdout: Text::Is(
                "129 130 132 133 134 135 136 137 138 139 140 141 142 143 \nhandled\nalive".to_owned(),
            ),
            // Shells tell of children that died.
            stderr: Text::Any,
        }),
        {
            let mut check = script(
                "docker kill",
                "a signal from outside reaches the container's first process",
                "trap 'echo got it; exit 7' TERM; echo ready; i=0; while [ $i -lt 1000 ]; do sleep 0.2; i=$((i+1)); done",
            )
            .expects(Expect::says("ready\ngot it").exits(&[7]));
            check.signal = Some("TERM");
            check
        },
        script("standard error", "both outputs, apart and in order", "for i in 1 2 3; do echo out$i; echo err$i >&2; done")
            .expects(
                Expect::says("out1\nout2\nout3").complains(Text::Is("err1\nerr2\nerr3".to_owned())),
            ),
        script(
            "large output",
            "8 MiB through a pipe and out of the container",
            &format!("yes {} | head -c {LARGE}", line()),
        )
        .expects(Expect {
            exit: vec![0],
            stdout: Text::Digest {
                length: LARGE,
                sha256: LARGE_DIGEST.clone(),
            },
            stderr: Text::Any,
        })
        .patient(),
        script(
            "time",
            "the clock is this computer's, and sleeping takes as long as it should",
            "a=$(date +%s); sleep 2; b=$(date +%s); [ $((b - a)) -ge 2 ] && [ $((b - a)) -le 60 ] && date +%s",
        )
        .expects(Expect {
            exit: vec![0],
            stdout: Text::Clock { from: 0, within: 120 },
            stderr: Text::Is(String::new()),
        }),
        script(
            "files",
            "files, links, sparse ones, pipes and renames",
            "set -e; cd /tmp; echo one >a; ln a b; ln -s a c; mv a d; cat b; readlink c; [ ! -e c ]; stat -c %h d
             truncate -s 5G s; stat -c %s s; mkfifo p; (echo through >p) & cat p; wait; chmod 640 d; stat -c %a d",
        )
        .expects(Expect::says("one\na\n2\n5368709120\nthrough\n640")),
    ]
}

fn line() -> String {
    "dhow".chars().cycle().take(LINE - 1).collect()
}

/// What a right program writes in `large output`.
pub(super) fn large() -> String {
    format!("{}\n", line()).repeat(LARGE / LINE)
}
