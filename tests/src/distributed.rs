//! The services as processes of their own, as a deployment runs them.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use proto::contract::SecretSpec;
use proto::paddock::contract::v1::{Process, Secret};
use tempfile::TempDir;

use crate::{Api, Program, free_port};

/// Where the records are.
#[derive(Clone, Debug)]
pub enum Database {
    /// A file in a folder of its own.
    Sqlite,
    /// A database of a PostgreSQL server, by its URL.
    Postgres(String),
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

/// A running `gateway` beside its registry.
#[derive(Debug)]
pub struct Distributed {
    /// The process that faces the clients. It stops first.
    pub gateway: Program,
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
        let (port, metrics_port) = (free_port(), free_port());
        write_secrets(&folder.path().join("secrets"), database);
        let kind = match database {
            Database::Sqlite => "sqlite",
            Database::Postgres(_) => "postgres",
        };
        let own = [
            ("PADDOCK_SECRETS__FOLDER", path(folder.path(), "secrets")),
            ("PADDOCK_RUNNER_REGISTRY__LISTEN", format!("127.0.0.1:{port}")),
            ("PADDOCK_RUNNER_REGISTRY__METRICS_LISTEN", format!("127.0.0.1:{metrics_port}")),
            ("PADDOCK_RUNNER_REGISTRY__DATABASE", kind.to_owned()),
            ("PADDOCK_RUNNER_REGISTRY__SQLITE_PATH", path(folder.path(), "registry.sqlite")),
            ("PADDOCK_RUNNER_REGISTRY__ROOT_TOKEN_FILE", path(folder.path(), "root.token")),
        ];
        let program = start("runner-registry", &own, settings);
        Self { program, port, metrics_port, folder }
    }

    /// The folder of the secrets.
    #[must_use]
    pub fn secrets(&self) -> PathBuf {
        self.folder.path().join("secrets")
    }

    /// Where it serves gRPC.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The token of the first user.
    #[must_use]
    pub fn root_token(&self) -> String {
        fs::read_to_string(self.folder.path().join("root.token")).expect("the token file").trim().to_owned()
    }
}

impl Distributed {
    /// Starts both, and waits until both serve.
    #[must_use]
    pub fn start(database: &Database, settings: &[(&str, &str)]) -> Self {
        let registry = Registry::start(database, settings);
        let (port, metrics_port) = (free_port(), free_port());
        let own = [
            ("PADDOCK_SECRETS__FOLDER", path(registry.folder.path(), "secrets")),
            ("PADDOCK_GATEWAY__LISTEN", format!("127.0.0.1:{port}")),
            ("PADDOCK_GATEWAY__METRICS_LISTEN", format!("127.0.0.1:{metrics_port}")),
            ("PADDOCK_GATEWAY__RUNNER_REGISTRY__ENDPOINT", registry.endpoint()),
        ];
        let gateway = start("gateway", &own, settings);
        Self { gateway, registry, port, metrics_port }
    }

    /// A caller without a token.
    #[must_use]
    pub fn anonymous(&self) -> Api {
        Api::anonymous(&format!("http://127.0.0.1:{}", self.port))
    }

    /// The first user, an administrator.
    #[must_use]
    pub fn root(&self) -> Api {
        self.anonymous().with_token(&self.registry.root_token())
    }

    /// Stops both and holds them to a clean end.
    pub fn stop(mut self) {
        self.gateway.stop();
        self.registry.program.stop();
    }
}

fn start(name: &str, own: &[(&str, String)], settings: &[(&str, &str)]) -> Program {
    let own = own.iter().map(|(variable, value)| (*variable, value.as_str()));
    let all: Vec<_> = own.chain(settings.iter().copied()).collect();
    let program = Program::start(name, &[], &all);
    program.wait_for_output(&format!("{name} ready"));
    program
}

fn path(folder: &Path, name: &str) -> String {
    folder.join(name).to_str().expect("a path in UTF-8").to_owned()
}

/// Writes what `paddock serve` would produce, and the URL of the database when it needs one.
fn write_secrets(folder: &Path, database: &Database) {
    fs::create_dir(folder).expect("the folder is made");
    let specs = Secret::ALL.map(|secret| secret.spec().expect("a secret of the contract"));
    for spec in specs.iter().filter(|spec| spec.produced_by.contains(&Process::Paddock)) {
        write_secret(folder, spec, &random_hex(spec.min_bytes));
    }
    if let Database::Postgres(url) = database {
        write_secret(folder, Secret::RegistryDatabaseUrl.spec().expect("a secret of the contract"), url);
    }
}

fn write_secret(folder: &Path, spec: &SecretSpec, content: &str) {
    fs::write(folder.join(spec.file), content).expect("the secret is written");
}

fn random_hex(bytes: usize) -> String {
    let mut random = vec![0; bytes];
    fs::File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut random)).expect("random bytes");
    random.iter().map(|byte| format!("{byte:02x}")).collect()
}
