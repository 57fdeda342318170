//! Starts the processes that are measured, pins each to a core, and reads their CPU time and memory.

use std::{
    fs::{self, File},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use proto::paddock::contract::v1::{CredentialKind, Secret};

use crate::{
    envoy,
    stores::{Postgres, Redis},
    upstream,
};

/// The core of the process under test.
pub const TEST_CORE: &str = "1";

/// The core of the load and of the backends.
pub const LOAD_CORE: &str = "0";

/// Clock ticks per second, as Linux reports CPU time to programs (USER_HZ).
const TICKS: f64 = 100.0;

pub struct UnderTest {
    child: Child,
    pub address: SocketAddr,
}

pub struct Peers {
    folder: tempfile::TempDir,
    backend: SocketAddr,
    upstream: SocketAddr,
}

impl UnderTest {
    /// Returns the user and system time so far.
    pub fn cpu_seconds(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("the process runs");
        let fields: Vec<&str> = stat.rsplit_once(')').expect("a name").1.split_whitespace().collect();
        let user: f64 = fields[11].parse().expect("a number");
        let system: f64 = fields[12].parse().expect("a number");
        (user + system) / TICKS
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
        for secret in [Secret::IdentityKey, Secret::JobTokenSigningKey, Secret::SuccessorSealKey] {
            fs::write(folder.path().join(secret.spec().expect("a spec").file), &key).expect("a key");
        }
        fs::write(folder.path().join("descriptor.bin"), proto::DESCRIPTOR_SET).expect("the descriptors");
        Self { folder, backend: free_address(), upstream: free_address() }
    }

    /// Returns the folder of all files of this run, with the secrets.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts job-token-auth with captures in Redis and the log on PostgreSQL.
    pub async fn start_job_token_auth(&self, redis: &Redis, postgres: &Postgres) -> UnderTest {
        let address = free_address();
        for (secret, url) in
            [(Secret::CapturesRedisUrl, redis.url()), (Secret::JobTokenAuthDatabaseUrl, postgres.url().to_owned())]
        {
            fs::write(self.folder().join(secret.spec().expect("a spec").file), url).expect("a secret");
        }
        let environment = [
            ("PADDOCK_JOB_TOKEN_AUTH__LISTEN", address.to_string()),
            ("PADDOCK_JOB_TOKEN_AUTH__METRICS_LISTEN", String::new()),
            ("PADDOCK_JOB_TOKEN_AUTH__DATABASE", "postgres".to_owned()),
            ("PADDOCK_JOB_TOKEN_AUTH__CAPTURES__STORE", "redis".to_owned()),
            ("PADDOCK_JOB_TOKEN_AUTH__CAPTURES__SPOOL_FOLDER", self.folder().join("spool").display().to_string()),
            ("PADDOCK_JOB_TOKEN_AUTH__RUNNER_REGISTRY__ENDPOINT", format!("http://{}", self.backend)),
            ("PADDOCK_SECRETS__FOLDER", self.folder().display().to_string()),
        ];
        self.start(TEST_CORE, &own_program().with_file_name("job-token-auth"), &[], address, &environment).await
    }

    /// Starts the backend on the core of the process under test.
    pub async fn start_direct(&self) -> UnderTest {
        self.start(TEST_CORE, &own_program(), &["backend"], self.backend, &[]).await
    }

    pub async fn start_backend(&self) -> UnderTest {
        self.start(LOAD_CORE, &own_program(), &["backend"], self.backend, &[]).await
    }

    pub async fn start_upstream(&self) -> UnderTest {
        self.start(LOAD_CORE, &own_program(), &["upstream"], self.upstream, &[]).await
    }

    /// Starts the gateway in front of the constant backend.
    pub async fn start_gateway(&self) -> UnderTest {
        self.start_gateway_for(self.backend).await
    }

    /// Starts runner-registry on PostgreSQL, with an administrator.
    pub async fn start_runner_registry(&self, core: &str, database: &Postgres) -> UnderTest {
        let address = free_address();
        let secret = Secret::RegistryDatabaseUrl.spec().expect("a spec");
        fs::write(self.folder().join(secret.file), database.url()).expect("a secret");
        let environment = [
            ("PADDOCK_RUNNER_REGISTRY__LISTEN", address.to_string()),
            ("PADDOCK_RUNNER_REGISTRY__METRICS_LISTEN", String::new()),
            ("PADDOCK_RUNNER_REGISTRY__DATABASE", "postgres".to_owned()),
            // The contacts of the runners are recorded when they are created, and not while their calls are measured.
            ("PADDOCK_RUNNER_REGISTRY__HEARTBEAT__WRITE_INTERVAL_SECONDS", "3600".to_owned()),
            ("PADDOCK_RUNNER_REGISTRY__ROOT_TOKEN_FILE", self.folder().join("root.token").display().to_string()),
            ("PADDOCK_SECRETS__FOLDER", self.folder().display().to_string()),
        ];
        self.start(core, &own_program().with_file_name("runner-registry"), &[], address, &environment).await
    }

    /// Starts the gateway in front of this registry. Job tokens are decided by the constant backend.
    pub async fn start_gateway_for(&self, registry: SocketAddr) -> UnderTest {
        let address = free_address();
        let environment = [
            ("PADDOCK_GATEWAY__LISTEN", address.to_string()),
            ("PADDOCK_GATEWAY__METRICS_LISTEN", free_address().to_string()),
            ("PADDOCK_GATEWAY__RUNNER_REGISTRY__ENDPOINT", format!("http://{registry}")),
            ("PADDOCK_GATEWAY__JOB_TOKEN_AUTH__ENDPOINT", format!("http://{}", self.backend)),
            ("PADDOCK_GATEWAY__UPSTREAM", format!("http://{}", self.upstream)),
            ("PADDOCK_SECRETS__FOLDER", self.folder.path().display().to_string()),
        ];
        self.start(TEST_CORE, &own_program().with_file_name("gateway"), &[], address, &environment).await
    }

    /// Starts Envoy as a transcoder. Returns none if it is not installed.
    pub async fn start_envoy_transcoder(&self) -> Option<UnderTest> {
        let address = free_address();
        self.start_envoy(address, envoy::transcoder(address, self.backend, &self.folder.path().join("descriptor.bin")))
            .await
    }

    /// Starts Envoy as a proxy that asks whether a request is allowed. Returns none if it is not installed.
    pub async fn start_envoy_ext_authz(&self) -> Option<UnderTest> {
        let address = free_address();
        self.start_envoy(address, envoy::ext_authz(address, self.upstream)).await
    }

    /// Starts nginx as a proxy that asks whether a request is allowed. Returns none if it is not installed.
    pub async fn start_nginx(&self) -> Option<UnderTest> {
        let program = ["/usr/sbin/nginx", "/usr/bin/nginx"].into_iter().map(Path::new).find(|path| path.exists())?;
        let address = free_address();
        let folder = self.folder();
        let config = folder.join("nginx.conf");
        fs::write(&config, nginx_config(folder, address, self.upstream)).expect("nginx's configuration");
        let config = config.display().to_string();
        Some(self.start(TEST_CORE, program, &["-c", &config, "-p", &folder.display().to_string()], address, &[]).await)
    }

    /// Starts Envoy with one worker thread.
    async fn start_envoy(&self, address: SocketAddr, config_text: serde_json::Value) -> Option<UnderTest> {
        let program = PathBuf::from(std::env::var_os("BENCH_ENVOY")?);
        let config = self.folder.path().join("envoy.json");
        fs::write(&config, config_text.to_string()).expect("Envoy's configuration");
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
        if matches!(arguments, ["backend" | "upstream"]) {
            command.arg(address.to_string());
        }
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        let child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("taskset and the program");
        let under_test = UnderTest { child, address };
        wait_until_listening(address, &name).await;
        under_test
    }
}

/// Returns a configuration with a single process, so that its CPU time and memory are complete.
fn nginx_config(folder: &Path, address: SocketAddr, upstream: SocketAddr) -> String {
    let folder = folder.display();
    let authorization = upstream::AUTHORIZATION;
    format!(
        "daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/nginx.log error;
        events {{ worker_connections 1024; }}
        http {{
            access_log off; tcp_nodelay on; keepalive_requests 1000000000; client_body_temp_path {folder};
            proxy_temp_path {folder}; fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};
            proxy_http_version 1.1; proxy_set_header Connection '';
            upstream files {{ server {upstream}; keepalive 64; keepalive_requests 1000000000; }}
            server {{
                listen {address};
                location / {{ auth_request {authorization}; proxy_pass http://files; }}
                location = {authorization} {{
                    internal; proxy_pass http://files; proxy_pass_request_body off; proxy_set_header Content-Length '';
                    proxy_set_header X-Original-URI $request_uri; proxy_set_header Connection '';
                }}
            }}
        }}"
    )
}

/// Returns a job token of the right form. The backend of this program accepts every token.
pub fn sample_job_token() -> String {
    let prefix = CredentialKind::JobToken.spec().expect("a spec").prefix;
    // Header, claims and signature have the length of real ones.
    format!("{prefix}{}.{}.{}", "h".repeat(68), "c".repeat(220), "s".repeat(86))
}

/// Returns a runner token of the right form; each number gives another one. The backend of this program accepts every token.
pub fn sample_runner_token(number: usize) -> String {
    let prefix = CredentialKind::RunnerToken.spec().expect("a spec").prefix;
    let covered = format!("{prefix}t1_ABCDEFGHIJKLMNOPQRSTUVWX{number:08}");
    let checksum = token::checksum(&covered);
    covered + std::str::from_utf8(&checksum).expect("ASCII")
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
