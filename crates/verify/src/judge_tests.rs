use super::*;

fn seen(end: End, stdout: &str, stderr: &str) -> Seen {
    Seen { end, stdout: stdout.as_bytes().to_vec(), stderr: stderr.as_bytes().to_vec() }
}

fn ptrace() -> Gap {
    let looks = Expect::says("").exits(&[38]);
    Gap { name: "ptrace".to_owned(), looks }
}

/// Spec 10.2: every way in which a check can end, with every state of its output and with and without a known gap, has the verdict that it
/// must have.
#[test]
fn every_combination_has_its_verdict() {
    use Verdict::{Fail, Infra, Pass, Unsupported};
    let late = End::TimedOut(Duration::from_secs(5));
    let words = |words: &str| words.to_owned();
    // (how it ended, verdict when all output is right, when standard output is wrong, when standard error is wrong)
    let table = [
        (End::Exited(0), Pass, Fail, Fail),
        (End::Exited(1), Fail, Fail, Fail),
        (End::Exited(38), Fail, Fail, Fail),
        (End::Exited(126), Fail, Fail, Fail),
        (End::Exited(127), Fail, Fail, Fail),
        (End::Exited(255), Fail, Fail, Fail),
        (End::Exited(128 + 4), Fail, Fail, Fail),
        (End::Exited(128 + 9), Fail, Fail, Fail),
        (End::Exited(128 + 11), Fail, Fail, Fail),
        (late, Fail, Fail, Fail),
        (End::OutOfMemory, Infra, Infra, Infra),
        (End::NoImage(words("x")), Infra, Infra, Infra),
        (End::Refused(words("x")), Infra, Infra, Infra),
        (End::Lost(words("x")), Infra, Infra, Infra),
    ];
    let expect = Expect::says("right");
    let gap = Gap { name: "gap".to_owned(), looks: Expect::says("gone").exits(&[38]) };
    for (end, right, wrong_output, wrong_error) in table {
        for (stdout, stderr, verdict) in
            [("right\n", "", right), ("wrong\n", "", wrong_output), ("right\n", "oh\n", wrong_error)]
        {
            for gap in [None, Some(&gap)] {
                let seen = seen(end.clone(), stdout, stderr);
                let judged = judge(&expect, gap, &seen);
                assert_eq!(judged.verdict, verdict, "{seen:?}: {}", judged.reason);
                assert_eq!(judged.reason.is_empty(), verdict == Pass, "{seen:?}");
            }
            // What nobody's translator said counts as infrastructure wherever a kernel's refusal can show.
            let format = seen(end.clone(), stdout, "exec /bin/sh: exec format error\n");
            let refused = matches!(end, End::Exited(1 | 126 | 127 | 255));
            let expected = if refused || right == Infra { Infra } else { Fail };
            assert_eq!(judge(&expect, None, &format).verdict, expected, "{format:?}");
        }
    }
    assert_eq!(judge(&expect, Some(&gap), &seen(End::Exited(38), "gone", "")).verdict, Unsupported);
    assert_eq!(judge(&expect, None, &seen(End::Exited(38), "gone", "")).verdict, Fail);
}

/// Spec 10.2: a gap excuses only what it looks like.
#[test]
fn a_gap_excuses_only_what_it_looks_like() {
    let expect = Expect::says("");
    let gap = ptrace();
    let verdict = |end: End| judge(&expect, Some(&gap), &seen(end, "", "")).verdict;
    assert_eq!(verdict(End::Exited(0)), Verdict::Pass);
    assert_eq!(verdict(End::Exited(38)), Verdict::Unsupported);
    for end in [End::Exited(1), End::Exited(139), End::TimedOut(Duration::from_secs(1))] {
        assert_eq!(verdict(end), Verdict::Fail);
    }
    assert_eq!(judge(&expect, Some(&gap), &seen(End::Exited(38), "x", "")).verdict, Verdict::Fail);
    assert_eq!(judge(&expect, Some(&gap), &seen(End::Exited(38), "", "")).reason, "ptrace");
}

/// Spec 10.2: a translator is blamed only for what goes right without one.
#[test]
fn what_fails_without_translation_too_is_nobodys_failure() {
    use Verdict::{Fail, Infra, Pass, Unsupported};
    let of = |verdict| Judged { verdict, reason: "reason".to_owned() };
    for (foreign, native, expected) in [
        (Fail, Some(Pass), Fail),
        (Fail, Some(Unsupported), Fail),
        (Fail, Some(Fail), Infra),
        (Fail, Some(Infra), Infra),
        (Fail, None, Fail),
        (Pass, Some(Fail), Pass),
        (Unsupported, Some(Fail), Unsupported),
        (Infra, Some(Pass), Infra),
    ] {
        let native = native.map(of);
        assert_eq!(compared(of(foreign), native.as_ref()).verdict, expected, "{foreign} beside {native:?}");
    }
}

/// Spec 10.2: a computer that is too busy is no translator's fault, and a hang is one on a computer that is not.
#[test]
fn a_hang_is_told_from_a_slow_computer() {
    let hung = || Judged { verdict: Verdict::Fail, reason: "hung".to_owned() };
    let limit = Duration::from_secs(300);
    for (native, verdict) in
        [(0, Verdict::Fail), (5, Verdict::Fail), (6, Verdict::Infra), (300, Verdict::Infra)]
    {
        assert_eq!(in_time(hung(), limit, Duration::from_secs(native)).verdict, verdict, "{native} s");
    }
}

#[test]
fn every_kind_of_text_is_compared_and_says_what_is_otherwise() {
    let bytes = b"12345\n";
    let ten = Text::Digest { length: 6, sha256: digest(bytes) };
    let other = Text::Digest { length: 6, sha256: digest(b"54321\n") };
    let short = Text::Digest { length: 5, sha256: digest(bytes) };
    let clock = |from| Text::Clock { from, within: 10 };
    let table = [
        (Text::Any, None),
        (Text::Is("12345".to_owned()), None),
        (Text::Is("1234".to_owned()), Some("is `12345`, not `1234`")),
        (Text::Has("34".to_owned()), None),
        (Text::Has("43".to_owned()), Some("is `12345`, without `43`")),
        (ten, None),
        (other, Some("has the SHA-256")),
        (short, Some("has 6 bytes, not 5")),
        (clock(12_350), None),
        (clock(12_360), Some("is 15 s away")),
    ];
    for (text, differs) in table {
        match (text.differs(bytes), differs) {
            (None, None) => {}
            (Some(words), Some(part)) => assert!(words.contains(part), "{words}"),
            (found, wanted) => panic!("{text:?}: {found:?}, {wanted:?}"),
        }
    }
    assert_eq!(clock(5).differs(b"soon").as_deref(), Some("is `soon`, and no time"));
}

#[test]
fn an_output_in_a_reason_is_one_short_harmless_line() {
    assert_eq!(quoted("a\nb\x1b[31m\n"), "`a | b[31m…`");
    assert_eq!(quoted(&"x".repeat(500)).chars().count(), 120 + 3);
    assert_eq!(signal(139), Some("SIGSEGV"));
    assert!(ended(139, &[0, 3]).contains("killed by SIGSEGV (exit status 139), not ended with 0 or 3"));
}
