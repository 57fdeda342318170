//! The processes that are measured, each pinned to a core, and what the kernel says of them.

use std::{
    fs::{self, File},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use proto::paddock::contract::v1::{CredentialKind, Secret};
use serde_json::json;

/// The core of the process under test.
const TEST_CORE: &str = "1";

/// The core of the load and of the backend.
const LOAD_CORE: &str = "0";

/// Clock ticks per second, as Linux reports CPU time to programs (USER_HZ).
const TICKS: f64 = 100.0;

pub struct UnderTest {
    child: Child,
    pub address: SocketAddr,
}

pub struct Peers {
    folder: tempfile::TempDir,
    backend: SocketAddr,
}

impl UnderTest {
    /// User and system time so far.
    pub fn cpu_seconds(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("the process runs");
        let fields: Vec<&str> = stat.rsplit_once(')').expect("a name").1.split_whitespace().collect();
        let ticks = |i: usize| fields[i].parse::<f64>().expect("a number");
        (ticks(11) + ticks(12)) / TICKS
    }

    pub fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("the process runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a resident size");
        line.split_whitespace().nth(1).expect("a number").parse().expect("a number")
    }
}

impl Drop for UnderTest {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Peers {
    pub fn prepare() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let key: String = (0..32).map(|byte| format!("{byte:02x}")).collect();
        fs::write(folder.path().join(Secret::IdentityKey.spec().expect("a spec").file), key).expect("a key");
        fs::write(folder.path().join("descriptor.bin"), proto::DESCRIPTOR_SET).expect("the descriptors");
        Self { folder, backend: free_address() }
    }

    /// The backend alone on the core of the process under test.
    pub async fn start_direct(&self) -> UnderTest {
        self.start(TEST_CORE, &own_program(), &["backend"], self.backend, &[]).await
    }

    pub async fn start_backend(&self) -> UnderTest {
        self.start(LOAD_CORE, &own_program(), &["backend"], self.backend, &[]).await
    }

    pub async fn start_gateway(&self) -> UnderTest {
        let address = free_address();
        let environment = [
            ("PADDOCK_GATEWAY__LISTEN", address.to_string()),
            ("PADDOCK_GATEWAY__METRICS_LISTEN", free_address().to_string()),
            ("PADDOCK_GATEWAY__RUNNER_REGISTRY__ENDPOINT", format!("http://{}", self.backend)),
            ("PADDOCK_SECRETS__FOLDER", self.folder.path().display().to_string()),
        ];
        self.start(TEST_CORE, &own_program().with_file_name("gateway"), &[], address, &environment).await
    }

    /// Envoy with one worker thread; none if it is not installed.
    pub async fn start_envoy(&self) -> Option<UnderTest> {
        let program = PathBuf::from(std::env::var_os("BENCH_ENVOY")?);
        let address = free_address();
        let config = self.folder.path().join("envoy.json");
        fs::write(&config, self.envoy_config(address).to_string()).expect("Envoy's configuration");
        let config = config.display().to_string();
        let arguments = ["-c", &config, "--concurrency", "1", "--disable-hot-restart", "--log-level", "error"];
        Some(self.start(TEST_CORE, &program, &arguments, address, &[]).await)
    }

    async fn start(
        &self,
        core: &str,
        program: &Path,
        arguments: &[&str],
        address: SocketAddr,
        environment: &[(&str, String)],
    ) -> UnderTest {
        let name = program.file_name().expect("a name").to_string_lossy().into_owned();
        let log = File::create(self.folder.path().join(format!("{name}.log"))).expect("a log file");
        let mut command = Command::new("taskset");
        command.arg("-c").arg(core).arg(program).args(arguments);
        if arguments == ["backend"] {
            command.arg(address.to_string());
        }
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        let child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("taskset and the program");
        let under_test = UnderTest { child, address };
        wait_until_listening(address, &name).await;
        under_test
    }

    /// The transcoder as its documentation shows it, with the options that come nearest to GitLab's JSON.
    fn envoy_config(&self, address: SocketAddr) -> serde_json::Value {
        let transcoder = json!({
            "name": "envoy.filters.http.grpc_json_transcoder",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder",
                "proto_descriptor": self.folder.path().join("descriptor.bin"),
                "services": ["paddock.runner.v1.RunnerTokenService"],
                "print_options": { "preserve_proto_field_names": true, "always_print_primitive_fields": true },
            }
        });
        let router = json!({
            "name": "envoy.filters.http.router",
            "typed_config": { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" }
        });
        let manager = json!({
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                "stat_prefix": "bench",
                "route_config": { "virtual_hosts": [{
                    "name": "all", "domains": ["*"],
                    "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": "backend" } }]
                }]},
                "http_filters": [transcoder, router]
            }
        });
        let http2 = json!({ "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": { "http2_protocol_options": {} }
        }});
        json!({ "static_resources": {
            "listeners": [{ "address": socket(address), "filter_chains": [{ "filters": [manager] }] }],
            "clusters": [{
                "name": "backend", "type": "STATIC", "typed_extension_protocol_options": http2,
                "load_assignment": { "cluster_name": "backend", "endpoints": [{
                    "lb_endpoints": [{ "endpoint": { "address": socket(self.backend) } }]
                }]}
            }]
        }})
    }
}

/// A runner token of the right form; the backend that is measured knows no runners.
pub fn sample_token() -> String {
    let prefix = CredentialKind::RunnerToken.spec().expect("a spec").prefix;
    let covered = format!("{prefix}t1_ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef");
    let alphabet = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut rest = crc32fast::hash(covered.as_bytes());
    let mut digits = [0; 6];
    for digit in digits.iter_mut().rev() {
        *digit = alphabet[(rest % 62) as usize];
        rest /= 62;
    }
    covered + std::str::from_utf8(&digits).expect("ASCII")
}

fn socket(address: SocketAddr) -> serde_json::Value {
    json!({ "socket_address": { "address": address.ip(), "port_value": address.port() } })
}

fn own_program() -> PathBuf {
    std::env::current_exe().expect("the path of this program")
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port")
}

async fn wait_until_listening(address: SocketAddr, name: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while tokio::net::TcpStream::connect(address).await.is_err() {
        assert!(Instant::now() < deadline, "{name} does not listen on {address}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
