//! Measures the product and comparable programs in one run: a transcoded call, a download through a protected route, captures,
//! the flush of captures to the log, the look-up and rotation of runner tokens, and a storm of broken runners. `make bench` runs all;
//! `bench transcode|download|captures|rotation|storm` runs a part.
//!
//! The process under test is pinned to one core. The load and the backends share another one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod backend;
mod caller;
mod captures;
mod download;
mod envoy;
mod load;
mod process;
mod registry;
mod report;
mod rotation;
mod stores;
mod storm;
mod token_auth;
mod transcode;
mod upstream;

use std::net::SocketAddr;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    match arguments.get(1).map(String::as_str) {
        Some("backend") => runtime.block_on(backend::serve(address_in(&arguments))),
        Some("upstream") => runtime.block_on(upstream::serve(address_in(&arguments))),
        Some("transcode") => runtime.block_on(transcode::measure()),
        Some("download") => runtime.block_on(download::measure()),
        Some("captures") => runtime.block_on(captures::measure()),
        Some("rotation") => runtime.block_on(rotation::measure()),
        Some("storm") => runtime.block_on(storm::measure()),
        _ => runtime.block_on(async {
            transcode::measure().await;
            download::measure().await;
            captures::measure().await;
            rotation::measure().await;
            storm::measure().await;
        }),
    }
}

fn address_in(arguments: &[String]) -> SocketAddr {
    arguments[2].parse().expect("an address")
}
