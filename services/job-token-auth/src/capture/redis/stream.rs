//! The stream of a partition: records on their way to the log.

use std::time::Duration;

use prost::{DecodeError, Message as _};
use proto::paddock::job_token::v1::{Capture, FlushRequest};
use redis::{
    RedisResult, Value,
    streams::{StreamAutoClaimReply, StreamId, StreamRangeReply, StreamReadReply},
};

use super::{Keys, connection::Link};
use crate::{
    capture::op,
    store::log_writer::{Number, Record},
};

/// The consumer group; every process that writes the log is a consumer of it.
const GROUP: &str = "log";

/// How many records are written to the log at once.
const COUNT: usize = 1000;

/// How long a read waits for records.
const BLOCK: Duration = Duration::from_millis(500);

/// After which time without an acknowledgement another process takes a record over. Writing one twice does no harm.
const TAKE_OVER: Duration = Duration::from_secs(5);

/// The code of the error that a group which does not exist brings.
const NO_GROUP: &str = "NOGROUP";

/// The stream, as one task holds it.
pub struct Stream {
    link: Link,
    keys: Keys,
    consumer: String,
}

/// An entry of the stream.
#[derive(Debug)]
pub struct Entry {
    /// Its id in the stream.
    pub id: String,
    /// The place among the records of its producer; none if it cannot be read.
    pub number: Option<Number>,
    /// The record; or, if it cannot be read, why.
    pub record: Result<Record, String>,
    /// The fields as they are.
    fields: Vec<(String, Vec<u8>)>,
}

impl Stream {
    /// The stream with these keys.
    pub fn new(link: Link, keys: Keys, consumer: String) -> Self {
        Self { link, keys, consumer }
    }

    /// Waits a while for records that nobody has taken yet.
    ///
    /// # Errors
    /// Those of Redis.
    pub async fn read(&mut self) -> RedisResult<Vec<Entry>> {
        let mut cmd = redis::cmd("XREADGROUP");
        cmd.arg("GROUP").arg(GROUP).arg(&self.consumer).arg("COUNT").arg(COUNT).arg("BLOCK").arg(millis(BLOCK));
        cmd.arg("STREAMS").arg(&self.keys.stream).arg(">");
        let reply: Option<StreamReadReply> = self.query(&cmd).await?;
        let keys = reply.map(|reply| reply.keys).unwrap_or_default();
        Ok(keys.into_iter().flat_map(|key| key.ids).map(Entry::from).collect())
    }

    /// Takes over records that somebody has taken and not acknowledged.
    ///
    /// # Errors
    /// Those of Redis.
    pub async fn take_over(&mut self) -> RedisResult<Vec<Entry>> {
        let mut cmd = redis::cmd("XAUTOCLAIM");
        cmd.arg(&self.keys.stream).arg(GROUP).arg(&self.consumer).arg(millis(TAKE_OVER)).arg("0-0");
        cmd.arg("COUNT").arg(COUNT);
        let reply: StreamAutoClaimReply = self.query(&cmd).await?;
        Ok(reply.claimed.into_iter().map(Entry::from).collect())
    }

    /// Removes records that are in the log; one that cannot be read is set aside at the same time.
    ///
    /// # Errors
    /// Those of Redis.
    pub async fn acknowledge(&mut self, entries: &[Entry]) -> RedisResult<()> {
        let ids: Vec<_> = entries.iter().map(|entry| entry.id.as_str()).collect();
        let mut pipe = redis::pipe();
        pipe.atomic();
        for entry in entries.iter().filter(|entry| entry.record.is_err()) {
            let cmd = pipe.cmd("XADD").arg(&self.keys.unreadable).arg("*").arg("entry").arg(&entry.id);
            for (name, value) in &entry.fields {
                cmd.arg(name).arg(value.as_slice());
            }
            cmd.ignore();
        }
        pipe.cmd("XACK").arg(&self.keys.stream).arg(GROUP).arg(&ids).ignore();
        pipe.cmd("XDEL").arg(&self.keys.stream).arg(&ids).ignore();
        let answer = pipe.query_async::<()>(self.link.get().await?).await;
        self.link.settle(answer)
    }

    /// The id of the newest record that is not in the log yet.
    ///
    /// # Errors
    /// Those of Redis.
    pub async fn newest(&mut self) -> RedisResult<Option<EntryId>> {
        self.end("XREVRANGE", "+", "-").await
    }

