//! What follows one boot of the guest: its agent, its translators, its ports and names. It goes on while the machine sleeps, in
//! silence, and ends with the guest.

use dhow_channel::Dialer;
use dhow_home::Home;
use dhow_model::Arch;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::agent::{Agent, Beginning, Heard};
use crate::changes::{self, Line};
use crate::network::Network;
use crate::translators;
use crate::turns::Turns;

/// What was heard and not taken yet.
const HEARD: usize = 64;

/// The tasks that follow a guest; they end when this is dropped.
pub struct Session {
    /// A client of the agent.
    pub agent: Agent,
    /// What was heard of the guest.
    pub heard: mpsc::Receiver<Heard>,
    /// Ends our stream of dockerd's events.
    pub listening: CancellationToken,
    _end: DropGuard,
}

impl Session {
    /// Follows the guest behind `dialer`, which waits while there is no way to it.
    #[must_use]
    pub fn begin(
        home: &Home,
        arch: Arch,
        network: &Network,
        dialer: Dialer,
        turns: &Turns,
        beginning: Beginning,
        changes: watch::Receiver<Option<Line>>,
    ) -> Self {
        let end = CancellationToken::new();
        let agent = Agent::new(dialer.clone(), turns.clone());
        let listening = network.follow(dialer, agent.clone(), turns.clone(), end.clone());
        let (sender, heard) = mpsc::channel(HEARD);
        let translators = translators::follow(home.clone(), arch, agent.clone(), sender.clone());
        let follow = agent.clone().follow(sender, beginning);
        let changes = changes::follow(changes, agent.clone());
        let ended = end.clone().cancelled_owned();
        tokio::spawn(async move {
            tokio::select! {
                ((), (), ()) = async { tokio::join!(follow, translators, changes) } => {}
                () = ended => {}
            }
        });
        Self { agent, heard, listening, _end: end.drop_guard() }
    }
}
