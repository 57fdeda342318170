//! Builds the parts of captures, starts their tasks, and stops them in order.

use std::{
    sync::{Arc, atomic::AtomicI64},
    time::Duration,
};

use chassis::{clock::Clock, secrets::SecretBytes};
use futures::future;
use proto::timestamp::millis;
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    database::DatabaseStore,
    failure::StoreError,
    flusher::Flusher,
    gap_watch::GapWatch,
    log::{LogDatabase, gaps},
    maintenance::{AgeReporter, LossDetector, OverdueSweeper, PendingCaptures},
    metrics::{self, Buffer, WaitingSince},
    queue::StepQueues,
    redis::{
        batch::RedisStore,
        connection::{Connector, PartitionConnection, is_refusal},
        keys::PartitionKeys,
        stream::RecordStream,
    },
    spool::Spool,
    step::QueuedStep,
    store::Store,
    supervisor::Supervisor,
    writer::Writer,
};
use crate::{
    config::{CaptureConfig, CaptureStoreKind, RedisConfig},
    error::{Error, Result},
};

/// For how long a loss is shown in the metrics.
const LOSS_SHOWN_FOR: Duration = Duration::from_secs(30 * 24 * 3600);

/// What callers need of the running captures.
pub struct Started {
    /// The way to the store.
    pub queues: StepQueues,
    /// The way into the spool.
    pub spool: Spool,
    /// The tasks.
    pub supervisor: Supervisor,
}

/// What depends on the kind of store: a store for each partition, and the tasks that look after it.
#[derive(Default)]
struct Parts {
    stores: Vec<Store>,
    pending: Vec<PendingCaptures>,
    flushers: Vec<Flusher>,
    loss_detectors: Vec<LossDetector>,
}

/// How writing ends: first no more steps come, then there is no more time.
#[derive(Clone)]
struct WriteEnd {
    closing: CancellationToken,
    abort: CancellationToken,
}

/// See [`super::Captures::start`].
pub async fn start(
    config: &CaptureConfig,
    redis_url: Option<&SecretBytes>,
    log: LogDatabase,
    clock: Clock,
    stopped: CancellationToken,
) -> Result<Started> {
    metrics::describe();
    let shown_since = millis(clock.now() - LOSS_SHOWN_FOR);
    metrics::set_lost_before(gaps::lost_since(log.database(), shown_since).await?);
    let parts = match config.store {
        CaptureStoreKind::Database => parts_in_database(&log),
        CaptureStoreKind::Redis => parts_in_redis(&config.redis, redis_url, &log, &clock).await?,
    };
    let timeout = Duration::from_millis(config.timeout_ms);
    let interval = Duration::from_millis(config.maintenance_interval_ms);
    let count = parts.stores.len();
    let used = count.min(config.redis.partitions.into());
    let (queues, receivers) = StepQueues::new(count, used, config.queue_length, timeout);

    let supervisor = Supervisor::new(stopped.clone());
    let end = WriteEnd { closing: CancellationToken::new(), abort: CancellationToken::new() };
    let (spool, shipper, appender) = Spool::new(config);
    supervisor.spawn_thread("spool", move || appender.run()).map_err(Error::internal)?;
    let mut waiting = vec![(Buffer::Spool, 0, shipper.waiting())];
    let writers = start_writers(&supervisor, receivers, parts.stores, &end, &clock, &mut waiting);
    let ages = AgeReporter { waiting, clock: clock.clone() };
    supervisor.spawn("ages", ages.run(interval, stopped.clone()));
    for (partition, flusher) in parts.flushers.into_iter().enumerate() {
        supervisor.spawn(format!("flusher of partition {partition}"), flusher.run(stopped.clone()));
    }
    for (partition, pending) in parts.pending.into_iter().enumerate() {
        let sweeper = OverdueSweeper { pending, queues: queues.clone(), clock: clock.clone() };
        supervisor.spawn(format!("sweeper of partition {partition}"), sweeper.run(interval, stopped.clone()));
    }
    for detector in parts.loss_detectors {
        // It ends after the writers, so that it saves the last number that they were acknowledged.
        let task = format!("loss detector of partition {}", detector.partition);
        supervisor.spawn(task, detector.run(interval, end.abort.clone()));
    }
    let shipper = supervisor.spawn("shipper", shipper.run(queues.clone(), end.abort.clone()));
    supervisor.spawn("shutdown", stop_writing_tasks(stopped, spool.clone(), shipper, writers, end, timeout));
    Ok(Started { queues, spool, supervisor })
}

