//! The device's state and what the hypervisor may ask of it: the vhost-user protocol's messages, each a small change.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use dhow_model::network::QUEUES;
use dhow_vhost::{Log, Memory};
use tokio::sync::Notify;
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
use vm_memory::GuestMemoryMmap;

use super::ring::{Broken, Parts, Ring};
use super::steering::Steering;
use crate::gateway::counters::{Counters, Reason};

/// Pairs of rings that the device has; the guest uses as many as its hypervisor gives it, and enables.
pub(super) const PAIRS: usize = QUEUES as usize;
const RINGS: usize = 2 * PAIRS;

/// The ring of a pair on which the guest receives (virtio 1.2, 5.1.2).
pub(super) const fn receive(pair: usize) -> usize {
    2 * pair
}

/// The ring of a pair on which the guest sends.
pub(super) const fn transmit(pair: usize) -> usize {
    2 * pair + 1
}

/// Bits of virtio 1.2, 5.1.3 and 6.
mod feature {
    pub(super) const CHECKSUM: u64 = 1 << 0;
    pub(super) const GUEST_CHECKSUM: u64 = 1 << 1;
    pub(super) const MTU: u64 = 1 << 3;
    pub(super) const HOST_TSO4: u64 = 1 << 11;
    pub(super) const HOST_TSO6: u64 = 1 << 12;
    /// The hypervisor serves this queue by itself; without it there is one pair only.
    pub(super) const CONTROL_QUEUE: u64 = 1 << 17;
    pub(super) const PAIRS: u64 = 1 << 22;
    pub(super) const INDIRECT: u64 = 1 << 28;
    pub(super) const EVENT_INDEX: u64 = 1 << 29;
    pub(super) const VERSION_1: u64 = 1 << 32;
}

/// What the device can do. No mergeable buffers: a frame of 64 KiB in one buffer of pages is three times as fast as in
/// many small ones.
const FEATURES: u64 = feature::CHECKSUM
    | feature::GUEST_CHECKSUM
    | feature::MTU
    | feature::HOST_TSO4
    | feature::HOST_TSO6
    | feature::CONTROL_QUEUE
    | feature::PAIRS
    | feature::INDIRECT
    | feature::EVENT_INDEX
    | feature::VERSION_1
    | VhostUserVirtioFeatures::LOG_ALL.bits()
    | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();

/// A network device of pairs of rings.
pub(super) struct Device {
    state: RefCell<State>,
    /// A ring was started or stopped.
    changed: [Notify; RINGS],
    pub(super) steering: RefCell<Steering>,
    pub(super) counters: Arc<Counters>,
}

struct State {
    memory: Option<Memory>,
    rings: [Ring; RINGS],
    /// What the guest chose.
    features: u64,
    log: Option<Rc<Log>>,
}

impl State {
    /// Rings note what they write while the hypervisor says so.
    fn log(&mut self) {
        let logs = self.features & VhostUserVirtioFeatures::LOG_ALL.bits() != 0;
        for ring in &mut self.rings {
            ring.log = self.log.clone().filter(|_| logs);
        }
    }
}

impl Device {
    pub(super) fn new(counters: Arc<Counters>) -> Device {
        Device {
            state: RefCell::new(State {
                memory: None,
                rings: std::array::from_fn(fresh),
                features: 0,
                log: None,
            }),
            changed: std::array::from_fn(|_| Notify::new()),
            steering: RefCell::default(),
            counters,
        }
    }

    /// Whether the guest takes packets whose checksum is missing.
    pub(super) fn partial_checksums(&self) -> bool {
        self.state.borrow().features & feature::GUEST_CHECKSUM != 0
    }

    /// Whether frames may be put on this ring, or taken from it.
    pub(super) fn runs(&self, index: usize) -> bool {
        self.state.borrow().rings[index].runs()
    }

    /// Works on a ring, if it runs. `None`: it does not, or not any more.
    pub(super) fn with<R>(
        &self,
        index: usize,
        work: impl FnOnce(&mut Ring, &GuestMemoryMmap) -> std::result::Result<R, Broken>,
    ) -> Option<R> {
        let mut state = self.state.borrow_mut();
        let State { memory, rings, .. } = &mut *state;
        let (ring, memory) = (&mut rings[index], &memory.as_ref()?.guest);
        if !ring.runs() {
            return None;
        }
        match ring.check(memory).and_then(|()| work(ring, memory)) {
            Ok(result) => Some(result),
            Err(error) => {
                ring.break_off();
                self.counters.count(Reason::BrokenRing);
                tracing::warn!(ring = index, %error, "the guest broke its network device, which stands still until it is started again");
                None
            }
        }
    }

