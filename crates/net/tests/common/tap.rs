//! A TAP device, and the threads that carry its frames to and from the gateway's Unix socket as a hypervisor does.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::ioctl::{Setter, ioctl};

/// Largest frame: the MTU and an Ethernet header.
const FRAME: usize = 65_520 + 14;

/// Makes a TAP device of this name in the calling thread's network namespace. It lives as long as the file.
pub fn open(name: &str) -> io::Result<File> {
    const TUNSETIFF: u32 = 0x4004_54ca;
    const IFF_TAP: u16 = 0x0002;
    const IFF_NO_PI: u16 = 0x1000;
    let device = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32)
        .open("/dev/net/tun")?;
    // struct ifreq: the name, then a union that begins with the flags.
    let mut request = [0u8; 40];
    request[..name.len()].copy_from_slice(name.as_bytes());
    request[16..18].copy_from_slice(&(IFF_TAP | IFF_NO_PI).to_ne_bytes());
    // SAFETY: TUNSETIFF reads a `struct ifreq` of 40 bytes, which is what it is given.
    unsafe { ioctl(&device, Setter::<{ TUNSETIFF as _ }, [u8; 40]>::new(request))? };
    Ok(device)
}

/// Carries frames between a TAP device and a stream until dropped.
pub struct Wire {
    stream: UnixStream,
    threads: Vec<JoinHandle<()>>,
}

impl Wire {
    pub fn new(device: File, stream: UnixStream) -> io::Result<Wire> {
        let (up, down) = (device.try_clone()?, device);
        let (to, from) = (stream.try_clone()?, stream.try_clone()?);
        let threads = vec![
            std::thread::Builder::new().name("tap-up".into()).spawn(move || {
                // Ends with the stream.
                if let Err(error) = from_device(up, to) {
                    eprintln!("TAP to gateway: {error}");
                }
            })?,
            std::thread::Builder::new().name("tap-down".into()).spawn(move || {
                if let Err(error) = to_device(from, down) {
                    eprintln!("gateway to TAP: {error}");
                }
            })?,
        ];
        Ok(Wire { stream, threads })
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.stream.shutdown(Shutdown::Both).ok();
        for thread in self.threads.drain(..) {
            thread.join().ok();
        }
    }
}

fn from_device(mut device: File, mut stream: UnixStream) -> io::Result<()> {
    let mut buffer = vec![0; 4 + FRAME];
    loop {
        match device.read(&mut buffer[4..]) {
            Ok(length) => {
                buffer[..4].copy_from_slice(&u32::try_from(length).unwrap().to_be_bytes());
                if stream.write_all(&buffer[..4 + length]).is_err() {
                    return Ok(());
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let mut wait = [
                    PollFd::from_borrowed_fd(device.as_fd(), PollFlags::IN),
                    PollFd::from_borrowed_fd(stream.as_fd(), PollFlags::RDHUP),
                ];
                poll(&mut wait, None)?;
                if !wait[1].revents().is_empty() {
                    return Ok(());
                }
            }
            Err(error) => return Err(error),
        }
    }
}

fn to_device(mut stream: UnixStream, device: File) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 20];
    let mut filled = 0;
    loop {
        match stream.read(&mut buffer[filled..]) {
            Ok(0) | Err(_) => return Ok(()),
            Ok(count) => filled += count,
        }
        let mut rest = &buffer[..filled];
        while let Some((prefix, after)) = rest.split_first_chunk::<4>() {
            let Some((frame, after)) = after.split_at_checked(u32::from_be_bytes(*prefix) as usize) else {
                break;
            };
            // An interface that is down, or full, loses frames.
            rustix::io::write(&device, frame).ok();
            rest = after;
        }
        let left = rest.len();
        buffer.copy_within(filled - left..filled, 0);
        filled = left;
    }
}
