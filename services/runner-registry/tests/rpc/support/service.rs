//! The service in a runtime of its own, so that it can be killed: with the runtime ends everything that runs in it, whatever it waits
//! for, as with a process.

use std::{net::SocketAddr, time::Duration};

use chassis::{
    clock::Clock,
    db::{self, DatabaseLocation},
    identity::IdentityKeys,
};
use runner_registry::{Deps, Error, SealKeys, config::ProcessConfig};
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
    sync::oneshot,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

/// How long the threads of a killed service may take to end.
const KILL_TIMEOUT: Duration = Duration::from_secs(60);

/// What the service keeps over a restart.
#[derive(Clone)]
pub struct Environment {
    pub location: DatabaseLocation,
    pub keys: IdentityKeys,
    pub seal_key: Vec<u8>,
    pub clock: Clock,
}

/// A running service. It is killed when it is dropped.
pub struct Service {
    pub address: SocketAddr,
    shutdown: CancellationToken,
    served: JoinHandle<Result<(), Error>>,
    runtime: Option<Runtime>,
}

impl Service {
    pub async fn start(environment: &Environment, settings: ProcessConfig) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let shutdown = CancellationToken::new();
        let (listening, address) = oneshot::channel();
        let served = serve(environment.clone(), settings, listening, shutdown.clone());
        let served = runtime.spawn(served);
        Self { address: address.await.unwrap(), shutdown, served, runtime: Some(runtime) }
    }

    /// Stops the service, which must end without an error.
    pub async fn stop(&mut self) {
        self.shutdown.cancel();
        (&mut self.served).await.unwrap().unwrap();
    }

    /// Kills the service in whatever it does. Nothing of it runs any more when this returns.
    pub async fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            tokio::task::spawn_blocking(|| runtime.shutdown_timeout(KILL_TIMEOUT)).await.unwrap();
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn serve(
    environment: Environment,
    settings: ProcessConfig,
    listening: oneshot::Sender<SocketAddr>,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let deps = Deps {
        config: settings.runner_registry,
        server: settings.server,
        database: db::connect(&environment.location, 10).await.unwrap(),
        keys: environment.keys,
        seal: SealKeys::from_bytes(&environment.seal_key.into(), None).unwrap(),
        clock: environment.clock,
    };
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    listening.send(listener.local_addr().unwrap()).unwrap();
    runner_registry::run(deps, listener, shutdown).await
}
