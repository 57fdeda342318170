//! Connections to Redis in its three forms, and the checks before captures are written to it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use chassis::secrets::SecretBytes;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, Pipeline,
    RedisConnectionInfo, RedisFuture, RedisResult, TlsMode, Value,
    aio::{ConnectionLike, MultiplexedConnection},
    cluster::ClusterClientBuilder,
    cluster_async::ClusterConnection,
    cluster_routing::{Route, SingleNodeRoutingInfo, SlotAddr},
    sentinel::{SentinelClient, SentinelNodeConnectionInfo, SentinelServerType},
};
use tokio::time::Instant;

use crate::{
    capture::failure::StoreError,
    config::{RedisConfig, RedisKind},
};

/// Maximum time for a connection attempt.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Maximum time for an answer; longer than any command that waits for entries.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum time that replicas may take for what was written.
const REPLICATION_TIMEOUT: Duration = Duration::from_secs(1);

/// How many times a command to a cluster follows its slot before the connection counts as broken.
const CLUSTER_RETRIES: u32 = 3;

/// How long a server is trusted before its settings are read again: an operator may change them, and a cluster may replace the
/// server.
const TRUST_LIFETIME: Duration = Duration::from_secs(10);

/// The settings of a Redis that never loses what it has confirmed: name, value, and what goes wrong with another value.
const SETTINGS: [(&str, &str, &str); 4] = [
    ("appendonly", "yes", "it keeps captures in memory only"),
    ("appendfsync", "always", "it confirms captures before they are on disk"),
    ("no-appendfsync-on-rewrite", "no", "it confirms captures before they are on disk while it rewrites its file"),
    ("maxmemory-policy", "noeviction", "it throws captures away when its memory is full"),
];

/// Opens connections to Redis.
pub struct Connector {
    nodes: Vec<ConnectionInfo>,
    config: RedisConfig,
    /// Whether it was already logged that Redis does not show its settings.
    has_warned: AtomicBool,
}

/// An open connection. One task uses it, so that a command which waits delays no other task.
pub enum RedisConnection {
    /// To a server.
    Server(MultiplexedConnection),
    /// To a cluster.
    Cluster(ClusterConnection),
}

/// The connection for one partition. It is opened when it is needed, and opened again after an error.
pub struct PartitionConnection {
    connector: Arc<Connector>,
    /// A key of the partition: in a cluster it selects the server.
    key: String,
    open: Option<RedisConnection>,
    /// Until when the server is known to keep what it confirms.
    trusted_until: Option<Instant>,
}

impl Connector {
    /// Reads the URLs, separated by commas. Opens no connection.
    ///
    /// # Errors
    /// If a URL cannot be read. The text does not repeat it: it holds a password.
    pub fn new(config: &RedisConfig, urls: &SecretBytes) -> Result<Self, String> {
        let nodes: Option<Vec<_>> = urls.expose().split(|byte| *byte == b',').map(parse_url).collect();
        let nodes = nodes.ok_or("must be URLs as redis://USER:PASSWORD@HOST:PORT, separated by commas")?;
        if config.kind == RedisKind::Single && nodes.len() > 1 {
            return Err("must be one URL, because captures.redis.kind is \"single\"".to_owned());
        }
        Ok(Self { nodes, config: config.clone(), has_warned: AtomicBool::new(false) })
    }

    /// Returns how many replicas must have what is written before it counts as kept.
    fn required_replicas(&self) -> u16 {
        if self.config.kind == RedisKind::Single { 0 } else { self.config.replicas }
    }