    /// Waits until the guest has done something on a ring, or the ring was started or stopped.
    pub(super) async fn kicked(&self, index: usize) {
        let kick = {
            let state = self.state.borrow();
            let ring = &state.rings[index];
            if ring.runs() { ring.kick.clone() } else { None }
        };
        let Some(kick) = kick else { return self.changed[index].notified().await };
        tokio::select! {
            biased;
            () = self.changed[index].notified() => {}
            ready = kick.readable() => {
                // Each notification is an event of its own, however many the eventfd has counted: it is never read.
                let clear = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
                let taken = ready.and_then(|()| kick.try_io(clear));
                if let Err(error) = taken
                    && error.kind() != io::ErrorKind::WouldBlock
                {
                    tracing::error!(%error, "the hypervisor's notifications ended");
                    self.changed[index].notified().await;
                }
            }
        }
    }

    /// Changes a ring; whoever waits for it looks again.
    fn change<R>(
        &self,
        index: u32,
        change: impl FnOnce(&mut Ring, Option<&Memory>) -> Result<R>,
    ) -> Result<R> {
        let index = usize::try_from(index).map_err(|_| Protocol::InvalidParam)?;
        let mut state = self.state.borrow_mut();
        let State { memory, rings, .. } = &mut *state;
        let ring = rings.get_mut(index).ok_or(Protocol::InvalidParam)?;
        let result = change(ring, memory.as_ref());
        self.changed[index].notify_one();
        result
    }
}

/// A ring that nobody has touched yet. The guest asks for all pairs but the first.
fn fresh(index: usize) -> Ring {
    Ring::new(index < receive(1))
}

/// What this device does not have.
const NOT_HERE: Protocol = Protocol::InvalidOperation("not a feature of this device");

impl VhostUserBackendReqHandler for Device {
    fn set_owner(&self) -> Result<()> {
        Ok(())
    }

    fn reset_owner(&self) -> Result<()> {
        self.reset_device()
    }

    fn reset_device(&self) -> Result<()> {
        for index in 0..RINGS {
            self.change(index as u32, |ring, _| {
                *ring = fresh(index);
                Ok(())
            })?;
        }
        self.state.borrow_mut().features = 0;
        Ok(())
    }

    fn get_features(&self) -> Result<u64> {
        Ok(FEATURES)
    }

    fn set_features(&self, features: u64) -> Result<()> {
        if features & !FEATURES != 0 || features & feature::VERSION_1 == 0 {
            return Err(Protocol::FeatureMismatch);
        }
        let mut state = self.state.borrow_mut();
        state.features = features;
        for ring in &mut state.rings {
            ring.queue.set_event_idx(features & feature::EVENT_INDEX != 0);
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
            let memory = memory.ok_or(Protocol::InvalidOperation("a ring before its memory"))?;
            ring.place(Parts { descriptors, available, used }, memory)
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
        self.change(u32::from(index), |ring, memory| {
            let memory = memory.ok_or(Protocol::InvalidOperation("a ring before its memory"))?;
            ring.start(file, memory)
        })
    }

    fn set_vring_call(&self, index: u8, file: Option<File>) -> Result<()> {
        self.change(u32::from(index), |ring, _| ring.call.set(file))
    }

    fn set_vring_err(&self, _: u8, _: Option<File>) -> Result<()> {
        Ok(())
    }

    fn get_protocol_features(&self) -> Result<VhostUserProtocolFeatures> {
        Ok(VhostUserProtocolFeatures::REPLY_ACK
            | VhostUserProtocolFeatures::LOG_SHMFD
            | VhostUserProtocolFeatures::MQ)
    }

    fn set_protocol_features(&self, _: u64) -> Result<()> {
        Ok(())
    }

    fn get_queue_num(&self) -> Result<u64> {
        Ok(PAIRS as u64)
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

    fn set_device_state_fd(
        &self,
        _: VhostTransferStateDirection,
        _: VhostTransferStatePhase,
        _: File,
    ) -> Result<Option<File>> {
        Err(NOT_HERE)
    }

    fn check_device_state(&self) -> Result<()> {
        Err(NOT_HERE)
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
