//! The services that the gateway calls.

use chassis::{
    client::{ClientConfig, PeerChannel},
    clock::Clock,
    identity::IdentityKeys,
    status::Fault,
};
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
    /// Returns the channels that the settings name.
    ///
    /// # Errors
    /// Returns a fault if an endpoint is not an address.
    pub fn new(config: &Config, keys: &IdentityKeys, clock: &Clock) -> Result<Self, Fault> {
        Ok(Self {
            registry: channel_to_peer(&config.runner_registry, Process::RunnerRegistry, keys, clock)?,
            job_token_auth: channel_to_peer(&config.job_token_auth, Process::JobTokenAuth, keys, clock)?,
        })
    }

    /// Returns the channel to the process that serves a method.
    pub fn serving(&self, process: Process) -> &PeerChannel {
        if process == Process::JobTokenAuth { &self.job_token_auth } else { &self.registry }
    }

    /// Returns every channel with its process.
    pub fn all(&self) -> [(Process, &PeerChannel); 2] {
        [(Process::RunnerRegistry, &self.registry), (Process::JobTokenAuth, &self.job_token_auth)]
    }
}

fn channel_to_peer(
    config: &ClientConfig,
    audience: Process,
    keys: &IdentityKeys,
    clock: &Clock,
) -> Result<PeerChannel, Fault> {
    PeerChannel::new(config, Process::Gateway, audience, keys.clone(), clock.clone())
}