/// Starts the writer of each partition, and adds their queues to `waiting`.
fn start_writers(
    supervisor: &Supervisor,
    receivers: Vec<mpsc::Receiver<QueuedStep>>,
    stores: Vec<Store>,
    end: &WriteEnd,
    clock: &Clock,
    waiting: &mut Vec<(Buffer, u16, WaitingSince)>,
) -> Vec<JoinHandle<()>> {
    let mut writers = Vec::with_capacity(stores.len());
    for (partition, (queue, store)) in (0..).zip(receivers.into_iter().zip(stores)) {
        let since = WaitingSince::default();
        waiting.push((Buffer::Queue, partition, since.clone()));
        let writer = Writer {
            queue,
            store,
            partition,
            closing: end.closing.clone(),
            abort: end.abort.clone(),
            waiting: since,
            clock: clock.clone(),
        };
        writers.push(supervisor.spawn(format!("writer of partition {partition}"), writer.run()));
    }
    writers
}

/// Stops the tasks that write. The records in the spool go through the writers, so the writers end last. Both get as much time as
/// a request.
async fn stop_writing_tasks(
    stopped: CancellationToken,
    spool: Spool,
    shipper: JoinHandle<()>,
    writers: Vec<JoinHandle<()>>,
    end: WriteEnd,
    timeout: Duration,
) {
    // Whatever happens here, the other tasks must end.
    let _abort = end.abort.drop_guard();
    stopped.cancelled().await;
    spool.close();
    let _ = tokio::time::timeout(timeout, shipper).await;
    end.closing.cancel();
    let _ = tokio::time::timeout(timeout, future::join_all(writers)).await;
}

fn parts_in_database(log: &LogDatabase) -> Parts {
    let database = log.database();
    Parts {
        stores: vec![Store::Database(DatabaseStore { database: database.clone() })],
        pending: vec![PendingCaptures::Database(database.clone())],
        ..Parts::default()
    }
}

/// A partition in Redis, of which each task opens its own connection.
struct RedisPartition<'a> {
    connector: &'a Arc<Connector>,
    keys: PartitionKeys,
    producer: &'a str,
}

impl RedisPartition<'_> {
    fn new_connection(&self) -> PartitionConnection {
        PartitionConnection::new(Arc::clone(self.connector), &self.keys.stream)
    }

    fn new_stream(&self) -> RecordStream {
        RecordStream::new(self.new_connection(), self.keys.clone(), self.producer.to_owned())
    }

    fn new_store(&self, acknowledged: &Arc<AtomicI64>) -> RedisStore {
        let acknowledged = Arc::clone(acknowledged);
        RedisStore::new(self.new_connection(), self.keys.clone(), self.producer.to_owned(), acknowledged)
    }
}

async fn parts_in_redis(
    config: &RedisConfig,
    url: Option<&SecretBytes>,
    log: &LogDatabase,
    clock: &Clock,
) -> Result<Parts> {
    let url =
        url.ok_or_else(|| Error::internal("captures are kept in redis, but its URL is missing in the secrets"))?;
    let connector =
        Connector::new(config, url).map_err(|problem| Error::internal(format!("the URL of redis {problem}")))?;
    let connector = Arc::new(connector);
    check_redis(&connector, &PartitionKeys::new(&config.key_prefix, 0)).await?;

    let producer = Uuid::new_v4().to_string();
    let now = millis(clock.now());
    let partitions = gaps::save_partition_count(log.database(), config.partitions, &producer, now).await?;
    let mut parts = Parts::default();
    for number in 0..partitions {
        let keys = PartitionKeys::new(&config.key_prefix, number);
        let partition = RedisPartition { connector: &connector, keys, producer: &producer };
        let acknowledged = Arc::new(AtomicI64::new(0));
        let stream = Box::new(partition.new_stream());
        parts.stores.push(Store::Redis(Box::new(partition.new_store(&acknowledged))));
        parts.pending.push(PendingCaptures::Redis { partition: number, stream, oldest: None });
        parts.flushers.push(Flusher::new(partition.new_stream(), log.clone(), number));
        parts.loss_detectors.push(LossDetector {
            partition: number,
            stream: partition.new_stream(),
            producer: producer.clone(),
            acknowledged,
            saved: 0,
            watch: GapWatch::default(),
            log: log.clone(),
            clock: clock.clone(),
        });
    }
    Ok(parts)
}

/// Checks Redis at the start. Wrong settings are an error. A Redis that does not answer is not: it may be back before the first
/// capture, and the spool works without it.
async fn check_redis(connector: &Arc<Connector>, keys: &PartitionKeys) -> Result<()> {
    match PartitionConnection::new(Arc::clone(connector), &keys.stream).open_durable().await {
        Ok(_) => Ok(()),
        Err(StoreError::Redis(error)) if !is_refusal(&error) => {
            tracing::warn!(%error, "redis does not answer; captures wait until it does");
            Ok(())
        }
        Err(error) => Err(Error::internal(error)),
    }
}