    async fn connect(&self) -> RedisResult<RedisConnection> {
        let settings = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(ANSWER_TIMEOUT));
        match self.config.kind {
            RedisKind::Single => {
                let client = Client::open(self.nodes[0].clone())?;
                Ok(RedisConnection::Server(client.get_multiplexed_async_connection_with_config(&settings).await?))
            }
            RedisKind::Sentinel => {
                let sentinels = self.nodes.iter().map(|node| self.sentinel_node(node)).collect();
                let mut client = SentinelClient::build(
                    sentinels,
                    &self.config.sentinel_master,
                    Some(self.master_node()),
                    SentinelServerType::Master,
                )?;
                Ok(RedisConnection::Server(client.get_async_connection_with_config(&settings).await?))
            }
            RedisKind::Cluster => {
                let client = ClusterClientBuilder::new(self.nodes.clone())
                    .retries(CLUSTER_RETRIES)
                    .connection_timeout(CONNECT_TIMEOUT)
                    .response_timeout(ANSWER_TIMEOUT)
                    .build()?;
                Ok(RedisConnection::Cluster(client.get_async_connection().await?))
            }
        }
    }

    /// Returns how to reach a sentinel: as its URL says, without the number of a database, which sentinels do not have.
    fn sentinel_node(&self, node: &ConnectionInfo) -> ConnectionInfo {
        let settings = if self.config.sentinel_authenticates {
            node.redis_settings().clone().set_db(0)
        } else {
            RedisConnectionInfo::default().set_protocol(node.redis_settings().protocol())
        };
        node.clone().set_redis_settings(settings)
    }

    /// Returns how to reach the master: with the user, the password and the database of the first URL, and with TLS if that has it.
    fn master_node(&self) -> SentinelNodeConnectionInfo {
        let first = &self.nodes[0];
        let node = SentinelNodeConnectionInfo::default().set_redis_connection_info(first.redis_settings().clone());
        match first.addr() {
            ConnectionAddr::TcpTls { .. } => node.set_tls_mode(TlsMode::Secure),
            _ => node,
        }
    }
}

fn parse_url(url: &[u8]) -> Option<ConnectionInfo> {
    std::str::from_utf8(url).ok()?.trim().into_connection_info().ok()
}

/// Reports whether Redis answers, and refuses the credentials.
pub fn is_refusal(error: &redis::RedisError) -> bool {
    error.kind() == redis::ErrorKind::AuthenticationFailed || matches!(error.code(), Some("NOAUTH" | "WRONGPASS"))
}

impl PartitionConnection {
    /// Makes the connection for the partition of this key. Opens nothing yet.
    pub fn new(connector: Arc<Connector>, key: &str) -> Self {
        Self { connector, key: key.to_owned(), open: None, trusted_until: None }
    }

    /// Returns an open connection to a Redis that never loses what it confirmed, if the settings require that.
    ///
    /// # Errors
    /// If Redis cannot be reached, or does not write every change to disk before it answers.
    pub async fn open_durable(&mut self) -> Result<&mut RedisConnection, StoreError> {
        let is_trusted = self.open.is_some() && self.trusted_until.is_some_and(|until| Instant::now() < until);
        if self.connector.config.require_fsync && !is_trusted {
            match self.check_settings().await {
                Err(StoreError::Redis(error)) if !error.is_io_error() => self.warn_of_hidden_settings(&error),
                checked => checked?,
            }
            self.trusted_until = Some(Instant::now() + TRUST_LIFETIME);
        }
        Ok(self.open().await?)
    }

    /// Checks that the settings of Redis are such that it never loses what it has confirmed.
    ///
    /// # Errors
    /// If Redis cannot be reached, does not show its settings, or has others.
    pub async fn check_settings(&mut self) -> Result<(), StoreError> {
        let mut pipe = redis::pipe();
        pipe.cmd("CONFIG").arg("GET").arg("*append*").cmd("CONFIG").arg("GET").arg("maxmemory*");
        require_settings(&self.run_pipeline(&pipe).await?)
    }

    fn warn_of_hidden_settings(&self, error: &redis::RedisError) {
        if !self.connector.has_warned.swap(true, Ordering::Relaxed) {
            let needed = SETTINGS.map(|(name, needed, _)| format!("{name} {needed}")).join(", ");
            tracing::warn!(%error, needed, "redis does not show its settings: see to it that they are these");
        }
    }

