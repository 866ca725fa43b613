use std::io::Write as _;

use dhow_home::rotating::Rotating;

use super::*;

fn all(_: &str) -> bool {
    true
}

fn lines(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|n| format!("line {n:03}")).collect()
}

#[test]
fn the_last_lines_reach_back_into_rotated_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut log = Rotating::open(&path, 100, 3).unwrap();
    for line in lines(0..20) {
        writeln!(log, "{line}").unwrap();
    }
    let last = |amount| Tail::new(path.clone()).last(amount, all).unwrap().unwrap();
    assert_eq!(last(Amount::Last(15)), lines(5..20));
    assert_eq!(last(Amount::All), lines(0..20));
    assert!(last(Amount::Last(0)).is_empty());
    let odd = |line: &str| line.ends_with('1');
    assert_eq!(Tail::new(path).last(Amount::Last(1), odd).unwrap().unwrap(), ["line 011"]);
}

/// Issue 2, point 9: what is written right before and after a rotation is seen once, in order.
#[test]
fn following_survives_rotation_without_losing_or_repeating_a_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut log = Rotating::open(&path, 300, 2).unwrap();
    let mut tail = Tail::new(path);
    assert!(tail.last(Amount::All, all).unwrap().unwrap().is_empty());
    let mut seen = Vec::new();
    for (n, line) in lines(0..200).iter().enumerate() {
        writeln!(log, "{line}").unwrap();
        if n % 7 == 0 {
            for _ in 0..3 {
                seen.extend(tail.new_lines().unwrap());
            }
        }
    }
    for _ in 0..3 {
        seen.extend(tail.new_lines().unwrap());
    }
    assert_eq!(seen, lines(0..200));
}

#[test]
fn a_log_that_comes_later_is_followed_from_its_beginning_and_half_a_line_waits() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut tail = Tail::new(path.clone());
    assert_eq!(tail.last(Amount::All, all).unwrap(), None);
    assert!(tail.new_lines().unwrap().is_empty());
    let mut file = File::create(&path).unwrap();
    file.write_all(b"one\ntw").unwrap();
    assert_eq!(tail.new_lines().unwrap(), ["one"]);
    file.write_all(b"o\n").unwrap();
    assert_eq!(tail.new_lines().unwrap(), ["two"]);
    file.set_len(0).unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.write_all(b"3\n").unwrap();
    assert_eq!(tail.new_lines().unwrap(), ["3"]);
}

/// A guest may write without ever ending its line.
#[test]
fn a_line_without_an_end_does_not_fill_memory() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut file = File::create(&path).unwrap();
    file.write_all(&vec![b'x'; 3 * LINE]).unwrap();
    let mut tail = Tail::new(path);
    let last = tail.last(Amount::Last(1), all).unwrap().unwrap();
    assert!(last.iter().all(|line| line.len() <= LINE));
    file.write_all(&vec![b'y'; 2 * LINE]).unwrap();
    assert_eq!(tail.new_lines().unwrap().len(), 1);
    assert!(tail.partial.is_empty());
}
