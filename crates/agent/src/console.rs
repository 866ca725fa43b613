//! Lines for the machine's console, which the host keeps as its boot log. A console that nobody reads must not hold up the
//! boot or a service: lines wait in a bounded queue, and what does not fit is counted and dropped.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc::{Sender, channel};

/// Lines that wait for the console at most.
const QUEUE: usize = 1024;

static QUEUED: OnceLock<Sender<String>> = OnceLock::new();
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Opens the console and starts its thread. Before this, and where there is no console, lines go to standard error.
pub fn open() {
    let Some(mut console) = device() else { return };
    let (sender, mut lines) = channel::<String>(QUEUE);
    let thread =
        std::thread::Builder::new().name("console".to_owned()).stack_size(128 << 10).spawn(move || {
            while let Some(line) = lines.blocking_recv() {
                let dropped = DROPPED.swap(0, Ordering::Relaxed);
                if dropped > 0 {
                    write(&mut console, &format!("dhow: {dropped} lines dropped: the console is slow"));
                }
                write(&mut console, &line);
            }
        });
    match thread {
        Ok(_) => {
            if QUEUED.set(sender).is_err() {
                eprintln!("dhow: the console was opened twice");
            }
        }
        Err(error) => eprintln!("dhow: no thread for the console: {error}"),
    }
}

/// Queues a line. Never waits.
pub fn line(text: impl Into<String>) {
    let text = text.into();
    match QUEUED.get() {
        Some(queue) => {
            if queue.try_send(text).is_err() {
                DROPPED.fetch_add(1, Ordering::Relaxed);
            }
        }
        None => eprintln!("{text}"),
    }
}

/// Writes a line past the queue, for the words before the end: it waits for the console, since nothing comes after.
pub fn last_line(text: &str) {
    match device() {
        Some(mut console) => write(&mut console, text),
        None => eprintln!("{text}"),
    }
}

fn device() -> Option<File> {
    ["/dev/hvc0", "/dev/console"].iter().find_map(|path| OpenOptions::new().write(true).open(path).ok())
}

fn write(console: &mut File, text: &str) {
    if writeln!(console, "{text}\r").is_err() {
        DROPPED.fetch_add(1, Ordering::Relaxed);
    }
}
