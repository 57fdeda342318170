//! The services that the gateway calls.

use chassis::{client::PeerChannel, clock::Clock, identity::IdentityKeys, status::Fault};
use proto::paddock::contract::v1::Process;

use crate::config::Config;

/// A channel to each service.
#[derive(Clone)]
pub struct Peers {
    /// To runner-registry.
    pub registry: PeerChannel,
    /// To job-token-auth.
    pub job_token_auth: PeerChannel,
}

impl Peers {
    /// The channels that the settings name.
    ///
    /// # Errors
    /// If an endpoint is not an address.
    pub fn new(config: &Config, keys: &IdentityKeys, clock: &Clock) -> Result<Self, Fault> {
        let channel =
            |config, audience| PeerChannel::new(config, Process::Gateway, audience, keys.clone(), clock.clone());
        Ok(Self {
            registry: channel(&config.runner_registry, Process::RunnerRegistry)?,
            job_token_auth: channel(&config.job_token_auth, Process::JobTokenAuth)?,
        })
    }

    /// The channel to the process that serves a method.
    pub fn serving(&self, process: Process) -> &PeerChannel {
        if process == Process::JobTokenAuth { &self.job_token_auth } else { &self.registry }
    }

    /// Every channel with the process behind it.
    pub fn all(&self) -> [(Process, &PeerChannel); 2] {
        [(Process::RunnerRegistry, &self.registry), (Process::JobTokenAuth, &self.job_token_auth)]
    }
}
