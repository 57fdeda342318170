//! The services as separate processes, as a deployment runs them.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use proto::{
    contract::SecretSpec,
    paddock::contract::v1::{Process, Secret},
};
use tempfile::TempDir;

use crate::{Api, Program, Redis, free_port};

/// The name of the file of the registry's database.
const DATABASE_FILE: &str = "registry.sqlite";

/// Where the services store their records.
#[derive(Clone, Debug)]
pub enum Database {
    /// Files in a temporary folder.
    Sqlite,
    /// Databases of a PostgreSQL server, by their URLs.
    Postgres {
        /// The database of runner-registry.
        registry: String,
        /// The database of job-token-auth.
        job_token_auth: String,
    },
}

impl Database {
    fn kind(&self) -> String {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres { .. } => "postgres",
        }
        .to_owned()
    }
}

/// A running `runner-registry`.
#[derive(Debug)]
pub struct Registry {
    /// The process.
    pub program: Program,
    /// The port of gRPC.
    pub port: u16,
    /// The port of `/metrics`.
    pub metrics_port: u16,
    folder: TempDir,
}

/// A running `job-token-auth` that asks a registry.
#[derive(Debug)]
pub struct JobTokenAuth {
    /// The process.
    pub program: Program,
    /// The port of gRPC.
    pub port: u16,
    /// The port of `/metrics`.
    pub metrics_port: u16,
}

/// A running `gateway` in front of the services.
#[derive(Debug)]
pub struct Distributed {
    /// The process that faces the clients. It stops first.
    pub gateway: Program,
    /// The process that decides what job tokens reach.
    pub auth: JobTokenAuth,
    /// The process that holds the records.
    pub registry: Registry,
    /// The port of REST.
    pub port: u16,
    /// The port of the gateway's `/metrics`.
    pub metrics_port: u16,
}

impl Registry {
    /// Starts it with fresh secrets and waits until it serves.
    #[must_use]
    pub fn start(database: &Database, settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let port = free_port();
        let metrics_port = free_port();
        write_secrets(&folder.path().join("secrets"), database);
        let own = [
            ("PADDOCK_SECRETS__FOLDER", path(folder.path(), "secrets")),
            ("PADDOCK_RUNNER_REGISTRY__LISTEN", format!("127.0.0.1:{port}")),
            ("PADDOCK_RUNNER_REGISTRY__METRICS_LISTEN", format!("127.0.0.1:{metrics_port}")),
            ("PADDOCK_RUNNER_REGISTRY__DATABASE", database.kind()),
            ("PADDOCK_RUNNER_REGISTRY__SQLITE_PATH", path(folder.path(), DATABASE_FILE)),
            ("PADDOCK_RUNNER_REGISTRY__ROOT_TOKEN_FILE", path(folder.path(), "root.token")),
        ];
        let program = start("runner-registry", &own, settings);
        Self { program, port, metrics_port, folder }
    }

    /// The file of the token of the first user.
    #[must_use]
    pub fn root_token_file(&self) -> PathBuf {
        self.folder.path().join("root.token")
    }

    /// The file of its database, unless it uses PostgreSQL.
    #[must_use]
    pub fn database_file(&self) -> PathBuf {
        self.folder.path().join(DATABASE_FILE)
    }

    /// The folder of the secrets.
    #[must_use]
    pub fn secrets(&self) -> PathBuf {
        self.folder.path().join("secrets")
    }

    /// The URL of its gRPC server.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The token of the first user.
    #[must_use]
    pub fn root_token(&self) -> String {
        fs::read_to_string(self.root_token_file()).expect("the token file").trim().to_owned()
    }
}

impl JobTokenAuth {
    /// Starts it for a registry, with captures in Redis or in its database, and waits until it serves.
    #[must_use]
    pub fn start(registry: &Registry, database: &Database, redis: Option<&Redis>, settings: &[(&str, &str)]) -> Self {
        let port = free_port();
        let metrics_port = free_port();
        let folder = registry.folder.path();
        if let Some(redis) = redis {
            write_secret(&registry.secrets(), spec(Secret::CapturesRedisUrl), &redis.url());
        }
        let store = if redis.is_some() { "redis" } else { "database" };
        let own = [
            ("PADDOCK_SECRETS__FOLDER", path(folder, "secrets")),
            ("PADDOCK_JOB_TOKEN_AUTH__LISTEN", format!("127.0.0.1:{port}")),
            ("PADDOCK_JOB_TOKEN_AUTH__METRICS_LISTEN", format!("127.0.0.1:{metrics_port}")),
            ("PADDOCK_JOB_TOKEN_AUTH__DATABASE", database.kind()),
            ("PADDOCK_JOB_TOKEN_AUTH__SQLITE_PATH", path(folder, "job-token-auth.sqlite")),
            ("PADDOCK_JOB_TOKEN_AUTH__RUNNER_REGISTRY__ENDPOINT", registry.endpoint()),
            ("PADDOCK_JOB_TOKEN_AUTH__CAPTURES__STORE", store.to_owned()),
            ("PADDOCK_JOB_TOKEN_AUTH__CAPTURES__SPOOL_FOLDER", path(folder, "spool")),
        ];
        Self { program: start("job-token-auth", &own, settings), port, metrics_port }
    }

