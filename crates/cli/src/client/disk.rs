//! Calls about data disks.

use dhow_model::Failure;
use dhow_proto::control::rescue_part::What;
use dhow_proto::control::{
    DiskCheckRequest, DiskCompactReply, DiskGrowReply, DiskRequest, DiskUsageReply, RescueExportRequest,
    RescuePart, RescueThing,
};
use tonic::{Response, Status, Streaming};

use super::{Daemon, Deadline, Following, lost, refused};
use crate::error::{Error, Result};

impl Daemon {
    /// What a machine's data disk takes.
    ///
    /// # Errors
    /// When the daemon does not answer, or there is no such machine.
    pub async fn disk_usage(&mut self, machine: &str, deadline: Deadline) -> Result<DiskUsageReply> {
        let step = "the data disk's usage";
        let reply = said(step, deadline.wait(step, self.client.disk_usage(request(machine))).await?)?;
        or_failed(reply.failed.clone(), reply)
    }

    /// Gives what is free on a machine's data disk back to this computer.
    ///
    /// # Errors
    /// When the machine is off, or could not do it; when the daemon does not answer.
    pub async fn disk_compact(&mut self, machine: &str, deadline: Deadline) -> Result<DiskCompactReply> {
        let step = "the machine, which gives back what is free";
        let reply = said(step, deadline.wait(step, self.client.disk_compact(request(machine))).await?)?;
        or_failed(reply.failed.clone(), reply)
    }

    /// Makes a machine's data disk as large as the configuration says.
    ///
    /// # Errors
    /// When the machine could not do it; when the daemon does not answer.
    pub async fn disk_grow(&mut self, machine: &str, deadline: Deadline) -> Result<DiskGrowReply> {
        let step = "the machine, whose data disk grows";
        let reply = said(step, deadline.wait(step, self.client.disk_grow(request(machine))).await?)?;
        or_failed(reply.failed.clone(), reply)
    }

    /// Asks for a machine's data disk to be checked.
    ///
    /// # Errors
    /// When the daemon does not take it.
    pub async fn disk_check(&mut self, machine: &str, repair: bool, deadline: Deadline) -> Result<Following> {
        let step = "asking the daemon to check the data disk";
        let request = DiskCheckRequest { machine: machine.to_owned(), repair };
        let reply = deadline.wait(step, self.client.disk_check(request)).await?;
        Ok(Following::of(said(step, reply)?, step))
    }

    /// What can be had from a machine in rescue.
    ///
    /// # Errors
    /// When it is not in rescue, or the daemon does not answer.
    pub async fn rescue_list(&mut self, machine: &str, deadline: Deadline) -> Result<Vec<RescueThing>> {
        let step = "what can be saved";
        let reply = said(step, deadline.wait(step, self.client.rescue_list(request(machine))).await?)?;
        or_failed(reply.failed, reply.things)
    }

    /// One thing of it.
    ///
    /// # Errors
    /// When the daemon does not take it.
    pub async fn rescue_export(
        &mut self,
        request: RescueExportRequest,
        deadline: Deadline,
    ) -> Result<Archive> {
        let step = "what is being saved";
        let reply = deadline.wait(step, self.client.rescue_export(request)).await?;
        Ok(Archive(said(step, reply)?))
    }
}

/// A tar archive on its way.
#[derive(Debug)]
pub struct Archive(Streaming<RescuePart>);

impl Archive {
    /// The next part; `None` when all of it was there.
    ///
    /// # Errors
    /// When it could not be had to its end.
    pub async fn next(&mut self, deadline: Deadline) -> Result<Option<Vec<u8>>> {
        let step = "what is being saved";
        let part = deadline.wait(step, self.0.message()).await?.map_err(|e| refused(step, &e))?;
        match part.and_then(|part| part.what) {
            Some(What::Content(content)) => Ok(Some(content)),
            Some(What::End(_)) => Ok(None),
            Some(What::Failed(f)) => Err(Error::Failed(Failure::new(f.code, f.message, f.hint))),
            None => Err(lost(step, &"it ended before it was whole")),
        }
    }
}

fn request(machine: &str) -> DiskRequest {
    DiskRequest { machine: machine.to_owned() }
}

fn said<T>(step: &str, reply: Result<Response<T>, Status>) -> Result<T> {
    reply.map(Response::into_inner).map_err(|e| refused(step, &e))
}

fn or_failed<T>(failed: Option<dhow_proto::control::Failure>, reply: T) -> Result<T> {
    match failed {
        Some(f) => Err(Error::Failed(Failure::new(f.code, f.message, f.hint))),
        None => Ok(reply),
    }
}