    /// The id of the oldest record that is not in the log yet.
    ///
    /// # Errors
    /// Those of Redis.
    pub async fn oldest(&mut self) -> RedisResult<Option<EntryId>> {
        self.end("XRANGE", "-", "+").await
    }

    /// Captures that have been pending for too long, the oldest first.
    ///
    /// # Errors
    /// Those of Redis.
    pub async fn overdue(&mut self, now: i64, limit: u64) -> RedisResult<Vec<String>> {
        let mut cmd = redis::cmd("ZRANGEBYSCORE");
        cmd.arg(&self.keys.deadlines).arg("-inf").arg(now).arg("LIMIT").arg(0).arg(limit);
        self.query(&cmd).await
    }

    async fn end(&mut self, command: &str, from: &str, to: &str) -> RedisResult<Option<EntryId>> {
        let mut cmd = redis::cmd(command);
        cmd.arg(&self.keys.stream).arg(from).arg(to).arg("COUNT").arg(1);
        let reply: StreamRangeReply = self.query(&cmd).await?;
        Ok(reply.ids.first().and_then(|entry| EntryId::parse(&entry.id)))
    }

    /// Runs a command. The group is made when it is missing: at the first start, and after Redis has lost everything.
    async fn query<T: redis::FromRedisValue>(&mut self, cmd: &redis::Cmd) -> RedisResult<T> {
        let answer = cmd.query_async(self.link.get().await?).await;
        match answer {
            Err(error) if error.code() == Some(NO_GROUP) => {
                self.make_group().await?;
                let answer = cmd.query_async(self.link.get().await?).await;
                self.link.settle(answer)
            }
            answer => self.link.settle(answer),
        }
    }

    async fn make_group(&mut self) -> RedisResult<()> {
        let mut cmd = redis::cmd("XGROUP");
        cmd.arg("CREATE").arg(&self.keys.stream).arg(GROUP).arg("0").arg("MKSTREAM");
        let answer: RedisResult<()> = cmd.query_async(self.link.get().await?).await;
        match answer {
            // Another process was first.
            Err(error) if error.code() == Some("BUSYGROUP") => Ok(()),
            answer => self.link.settle(answer),
        }
    }
}

/// The id of an entry: the time of the server in milliseconds, and a count within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EntryId {
    /// Milliseconds since the Unix epoch.
    pub millis: i64,
    count: u64,
}

impl EntryId {
    fn parse(id: &str) -> Option<Self> {
        let (millis, count) = id.split_once('-')?;
        Some(Self { millis: millis.parse().ok()?, count: count.parse().ok()? })
    }
}

impl From<StreamId> for Entry {
    fn from(entry: StreamId) -> Self {
        let bytes = |value: Value| redis::from_redis_value::<Vec<u8>>(value).unwrap_or_default();
        let fields: Vec<_> = entry.map.into_iter().map(|(name, value)| (name, bytes(value))).collect();
        let (number, record) = (number(&fields), record(&fields));
        Self { id: entry.id, number, record, fields }
    }
}

fn field<'a>(fields: &'a [(String, Vec<u8>)], name: &str) -> Option<&'a [u8]> {
    fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_slice())
}

fn number(fields: &[(String, Vec<u8>)]) -> Option<Number> {
    let text = |name| field(fields, name).and_then(|bytes| std::str::from_utf8(bytes).ok());
    let producer = text("p").filter(|producer| op::is_id(producer))?.to_owned();
    let number = text("n")?.parse().ok().filter(|number| *number > 0)?;
    Some(Number { producer, number })
}

fn record(fields: &[(String, Vec<u8>)]) -> Result<Record, String> {
    let data = field(fields, "d").ok_or("it has no data")?;
    let text = |error: DecodeError| error.to_string();
    let record = match field(fields, "k") {
        Some(b"access") => FlushRequest::decode(data).map(Record::Access).map_err(text)?,
        Some(b"unresolved") => Capture::decode(data).map(Record::Unresolved).map_err(text)?,
        _ => return Err("it is of no known kind".to_owned()),
    };
    let capture = match &record {
        Record::Access(flush) => flush.capture.as_ref(),
        Record::Unresolved(capture) => Some(capture),
    };
    let has_id = capture.is_some_and(|capture| op::is_id(&capture.id));
    if has_id { Ok(record) } else { Err("its capture has no id".to_owned()) }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