    /// Waits until the required replicas have what this connection wrote before, and `key` with this value. It is also an error if
    /// the server that answers does not know the key: after a failover it may never have got it.
    ///
    /// # Errors
    /// If Redis cannot be reached, or too few replicas have the value in time.
    pub async fn wait_for_replicas(&mut self, key: &str, value: &str, lifetime: Duration) -> Result<(), StoreError> {
        let needed = i64::from(self.connector.required_replicas());
        if needed == 0 {
            return Ok(());
        }
        let mut pipe = redis::pipe();
        // WAIT is about what its own connection wrote. This connection may be newer than that write, so it writes too.
        pipe.cmd("GET").arg(key).cmd("PEXPIRE").arg(key).arg(whole_millis(lifetime));
        pipe.cmd("WAIT").arg(needed).arg(whole_millis(REPLICATION_TIMEOUT));
        let answers = Value::Array(self.run_pipeline(&pipe).await?);
        let (found, _, replicas): (Option<String>, i64, i64) =
            redis::from_redis_value(answers).map_err(redis::RedisError::from)?;
        if found.as_deref() == Some(value) && replicas >= needed {
            return Ok(());
        }
        Err(StoreError::Setup(format!(
            "{replicas} replicas of redis have what was written, and {needed} must, or it would be lost with the master: see \
             job_token_auth.captures.redis.replicas"
        )))
    }

    /// Runs commands, one after another, on the server of the partition.
    async fn run_pipeline(&mut self, pipeline: &Pipeline) -> RedisResult<Vec<Value>> {
        let route = SingleNodeRoutingInfo::SpecificNode(Route::with_key(&self.key, SlotAddr::Master));
        let count = pipeline.cmd_iter().count();
        let answer = match self.open().await? {
            RedisConnection::Server(connection) => connection.req_packed_commands(pipeline, 0, count).await,
            RedisConnection::Cluster(connection) => connection.route_pipeline(pipeline.clone(), 0, count, route).await,
        };
        // An error in one of the values does not mean that the connection is broken.
        self.close_on_error(answer)?.into_iter().map(Value::extract_error).collect()
    }

    /// Returns the open connection, or opens one.
    ///
    /// # Errors
    /// If Redis cannot be reached.
    pub async fn open(&mut self) -> RedisResult<&mut RedisConnection> {
        let connection = match self.open.take() {
            Some(connection) => connection,
            None => {
                self.trusted_until = None;
                self.connector.connect().await?
            }
        };
        Ok(self.open.insert(connection))
    }

    /// Closes the connection if the answer is an error: the next connection may lead to another server.
    ///
    /// # Errors
    /// That error.
    pub fn close_on_error<T>(&mut self, answer: RedisResult<T>) -> RedisResult<T> {
        if answer.is_err() {
            self.open = None;
        }
        answer
    }
}

fn require_settings(answers: &[Value]) -> Result<(), StoreError> {
    let mut settings = Vec::new();
    for answer in answers {
        collect_settings(answer, &mut settings);
    }
    for (name, needed, otherwise) in SETTINGS {
        let found = settings.iter().find(|(setting, _)| setting == name).map_or("unknown", |(_, value)| value.as_str());
        if found != needed {
            return Err(StoreError::Setup(format!(
                "redis has {name} {found}, with which {otherwise}: set {name} {needed} in redis.conf, or, if that is acceptable, \
                 job_token_auth.captures.redis.require_fsync = false"
            )));
        }
    }
    Ok(())
}

/// Collects pairs of names and values: a map in one version of the protocol, a flat list in the other.
fn collect_settings(answer: &Value, settings: &mut Vec<(String, String)>) {
    match answer {
        Value::Map(pairs) => {
            settings.extend(pairs.iter().map(|(name, value)| (text_or_empty(name), text_or_empty(value))))
        }
        Value::Array(list) => {
            settings.extend(list.chunks_exact(2).map(|pair| (text_or_empty(&pair[0]), text_or_empty(&pair[1]))))
        }
        _ => {}
    }
}

fn text_or_empty(value: &Value) -> String {
    redis::from_redis_value(value.clone()).unwrap_or_default()
}

/// Returns the whole milliseconds of a duration, as commands of Redis take them.
pub fn whole_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl ConnectionLike for RedisConnection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Server(connection) => connection.req_packed_command(cmd),
            Self::Cluster(connection) => connection.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Server(connection) => connection.req_packed_commands(pipeline, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Server(connection) => connection.get_db(),
            Self::Cluster(connection) => connection.get_db(),
        }
    }
}
