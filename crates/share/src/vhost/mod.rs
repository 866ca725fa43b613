//! The hypervisor's end: a virtio file system device whose rings lie in memory that both share (vhost-user). One thread does
//! everything, so that a request is whole before the hypervisor's next message is read, and a machine that is put to sleep
//! has nothing under way.
//!
//! Rings and buffers are the guest's and hostile: every address goes through checked access to its memory, and a ring with
//! anything wrong in it stands still until the guest's driver starts it anew.

mod device;
mod line;
mod ring;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::time::Duration;

use dhow_home::Code;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use vhost::vhost_user::{BackendReqHandler, Error as Protocol};

use self::device::{Device, MARK, RINGS};
use self::line::{Alive, Line};
use crate::fs::Server;

/// How long one message of the hypervisor may take to come whole, and an answer to be taken.
const MESSAGE: Duration = Duration::from_secs(1);

/// Serves one hypervisor after the other until the other end of `life` is closed.
pub(crate) fn serve(
    listener: &UnixListener,
    life: &UnixStream,
    server: Server,
    code: &Code,
) -> io::Result<()> {
    let mut mark = [0; MARK];
    getrandom::fill(&mut mark).map_err(io::Error::other)?;
    #[expect(clippy::arc_with_non_send_sync, reason = "the crate's handler asks for an Arc, on one thread")]
    let device = Arc::new(Device::new(server, mark)?);
    let mut line = Line::new(life)?;
    loop {
        let mut fds = [PollFd::new(life, PollFlags::IN), PollFd::new(listener, PollFlags::IN)];
        wait(&mut fds)?;
        if !fds[0].revents().is_empty() && line.hear(&device) == Alive::No {
            return Ok(());
        }
        if fds[1].revents().is_empty() {
            continue;
        }
        let (stream, _) = listener.accept()?;
        let ended = connection(stream, &mut line, &device);
        device.disconnected();
        // It waits for as long as the machine sleeps.
        dhow_home::give_memory_back();
        if let Err(error) = code.give_back() {
            tracing::debug!(%error, "the memory of the code was not given back");
        }
        match ended {
            Ok(Alive::Yes) => tracing::info!("the hypervisor has closed its file system device"),
            Ok(Alive::No) => return Ok(()),
            Err(error) => tracing::warn!(%error, "the hypervisor's file system device ended"),
        }
    }
}

fn connection(stream: UnixStream, line: &mut Line<'_>, device: &Arc<Device>) -> Result<Alive, Protocol> {
    stream.set_read_timeout(Some(MESSAGE)).map_err(Protocol::SocketError)?;
    stream.set_write_timeout(Some(MESSAGE)).map_err(Protocol::SocketError)?;
    let own = stream.try_clone().map_err(Protocol::SocketError)?;
    let mut requests = BackendReqHandler::from_stream(own, Arc::clone(device));
    let mut more = [false; RINGS];
    loop {
        let kicks = device.kicks();
        let mut fds = vec![PollFd::new(line.socket, PollFlags::IN), PollFd::new(&stream, PollFlags::IN)];
        if let Some(events) = &device.events {
            fds.push(PollFd::new(events, PollFlags::IN));
        }
        let (saving, loading) = (device.saving(), device.loading());
        let passing = fds.len();
        fds.extend(saving.as_ref().map(|file| PollFd::from_borrowed_fd(file.as_fd(), PollFlags::OUT)));
        fds.extend(loading.as_ref().map(|file| PollFd::from_borrowed_fd(file.as_fd(), PollFlags::IN)));
        let first = fds.len();
        let mut rings = Vec::new();
        for (ring, kick) in kicks.iter().enumerate() {
            if let Some(kick) = kick {
                fds.push(PollFd::from_borrowed_fd(kick.as_fd(), PollFlags::IN));
                rings.push(ring);
            }
        }
        let waiting = more.iter().any(|more| *more);
        if waiting {
            look(&mut fds).map_err(Protocol::SocketError)?;
        } else {
            wait(&mut fds).map_err(Protocol::SocketError)?;
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        if ready[0] && line.hear(device) == Alive::No {
            return Ok(Alive::No);
        }
        if passing > 2 && ready[2] {
            device.drain();
        }
        if ready[passing..first].iter().any(|ready| *ready) {
            device.save();
            device.load();
        }
        for (place, ring) in rings.into_iter().enumerate() {
            let kicked = ready[first + place];
            if kicked && let Some(kick) = &kicks[ring] {
                clear(kick)?;
            }
            if kicked || more[ring] {
                more[ring] = device.work(ring);
            }
        }
        if ready[1] {
            match requests.handle_request() {
                Ok(()) => {}
                Err(Protocol::Disconnected) => return Ok(Alive::Yes),
                // An answer that says no, which the hypervisor has got.
                Err(Protocol::InvalidOperation(why)) => tracing::debug!(why, "asked for what is not here"),
                Err(error) => return Err(error),
            }
            // A ring that was started may have had requests before.
            more = [true; RINGS];
        }
        line.tell(device);
    }
}

/// Takes the guest's notifications, however many they are.
fn clear(kick: &std::fs::File) -> Result<(), Protocol> {
    let mut count = [0; 8];
    match rustix::io::read(kick, &mut count) {
        Ok(_) | Err(Errno::AGAIN | Errno::INTR) => Ok(()),
        Err(error) => Err(Protocol::SocketError(error.into())),
    }
}

fn wait(fds: &mut [PollFd<'_>]) -> io::Result<()> {
    loop {
        match poll(fds, None) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn look(fds: &mut [PollFd<'_>]) -> io::Result<()> {
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    match poll(fds, Some(&now)) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
