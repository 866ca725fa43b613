//! The device's state and what the hypervisor may ask of it: the vhost-user protocol's messages, each a small change.

use std::cell::RefCell;
use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::rc::Rc;

use dhow_vhost::{Log, Memory};
use vhost::vhost_user::message::{
    VhostTransferStateDirection, VhostTransferStatePhase, VhostUserConfigFlags, VhostUserInflight,
    VhostUserLog, VhostUserMemoryRegion, VhostUserShMemConfig, VhostUserSharedMsg,
    VhostUserSingleMemoryRegion, VhostUserVringAddrFlags, VhostUserVringState,
};
use vhost::vhost_user::{
    Error as Protocol, GpuBackend, Result, VhostUserBackendReqHandler, VhostUserProtocolFeatures,
    VhostUserVirtioFeatures,
};
use virtio_queue::QueueT as _;

use super::ring::{Parts, Ring, Scratch};
use crate::fs::Server;
use crate::news::{Change, Said};

/// Rings: one for what must not wait behind requests, one for requests.
pub(super) const RINGS: usize = 2;
/// Requests of one turn, so that the hypervisor's messages have theirs.
const TURN: usize = 64;

/// Bits of virtio 1.2, section 6.
const INDIRECT: u64 = 1 << 28;
const EVENT_INDEX: u64 = 1 << 29;
const VERSION_1: u64 = 1 << 32;
const FEATURES: u64 = INDIRECT
    | EVENT_INDEX
    | VERSION_1
    | VhostUserVirtioFeatures::LOG_ALL.bits()
    | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();

/// What a saved state begins with; then comes the mark of the process that saved it, and what that knew (`fs::saved`).
const MAGIC: &[u8; 8] = b"dhowfs\x02\0";
/// More than any state.
const LARGEST: u64 = 4 << 30;
/// What is read or written of one at a time.
const PIECE: usize = 64 << 10;
/// Bytes of a mark.
pub(super) const MARK: usize = 16;

/// A file system device.
pub(super) struct Device {
    /// Readable when the host has changed something.
    pub(super) events: Option<OwnedFd>,
    state: RefCell<State>,
}

struct State {
    server: Server,
    scratch: Scratch,
    memory: Option<Memory>,
    rings: [Ring; RINGS],
    features: u64,
    log: Option<Rc<Log>>,
    /// Names this process and what it knows of its guest. While a machine sleeps everything stays here, and a state that this process
    /// saved tells it nothing.
    mark: [u8; MARK],
    /// Where a state that is to be loaded comes from, what has come, and whether that is all.
    loading: Option<(Rc<File>, Vec<u8>, bool)>,
    /// Where a state that is being saved goes, and how much of it has gone.
    saving: Option<(Rc<File>, Vec<u8>, usize)>,
}

impl State {
    fn log(&mut self) {
        let logs = self.features & VhostUserVirtioFeatures::LOG_ALL.bits() != 0;
        for ring in &mut self.rings {
            ring.log = self.log.clone().filter(|_| logs);
        }
    }
}

impl Device {
    pub(super) fn new(server: Server, mark: [u8; MARK]) -> std::io::Result<Device> {
        let events = server.watch.fd().map(|fd| fd.try_clone_to_owned()).transpose()?;
        Ok(Device {
            events,
            state: RefCell::new(State {
                server,
                scratch: Scratch::new(),
                memory: None,
                rings: [Ring::new(), Ring::new()],
                features: 0,
                log: None,
                mark,
                loading: None,
                saving: None,
            }),
        })
    }

    /// Where a state goes that is being saved.
    pub(super) fn saving(&self) -> Option<Rc<File>> {
        self.state.borrow().saving.as_ref().map(|(file, ..)| Rc::clone(file))
    }

    /// Writes as much of it as is taken, and closes it at its end.
    pub(super) fn save(&self) {
        let mut state = self.state.borrow_mut();
        let Some((file, bytes, gone)) = &mut state.saving else { return };
        let end = bytes.len().min(*gone + PIECE);
        match (&**file).write(&bytes[*gone..end]) {
            Ok(count) => *gone += count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => {
                tracing::warn!(%error, "the hypervisor does not take the state of the shares");
                state.saving = None;
                return;
            }
        }
        if *gone == bytes.len() {
            state.saving = None;
        }
    }

    /// Where a state comes from that is being loaded, until all of it is there.
    pub(super) fn loading(&self) -> Option<Rc<File>> {
        let state = self.state.borrow();
        state.loading.as_ref().filter(|(.., whole)| !whole).map(|(file, ..)| Rc::clone(file))
    }

