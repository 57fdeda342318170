//! Puts the parts of captures together, and takes them apart in order.

use std::{
    sync::{Arc, atomic::AtomicI64},
    time::Duration,
};

use chassis::{clock::Clock, secrets::SecretBytes};
use futures::future;
use tokio::task::JoinHandle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use super::{
    Captures, Inner,
    database::DatabaseStore,
    flusher::Flusher,
    gaps::Watch,
    log::Log,
    maintenance::{Ages, Deadlines, Numbers, Pending},
    metrics::{self, Place, Waiting},
    queue::Queues,
    redis::{
        Keys,
        batch::RedisStore,
        connection::{Connector, Link},
        stream::Stream,
    },
    spool::Spool,
    store::{Store, StoreError},
    writer::Writer,
};
use proto::timestamp::millis;

use crate::{
    config::{self, CaptureStoreKind},
    error::{Error, Result},
    store::gaps,
};

/// For how long a loss is shown.
const LATELY: Duration = Duration::from_secs(30 * 24 * 3600);

/// The store of each partition, what moves records from there into the log, and what is to be looked after.
struct Parts {
    stores: Vec<Store>,
    pending: Vec<Pending>,
    flushers: Vec<Flusher>,
    numbers: Vec<Numbers>,
}

/// How the tasks end: first no more steps come, then there is no more time.
struct Ends {
    closing: CancellationToken,
    abort: CancellationToken,
}

/// See [`Captures::start`].
pub async fn start(
    config: &config::Captures,
    redis_url: Option<&SecretBytes>,
    log: Log,
    clock: Clock,
    stopped: CancellationToken,
) -> Result<Captures> {
    metrics::describe();
    metrics::lost_before(gaps::lost_since(log.database(), millis(clock.now() - LATELY)).await?);
    let Parts { stores, pending, flushers, numbers } = match config.store {
        CaptureStoreKind::Database => in_database(&log),
        CaptureStoreKind::Redis => in_redis(config, redis_url, &log, &clock).await?,
    };
    let timeout = Duration::from_millis(config.timeout_ms);
    let used = stores.len().min(config.redis.partitions.into());
    let (queues, receivers) = Queues::new(stores.len(), used, config.queue_length, timeout);
    let mut waiting: Vec<_> =
        (0..).map(|partition| (Place::Queue, partition, Waiting::default())).take(stores.len()).collect();
    let (spool, shipper) = Spool::start(config).map_err(Error::internal)?;

    let tasks = TaskTracker::new();
    let ends = Ends { closing: CancellationToken::new(), abort: CancellationToken::new() };
    let writers = (0..).zip(receivers).zip(stores).zip(&waiting).map(|(((partition, queue), store), (.., waiting))| {
        let (closing, abort) = (ends.closing.clone(), ends.abort.clone());
        let (waiting, clock) = (waiting.clone(), clock.clone());
        tasks.spawn(Writer { queue, store, partition, closing, abort, waiting, clock }.run())
    });
    let writers: Vec<_> = writers.collect();
    waiting.push((Place::Spool, 0, shipper.waiting()));
    tasks.spawn(
        Ages { waiting, clock: clock.clone() }
            .run(Duration::from_millis(config.maintenance_interval_ms), stopped.clone()),
    );
    for flusher in flushers {
        tasks.spawn(flusher.run(stopped.clone()));
    }
    let interval = Duration::from_millis(config.maintenance_interval_ms);
    for pending in pending {
        let deadlines = Deadlines { pending, queues: queues.clone(), clock: clock.clone() };
        tasks.spawn(deadlines.run(interval, stopped.clone()));
    }
    for numbers in numbers {
        // They note what the writers were acknowledged last.
        tasks.spawn(numbers.run(interval, ends.abort.clone()));
    }
    let shipper = tasks.spawn(shipper.run(queues.clone(), ends.abort.clone()));
    tasks.spawn(stop(stopped, spool.clone(), shipper, writers, ends, timeout));
    tasks.close();

    let patience = Duration::from_secs(config.deadline_seconds.into());
    Ok(Captures(Arc::new(Inner { queues, spool, patience, clock, tasks })))
}

/// What is in the spool goes through the writers, so they end last. Neither gets more time than a request would have.
async fn stop(
    stopped: CancellationToken,
    spool: Spool,
    shipper: JoinHandle<()>,
    writers: Vec<JoinHandle<()>>,
    ends: Ends,
    timeout: Duration,
) {
    stopped.cancelled().await;
    spool.close();
    let _ = tokio::time::timeout(timeout, shipper).await;
    ends.closing.cancel();
    let _ = tokio::time::timeout(timeout, future::join_all(writers)).await;
    ends.abort.cancel();
}

fn in_database(log: &Log) -> Parts {
    let database = log.database();
    let store = Store::Database(DatabaseStore { database: database.clone() });
    let pending = vec![Pending::Database(database.clone())];
    Parts { stores: vec![store], pending, flushers: Vec::new(), numbers: Vec::new() }
}

async fn in_redis(config: &config::Captures, url: Option<&SecretBytes>, log: &Log, clock: &Clock) -> Result<Parts> {
    let url =
        url.ok_or_else(|| Error::internal("captures are kept in redis, but its URL is missing in the secrets"))?;
    let connector =
        Connector::new(&config.redis, url).map_err(|problem| Error::internal(format!("the URL of redis {problem}")))?;
    let connector = Arc::new(connector);
    greet(&connector, &Keys::new(&config.redis.key_prefix, 0)).await?;

    let producer = Uuid::new_v4().to_string();
    let now = millis(clock.now());
    let partitions = gaps::use_partitions(log.database(), config.redis.partitions, &producer, now).await?;
    let mut parts = Parts { stores: Vec::new(), pending: Vec::new(), flushers: Vec::new(), numbers: Vec::new() };
    for partition in 0..partitions {
        let keys = Keys::new(&config.redis.key_prefix, partition);
        let link = || Link::new(Arc::clone(&connector), &keys.stream);
        let acknowledged = Arc::new(AtomicI64::new(0));
        let store = RedisStore::new(link(), keys.clone(), producer.clone(), Arc::clone(&acknowledged));
        let stream = || Stream::new(link(), keys.clone(), producer.clone());
        parts.stores.push(Store::Redis(Box::new(store)));
        parts.pending.push(Pending::Redis { partition, stream: Box::new(stream()), oldest: None });
        parts.flushers.push(Flusher::new(stream(), log.clone(), partition));
        parts.numbers.push(Numbers {
            partition,
            stream: stream(),
            producer: producer.clone(),
            acknowledged,
            noted: 0,
            watch: Watch::default(),
            log: log.clone(),
            clock: clock.clone(),
        });
    }
    Ok(parts)
}

/// A Redis that is set up wrongly stops the start. One that does not answer does not: it may be back before the first capture,
/// and the spool works without it.
async fn greet(connector: &Arc<Connector>, keys: &Keys) -> Result<()> {
    match Link::new(Arc::clone(connector), &keys.stream).durable().await {
        Ok(_) => Ok(()),
        Err(StoreError::Redis(error)) if !is_refusal(&error) => {
            tracing::warn!(%error, "redis does not answer; captures wait until it does");
            Ok(())
        }
        Err(error) => Err(Error::internal(error)),
    }
}

/// Whether Redis answers, and refuses who asks.
pub fn is_refusal(error: &redis::RedisError) -> bool {
    error.kind() == redis::ErrorKind::AuthenticationFailed || matches!(error.code(), Some("NOAUTH" | "WRONGPASS"))
}
