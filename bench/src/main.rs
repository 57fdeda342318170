//! Measures the product beside its peers, in one run: a transcoded call, a download through a protected route, the record of an
//! access, and its way into the log. `make bench` runs all of it; `bench transcode|download|captures` a part.
//!
//! The process under test is pinned to one core; the load and the backends that answer share another.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod backend;
mod captures;
mod download;
mod envoy;
mod load;
mod process;
mod report;
mod stores;
mod token_auth;
mod transcode;
mod upstream;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let address = || arguments[2].parse().expect("an address");
    match arguments.get(1).map(String::as_str) {
        Some("backend") => runtime.block_on(backend::serve(address())),
        Some("upstream") => runtime.block_on(upstream::serve(address())),
        Some("transcode") => runtime.block_on(transcode::measure()),
        Some("download") => runtime.block_on(download::measure()),
        Some("captures") => runtime.block_on(captures::measure()),
        _ => runtime.block_on(async {
            transcode::measure().await;
            download::measure().await;
            captures::measure().await;
        }),
    }
}
