//! The stream of a partition: records on their way to the log.

use std::time::Duration;

use prost::Message as _;
use proto::paddock::job_token::v1::{Capture, FlushRequest};
use redis::{
    RedisResult,
    streams::{StreamAutoClaimReply, StreamId, StreamRangeReply, StreamReadReply},
};

use super::{
    connection::{PartitionConnection, whole_millis},
    keys::PartitionKeys,
};
use crate::capture::{
    log::{Record, RecordNumber},
    step,
};

/// The consumer group; every process that writes the log is a consumer of it.
const GROUP: &str = "log";

/// Maximum number of records that are read at once.
const READ_COUNT: usize = 1000;

/// How long a read waits for records.
const READ_TIMEOUT: Duration = Duration::from_millis(500);

/// After this time without an acknowledgement another process takes a record over. Writing a record twice does no harm.
const TAKE_OVER_AFTER: Duration = Duration::from_secs(5);

/// The error code of a group that does not exist.
const NO_GROUP: &str = "NOGROUP";

/// The stream, as one task holds it.
pub struct RecordStream {
    connection: PartitionConnection,
    keys: PartitionKeys,
    consumer: String,
}

/// An entry of the stream.
#[derive(Debug)]
pub struct StreamEntry {
    /// Its id in the stream.
    pub id: String,
    /// The number that its producer gave the record; none if it cannot be read.
    pub number: Option<RecordNumber>,
    /// The record; or, if it cannot be read, why.
    pub record: Result<Record, String>,
    /// The fields as they are.
    fields: Vec<(String, Vec<u8>)>,
}

impl RecordStream {
    /// Makes the stream with these keys.
    pub fn new(connection: PartitionConnection, keys: PartitionKeys, consumer: String) -> Self {
        Self { connection, keys, consumer }
    }

    /// Reads records that no process has read yet. Waits a moment if there are none.
    ///
    /// # Errors
    /// Errors of Redis.
    pub async fn read(&mut self) -> RedisResult<Vec<StreamEntry>> {
        let mut cmd = redis::cmd("XREADGROUP");
        cmd.arg("GROUP")
            .arg(GROUP)
            .arg(&self.consumer)
            .arg("COUNT")
            .arg(READ_COUNT)
            .arg("BLOCK")
            .arg(whole_millis(READ_TIMEOUT));
        cmd.arg("STREAMS").arg(&self.keys.stream).arg(">");
        let reply: Option<StreamReadReply> = self.run_command(&cmd).await?;
        let keys = reply.map(|reply| reply.keys).unwrap_or_default();
        Ok(keys.into_iter().flat_map(|key| key.ids).map(StreamEntry::from).collect())
    }

    /// Takes over records that a process has read and not acknowledged.
    ///
    /// # Errors
    /// Errors of Redis.
    pub async fn take_over(&mut self) -> RedisResult<Vec<StreamEntry>> {
        let mut cmd = redis::cmd("XAUTOCLAIM");
        cmd.arg(&self.keys.stream).arg(GROUP).arg(&self.consumer).arg(whole_millis(TAKE_OVER_AFTER)).arg("0-0");
        cmd.arg("COUNT").arg(READ_COUNT);
        let reply: StreamAutoClaimReply = self.run_command(&cmd).await?;
        Ok(reply.claimed.into_iter().map(StreamEntry::from).collect())
    }

    /// Removes records that are in the log. Those that cannot be read are moved to the stream `unreadable`.
    ///
    /// # Errors
    /// Errors of Redis.
    pub async fn acknowledge(&mut self, entries: &[StreamEntry]) -> RedisResult<()> {
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
        let answer = pipe.query_async::<()>(self.connection.open().await?).await;
        self.connection.close_on_error(answer)
    }

    /// Returns the id of the newest record that is not in the log yet.
    ///
    /// # Errors
    /// Errors of Redis.
    pub async fn newest(&mut self) -> RedisResult<Option<EntryId>> {
        self.first_id("XREVRANGE", "+", "-").await
    }

