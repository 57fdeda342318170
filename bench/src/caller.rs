//! Calls of a service as the gateway makes them.

use std::net::SocketAddr;

use chassis::{
    access::{CallContext, Caller, User},
    client::{ClientConfig, PeerChannel},
    clock::Clock,
    identity::IdentityKeys,
    secrets::SecretStore,
};
use proto::paddock::contract::v1::{Process, TokenScope};

use crate::process::Peers;

/// Reads the keys that sign the identity of a call.
pub fn identity_keys(peers: &Peers) -> IdentityKeys {
    IdentityKeys::load(&SecretStore::open(peers.folder())).expect("an identity key")
}

/// Opens a connection to a service.
pub fn connect(keys: &IdentityKeys, address: SocketAddr, service: Process) -> PeerChannel {
    let config = ClientConfig { endpoint: format!("http://{address}"), deadline_ms: 60_000 };
    PeerChannel::new(&config, Process::Gateway, service, keys.clone(), Clock::system()).expect("an address")
}

/// The first user.
pub fn administrator() -> Caller {
    Caller::User(User { id: 1, username: "root".into(), admin: true, scopes: vec![TokenScope::Api] })
}

/// Returns a call of this caller.
pub fn call<T>(message: T, caller: Caller) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    let context = CallContext { caller, request_id: "bench".into(), peer_address: None, user_agent: None };
    request.extensions_mut().insert(context);
    request
}