    /// The URL of its gRPC server.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The text of its `/metrics`.
    pub async fn metrics(&self) -> String {
        let answer = Api::anonymous(&format!("http://127.0.0.1:{}", self.metrics_port)).get_outside("/metrics").await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.text
    }
}

impl Distributed {
    /// Starts all processes, with captures in the database, and waits until they serve.
    #[must_use]
    pub fn start(database: &Database, settings: &[(&str, &str)]) -> Self {
        Self::start_with(database, None, settings)
    }

    /// The same with captures in Redis, if one is given.
    #[must_use]
    pub fn start_with(database: &Database, redis: Option<&Redis>, settings: &[(&str, &str)]) -> Self {
        let registry = Registry::start(database, settings);
        let auth = JobTokenAuth::start(&registry, database, redis, settings);
        let port = free_port();
        let metrics_port = free_port();
        let own = [
            ("PADDOCK_SECRETS__FOLDER", path(registry.folder.path(), "secrets")),
            ("PADDOCK_GATEWAY__LISTEN", format!("127.0.0.1:{port}")),
            ("PADDOCK_GATEWAY__METRICS_LISTEN", format!("127.0.0.1:{metrics_port}")),
            ("PADDOCK_GATEWAY__RUNNER_REGISTRY__ENDPOINT", registry.endpoint()),
            ("PADDOCK_GATEWAY__JOB_TOKEN_AUTH__ENDPOINT", auth.endpoint()),
        ];
        let gateway = start("gateway", &own, settings);
        Self { gateway, auth, registry, port, metrics_port }
    }

    /// The address of REST, without `/api/v4`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// A caller without a token.
    #[must_use]
    pub fn anonymous(&self) -> Api {
        Api::anonymous(&self.url())
    }

    /// The first user, an administrator.
    #[must_use]
    pub fn root(&self) -> Api {
        self.anonymous().with_token(&self.registry.root_token())
    }

    /// Stops all processes, and asserts that each ends cleanly.
    pub fn stop(mut self) {
        self.gateway.stop();
        self.auth.program.stop();
        self.registry.program.stop();
    }
}

fn start(name: &str, own: &[(&str, String)], settings: &[(&str, &str)]) -> Program {
    let own = own.iter().map(|(variable, value)| (*variable, value.as_str()));
    let all: Vec<_> = own.chain(settings.iter().copied()).collect();
    let program = Program::start(name, &[], &all);
    program.wait_until_ready();
    program
}

fn path(folder: &Path, name: &str) -> String {
    folder.join(name).to_str().expect("a path in UTF-8").to_owned()
}

/// Writes the secrets that `paddock serve` would produce, and the URL of the database if it needs one.
fn write_secrets(folder: &Path, database: &Database) {
    fs::create_dir(folder).expect("the folder is made");
    let specs = Secret::ALL.map(spec);
    for spec in specs.iter().filter(|spec| spec.produced_by.contains(&Process::Paddock)) {
        write_secret(folder, spec, &random_hex(spec.min_bytes));
    }
    if let Database::Postgres { registry, job_token_auth } = database {
        write_secret(folder, spec(Secret::RegistryDatabaseUrl), registry);
        write_secret(folder, spec(Secret::JobTokenAuthDatabaseUrl), job_token_auth);
    }
}

fn spec(secret: Secret) -> &'static SecretSpec {
    secret.spec().expect("a secret of the contract")
}

fn write_secret(folder: &Path, spec: &SecretSpec, content: &str) {
    fs::write(folder.join(spec.file), content).expect("the secret is written");
}

fn random_hex(bytes: usize) -> String {
    let mut random = vec![0; bytes];
    fs::File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut random)).expect("random bytes");
    random.iter().map(|byte| format!("{byte:02x}")).collect()
}
