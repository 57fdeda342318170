//! Captures in Redis: the pending ones in a hash, with their deadlines in a sorted set, and the records on their way to the
//! log in a stream. Each partition has its own keys, in one slot of a cluster.

pub mod batch;
pub mod connection;
pub mod inspection;
pub mod stream;

/// The keys of a partition.
#[derive(Clone, Debug)]
pub struct Keys {
    /// Hash: id to encoded capture.
    pub pending: String,
    /// Sorted set: ids by deadline.
    pub deadlines: String,
    /// Stream: records on their way to the log.
    pub stream: String,
    /// Stream: records that cannot be read.
    pub unreadable: String,
    /// What the key of every producer's mark begins with.
    producers: String,
}

impl Keys {
    /// The keys of a partition; what stands in braces decides on the slot.
    pub fn new(prefix: &str, partition: u16) -> Self {
        let key = |name: &str| format!("{{{prefix}:{partition}}}:{name}");
        Self {
            pending: key("pending"),
            deadlines: key("deadlines"),
            stream: key("stream"),
            unreadable: key("unreadable"),
            producers: key("producer"),
        }
    }

    /// String: the number of the last batch of a producer, and of its last record.
    pub fn producer(&self, producer: &str) -> String {
        format!("{}:{producer}", self.producers)
    }
}
