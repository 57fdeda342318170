//! Connections to Redis in its three forms, and what is asked of it before it is trusted.

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
    capture::store::StoreError,
    config::{Redis, RedisKind},
};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(2);

/// How long an answer may take; longer than any command that waits for entries.
const ANSWER: Duration = Duration::from_secs(5);

/// How long replicas may take for what was written.
const REPLICATION: Duration = Duration::from_secs(1);

/// How often a command to a cluster follows its slot before the connection counts as broken.
const CLUSTER_RETRIES: u32 = 3;

/// How long a server is trusted before its settings are looked at again: somebody may change them, and a cluster may put another
/// server in its place.
const TRUST: Duration = Duration::from_secs(10);

/// What a Redis that never loses what it has confirmed is set to, and how else it can.
const SETTINGS: [(&str, &str, &str); 4] = [
    ("appendonly", "yes", "it keeps captures in memory only"),
    ("appendfsync", "always", "it confirms captures before they are on disk"),
    ("no-appendfsync-on-rewrite", "no", "it confirms captures before they are on disk while it rewrites its file"),
    ("maxmemory-policy", "noeviction", "it throws captures away when its memory is full"),
];

/// Knows how to reach Redis.
pub struct Connector {
    nodes: Vec<ConnectionInfo>,
    config: Redis,
    /// Whether it was said that Redis does not show its settings.
    has_warned: AtomicBool,
}

/// A connection. It is used by one task, so that a command which waits holds up nobody else.
pub enum Connection {
    /// To a server.
    Server(MultiplexedConnection),
    /// To a cluster.
    Cluster(ClusterConnection),
}

/// A connection that is made when it is needed, and made anew after an error.
pub struct Link {
    connector: Arc<Connector>,
    /// A key of the partition: in a cluster it decides on the server.
    key: String,
    connection: Option<Connection>,
    /// Until when this one is known to keep what it confirms.
    trusted_until: Option<Instant>,
}

impl Connector {
    /// Reads the URLs, which commas separate. Nothing is connected yet.
    ///
    /// # Errors
    /// If one cannot be read. The text does not repeat it: it holds a password.
    pub fn new(config: &Redis, urls: &SecretBytes) -> Result<Self, String> {
        let node = |url: &[u8]| std::str::from_utf8(url).ok()?.trim().into_connection_info().ok();
        let nodes: Option<Vec<_>> = urls.expose().split(|byte| *byte == b',').map(node).collect();
        let nodes = nodes.ok_or("must be URLs as redis://USER:PASSWORD@HOST:PORT, separated by commas")?;
        if config.kind == RedisKind::Single && nodes.len() > 1 {
            return Err("must be one URL, because captures.redis.kind is \"single\"".to_owned());
        }
        Ok(Self { nodes, config: config.clone(), has_warned: AtomicBool::new(false) })
    }

    /// How many replicas must have what is written before it counts as kept.
    pub fn replicas(&self) -> u16 {
        if self.config.kind == RedisKind::Single { 0 } else { self.config.replicas }
    }

    async fn connect(&self) -> RedisResult<Connection> {
        let settings =
            AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT)).set_response_timeout(Some(ANSWER));
        match self.config.kind {
            RedisKind::Single => {
                let client = Client::open(self.nodes[0].clone())?;
                Ok(Connection::Server(client.get_multiplexed_async_connection_with_config(&settings).await?))
            }
            RedisKind::Sentinel => {
                let (master, name) = (Some(self.like_the_first()), &self.config.sentinel_master);
                let sentinels = self.nodes.iter().map(|node| self.sentinel(node)).collect();
                let mut client = SentinelClient::build(sentinels, name, master, SentinelServerType::Master)?;
                Ok(Connection::Server(client.get_async_connection_with_config(&settings).await?))
            }
            RedisKind::Cluster => {
                let client = ClusterClientBuilder::new(self.nodes.clone())
                    .retries(CLUSTER_RETRIES)
                    .connection_timeout(CONNECT)
                    .response_timeout(ANSWER)
                    .build()?;
                Ok(Connection::Cluster(client.get_async_connection().await?))
            }
        }
    }

    /// A sentinel is reached as its URL says, without the number of a database, which it does not have.
    fn sentinel(&self, node: &ConnectionInfo) -> ConnectionInfo {
        let settings = if self.config.sentinel_authenticates {
            node.redis_settings().clone().set_db(0)
        } else {
            RedisConnectionInfo::default().set_protocol(node.redis_settings().protocol())
        };
        node.clone().set_redis_settings(settings)
    }

    /// The master is reached with the user, the password and the database of the first URL, and with TLS if that has it.
    fn like_the_first(&self) -> SentinelNodeConnectionInfo {
        let first = &self.nodes[0];
        let node = SentinelNodeConnectionInfo::default().set_redis_connection_info(first.redis_settings().clone());
        match first.addr() {
            ConnectionAddr::TcpTls { .. } => node.set_tls_mode(TlsMode::Secure),
            _ => node,
        }
    }
}

