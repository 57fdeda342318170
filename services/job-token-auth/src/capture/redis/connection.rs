//! Connections to Redis in its three forms, and what is asked of it before it is trusted.

use std::{sync::Arc, time::Duration};

use chassis::secrets::SecretBytes;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, Pipeline, RedisFuture,
    RedisResult, TlsMode, Value,
    aio::{ConnectionLike, MultiplexedConnection},
    cluster::ClusterClientBuilder,
    cluster_async::ClusterConnection,
    cluster_routing::{MultipleNodeRoutingInfo, RoutingInfo},
    sentinel::{SentinelClient, SentinelNodeConnectionInfo, SentinelServerType},
};

use crate::{
    capture::store::StoreError,
    config::{Redis, RedisKind},
};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(2);

/// How long an answer may take; longer than any command that waits for entries.
const ANSWER: Duration = Duration::from_secs(5);

/// How often a command to a cluster follows its slot before the connection counts as broken.
const CLUSTER_RETRIES: u32 = 3;

/// Knows how to reach Redis.
pub struct Connector {
    nodes: Vec<ConnectionInfo>,
    config: Redis,
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
    connection: Option<Connection>,
    /// Whether this one writes to disk as the settings demand.
    is_durable: bool,
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
        Ok(Self { nodes, config: config.clone() })
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
                let master = Some(self.like_the_first());
                let (nodes, name) = (self.nodes.clone(), &self.config.sentinel_master);
                let mut client = SentinelClient::build(nodes, name, master, SentinelServerType::Master)?;
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

    /// The master is reached as the sentinels are: with the same user and password, and with TLS if they have it.
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
    /// Not connected yet.
    pub fn new(connector: Arc<Connector>) -> Self {
        Self { connector, connection: None, is_durable: false }
    }

    /// A connection to a Redis from which nothing that it took is ever missing, if the settings demand that.
    ///
    /// # Errors
    /// If Redis cannot be reached, or does not write every change to disk before it answers.
    pub async fn durable(&mut self) -> Result<&mut Connection, StoreError> {
        let must_be = self.connector.config.require_fsync;
        if must_be && !(self.is_durable && self.connection.is_some()) {
            let answer = self.get().await?.settings("append*").await;
            if let Err(error) = &answer
                && !error.is_io_error()
            {
                tracing::warn!(%error, "redis does not show its settings: see to it that appendfsync is always");
            } else {
                require_fsync(&self.settle(answer)?)?;
            }
            self.is_durable = true;
        }
        Ok(self.get().await?)
    }

    /// A connection.
    ///
    /// # Errors
    /// If Redis cannot be reached.
    pub async fn get(&mut self) -> RedisResult<&mut Connection> {
        if self.connection.is_none() {
            self.is_durable = false;
        }
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connector.connect().await?,
        };
        Ok(self.connection.insert(connection))
    }

    /// What every server does when its memory is full.
    ///
    /// # Errors
    /// If Redis cannot be reached, or does not show its settings.
    pub async fn eviction_policies(&mut self) -> RedisResult<Vec<String>> {
        let answer = self.get().await?.settings("maxmemory-policy").await;
        let mut settings = Vec::new();
        collect(&self.settle(answer)?, &mut settings);
        Ok(settings.into_iter().map(|(_, policy)| policy).collect())
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

impl Connection {
    /// The settings with such names, of every server that takes writes.
    async fn settings(&mut self, names: &str) -> RedisResult<Value> {
        let mut cmd = redis::cmd("CONFIG");
        cmd.arg("GET").arg(names);
        match self {
            Self::Server(connection) => cmd.query_async(connection).await,
            Self::Cluster(connection) => {
                let masters = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
                connection.route_command(cmd, masters).await
            }
        }
    }
}

fn require_fsync(answer: &Value) -> Result<(), StoreError> {
    let mut settings = Vec::new();
    collect(answer, &mut settings);
    for (name, needed) in [("appendonly", "yes"), ("appendfsync", "always")] {
        let found: Vec<_> = settings.iter().filter(|(setting, _)| setting == name).map(|(_, value)| value).collect();
        if found.is_empty() || found.iter().any(|value| *value != needed) {
            let found = found.first().map_or("unknown", |value| value.as_str());
            return Err(StoreError::Setup(format!(
                "redis has {name} {found}, with which it can lose captures that it has confirmed: set {name} {needed} in \
                 redis.conf, or, if that is acceptable, job_token_auth.captures.redis.require_fsync = false"
            )));
        }
    }
    Ok(())
}

/// Pairs of names and values, wherever they are: a cluster answers with those of every server.
fn collect(value: &Value, settings: &mut Vec<(String, String)>) {
    let text = |value: &Value| redis::from_redis_value::<String>(value.clone()).ok();
    match value {
        Value::Map(pairs) => {
            for (name, value) in pairs {
                match (text(name), text(value)) {
                    (Some(name), Some(value)) => settings.push((name, value)),
                    _ => collect(value, settings),
                }
            }
        }
        Value::Array(values) => {
            let texts: Vec<_> = values.iter().filter_map(text).collect();
            settings.extend(texts.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())));
            values.iter().for_each(|value| collect(value, settings));
        }
        _ => {}
    }
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
