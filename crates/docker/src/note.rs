//! What the face makes of an answer before the client sees it: the registry learns of it, and the hooks.

use dhow_model::Placement;

use crate::connection::Shared;
use crate::place::{Note, Plan};
use crate::resolve;
use crate::wire::exchange::Hold;

impl Plan {
    /// What must be seen of the answer.
    pub(crate) fn hold(&self) -> Hold {
        match (&self.note, &self.call) {
            (Note::Create { .. } | Note::Exec { .. }, _) => Hold::Content,
            (Note::Nothing, None) => Hold::Nothing,
            _ => Hold::Head,
        }
    }
}

impl Shared {
    /// Notes an answer, then tells the hooks how the call ended. A create has its ID only now, and only if it succeeded.
    pub(crate) async fn report(&self, plan: &mut Plan, status: u16, content: &[u8]) {
        let role = plan.role;
        let mut call = plan.call.take();
        let made = || resolve::id_in(content).filter(|_| status == 201);
        let succeeded = matches!(status, 200..=299);
        match std::mem::replace(&mut plan.note, Note::Nothing) {
            Note::Nothing => {}
            Note::Create { name, decision, claim } => {
                let (Some(id), Some(call)) = (made(), &mut call) else { return };
                if self.engines.placement() == Placement::ForeignMachine {
                    self.workloads.table().create(role, &id, name.as_deref());
                }
                // The name is in the table: whoever waits for it sees it there.
                drop(claim);
                self.decisions.remember(&id, decision);
                call.id = id;
            }
            Note::Exec { container } => {
                if let Some(exec) = made() {
                    self.workloads.table().exec_create(role, &exec, &container);
                }
            }
            Note::Rename { id, name, .. } if succeeded => self.workloads.table().rename(role, &id, &name),
            Note::Remove { id } if succeeded => self.workloads.table().remove(role, &id),
            Note::Rename { .. } | Note::Remove { .. } => {}
        }
        if let Some(call) = call {
            self.hooks.after(&call, status).await;
        }
    }
}