    /// Returns the id of the oldest record that is not in the log yet.
    ///
    /// # Errors
    /// Errors of Redis.
    pub async fn oldest(&mut self) -> RedisResult<Option<EntryId>> {
        self.first_id("XRANGE", "-", "+").await
    }

    /// Finds the ids of captures whose deadline has passed, the oldest first. `now` is in milliseconds since the Unix epoch.
    ///
    /// # Errors
    /// Errors of Redis.
    pub async fn overdue(&mut self, now: i64, limit: u64) -> RedisResult<Vec<String>> {
        let mut cmd = redis::cmd("ZRANGEBYSCORE");
        cmd.arg(&self.keys.deadlines).arg("-inf").arg(now).arg("LIMIT").arg(0).arg(limit);
        self.run_command(&cmd).await
    }

    async fn first_id(&mut self, command: &str, from: &str, to: &str) -> RedisResult<Option<EntryId>> {
        let mut cmd = redis::cmd(command);
        cmd.arg(&self.keys.stream).arg(from).arg(to).arg("COUNT").arg(1);
        let reply: StreamRangeReply = self.run_command(&cmd).await?;
        Ok(reply.ids.first().and_then(|entry| EntryId::parse(&entry.id)))
    }

    /// Runs a command. Makes the group if it is missing: at the first start, and after Redis has lost everything.
    async fn run_command<T: redis::FromRedisValue>(&mut self, cmd: &redis::Cmd) -> RedisResult<T> {
        let answer = cmd.query_async(self.connection.open().await?).await;
        match answer {
            Err(error) if error.code() == Some(NO_GROUP) => {
                self.make_group().await?;
                let answer = cmd.query_async(self.connection.open().await?).await;
                self.connection.close_on_error(answer)
            }
            answer => self.connection.close_on_error(answer),
        }
    }

    async fn make_group(&mut self) -> RedisResult<()> {
        let mut cmd = redis::cmd("XGROUP");
        cmd.arg("CREATE").arg(&self.keys.stream).arg(GROUP).arg("0").arg("MKSTREAM");
        let answer: RedisResult<()> = cmd.query_async(self.connection.open().await?).await;
        match answer {
            // Another process was first.
            Err(error) if error.code() == Some("BUSYGROUP") => Ok(()),
            answer => self.connection.close_on_error(answer),
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

impl From<StreamId> for StreamEntry {
    fn from(entry: StreamId) -> Self {
        let mut fields = Vec::with_capacity(entry.map.len());
        for (name, value) in entry.map {
            fields.push((name, redis::from_redis_value::<Vec<u8>>(value).unwrap_or_default()));
        }
        Self { id: entry.id, number: decode_number(&fields), record: decode_record(&fields), fields }
    }
}

fn field_bytes<'a>(fields: &'a [(String, Vec<u8>)], name: &str) -> Option<&'a [u8]> {
    fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_slice())
}

fn text_field<'a>(fields: &'a [(String, Vec<u8>)], name: &str) -> Option<&'a str> {
    std::str::from_utf8(field_bytes(fields, name)?).ok()
}

/// Returns the number of a record; none if the producer or the number is missing or malformed.
fn decode_number(fields: &[(String, Vec<u8>)]) -> Option<RecordNumber> {
    let producer = text_field(fields, "p")?;
    let number = text_field(fields, "n")?.parse().ok()?;
    if !step::is_capture_id(producer) || number < 1 {
        return None;
    }
    Some(RecordNumber { producer: producer.to_owned(), number })
}

fn decode_record(fields: &[(String, Vec<u8>)]) -> Result<Record, String> {
    let data = field_bytes(fields, "d").ok_or("it has no data")?;
    let decoded = match field_bytes(fields, "k") {
        Some(b"access") => FlushRequest::decode(data).map(Record::Access),
        Some(b"unresolved") => Capture::decode(data).map(Record::Unresolved),
        _ => return Err("it is of no known kind".to_owned()),
    };
    let record = decoded.map_err(|error| error.to_string())?;
    if record.capture().is_some_and(|capture| step::is_capture_id(&capture.id)) {
        Ok(record)
    } else {
        Err("its capture has no id".to_owned())
    }
}