impl Link {
    /// Not connected yet, for the partition that this key belongs to.
    pub fn new(connector: Arc<Connector>, key: &str) -> Self {
        Self { connector, key: key.to_owned(), connection: None, trusted_until: None }
    }

    /// A connection to a Redis from which nothing that it confirmed is ever missing, if the settings demand that.
    ///
    /// # Errors
    /// If Redis cannot be reached, or does not write every change to disk before it answers.
    pub async fn durable(&mut self) -> Result<&mut Connection, StoreError> {
        let is_trusted = self.connection.is_some() && self.trusted_until.is_some_and(|until| Instant::now() < until);
        if self.connector.config.require_fsync && !is_trusted {
            match self.examine().await {
                Err(StoreError::Redis(error)) if !error.is_io_error() => {
                    if !self.connector.has_warned.swap(true, Ordering::Relaxed) {
                        let needed = SETTINGS.map(|(name, needed, _)| format!("{name} {needed}")).join(", ");
                        tracing::warn!(%error, needed, "redis does not show its settings: see to it that they are these");
                    }
                }
                examined => examined?,
            }
            self.trusted_until = Some(Instant::now() + TRUST);
        }
        Ok(self.get().await?)
    }

    /// Looks whether Redis is set up so that it never loses what it has confirmed.
    ///
    /// # Errors
    /// If Redis cannot be reached, does not show its settings, or is set up otherwise.
    pub async fn examine(&mut self) -> Result<(), StoreError> {
        let mut pipe = redis::pipe();
        pipe.cmd("CONFIG").arg("GET").arg("*append*").cmd("CONFIG").arg("GET").arg("maxmemory*");
        require(&self.ask(&pipe).await?)
    }

    /// Waits until so many replicas have what this connection wrote before, and `key` with this value. That a server answers which
    /// has never heard of it, after a failover, is an error too.
    ///
    /// # Errors
    /// If Redis cannot be reached, or too few replicas have it in time.
    pub async fn replicated(&mut self, key: &str, value: &str, life: Duration) -> Result<(), StoreError> {
        let needed = i64::from(self.connector.replicas());
        if needed == 0 {
            return Ok(());
        }
        let mut pipe = redis::pipe();
        // WAIT is about what its own connection wrote; this one may be newer than the write that it is meant for.
        pipe.cmd("GET").arg(key).cmd("PEXPIRE").arg(key).arg(millis(life));
        pipe.cmd("WAIT").arg(needed).arg(millis(REPLICATION));
        let (found, _, replicas): (Option<String>, i64, i64) =
            redis::from_redis_value(Value::Array(self.ask(&pipe).await?)).map_err(redis::RedisError::from)?;
        if found.as_deref() == Some(value) && replicas >= needed {
            return Ok(());
        }
        Err(StoreError::Setup(format!(
            "{replicas} replicas of redis have what was written, and {needed} must, or it would be lost with the master: see \
             job_token_auth.captures.redis.replicas"
        )))
    }

    /// Runs commands, one after another, on the server of the partition.
    async fn ask(&mut self, pipeline: &Pipeline) -> RedisResult<Vec<Value>> {
        let route = SingleNodeRoutingInfo::SpecificNode(Route::with_key(&self.key, SlotAddr::Master));
        let count = pipeline.cmd_iter().count();
        let answer = match self.get().await? {
            Connection::Server(connection) => connection.req_packed_commands(pipeline, 0, count).await,
            Connection::Cluster(connection) => connection.route_pipeline(pipeline.clone(), 0, count, route).await,
        };
        // An error in one of the values says nothing against the connection.
        self.settle(answer)?.into_iter().map(Value::extract_error).collect()
    }

    /// A connection.
    ///
    /// # Errors
    /// If Redis cannot be reached.
    pub async fn get(&mut self) -> RedisResult<&mut Connection> {
        if self.connection.is_none() {
            self.trusted_until = None;
        }
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connector.connect().await?,
        };
        Ok(self.connection.insert(connection))
    }

    /// Lets go of the connection after an error: the next one may lead to another server.
    ///
    /// # Errors
    /// That error.
    pub fn settle<T>(&mut self, answer: RedisResult<T>) -> RedisResult<T> {
        if answer.is_err() {
            self.connection = None;
        }
        answer
    }
}

fn require(answers: &[Value]) -> Result<(), StoreError> {
    let mut settings = Vec::new();
    answers.iter().for_each(|answer| collect(answer, &mut settings));
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

/// Pairs of names and values: a map in one version of the protocol, a flat list in the other.
fn collect(answer: &Value, settings: &mut Vec<(String, String)>) {
    let text = |value: &Value| redis::from_redis_value::<String>(value.clone()).unwrap_or_default();
    match answer {
        Value::Map(pairs) => settings.extend(pairs.iter().map(|(name, value)| (text(name), text(value)))),
        Value::Array(list) => settings.extend(list.chunks_exact(2).map(|pair| (text(&pair[0]), text(&pair[1])))),
        _ => {}
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl ConnectionLike for Connection {
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