    /// Reads what there is of it; its end is read when the hypervisor asks about it.
    pub(super) fn load(&self) {
        let mut state = self.state.borrow_mut();
        let Some((file, bytes, whole)) = &mut state.loading else { return };
        let mut piece = vec![0; PIECE];
        match (&**file).read(&mut piece) {
            Ok(0) => *whole = true,
            Ok(count) => bytes.extend_from_slice(&piece[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => {
                tracing::warn!(%error, "the state of the shares cannot be read");
                state.loading = None;
            }
        }
    }

    /// Reads what the host has changed.
    pub(super) fn drain(&self) {
        self.state.borrow_mut().server.watch.drain();
    }

    /// What the guest is to be told now.
    pub(super) fn tidings(&self) -> Vec<Change> {
        self.state.borrow_mut().server.tidings()
    }

    /// The supervisor has said something.
    pub(super) fn hear(&self, said: Said) {
        self.state.borrow_mut().server.hear(said);
    }

    /// The eventfds of the rings that run.
    pub(super) fn kicks(&self) -> [Option<Rc<File>>; RINGS] {
        let state = self.state.borrow();
        state.rings.each_ref().map(|ring| ring.kick.clone().filter(|_| ring.runs()))
    }

    /// Answers the requests on a ring. True: there may be more.
    pub(super) fn work(&self, index: usize) -> bool {
        let mut state = self.state.borrow_mut();
        let State { server, scratch, memory, rings, .. } = &mut *state;
        let (Some(memory), Some(ring)) = (memory, rings.get_mut(index)) else { return false };
        if !ring.runs() {
            return false;
        }
        let worked = ring.work(&memory.guest, server, scratch, TURN);
        if server.watch.is_due() {
            server.watch.drain();
        }
        match worked {
            Ok(more) => more,
            Err(error) => {
                ring.break_off();
                tracing::warn!(ring = index, %error, "the guest broke its file system device, which stands still until it is started again");
                false
            }
        }
    }

    /// The hypervisor is gone: memory and rings go with it; what the guest knew and had open stays, since it may only sleep.
    pub(super) fn disconnected(&self) {
        let mut state = self.state.borrow_mut();
        state.memory = None;
        state.rings = [Ring::new(), Ring::new()];
        state.log = None;
        (state.loading, state.saving) = (None, None);
        let (files, handles) = state.server.figures();
        tracing::debug!(files, handles, "the hypervisor is gone");
    }

    fn change<R>(
        &self,
        index: u32,
        change: impl FnOnce(&mut Ring, Option<&Memory>) -> Result<R>,
    ) -> Result<R> {
        let index = usize::try_from(index).map_err(|_| Protocol::InvalidParam)?;
        let mut state = self.state.borrow_mut();
        let State { memory, rings, .. } = &mut *state;
        change(rings.get_mut(index).ok_or(Protocol::InvalidParam)?, memory.as_ref())
    }
}

/// What this device does not have.
const NOT_HERE: Protocol = Protocol::InvalidOperation("not a feature of this device");
/// A ring needs memory to lie in.
const NO_MEMORY: Protocol = Protocol::InvalidOperation("a ring before its memory");

impl VhostUserBackendReqHandler for Device {
    fn set_owner(&self) -> Result<()> {
        Ok(())
    }

    fn reset_owner(&self) -> Result<()> {
        self.reset_device()
    }

    fn reset_device(&self) -> Result<()> {
        let mut state = self.state.borrow_mut();
        state.rings = [Ring::new(), Ring::new()];
        state.features = 0;
        Ok(())
    }

    fn get_features(&self) -> Result<u64> {
        Ok(FEATURES)
    }

    fn set_features(&self, features: u64) -> Result<()> {
        if features & !FEATURES != 0 || features & VERSION_1 == 0 {
            return Err(Protocol::FeatureMismatch);
        }
        let mut state = self.state.borrow_mut();
        state.features = features;
        for ring in &mut state.rings {
            ring.queue.set_event_idx(features & EVENT_INDEX != 0);
        }
        state.log();
        Ok(())
    }

    fn set_mem_table(
        &self,
        regions: &[VhostUserMemoryRegion],
        files: Vec<File>,
        _: Option<bool>,
    ) -> Result<Option<Vec<u64>>> {
        let memory = Memory::map(regions, files)?;
        let mut state = self.state.borrow_mut();
        for ring in &mut state.rings {
            ring.replace(&memory)?;
        }
        state.memory = Some(memory);
        Ok(None)
    }

    fn set_vring_num(&self, index: u32, size: u32) -> Result<()> {
        let size = u16::try_from(size).map_err(|_| Protocol::InvalidParam)?;
        self.change(index, |ring, _| ring.queue.try_set_size(size).map_err(|_| Protocol::InvalidParam))
    }

    fn set_vring_addr(
        &self,
        index: u32,
        _: VhostUserVringAddrFlags,
        descriptors: u64,
        used: u64,
        available: u64,
        _log: u64,
    ) -> Result<()> {
        self.change(index, |ring, memory| {
            ring.place(Parts { descriptors, available, used }, memory.ok_or(NO_MEMORY)?)
        })
    }

    fn set_vring_base(&self, index: u32, base: u32) -> Result<()> {
        let base = u16::try_from(base).map_err(|_| Protocol::InvalidParam)?;
        self.change(index, |ring, _| {
            ring.queue.set_next_avail(base);
            ring.queue.set_next_used(base);
            Ok(())
        })
    }

    fn get_vring_base(&self, index: u32) -> Result<VhostUserVringState> {
        let base = self.change(index, |ring, _| Ok(ring.stop()))?;
        Ok(VhostUserVringState::new(index, u32::from(base)))
    }

    fn set_vring_kick(&self, index: u8, file: Option<File>) -> Result<()> {
        self.change(u32::from(index), |ring, memory| ring.start(file, memory.ok_or(NO_MEMORY)?))
    }

    fn set_vring_call(&self, index: u8, file: Option<File>) -> Result<()> {
        self.change(u32::from(index), |ring, _| ring.call.set(file))
    }

    fn set_vring_err(&self, _: u8, _: Option<File>) -> Result<()> {
        Ok(())
    }

    fn get_protocol_features(&self) -> Result<VhostUserProtocolFeatures> {
        Ok(VhostUserProtocolFeatures::REPLY_ACK
            | VhostUserProtocolFeatures::MQ
            | VhostUserProtocolFeatures::LOG_SHMFD
            | VhostUserProtocolFeatures::DEVICE_STATE)
    }

    fn set_protocol_features(&self, _: u64) -> Result<()> {
        Ok(())
    }

    fn get_queue_num(&self) -> Result<u64> {
        Ok(RINGS as u64)
    }

    fn set_vring_enable(&self, index: u32, enable: bool) -> Result<()> {
        self.change(index, |ring, _| {
            ring.enabled = enable;
            Ok(())
        })
    }

    fn get_config(&self, _: u32, _: u32, _: VhostUserConfigFlags) -> Result<Vec<u8>> {
        Err(NOT_HERE)
    }

    fn set_config(&self, _: u32, _: &[u8], _: VhostUserConfigFlags) -> Result<()> {
        Err(NOT_HERE)
    }

    fn set_gpu_socket(&self, _: GpuBackend) -> Result<()> {
        Err(NOT_HERE)
    }

    fn get_shared_object(&self, _: VhostUserSharedMsg) -> Result<File> {
        Err(NOT_HERE)
    }

    fn get_inflight_fd(&self, _: &VhostUserInflight) -> Result<(VhostUserInflight, File)> {
        Err(NOT_HERE)
    }

    fn set_inflight_fd(&self, _: &VhostUserInflight, _: File) -> Result<()> {
        Err(NOT_HERE)
    }

    fn get_max_mem_slots(&self) -> Result<u64> {
        Err(NOT_HERE)
    }

    fn add_mem_region(
        &self,
        _: &VhostUserSingleMemoryRegion,
        _: File,
        _: Option<bool>,
    ) -> Result<Option<u64>> {
        Err(NOT_HERE)
    }

    fn remove_mem_region(&self, _: &VhostUserSingleMemoryRegion) -> Result<()> {
        Err(NOT_HERE)
    }

    /// What is saved goes as the hypervisor reads it, and what is loaded is read as it comes, between messages: neither waits for us.
    fn set_device_state_fd(
        &self,
        direction: VhostTransferStateDirection,
        _: VhostTransferStatePhase,
        file: File,
    ) -> Result<Option<File>> {
        rustix::io::ioctl_fionbio(&file, true).map_err(|error| Protocol::ReqHandlerError(error.into()))?;
        let mut state = self.state.borrow_mut();
        match direction {
            VhostTransferStateDirection::SAVE => {
                let saved = [&MAGIC[..], &state.mark, &state.server.save()].concat();
                state.saving = Some((Rc::new(file), saved, 0));
            }
            VhostTransferStateDirection::LOAD => state.loading = Some((Rc::new(file), Vec::new(), false)),
        }
        Ok(None)
    }

    fn check_device_state(&self) -> Result<()> {
        let mut state = self.state.borrow_mut();
        if state.saving.take().is_some_and(|(_, bytes, gone)| gone < bytes.len()) {
            return Err(Protocol::InvalidOperation("a state that was not taken whole"));
        }
        let Some((file, mut saved, _)) = state.loading.take() else { return Ok(()) };
        rustix::io::ioctl_fionbio(&file, false).map_err(|error| Protocol::ReqHandlerError(error.into()))?;
        (&*file).take(LARGEST).read_to_end(&mut saved).map_err(Protocol::ReqHandlerError)?;
        let Some((mark, rest)) = saved.strip_prefix(MAGIC).and_then(|rest| rest.split_at_checked(MARK))
        else {
            tracing::warn!("the saved state of the machine's shares is not of this version");
            return Err(Protocol::InvalidOperation("a state of another version"));
        };
        if mark == state.mark {
            // It was this process, which knows all of it and has more open than can be opened again.
            return Ok(());
        }
        state.server.restore(rest).map_err(|error| {
            tracing::warn!(%error, "the saved state of the machine's shares is damaged, or they have become other directories");
            Protocol::InvalidOperation("a state that does not fit")
        })?;
        let (files, handles) = state.server.figures();
        tracing::info!(files, handles, "the shares of a machine that slept are served by this process now");
        Ok(())
    }

    fn get_shmem_config(&self) -> Result<VhostUserShMemConfig> {
        Err(NOT_HERE)
    }

    fn set_log_base(&self, log: &VhostUserLog, file: File) -> Result<()> {
        let mut state = self.state.borrow_mut();
        state.log = Some(Rc::new(Log::map(log, file)?));
        state.log();
        Ok(())
    }
}
